"""Counting a call while Redis may lack calls that were admitted elsewhere, without an allowance growing on the way.

As long as somebody settles an outage (``settling.py``), Supabase decides each call, told what Redis holds. A call that
Supabase counted before the settlement's fence is on its list, and Redis has it before anybody counts there alone; one
that came after the fence is given to Redis before anybody hears of it, and Redis is looked at again.
docs/failure-modes.md derives the bound.
"""

from collections.abc import Callable
from dataclasses import replace

from ..afterwards import Afterwards
from ..base.clock import Clock
from ..base.values import dataclass
from ..redis.errors import RedisDown
from ..redis.op import Op, ignored, join
from ..redis.store import RedisStore
from . import bitfield, settlement
from .admission import Admission, Charge
from .bitfield import Known, Tally
from .counting import Counting
from .elsewhere import Decided, Elsewhere
from .judge import certain, judge, without
from .marker import UNKNOWN, Marker, parse, swap
from .outage import Outage, Part
from .remembered import recall
from .settlement import holds, less
from .settling import Settling
from .supabase import SupabaseDown
from .window import DAY_MS, Usage, empty, highest, of_calls, of_one_call

NOTHING: Op[None] = Op((), ignored)
_NO_CLAIM: Op[tuple[bool, str] | None] = Op((), lambda replies: None)


@dataclass(slots=True)
class ComingBack:
    """An instance's calls between an outage and its end."""

    redis: RedisStore
    counting: Counting
    elsewhere: Elsewhere
    outage: Outage
    settling: Settling
    clock: Clock
    gone: Callable[[str], None]
    """Called with the reason when Redis fails again while a call is being added to it."""

    def expects(self, now_ms: int) -> bool:
        """Whether the next call is likely not to be decided by Redis alone."""
        marker = self.outage.marker
        return self.outage.pending or (marker.holds(now_ms) and not marker.is_postponed)

    def is_over(self, marker: str | None, charge: Charge, tally: Tally) -> bool:
        """Whether Redis alone decides a call that it has just counted, by the marker that was read after that."""
        return self._part(marker, charge.now_ms) == "none" and not self._lacks(charge, tally)

    def look_after(self, marker: str | None, now_ms: int, after: Afterwards) -> None:
        """Do an instance's part after a call that is counted nowhere."""
        part = self._part(marker, now_ms)
        if part == "settler":
            read = self.outage.text
            self._settle(after, read, self.settling.claimed(read, now_ms), is_claimed=False)
        elif part == "none":
            self.give_own_later(after)

    def give_own_later(self, after: Afterwards) -> None:
        """Give Redis what this instance alone knows of, once the reply is out."""
        if self.counting.memory.elsewhere():
            after.jobs.append(self.settling.give_own)

    async def admit(
        self, charge: Charge, marker: str | None, back: Op[bitfield.Refunded] | Op[None], after: Afterwards
    ) -> Admission:
        """Count a call in Supabase where somebody settles, else in Redis once it holds what this instance knows.

        ``marker`` was just read. ``back`` takes the call out of Redis again, if it is counted there. Raises RedisDown.
        Whatever fails on the way may be done again without counting anything twice, but what this instance admitted
        from memory: of that, a lost reply counts twice, which admits nothing.
        """
        subject, now_ms, windows = charge.subject, charge.now_ms, charge.subject.layout.windows
        part, read = self._part(marker, now_ms), self.outage.text
        claim = self.settling.claimed(read, now_ms) if part == "settler" else None
        # The marker first: whoever counts in Redis from then on reads it. What was given is read before what is
        # counted, so that a gift in between does not look like calls that Redis lacks.
        first = join(_NO_CLAIM if claim is None else swap(read, claim), back)
        counted = join(
            settlement.read(subject.id, subject.layout, now_ms), bitfield.peek(subject.id, subject.layout, now_ms)
        )
        left_s = self.clock.left_s(charge.deadline)
        try:
            (claimed, _), (noted, tally) = await self.redis.run(join(first, counted), "ask", left_s)
        except BaseException:
            self.outage.claimed_until_ms = 0 if claim else self.outage.claimed_until_ms
            raise
        if claim is not None and claimed is not None:
            done, self.outage.text = claimed
            if done:
                self._settle(after, read, claim, is_claimed=True)
            else:
                self.outage.claimed_until_ms = 0
        elif part == "none":
            self.give_own_later(after)
        supabase = self.elsewhere.supabase
        if part != "none" and supabase is not None and of_calls(windows):
            floor = self._floor(charge, tally, noted)
            try:
                decided = await self.elsewhere.ask_supabase(supabase, charge, *floor)
            except SupabaseDown:
                pass
            else:
                self.outage.is_news(decided.fence)
                return await self._decided(charge, parse(read), noted, tally, decided, after)
        return await self._count_restored(charge, noted, tally, after)

    def _part(self, marker: str | None, now_ms: int) -> Part:
        """What the marker that Redis just told makes of this instance; without Supabase there is nothing to settle."""
        part = self.outage.hear(marker, now_ms)
        if part != "none" and self.elsewhere.supabase is None:
            self.outage.pending = False
            return "none"
        return part

    def _lacks(self, charge: Charge, tally: Tally) -> bool:
        """Whether Redis lacks calls of the subject that this instance alone can tell it of."""
        memory, windows, now_ms = self.counting.memory, charge.subject.layout.windows, charge.now_ms
        found = memory.seen(charge.subject)
        if found is None:
            return False
        if found.layout is not None and self.elsewhere.supabase is not None and self.outage.marker.is_postponed:
            return True
        if any(recall(found.alone, windows, now_ms)):
            return True
        if found.outages == self.outage.number:
            return False
        found.outages = self.outage.number
        seen = recall(found.seen, windows, now_ms)
        before = without(windows, tally.usage, charge.cost, now_ms, tally.added, tokens=charge.tokens)
        # Reservations of tokens are corrected by other instances as well, so that less of them is nothing unusual.
        return any(less([seen[place]], [before[place]])[0] for place in of_calls(windows))

    async def give(self, charge: Charge, decided: Decided, after: Afterwards) -> Admission:
        """Give Redis what Supabase has admitted, this call included, before anybody hears of it, and look at the total.

        An instance that counts in Redis alone by now is seen here, or sees this call there.
        """
        subject, now_ms, windows = charge.subject, charge.now_ms, charge.subject.layout.windows
        remembered, carried = self.counting.memory.of(subject), less(decided.total, decided.spent)
        # Tokens are counted by Redis alone.
        one = of_one_call(windows, charge.cost, charge.tokens, now_ms)
        tokens = tuple(own if each.unit == "tokens" else {} for each, own in zip(windows, one, strict=True))
        restore = settlement.restore(
            subject.id, subject.layout, now_ms, spent=decided.spent, carried=carried, alone=tokens
        )
        try:
            op = join(restore, bitfield.peek(subject.id, subject.layout, now_ms))
            _, tally = await self.redis.run(op, "settle", self.clock.left_s(charge.deadline))
        except RedisDown as e:
            # Admitted and counted all the same.
            self.outage.happened()
            self.gone(str(e))
            return Admission(charge, decided.quota, "supabase")
        remembered.known = replace(tally.known, ttl_day=now_ms // DAY_MS)
        remembered.seen, remembered.noted = certain(windows, tally.usage, now_ms), decided.spent
        quota = judge(windows, tally.usage, charge.cost, now_ms, [True] * len(windows), tokens=charge.tokens)
        if not quota.allowed and charge.tokens:
            self.counting.correct(charge, 0, after)
        return Admission(charge, quota, "redis")

    def _floor(self, charge: Charge, tally: Tally, noted: Usage) -> tuple[Usage, Usage, int]:
        """What Redis itself has admitted, what was taken off it, and the last return that was over then."""
        windows, now_ms = charge.subject.layout.windows, charge.now_ms
        remembered, seen = self.counting.memory.of(charge.subject), certain(windows, tally.usage, now_ms)
        floor = less(seen, noted)
        if not holds(seen, recall(remembered.seen, windows, now_ms)):
            # Redis has lost what this instance has seen.
            floor = highest(floor, remembered.own(windows, now_ms))
        remembered.outages = self.outage.number
        remembered.seen, remembered.noted, remembered.settled = highest(seen, floor), noted, UNKNOWN
        return floor, noted, UNKNOWN

    async def _decided(
        self, charge: Charge, marker: Marker, noted: Usage, tally: Tally, decided: Decided, after: Afterwards
    ) -> Admission:
        subject, now_ms, windows = charge.subject, charge.now_ms, charge.subject.layout.windows
        if not decided.quota.allowed:
            carried = less(decided.total, decided.spent)
            if not holds(less(tally.usage, noted), carried):
                after.add(
                    settlement.restore(
                        subject.id, subject.layout, now_ms, spent=noted, carried=carried, alone=empty(windows)
                    )
                )
            return Admission(charge, decided.quota, "redis")
        if decided.fence != marker.settled or len(of_calls(windows)) < len(windows):
            return await self.give(charge, decided, after)
        # Nobody has begun a return since the last one that is over: this call is on the list of the next, and until
        # that is over everybody asks Supabase.
        quota = judge(windows, decided.total, charge.cost, now_ms, [True] * len(windows))
        return Admission(charge, quota, "redis")

    async def _count_restored(self, charge: Charge, noted: Usage, tally: Tally, after: Afterwards) -> Admission:
        """Count a call in Redis, once that holds what this instance knows it should."""
        subject, now_ms, windows = charge.subject, charge.now_ms, charge.subject.layout.windows
        remembered = self.counting.memory.of(subject)
        floor, _, _ = self._floor(charge, tally, noted)
        alone = recall(remembered.alone, windows, now_ms)
        spent = highest(noted, recall(remembered.spent, windows, now_ms))
        restore = NOTHING
        if any(alone) or not holds(less(tally.usage, noted), floor) or not holds(noted, spent):
            restore = settlement.restore(subject.id, subject.layout, now_ms, spent=spent, carried=floor, alone=alone)
        remembered.alone = None
        try:
            op = join(restore, self.counting.op(charge, Known()))
            _, tally = await self.redis.run(op, "ask", self.clock.left_s(charge.deadline))
        except BaseException:
            self.elsewhere.keep_alone(charge, alone)
            raise
        remembered.noted, remembered.layout = spent, None
        return self.counting.admit(charge, tally, after, UNKNOWN)

    def _settle(self, after: Afterwards, read: str, claim: Marker, *, is_claimed: bool) -> None:
        async def job(left_s: float) -> None:
            await self.settling.settle(read, claim, left_s, is_claimed=is_claimed)

        after.jobs.append(job)
