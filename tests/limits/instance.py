"""One instance of a function as far as the windows concern it: its memory, its clock, and a Redis to ask."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from lib.limits import bitfield
from lib.limits.bitfield import Known, Refunded
from lib.limits.grammar import parse_limits
from lib.limits.judge import Quota, judge, too_costly
from lib.limits.window import DAY_MS, Layout
from lib.redis.op import Op, gather

MIDNIGHT_MS = 1_763_510_400_000
"""2025-11-19T00:00:00Z, a start of every bucket."""
NOON_MS = MIDNIGHT_MS + DAY_MS // 2
TEN_HUNDRED = parse_limits("10/minute,100/day")


class Runs(Protocol):
    """A Redis, real or fake, that runs an operation."""

    def run[T](self, op: Op[T], /) -> T:
        """Send, and read the replies."""


@dataclass
class Instance:
    """Asks, judges, takes a refused call back, and sets the TTL that a new key needs: the order of the guard."""

    redis: Runs
    layout: Layout = TEN_HUNDRED
    offset_ms: int = 0
    """How far its clock is ahead of the true time."""
    known: dict[str, Known] = field(default_factory=dict)

    def call(self, subject: str, true_ms: int, cost: int = 1) -> Quota:
        """One call at a true time."""
        now_ms = true_ms + self.offset_ms
        limits = self.layout.windows
        if refusal := too_costly(limits, cost, now_ms):
            return refusal
        tally = self.redis.run(bitfield.spend(subject, self.layout, cost, now_ms, self.known.get(subject)))
        quota = judge(limits, tally.usage, cost, now_ms, tally.added)
        known, owed = tally.known, list[Op[object]]()
        if not quota.allowed:
            owed.append(bitfield.refund(subject, self.layout, cost, now_ms, tally.added))
        if needs_ttl := bitfield.needs_ttl(tally, now_ms):
            owed.append(bitfield.set_ttl(subject, now_ms))
            known = Known(known.days, now_ms // DAY_MS)
        if owed:
            results = self.redis.run(gather(owed))
            if not needs_ttl and any(isinstance(each, Refunded) and each.made_key for each in results):
                self.redis.run(bitfield.set_ttl(subject, now_ms))
        self.known[subject] = known
        return quota

    def peek(self, subject: str, true_ms: int) -> Quota:
        """What the windows hold."""
        now_ms = true_ms + self.offset_ms
        tally = self.redis.run(bitfield.peek(subject, self.layout, now_ms, self.known.get(subject)))
        return judge(self.layout.windows, tally.usage, 0, now_ms)


def remaining(quota: Quota) -> Mapping[str, int]:
    """Calls left, by window."""
    return {state.window.name: state.remaining for state in quota.states}


def most_in_any(admitted: list[tuple[int, int]], length_ms: int) -> int:
    """The most that any closed interval of a length holds of (true time, cost)."""
    return max(
        (sum(cost for at, cost in admitted if first <= at <= first + length_ms) for first, _ in admitted), default=0
    )
