"""What one instance knows of outages, and what it has to do about one with its next call."""

from typing import Literal

from ..base.values import dataclass
from .marker import LEASE_MS, Marker, parse

type Part = Literal["none", "reader", "settler"]
"""An instance's part in a return: none; count by both stores while somebody settles; or settle."""


@dataclass(slots=True)
class Outage:
    """One instance's view. It changes with what Redis and Supabase reply, and with their failures."""

    text: str = ""
    """The marker as last read."""
    pending: bool = False
    """Redis failed, or calls were counted elsewhere, since this instance was last part of a return."""
    fence: int | None = None
    """The latest return that this instance has heard of, by either store; None as long as neither told."""
    number: int = 0
    """Counts what may have cost Redis its data: each subject is compared once for each number."""
    claimed_until_ms: int = 0
    """Until then a request of this instance is about to settle."""
    _generation: str = ""
    _failures: int = 0

    @property
    def marker(self) -> Marker:
        """The marker as last read."""
        return parse(self.text)

    def happened(self) -> None:
        """Redis failed, or a call was not counted there."""
        self.pending, self.number = True, self.number + 1

    def failed(self, failures: int) -> None:
        """Learn how often Redis has failed, at whatever it was asked."""
        if failures != self._failures:
            self._failures = failures
            self.happened()

    def is_news(self, fence: int) -> bool:
        """Learn Supabase's number; whether somebody has come back since this instance heard of it."""
        before = self.fence
        self.fence = fence if before is None else max(fence, before)
        return before is not None and fence > before

    def hear(self, text: str | None, now_ms: int) -> Part:
        """Learn the marker, and what is to be done by whoever read it."""
        self.text = text or ""
        marker = self.marker
        if marker.generation and marker.generation != self._generation:
            # Other data than those that this instance has seen.
            self.number += bool(self._generation)
            self._generation = marker.generation
        if marker.holds(now_ms):
            if marker.is_postponed:
                self.pending = False
                return "none"
            return "reader"
        if not marker.owner and marker.settled > (-1 if self.fence is None else self.fence):
            # Whatever this instance had counted elsewhere was listed by that return.
            self.pending, self.fence = False, marker.settled
        if not marker.owner and not self.pending:
            return "none"
        return "reader" if now_ms < self.claimed_until_ms <= now_ms + LEASE_MS else "settler"
