"""How sparingly this instance uses Redis now; every request's read of Redis brings what all have agreed on."""

from dataclasses import dataclass

from lib.events import Listener, ThriftChanged
from lib.rules.budgets import month_of
from lib.rules.thrift import STEPS, Step, parse_step


@dataclass(slots=True)
class Thrift:
    """The present step, of ``rules/thrift.py``. A new month begins with the first."""

    emit: Listener
    _number: int = 0
    _month: str = ""

    def number(self, now_ms: int) -> int:
        """The step as a number, 0 while there is plenty."""
        return self._number if self._number and month_of(now_ms) == self._month else 0

    def step(self, now_ms: int) -> Step:
        """What is done now."""
        return STEPS[self.number(now_ms)]

    def seen(self, text: str | None, now_ms: int) -> None:
        """Learn what Redis holds of it."""
        if text is not None or self._number:
            self.set(parse_step(text), now_ms)

    def set(self, number: int, now_ms: int) -> None:
        """Go on at a step until the month ends."""
        before = self.number(now_ms)
        self._number, self._month = number, month_of(now_ms)
        if number != before:
            self.emit(ThriftChanged(before, number))
