"""The ephemeral cache: who was refused is refused again, without asking anyone, until the time at which it passes."""

from collections.abc import Callable

from ..base.bounded import Bounded
from ..base.events import Mode
from ..base.values import dataclass
from .admission import Limited, Subject
from .judge import Quota

UNSURE_MS = 10_000
"""So long a refusal is believed that may be over sooner than it says: not Redis has counted, or calls that were refused
were still counted with those that were admitted."""
_MOST = 4
"""So many refusals are remembered of a subject, each of a lower cost than the one before."""


@dataclass(frozen=True, slots=True)
class _Block:
    until_ms: int
    least_cost: int
    quota: Quota
    mode: Mode


class Blocklist:
    """Remembers real refusals until the time at which the same call would pass, for calls at least as costly.

    A refusal is one of the subject's limits as they were: a caller with higher ones is asked for.
    """

    def __init__(self, size: int = 10_000) -> None:
        self._blocks: Bounded[Limited, tuple[_Block, ...]] = Bounded(size)

    def __len__(self) -> int:
        return len(self._blocks)

    def find(self, subject: Subject, cost: int, now_ms: int) -> tuple[Quota, Mode] | None:
        """The refusal that still stands against a call, if any, and who had counted when it was given."""
        key = subject.limited
        blocks = self._blocks.get(key)
        if blocks is None:
            return None
        if any(now_ms >= each.until_ms for each in blocks):
            blocks = self._keep(key, tuple(each for each in blocks if now_ms < each.until_ms))
        standing = [each for each in blocks if cost >= each.least_cost]
        if not standing:
            return None
        longest = max(standing, key=lambda each: each.until_ms)
        return longest.quota, longest.mode

    def remember(
        self, subject: Subject, cost: int, quota: Quota, now_ms: int, mode: Mode = "redis", *, sure: bool = True
    ) -> None:
        """Keep a refusal. One that waiting does not change is not kept: it needs no command anyway."""
        if quota.allowed or quota.retry_at_ms is None:
            return
        until_ms = quota.retry_at_ms if sure and mode == "redis" else min(quota.retry_at_ms, now_ms + UNSURE_MS)
        key = subject.limited
        new, others = _Block(until_ms, cost, quota, mode), self._blocks.get(key) or ()
        if any(each.least_cost <= cost and each.until_ms >= until_ms for each in others):
            self._keep(key, others)
            return
        kept = [each for each in others if each.least_cost < cost or each.until_ms > until_ms]
        self._keep(key, tuple(sorted([*kept, new], key=lambda each: each.least_cost)[:_MOST]))

    def _keep(self, key: Limited, blocks: tuple[_Block, ...]) -> tuple[_Block, ...]:
        if blocks:
            self._blocks.put(key, blocks)
        else:
            self._blocks.drop(key)
        return blocks

    def forget(self, subject_id: str) -> None:
        """Drop all refusals of a subject."""
        self.forget_where(lambda each: each == subject_id)

    def forget_where(self, concerned: Callable[[str], bool]) -> None:
        """Believe nothing any more of the subjects whose ids pass a test."""
        self._blocks.drop_where(lambda key: concerned(key[0]))
