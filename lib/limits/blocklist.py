"""The ephemeral cache: a caller who was refused a moment ago is refused again from memory, without a command."""

from ..base.bounded import Bounded
from ..base.events import Mode
from .judge import Quota

LONGEST_BLOCK_MS = 10_000
"""A refusal is repeated from memory no longer than this, so that a raised limit or a reset shows soon."""


class Blocklist:
    """Remembers real refusals until the time at which the same call would pass, for calls at least as costly."""

    def __init__(self, size: int = 10_000) -> None:
        self._blocks: Bounded[str, tuple[int, int, Quota, Mode]] = Bounded(size)

    def __len__(self) -> int:
        return len(self._blocks)

    def find(self, subject: str, cost: int, now_ms: int) -> Quota | None:
        """The refusal that still stands against a call, if any."""
        block = self._blocks.get(subject)
        if block is None:
            return None
        until, least_cost, quota, _ = block
        if now_ms >= until:
            self._blocks.drop(subject)
            return None
        return quota if cost >= least_cost else None

    def mode(self, subject: str) -> Mode:
        """Who had counted when the caller was refused."""
        block = self._blocks.get(subject)
        return "off" if block is None else block[3]

    def remember(
        self,
        subject: str,
        cost: int,
        quota: Quota,
        now_ms: int,
        longest_ms: int = LONGEST_BLOCK_MS,
        mode: Mode = "redis",
    ) -> None:
        """Keep a refusal. One that waiting does not change is not kept: it needs no command anyway."""
        if quota.allowed or quota.retry_at_ms is None:
            return
        self._blocks.put(subject, (min(quota.retry_at_ms, now_ms + longest_ms), cost, quota, mode))

    def forget(self, subject: str) -> None:
        """Drop the refusal of a subject."""
        self._blocks.drop(subject)
