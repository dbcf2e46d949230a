"""The one deciding function, as one table."""

import pytest

from lib.rules.answers import Answer, CacheRules, Directives
from lib.rules.breaker import Circuit
from lib.rules.decide import Compute, Decision, Deny, Serve, decide
from lib.rules.policy import Policy, parse_limits
from lib.rules.windows import Quota

NOW = 1_763_553_600_000
POLICY = Policy("ai", parse_limits("10/minute"), CacheRules(fresh_ms=3_600_000, stale_ms=86_400_000))

ADMITTED = Quota(True, "admitted", ())
REFUSED = Quota(False, "minute", (), NOW + 30_000)
TOO_COSTLY = Quota(False, "cost_exceeds_limit", ())

FRESH = Answer("x", "m", NOW - 1_000)
STALE = Answer("x", "m", NOW - 3_600_000)

CLOSED = Circuit()
OPEN = Circuit("open", 1, until_ms=NOW + 5_000, reason="timeout")
DUE = Circuit("open", 1, until_ms=NOW)
PROBED = Circuit("half_open", 2, until_ms=NOW + 9_000, owner="i1")
ABANDONED = Circuit("half_open", 2, until_ms=NOW, owner="i1")

ANYTHING = Directives()
NO_CACHE = Directives(no_cache=True)
NO_STORE = Directives(no_store=True)
ONLY_CACHED = Directives(only_if_cached=True)
YOUNGER = Directives(max_age_s=0)

LIMITED = Deny("rate_limited", "minute", NOW + 30_000)
DOWN = Deny("circuit_open", "timeout", NOW + 5_000)
NOT_CACHED = Deny("not_cached", "only-if-cached")


NAMES = {
    id(value): name.lower()
    for name, value in {**globals()}.items()
    if isinstance(value, Quota | Answer | Circuit | Directives)
}


def named(value: object) -> str:
    """The name of a part of a row; what is decided is told by its own text."""
    match value:
        case None:
            return "no answer"
        case Deny(code=code):
            return f"denies {code}"
        case Serve(stale=stale):
            return "serves stale" if stale else "serves"
        case Compute(reason=reason, probe=probe):
            return f"probes {reason}" if probe else f"computes {reason}"
    return NAMES.get(id(value), "both")


@pytest.mark.parametrize(
    ("quota", "answer", "circuit", "asked", "decision"),
    [
        # The limit comes first, whatever else there is.
        (REFUSED, None, CLOSED, ANYTHING, LIMITED),
        (REFUSED, FRESH, CLOSED, ANYTHING, LIMITED),
        (REFUSED, FRESH, OPEN, ONLY_CACHED, LIMITED),
        (TOO_COSTLY, FRESH, CLOSED, ANYTHING, Deny("rate_limited", "cost_exceeds_limit", None)),
        # A fresh answer needs no backend.
        (ADMITTED, FRESH, CLOSED, ANYTHING, Serve(FRESH, stale=False, reason="fresh")),
        (ADMITTED, FRESH, OPEN, ANYTHING, Serve(FRESH, stale=False, reason="fresh")),
        (ADMITTED, FRESH, DUE, ANYTHING, Serve(FRESH, stale=False, reason="fresh")),
        (ADMITTED, FRESH, CLOSED, ONLY_CACHED, Serve(FRESH, stale=False, reason="fresh")),
        # Nothing usable: the backend, if it may be asked.
        (ADMITTED, None, CLOSED, ANYTHING, Compute("missing")),
        (ADMITTED, STALE, CLOSED, ANYTHING, Compute("expired")),
        (ADMITTED, FRESH, CLOSED, NO_CACHE, Compute("bypassed")),
        (ADMITTED, FRESH, CLOSED, NO_STORE, Compute("bypassed")),
        (ADMITTED, FRESH, CLOSED, YOUNGER, Compute("bypassed")),
        (ADMITTED, None, CLOSED, NO_CACHE, Compute("missing")),
        # One probe.
        (ADMITTED, None, DUE, ANYTHING, Compute("missing", probe=True)),
        (ADMITTED, STALE, DUE, ANYTHING, Compute("expired", probe=True)),
        (ADMITTED, None, ABANDONED, ANYTHING, Compute("missing", probe=True)),
        (ADMITTED, FRESH, DUE, NO_CACHE, Compute("bypassed", probe=True)),
        # The backend is down: a stale answer is better than none, an unwanted one is not.
        (ADMITTED, None, OPEN, ANYTHING, DOWN),
        (ADMITTED, STALE, OPEN, ANYTHING, Serve(STALE, stale=True, reason="circuit_open")),
        (ADMITTED, STALE, PROBED, ANYTHING, Serve(STALE, stale=True, reason="circuit_open")),
        (ADMITTED, None, PROBED, ANYTHING, Deny("circuit_open", "half_open", NOW + 9_000)),
        (ADMITTED, FRESH, OPEN, NO_CACHE, DOWN),
        (ADMITTED, STALE, OPEN, NO_CACHE, DOWN),
        (ADMITTED, STALE, OPEN, YOUNGER, DOWN),
        # Only from the cache.
        (ADMITTED, None, CLOSED, ONLY_CACHED, NOT_CACHED),
        (ADMITTED, STALE, CLOSED, ONLY_CACHED, NOT_CACHED),
        (ADMITTED, None, DUE, ONLY_CACHED, NOT_CACHED),
        (ADMITTED, FRESH, CLOSED, Directives(only_if_cached=True, no_cache=True), NOT_CACHED),
    ],
    ids=named,
)
def test_decide(quota: Quota, answer: Answer | None, circuit: Circuit, asked: Directives, decision: Decision) -> None:
    """What is decided, with its reason, for quota x answer x circuit x what the request asks."""
    assert decide(quota, answer, circuit, NOW, POLICY, asked) == decision
