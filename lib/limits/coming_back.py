"""Coming back to Redis after calls were admitted elsewhere, without any caller getting a second quota.

For a while after an outage Supabase still decides each call of a subject, and the call is added to Redis at once, so
that it does not matter which instances are back already. To add it is a statement that can be repeated
(``settlement.py``). When nobody counts a subject in Supabase any more, that is noted, and Redis decides alone.
docs/failure-modes.md derives the bound.
"""

from collections.abc import Callable
from dataclasses import replace

from ..afterwards import Afterwards
from ..base.clock import Clock
from ..base.values import dataclass
from ..redis import keys
from ..redis.errors import RedisDown
from ..redis.op import Op, ignored, join
from ..redis.store import RedisStore
from . import bitfield, settlement
from .admission import Admission, Charge
from .bitfield import Known, Tally
from .counting import Counting
from .elsewhere import Decided, Elsewhere
from .judge import certain, judge
from .remembered import Memory, recall
from .settlement import Given, holds, less
from .supabase import SupabaseDown
from .window import DAY_MS, empty, highest, of_calls, of_one_call, plus

NOTHING: Op[None] = Op((), ignored)

_PATIENCE = 6
"""Both count a subject for this many grace periods at most, while somebody goes on counting it in Supabase."""


@dataclass(slots=True)
class Outage:
    """What this instance knows of Redis having been away."""

    at_ms: int = 0
    """When an instance last came back to Redis, or this one was last away; 0 for never."""
    unreported: bool = False
    """This instance has counted elsewhere and has not reported it in Redis."""

    def happened(self, now_ms: int) -> None:
        """This instance could not count in Redis."""
        self.at_ms, self.unreported = max(self.at_ms, now_ms), True

    def heard(self, at_ms: int) -> None:
        """Another instance has reported an outage."""
        self.at_ms = max(self.at_ms, at_ms)

    def report(self, now_ms: int) -> Op[None]:
        """Let every instance know that calls may have been admitted elsewhere: 1 command."""
        self.heard(now_ms)
        # For as long as an admitted call can count.
        return Op((("SET", keys.OUTAGE, self.at_ms, "PX", DAY_MS + 3_600_000),), ignored)


@dataclass(slots=True)
class ComingBack:
    """Counts the calls of subjects that Redis may lack calls of."""

    memory: Memory
    counting: Counting
    elsewhere: Elsewhere
    outage: Outage
    clock: Clock
    grace_ms: int
    """How long after one instance is back another may still count elsewhere."""
    gone: Callable[[str], None]
    """Called with the reason when Redis fails again while a call is being added to it."""

    def concerns(self, charge: Charge) -> bool:
        """Whether Redis may lack calls of the subject."""
        seen = self.memory.seen(charge.subject.id)
        if seen is not None and seen.alone and any(seen.alone):
            return True
        at_ms = self.outage.at_ms
        if not at_ms or (seen is not None and seen.settled_ms >= at_ms):
            return False
        return settlement.lasts(charge.subject.layout, at_ms, charge.now_ms)

    async def admit[T](
        self,
        redis: RedisStore,
        charge: Charge,
        ride: Op[tuple[int, T]],
        back: Op[bitfield.Refunded] | Op[None],
        after: Afterwards,
    ) -> tuple[Admission, T]:
        """Count a call in Supabase and add it to Redis at once; in Redis alone where Supabase is not needed.

        ``ride`` also yields when an outage was last reported. Raises RedisDown. Whatever fails on the way may be done
        again without counting anything twice, but what this instance admitted from memory: of that, a lost reply counts
        twice, which admits nothing.
        """
        subject, now_ms, windows = charge.subject, charge.now_ms, charge.subject.layout.windows
        first = join(self.outage.report(now_ms) if self.outage.unreported else NOTHING, back)
        # The notes are read before the counts: what is added in between must not look like calls that Redis lacks.
        counted = join(
            settlement.read(subject.id, subject.layout, now_ms), bitfield.peek(subject.id, subject.layout, now_ms)
        )
        op = join(join(first, counted), ride)
        (_, (given, tally)), (outage_ms, rode) = await redis.run(op, "ask", self._left_s(charge))
        self.outage.unreported = False
        self.outage.heard(outage_ms)
        over = given.settled_ms >= self.outage.at_ms or not of_calls(windows)
        supabase = self.elsewhere.supabase
        if supabase is not None and not over:
            seen = self.memory.seen(subject.id)
            floor = highest(
                less(certain(windows, tally.usage, now_ms), given.usage),
                recall(seen.in_redis if seen else None, windows, now_ms),
            )
            try:
                decided = await self.elsewhere.ask_supabase(supabase, charge, floor)
            except SupabaseDown:
                pass
            else:
                return await self._give(redis, charge, given, tally, decided, after), rode
        over = over or supabase is None
        return await self._count_restored(redis, charge, given, tally, after, over=over), rode

    async def _give(
        self, redis: RedisStore, charge: Charge, given: Given, tally: Tally, decided: Decided, after: Afterwards
    ) -> Admission:
        """Add to Redis what Supabase has admitted, this call included, before the reply.

        An instance that counts in Redis alone by now is seen here, or sees this call there.
        """
        subject, now_ms, windows = charge.subject, charge.now_ms, charge.subject.layout.windows
        spent, carried = decided.spent, less(decided.total, decided.spent)
        remembered = self.memory.of(subject.id)
        remembered.in_redis = carried
        one = of_one_call(windows, charge.cost, charge.tokens, now_ms)
        if not decided.quota.allowed:
            self._settle_if_over(charge, holds(given.usage, spent), after)
            if not (holds(given.usage, spent) and holds(less(tally.usage, given.usage), carried)):
                restore = settlement.restore(
                    subject.id, subject.layout, now_ms, spent=spent, carried=carried, alone=empty(windows)
                )
                after.add(restore)
            return Admission(charge, decided.quota, "redis")
        # Tokens are counted by Redis alone.
        tokens = tuple(own if each.unit == "tokens" else {} for each, own in zip(windows, one, strict=True))
        restore = settlement.restore(subject.id, subject.layout, now_ms, spent=spent, carried=carried, alone=tokens)
        try:
            op = join(restore, bitfield.peek(subject.id, subject.layout, now_ms))
            _, tally = await redis.run(op, "settle", self._left_s(charge))
        except RedisDown as e:
            # Admitted and counted all the same.
            self.outage.happened(now_ms)
            self.gone(str(e))
            return Admission(charge, decided.quota, "supabase")
        self._settle_if_over(charge, holds(plus(given.usage, one), spent), after)
        remembered.known = replace(tally.known, ttl_day=now_ms // DAY_MS)
        quota = judge(windows, tally.usage, charge.cost, now_ms, [True] * len(windows), tokens=charge.tokens)
        if not quota.allowed and charge.tokens:
            self.counting.correct(charge, 0, after)
        remembered.total = highest(tally.usage, decided.total)
        return Admission(charge, quota, "redis")

    def _settle_if_over(self, charge: Charge, quiet: bool, after: Afterwards) -> None:
        """Note that nobody counts the subject elsewhere any more, once that has been so for long enough."""
        at_ms = self.outage.at_ms
        if abs(charge.now_ms - at_ms) >= self.grace_ms * (1 if quiet else _PATIENCE):
            self.memory.of(charge.subject.id).settled_ms = at_ms
            after.add(settlement.settle_for_good(charge.subject.id, at_ms, charge.now_ms))

    async def _count_restored(
        self, redis: RedisStore, charge: Charge, given: Given, tally: Tally, after: Afterwards, *, over: bool
    ) -> Admission:
        """Count a call in Redis, once that holds what this instance knows it should."""
        subject, now_ms, windows = charge.subject, charge.now_ms, charge.subject.layout.windows
        remembered, at_ms = self.memory.of(subject.id), self.outage.at_ms
        floor, alone = recall(remembered.in_redis, windows, now_ms), recall(remembered.alone, windows, now_ms)
        known = given.usage if over else highest(given.usage, recall(remembered.given, windows, now_ms))
        remembered.given = known
        # What Supabase has admitted counts as far as this instance knows; Supabase is called again next time.
        elsewhere = less(known, given.usage)
        restore = NOTHING
        if any(alone) or not holds(less(tally.usage, given.usage), floor):
            restore = settlement.restore(
                subject.id, subject.layout, now_ms, spent=given.usage, carried=floor, alone=alone
            )
        remembered.alone = None
        try:
            op = join(restore, self.counting.op(charge, Known()))
            _, tally = await redis.run(op, "ask", self._left_s(charge))
        except RedisDown:
            self.elsewhere.keep_alone(charge, alone)
            raise
        if over:
            remembered.settled_ms = at_ms
        return self.counting.admit(charge, tally, after, elsewhere)

    def _left_s(self, charge: Charge) -> float:
        return max(0.0, charge.deadline - self.clock.monotonic())
