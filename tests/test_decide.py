"""Every decision, in tables."""

from dataclasses import replace

import pytest

from lib.breaker.circuit import Circuit
from lib.cache.entry import Entry
from lib.cache.freshness import CacheRules, Directives
from lib.decide import Compute, Deny, Serve, Standing, decide, may_be_asked, nobody_to_ask
from lib.limits.judge import Quota

NOW_MS = 1_795_262_401_000
RULES = CacheRules(3_600_000, 600_000, 86_400_000)
YES = Quota(True, "admitted", ())
NO = Quota(False, "minute", (), NOW_MS + 20_000)
PLAIN = Directives()

FRESH = Entry("value", NOW_MS - 3_599_999)
AGING = replace(FRESH, stored_at_ms=NOW_MS - 3_600_000)
STALE = replace(FRESH, stored_at_ms=NOW_MS - 4_200_000)
ENDED = replace(FRESH, stored_at_ms=NOW_MS - 90_000_000)

OPEN = Standing(Circuit("open", 1, until_ms=NOW_MS + 30_000, reason="timeout"))
PROBED = Standing(Circuit("probing", 2, until_ms=NOW_MS + 65_000, owner="another", reason="timeout"))
DUE = Standing(Circuit("open", 1, until_ms=NOW_MS))
SPENT = Standing(Circuit(), NOW_MS + 10_000)
BOTH = Standing(Circuit("open", 1, until_ms=NOW_MS + 5_000), NOW_MS + 90_000)
WELL = Standing(Circuit())


@pytest.mark.parametrize(
    ("quota", "entry", "standings", "directives", "expected"),
    [
        pytest.param(NO, FRESH, [WELL], PLAIN, Deny("rate_limited", "minute", NOW_MS + 20_000), id="over the limit"),
        pytest.param(YES, FRESH, [WELL], PLAIN, Serve(FRESH, False, "fresh"), id="fresh"),
        pytest.param(YES, FRESH, [OPEN], PLAIN, Serve(FRESH, False, "fresh"), id="fresh, providers closed"),
        pytest.param(YES, AGING, [OPEN, WELL], PLAIN, Serve(AGING, True, "aging", (1,)), id="aging: served, refreshed"),
        pytest.param(YES, AGING, [OPEN], PLAIN, Serve(AGING, True, "aging"), id="aging, nobody to refresh it"),
        pytest.param(YES, STALE, [WELL], PLAIN, Compute("expired", (0,)), id="past its grace"),
        pytest.param(YES, ENDED, [OPEN], PLAIN, Deny("circuit_open", "timeout", NOW_MS + 30_000), id="past its end"),
        pytest.param(YES, STALE, [OPEN, SPENT], PLAIN, Serve(STALE, True, "no_provider"), id="stale if nobody can"),
        pytest.param(YES, None, [WELL, WELL], PLAIN, Compute("missing", (0, 1)), id="missing: in order"),
        pytest.param(YES, None, [OPEN, WELL, SPENT, DUE], PLAIN, Compute("missing", (1, 3)), id="who may be asked"),
        pytest.param(YES, FRESH, [WELL], Directives(no_cache=True), Compute("bypassed", (0,)), id="no-cache"),
        pytest.param(YES, FRESH, [WELL], Directives(no_store=True), Compute("bypassed", (0,)), id="no-store"),
        pytest.param(YES, FRESH, [WELL], Directives(max_age_s=60), Compute("bypassed", (0,)), id="older than max-age"),
        pytest.param(
            YES, FRESH, [OPEN], Directives(max_age_s=60), Deny("circuit_open", "timeout", NOW_MS + 30_000),
            id="older than max-age is not served for want of another",
        ),
        pytest.param(
            YES, None, [WELL], Directives(only_if_cached=True), Deny("not_cached", "only-if-cached"), id="only cached"
        ),
    ],
)  # fmt: skip
def test_decisions(
    quota: Quota,
    entry: Entry[str] | None,
    standings: list[Standing],
    directives: Directives,
    expected: Deny | Serve[Entry[str]] | Compute,
) -> None:
    """What is decided, given all that was read in one round trip."""
    assert decide(quota, None, entry, standings, NOW_MS, RULES, directives) == expected


@pytest.mark.parametrize(
    ("quota", "entry", "expected"),
    [
        pytest.param(YES, FRESH, Deny("closed", "by hand"), id="a veto refuses what is stored as well"),
        pytest.param(NO, FRESH, Deny("rate_limited", "minute", NOW_MS + 20_000), id="the limit is named first"),
    ],
)
def test_a_veto(quota: Quota, entry: Entry[str] | None, expected: Deny) -> None:
    """Whatever is read along may refuse a call."""
    veto = Deny("closed", "by hand")
    assert decide(quota, veto, entry, [WELL], NOW_MS, RULES, PLAIN) == expected


def test_nothing_is_served_without_rules_for_the_cache() -> None:
    """A route that caches nothing computes, whatever is stored."""
    assert decide(YES, None, FRESH, [WELL], NOW_MS, None, PLAIN) == Compute("bypassed", (0,))


@pytest.mark.parametrize(
    ("standings", "expected"),
    [
        pytest.param([OPEN], Deny("circuit_open", "timeout", NOW_MS + 30_000), id="open"),
        pytest.param([PROBED], Deny("circuit_open", "timeout", NOW_MS + 65_000), id="being probed"),
        pytest.param([SPENT], Deny("budget_spent", "budget", NOW_MS + 10_000), id="spent"),
        pytest.param([OPEN, SPENT], Deny("budget_spent", "budget", NOW_MS + 10_000), id="the earliest of two"),
        pytest.param([OPEN, BOTH], Deny("circuit_open", "timeout", NOW_MS + 30_000), id="both must be over"),
    ],
)
def test_when_the_first_may_be_asked_again(standings: list[Standing], expected: Deny) -> None:
    """With everything closed: the earliest time, and what it waits for."""
    assert nobody_to_ask(standings, NOW_MS) == expected


@pytest.mark.parametrize(
    ("standing", "may"), [(WELL, True), (DUE, True), (OPEN, False), (PROBED, False), (SPENT, False), (BOTH, False)]
)
def test_who_may_be_asked(standing: Standing, may: bool) -> None:
    """Neither the circuit nor the budget keeps it away."""
    assert may_be_asked(standing, NOW_MS) is may
