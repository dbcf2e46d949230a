"""Counting a call while Redis is away: in Supabase, else in this instance's memory at a share of the limit."""

from collections.abc import Sequence
from dataclasses import replace

from ..base.clock import Clock
from ..base.events import Mode
from ..base.values import dataclass
from .admission import Admission, Charge
from .judge import Quota, judge
from .local import LocalLimits
from .remembered import Memory, recall
from .settlement import describe, less
from .supabase import SupabaseDown, Told
from .supabase_store import SupabaseStore
from .window import Usage, covering, of_calls, of_one_call, plus, spread


@dataclass(frozen=True, slots=True)
class Decided:
    """What Supabase decided, and counts after it: ``total``, of which it has itself admitted ``spent``.

    ``fence`` is how often an instance had come back to Redis by then.
    """

    quota: Quota
    total: Usage
    spent: Usage
    fence: int


@dataclass(frozen=True, slots=True)
class Counted:
    """The verdict on a call that was counted elsewhere, who gave it and why; ``decided`` if it was Supabase."""

    admission: Admission
    reason: str
    decided: Decided | None = None


@dataclass(slots=True)
class Elsewhere:
    """Where calls are counted when Redis does not count them."""

    supabase: SupabaseStore | None
    local: LocalLimits
    memory: Memory
    clock: Clock

    async def admit(self, charge: Charge, mode: Mode, reason: str) -> Counted:
        """Decide a call. ``mode``: who has counted so far. Raises nothing."""
        if not of_calls(charge.subject.layout.windows):
            # No store is called, so nothing is learned about them.
            likely: Mode = mode if mode != "redis" else "supabase" if self.supabase else "local"
            return Counted(Admission(charge, Quota(True, "unlimited", ()), likely), reason)
        if self.supabase is not None:
            windows, now_ms = charge.subject.layout.windows, charge.now_ms
            seen = self.memory.of(charge.subject)
            floor, noted = seen.own(windows, now_ms), recall(seen.noted, windows, now_ms)
            try:
                decided = await self.ask_supabase(self.supabase, charge, floor, noted, seen.settled)
            except SupabaseDown as e:
                reason = f"{reason}; {e}"
            else:
                return Counted(Admission(charge, decided.quota, "supabase"), reason, decided)
        return Counted(Admission(charge, self._admit_here(charge), "local"), reason)

    async def ask_supabase(
        self, supabase: SupabaseStore, charge: Charge, floor: Usage, noted: Usage, settled: int
    ) -> Decided:
        """Let Supabase decide a call, told what Redis itself has admitted at least. Raises SupabaseDown.

        ``noted`` and ``settled``: as in :class:`Told`. Tokens are counted in Redis only; a calendar day counts as the
        last 24 hours, which is never more.
        """
        subject, now_ms, windows = charge.subject, charge.now_ms, charge.subject.layout.windows
        places, remembered = of_calls(windows), self.memory.of(subject)
        # Taken out before it is sent, so that no two calls report it.
        alone, remembered.alone = recall(remembered.alone, windows, now_ms), None
        try:
            quota, counted = await supabase.spend(
                subject.id,
                describe(subject.layout),
                tuple(replace(windows[place], zone=None) for place in places),
                charge.cost,
                now_ms,
                Told(_at(places, floor), _at(places, noted), settled, _at(places, alone)),
                self.clock.left_s(charge.deadline),
            )
        except BaseException:
            # Also where the request is given up: whether Supabase has heard of it is not known then.
            self.keep_alone(charge, alone)
            raise
        total = covering(windows, spread(windows, places, counted.total), now_ms)
        spent = covering(windows, spread(windows, places, counted.spent), now_ms)
        remembered.spent, remembered.carried = spent, less(total, spent)
        self.memory.counted_elsewhere(subject)
        return Decided(quota, total, spent, counted.fence)

    def _admit_here(self, charge: Charge) -> Quota:
        """A share of the limit, and never more than is known to be left of the whole limit."""
        windows, now_ms = charge.subject.layout.windows, charge.now_ms
        places = of_calls(windows)
        limits = tuple(replace(windows[place], zone=None) for place in places)
        remembered = self.memory.of(charge.subject)
        counted = plus(remembered.total(windows, now_ms), recall(remembered.alone, windows, now_ms))
        whole = judge(limits, [counted[place] for place in places], charge.cost, now_ms)
        if not whole.allowed:
            return whole
        quota = self.local.spend(charge.subject.id, limits, charge.cost, now_ms)
        if quota.allowed and charge.cost:
            self.keep_alone(charge, of_one_call(windows, charge.cost, 0, now_ms))
        return quota

    def keep_alone(self, charge: Charge, usage: Usage) -> None:
        """Remember what was admitted here and was not reported to any store."""
        if any(usage):
            remembered = self.memory.of(charge.subject)
            before = recall(remembered.alone, charge.subject.layout.windows, charge.now_ms)
            remembered.alone = plus(usage, before)
            self.memory.counted_elsewhere(charge.subject)


def _at(places: Sequence[int], usage: Usage) -> Usage:
    return tuple(usage[place] for place in places)
