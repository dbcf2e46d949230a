"""Using fewer Redis commands as the month's allowance runs out: steps, each cheaper than the one before.

The share of the month's commands that is used decides the step. One text in Redis holds it for all instances, which
read it with every request's lookup. It names the plan that it was worked out for, so that who has been given a larger
one goes on at once. A new month begins with the first step again.
"""

from collections.abc import Callable, Sequence

from ..base.calendar import month_of
from ..base.values import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What is done at one step."""

    flush: int
    """Counts are written once so many times the usual number of commands has been sent."""
    read_s: int
    """How long metrics and overview reuse a reading of the ledger."""
    refreshes: bool
    """Whether an aging value is computed anew in the background while it is served."""
    asks_redis: bool
    """Whether Redis is used at all where Supabase can count instead."""


STEPS = (
    Step(flush=1, read_s=120, refreshes=True, asks_redis=True),
    Step(flush=4, read_s=300, refreshes=True, asks_redis=True),
    Step(flush=16, read_s=900, refreshes=False, asks_redis=True),
    Step(flush=16, read_s=3_600, refreshes=False, asks_redis=False),
)


def step_of(used: int, limit: int, percents: Sequence[int]) -> int:
    """Which of :data:`STEPS` holds: 0, and one more for each of ``percents`` (ascending) that has been reached."""
    return sum(used * 100 >= percent * limit for percent in percents) if limit else 0


def parse_percents(text: str) -> tuple[int, ...]:
    """Read ``80,90,95``. Raises ValueError with what to write instead."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != len(STEPS) - 1 or not all(part.isascii() and part.isdigit() and len(part) < 4 for part in parts):
        raise ValueError("not three whole numbers: write for example '80,90,95'")
    percents = tuple(int(part) for part in parts)
    if list(percents) != sorted(percents) or not 1 <= percents[0] <= percents[-1] <= 100:
        raise ValueError("three percentages, each from 1 to 100 and none below the one before: for example '80,90,95'")
    return percents


_QUIET = "0q"
"""The first step, and no flush for which nothing but time is due."""


@dataclass(slots=True, eq=False)
class Thrift:
    """The present step, one of :data:`STEPS`. A new month begins with the first."""

    plan: int | None = None
    """Commands that a month has; None where they cost nothing, and nothing is spared."""
    percents: Sequence[int] = (80, 90, 95)
    """Shares of the plan at which the next step begins, ascending."""
    changed: Callable[[int, int], None] = lambda before, after: None
    """Called with each change of step: the step before, and the new one."""
    _number: int = 0
    _quiet: bool = False
    _month: str = ""

    def number(self, now_ms: int) -> int:
        """The step as a number, 0 while there is plenty."""
        return self._number if self._number and month_of(now_ms) == self._month else 0

    def step(self, now_ms: int) -> Step:
        """What is done now."""
        return STEPS[self.number(now_ms)]

    def quiet(self, now_ms: int) -> bool:
        """Whether no counts are written because of the time alone."""
        return self.number(now_ms) > 0 or (self._quiet and month_of(now_ms) == self._month)

    def seen(self, text: str | None, now_ms: int) -> None:
        """Learn what Redis holds of it. What was worked out for another plan says nothing."""
        if text is None and not self._number and not self._quiet:
            return
        step, _, plan = (text or "").partition("/")
        # Version 0.1 names no plan.
        if self.plan is not None and plan in ("", str(self.plan)):
            self.set(int(step) if step in ("1", "2", "3") else 0, now_ms, quiet=step == _QUIET)

    def reckon(self, used: int, now_ms: int, *, quiet: bool, lowers: bool) -> str | None:
        """Take the step for so many commands of the plan; the text that tells all others, if anything changes by it.

        ``quiet``: nothing is to be flushed for which only time is due; ``lowers``: a lower step counts.
        """
        before, was_quiet = self.number(now_ms), self.quiet(now_ms)
        step = step_of(used, self.plan or 0, self.percents)
        if step < before and not lowers:
            step = before
        if step == before and (step or quiet == was_quiet):
            return None
        self.set(step, now_ms, quiet=quiet)
        return f"{_QUIET if quiet and not step else step}/{self.plan}"

    def set(self, number: int, now_ms: int, *, quiet: bool = False) -> None:
        """Go on at a step until the month ends."""
        before = self.number(now_ms)
        self._number, self._quiet, self._month = number, quiet, month_of(now_ms)
        if number != before:
            self.changed(before, number)
