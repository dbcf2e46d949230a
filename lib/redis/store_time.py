"""The time of day by the store's clock, for everything that instances share: windows, entries, circuits, budgets."""

import time
from collections.abc import Callable
from dataclasses import field

from ..base.values import dataclass
from .offset import Offset
from .op import Reply


@dataclass(slots=True, eq=False)
class StoreTime:
    """The machine's clock, corrected by what the store's replies say of its own (``offset.py``)."""

    local_ns: Callable[[], int] = time.time_ns
    offset: Offset = field(default_factory=Offset)

    def now_ms(self) -> int:
        """Milliseconds since the epoch, by the store's clock as far as it is known."""
        return self.local_ns() // 1_000_000 + self.offset.ms

    def local_ms(self) -> float:
        """Milliseconds since the epoch by the machine's clock, as it is."""
        return self.local_ns() / 1e6

    def heard(self, reply: Reply, sent: float, received: float) -> None:
        """Learn from the reply to a ``TIME`` that was under way between two local moments."""
        match reply:
            case [seconds, micros]:
                try:
                    self.offset.timed(int(str(seconds)) * 1e3 + int(str(micros)) / 1e3, sent, received)
                except ValueError:
                    self.offset.untimed(received, refused=True)
            case _:
                self.offset.untimed(received, refused=True)

    def dated(self, date: str, sent: float, received: float) -> None:
        """Learn from the ``Date`` of a reply."""
        from email.utils import parsedate_to_datetime

        try:
            self.offset.says(parsedate_to_datetime(date).timestamp() * 1e3, sent, received)
        except ValueError:
            # No date at all; that of the next reply is looked at in a second.
            self.offset.dated = received
