"""The one place where a guarded request is decided. No I/O; the guard does what this says."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .ai.question import Answer
from .breaker.circuit import Circuit, view
from .cache.freshness import Directives, freshness
from .limits.judge import Quota
from .policy import Policy

type Code = Literal["rate_limited", "circuit_open", "budget_spent", "not_cached"]


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether one provider may be asked: its circuit, and until when its budget is known to be spent."""

    circuit: Circuit
    spent_until_ms: int = 0


@dataclass(frozen=True, slots=True)
class Deny:
    """Refuse, with a reason; ``retry_at_ms`` is None where waiting does not help."""

    code: Code
    reason: str
    retry_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Serve:
    """Answer from the cache, and refresh the entry afterwards by one of ``refresh``, if there are any."""

    answer: Answer
    stale: bool
    reason: str
    refresh: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Compute:
    """Ask the providers at these places of the chain, in this order, until one answers."""

    reason: str
    order: tuple[int, ...]


type Decision = Deny | Serve | Compute


def decide(
    quota: Quota,
    answer: Answer | None,
    standings: Sequence[Standing],
    now_ms: int,
    policy: Policy,
    asked: Directives,
) -> Decision:
    """What to do with one request, given all that was read for it in one round trip."""
    if not quota.allowed:
        return Deny("rate_limited", quota.reason, quota.retry_at_ms)
    usable = freshness(answer, now_ms, policy.cache, asked) if answer else "unwanted"
    if answer and usable == "fresh":
        return Serve(answer, stale=False, reason="fresh")
    order = tuple(place for place, each in enumerate(standings) if may_be_asked(each, now_ms))
    if answer and usable == "aging":
        return Serve(answer, stale=True, reason="aging", refresh=order)
    if asked.only_if_cached:
        return Deny("not_cached", "only-if-cached")
    if order:
        return Compute("expired" if usable == "stale" else "bypassed" if answer else "missing", order)
    older = Serve(answer, stale=True, reason="no_provider") if answer and usable == "stale" else None
    return older or without_providers(standings, now_ms)


def may_be_asked(standing: Standing, now_ms: int) -> bool:
    """Whether neither the circuit nor the budget of a provider keeps a call away."""
    return standing.spent_until_ms <= now_ms and view(standing.circuit, now_ms) != "refuse"


def without_providers(standings: Sequence[Standing], now_ms: int) -> Deny:
    """No provider may be asked, and there is no answer: when the first may be asked again."""
    # A provider is back when neither its circuit nor its budget keeps it away.
    back = [(max(_open_until(each, now_ms), each.spent_until_ms), each) for each in standings]
    retry_at_ms, first = min(back, key=lambda pair: pair[0])
    if first.spent_until_ms > now_ms:
        return Deny("budget_spent", "budget", retry_at_ms)
    return Deny("circuit_open", first.circuit.reason or first.circuit.state, retry_at_ms)


def _open_until(standing: Standing, now_ms: int) -> int:
    return standing.circuit.until_ms if view(standing.circuit, now_ms) == "refuse" else now_ms
