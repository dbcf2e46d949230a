"""The one place where a guarded request is decided. No I/O; the guard does what this says."""

from collections.abc import Sequence
from typing import Literal, Protocol

from .base.values import dataclass
from .breaker.circuit import Circuit, view
from .cache.freshness import CacheRules, Directives, freshness, shortened
from .limits.judge import Quota

type Code = Literal["rate_limited", "circuit_open", "budget_spent", "not_cached", "closed"]


class Stored(Protocol):
    """Anything that was stored at a time."""

    @property
    def stored_at_ms(self) -> int:
        """When."""

    @property
    def fresh_ms(self) -> int | None:
        """For how long it is fresh, where it says so itself."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether one part of a source may be called for this caller."""

    circuit: Circuit
    spent_until_ms: int = 0
    """Until when its budget is known to be spent, for a call that costs as much as this one."""
    own_until_ms: int = 0
    """Until when the caller is passed over there, because its own calls kept failing."""
    able: bool = True
    """False: it cannot do what is asked."""
    rank: int = 0
    """Parts of a lower rank are called first; those of the same in their order."""


@dataclass(frozen=True, slots=True)
class Deny:
    """Refuse, with a reason; ``retry_at_ms`` is None where waiting does not help."""

    code: Code
    reason: str
    retry_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Serve[E: Stored]:
    """Serve the entry, and refresh it afterwards by one of the places in ``refresh``, if there are any."""

    entry: E
    stale: bool
    reason: str
    refresh: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Compute:
    """Call the source's parts at these places, in this order, until one answers."""

    reason: str
    order: tuple[int, ...]


def decide[E: Stored](  # noqa: PLR0911 - a return for each decision
    quota: Quota,
    veto: Deny | None,
    entry: E | None,
    standings: Sequence[Standing],
    now_ms: int,
    rules: CacheRules | None,
    directives: Directives,
) -> Deny | Serve[E] | Compute:
    """What to do with one request, given everything that was read for it in one round trip."""
    if not quota.allowed:
        return Deny("rate_limited", quota.reason, quota.retry_at_ms)
    if veto is not None:
        return veto
    if entry and entry.fresh_ms is not None:
        rules = shortened(rules, entry.fresh_ms)
    usable = freshness(entry.stored_at_ms, now_ms, rules, directives) if entry and rules else "unwanted"
    if entry and usable == "fresh":
        return Serve(entry, stale=False, reason="fresh")
    able = [place for place, each in enumerate(standings) if may_be_asked(each, now_ms)]
    order = tuple(able) if len(able) < 2 else tuple(sorted(able, key=lambda place: standings[place].rank))
    if entry and usable == "early":
        return Serve(entry, stale=False, reason="early", refresh=order)
    if entry and usable == "aging":
        return Serve(entry, stale=True, reason="aging", refresh=order)
    if directives.only_if_cached:
        return Deny("not_cached", "only-if-cached")
    if order:
        return Compute("expired" if usable == "stale" else "bypassed" if entry else "missing", order)
    older = Serve(entry, stale=True, reason="no_provider") if entry and usable == "stale" else None
    return older or nobody_to_ask(standings, now_ms)


def may_be_asked(standing: Standing, now_ms: int) -> bool:
    """Whether it can do what is asked, and the circuits and the budget admit a call."""
    if not standing.able:
        return False
    kept_until_ms = max(standing.spent_until_ms, standing.own_until_ms)
    return kept_until_ms <= now_ms and view(standing.circuit, now_ms) != "refuse"


def nobody_to_ask(standings: Sequence[Standing], now_ms: int) -> Deny:
    """No part of the source may be called, and nothing is stored: when the first may be called again."""
    # A part can be called again when its circuits and its budget admit a call.
    again = [
        (max(_open_until(each, now_ms), each.spent_until_ms, each.own_until_ms), each)
        for each in standings
        if each.able or not any(other.able for other in standings)
    ]
    retry_at_ms, first = min(again, key=lambda pair: pair[0])
    if first.spent_until_ms > now_ms:
        return Deny("budget_spent", "budget", retry_at_ms)
    if view(first.circuit, now_ms) != "refuse" and first.own_until_ms > now_ms:
        return Deny("circuit_open", "caller", retry_at_ms)
    return Deny("circuit_open", first.circuit.reason or first.circuit.state, retry_at_ms)


def _open_until(standing: Standing, now_ms: int) -> int:
    return standing.circuit.until_ms if view(standing.circuit, now_ms) == "refuse" else now_ms
