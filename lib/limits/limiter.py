"""Who counts a call: Redis, else Supabase, else this instance, without an allowance growing on the way.

What Redis was last known to hold goes along to Supabase as a floor. When Redis returns, each call is for a while
counted by Supabase still and given to Redis at once, so that it does not matter that some instances are back and some
are not. docs/failure-modes.md derives the bound.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from ..base.bounded import Bounded
from ..base.clock import Clock
from ..base.events import Listener, Mode, ModeSwitched
from ..redis import keys
from ..redis.errors import RedisDown
from ..redis.op import Op, gather, ignored, join
from ..redis.store import RedisStore
from ..redis.thrift import Thrift
from . import bitfield, settlement
from .bitfield import Known, Mark, Tally
from .judge import Quota, certain, judge, without
from .local import LocalLimits
from .settlement import Given, holds, less
from .supabase import SupabaseDown
from .supabase_store import SupabaseStore
from .window import DAY_MS, SKEW_MS, Layout, Usage, Window, covering, highest, plus

_REMEMBERED = 10_000
_LATEST_S = 2.5
"""A call that found Redis away is counted elsewhere within this time at the latest, then the cool-down follows."""
_PATIENCE = 6
"""So many times the grace a subject is counted by both at most, when somebody goes on counting it in Supabase."""


class StockLimits(Protocol):
    """The limiter of ``upstash_ratelimit``, for installations that share its counters. Raises RedisDown."""

    async def spend(self, caller_id: str, group: str, limits: Sequence[Window], cost: int) -> Quota:
        """Admit a call or refuse it."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a call counts for, and by which windows. ``stock_id`` where ``upstash_ratelimit`` may count instead."""

    id: str
    layout: Layout
    group: str = ""
    stock_id: str | None = None


@dataclass(slots=True)
class Admission:
    """The verdict on a call, who gave it, and what is still owed to Redis."""

    subject: Subject
    now_ms: int
    quota: Quota
    mode: Mode
    owed: list[Op[object]] = field(default_factory=list)
    sets_ttl: bool = False
    slot: int | None = None
    """What the subject's slot held before, where Redis answered and a mark was left."""


@dataclass(slots=True)
class Limits:
    """Counts calls wherever they can be counted now. One per instance; what it remembers may be forgotten."""

    redis: RedisStore | None
    supabase: SupabaseStore | None
    local: LocalLimits
    clock: Clock
    emit: Listener
    stock: StockLimits | None = None
    thrift: Thrift = field(default_factory=Thrift)
    riding: Callable[[], Op[None] | None] = lambda: None
    """What is due to go to Redis on its own account, and rides along with a write-back."""
    mode: Mode = field(init=False)
    since_ms: int = field(init=False)
    reason: str = "start"
    _outage_ms: int = 0
    """When an instance last came back to Redis, or this one was last away: subjects are settled once for each."""
    _untold: bool = False
    """This instance has counted elsewhere since it last said so in Redis."""
    _settled: Bounded[str, int] = field(default_factory=lambda: Bounded(_REMEMBERED))
    _known: Bounded[str, Known] = field(default_factory=lambda: Bounded(_REMEMBERED))
    _unsure: Bounded[str, int] = field(default_factory=lambda: Bounded(1_000))
    """Subjects whose call may have made a key, at the time given, without our having learned of it: they need a TTL."""
    _given: Bounded[str, Usage] = field(default_factory=lambda: Bounded(_REMEMBERED))
    """What of a subject's counts in Redis is Supabase's."""
    _floors: Bounded[str, Usage] = field(default_factory=lambda: Bounded(_REMEMBERED))
    """What Redis itself was last seen to have admitted: the rest of these counts."""
    _seen: Bounded[str, Usage] = field(default_factory=lambda: Bounded(_REMEMBERED))
    """What was last known to be counted, whoever counted it."""
    _alone: Bounded[str, Usage] = field(default_factory=lambda: Bounded(_REMEMBERED))
    """What this instance admitted by itself and has told nobody of."""
    _share_s: float = field(init=False)
    _grace_ms: int = field(init=False)

    def __post_init__(self) -> None:
        self.mode = "redis" if self.redis else "supabase" if self.supabase else "local"
        self.since_ms = self.clock.now_ms()
        redis, supabase = self.redis, self.supabase
        self._share_s = (redis.longest_s if redis else 0.0) + (supabase.longest_s if supabase else 0.0)
        # For so long after one instance is back another may still count elsewhere.
        cooldown_ms = redis.gate.policy.cooldown_ms if redis else 0
        self._grace_ms = cooldown_ms + int(max(_LATEST_S, self._share_s) * 1000) + SKEW_MS

    async def spend[T](
        self,
        subject: Subject,
        cost: int,
        now_ms: int,
        ride: Op[tuple[int, T]],
        deadline: float,
        *,
        tokens: int = 0,
        mark: Mark | None = None,
    ) -> tuple[Admission, T | None]:
        """Admit a call or refuse it, and read ``ride`` on the way; None unless Redis answers. Raises nothing.

        ``ride`` yields the outage marker (:data:`keys.OUTAGE`, 0 for none) beside what its owner wants. Takes no longer
        than the stores' own times together, nor than there is until the deadline.
        """
        if not subject.layout.windows and not ride.commands:
            # Nothing to ask anyone: it says nothing of who answers either.
            return Admission(subject, now_ms, Quota(True, "unlimited", ()), self.mode), None
        deadline = min(deadline, self.clock.monotonic() + self._share_s)
        if self.redis is None:
            return await self._spend_elsewhere(subject, cost, now_ms, deadline, "redis is disabled"), None
        if (spared := self.spares(now_ms)) is not None:
            # As in an outage: what is admitted meanwhile is settled when Redis counts again.
            self._outage_ms, self._untold = max(self._outage_ms, now_ms), True
            return await self._spend_elsewhere(subject, cost, now_ms, deadline, spared), None
        if self.redis.failed_ms > self._outage_ms:
            # It failed at something else: a write-back, a circuit. Whether it has lost its data is not known.
            self._outage_ms, self._untold = self.redis.failed_ms, True
        try:
            admission, rode = await self._spend_redis(self.redis, subject, cost, now_ms, ride, deadline, tokens, mark)
        except RedisDown as e:
            # What one subject's key holds is no outage.
            ill = e.kind == "command"
            if not ill:
                self._outage_ms, self._untold = max(self._outage_ms, now_ms), True
            return await self._spend_elsewhere(subject, cost, now_ms, deadline, str(e), switch=not ill), None
        if self._untold:
            self._untold = False
            admission.owed.append(self._tell(now_ms))
        if admission.mode == "redis" and not self.redis.gate.rests():
            # A late reply from before the outage does not end it.
            self._switch("redis", "redis answers again")
        return admission, rode

    def spares(self, now_ms: int) -> str | None:
        """Why Redis is left alone although it answers, if it is: its month is nearly over, and Supabase can count."""
        if self.supabase is None or self.supabase.gate.rests() or self.thrift.step(now_ms).asks_redis:
            return None
        return "redis's month is nearly used up"

    def is_out(self) -> bool:
        """Whether Redis was not there for the last call."""
        return self.mode != "redis" and self.spares(self.clock.now_ms()) is None

    def forget(self, subject_id: str) -> None:
        """Know nothing of a subject any more."""
        for memory in (self._known, self._given, self._floors, self._seen, self._alone):
            memory.drop(subject_id)

    def left_s(self, deadline: float) -> float:
        """Seconds until a deadline on the monotonic clock; never negative."""
        return max(0.0, deadline - self.clock.monotonic())

    def debt(self, subject: Subject, owed: list[Op[object]], now_ms: int) -> Admission:
        """Something to be written back that belongs to no verdict."""
        return Admission(subject, now_ms, Quota(True, "owed", ()), "redis", owed)

    async def finish(self, admissions: Sequence[Admission], deadline: float) -> None:
        """Send all that is owed in one round trip. Raises RedisDown, after which none of it is tried again."""
        owed = [(each, op) for each in admissions for op in each.owed]
        for each in admissions:
            each.owed = []
        # While it is out there is nobody to tell.
        unsure = self._unsure.take() if self.mode == "redis" else []
        for subject_id, at_ms in unsure:
            subject = Subject(subject_id, Layout(()))
            owed.append((self.debt(subject, [], at_ms), bitfield.set_ttl(subject_id, at_ms)))
        if not owed or self.redis is None:
            return
        owed += self._passengers()
        try:
            results = await self.redis.run(gather([op for _, op in owed]), "write_back", self.left_s(deadline))
        except BaseException:
            for subject_id, at_ms in [*unsure, *((a.subject.id, a.now_ms) for a, _ in owed if a.sets_ttl)]:
                self._unsure.put(subject_id, at_ms)
            raise
        late: dict[str, Op[None]] = {}
        for (each, _), result in zip(owed, results, strict=True):
            known = self._known.get(each.subject.id) or Known()
            if each.sets_ttl:
                self._known.put(each.subject.id, replace(known, ttl_day=each.now_ms // DAY_MS))
            elif isinstance(result, bitfield.Refunded) and result.made_key:
                # The key went between the call and its refund, which made it anew.
                late[each.subject.id] = bitfield.set_ttl(each.subject.id, each.now_ms)
        if late:
            await self.redis.run(gather(list(late.values())), "write_back", self.left_s(deadline))

    def _passengers(self) -> list[tuple[Admission, Op[object]]]:
        riding = self.riding()
        return [] if riding is None else [(self.debt(Subject("", Layout(())), [], 0), riding)]

    # Redis

    async def _spend_redis[T](
        self,
        redis: RedisStore,
        subject: Subject,
        cost: int,
        now_ms: int,
        ride: Op[tuple[int, T]],
        deadline: float,
        tokens: int,
        mark: Mark | None,
    ) -> tuple[Admission, T | None]:
        layout, left_s = subject.layout, self.left_s(deadline)
        if not layout.windows:
            _, rode = await redis.run(ride, "ask", left_s)
            return Admission(subject, now_ms, Quota(True, "unlimited", ()), "redis"), rode
        if self.stock is not None and subject.stock_id is not None:
            stock, stock_id = self.stock, subject.stock_id
            quota = await redis.call(lambda: stock.spend(stock_id, subject.group, layout.windows, cost), "ask")
            _, rode = await redis.run(ride, "ask", self.left_s(deadline))
            return Admission(subject, now_ms, quota, "redis"), rode
        asked = _Asked(subject, cost, tokens, now_ms, deadline, mark)
        if self._unsettled(subject, now_ms):
            return await self._spend_both(redis, asked, ride, _NOTHING)
        try:
            tally, (outage_ms, rode) = await redis.run(join(self._spend_op(asked), ride), "ask", left_s)
        except BaseException as e:
            if not (isinstance(e, RedisDown) and e.kind == "resting"):
                self._unsure.put(subject.id, now_ms)
            raise
        self._outage_ms = max(self._outage_ms, outage_ms)
        if self._unsettled(subject, now_ms):
            # Learned of it by this very reply: taken back, and counted as those do who knew.
            back = bitfield.refund(subject.id, layout, cost, now_ms, tally.added, tokens=tokens)
            admission, _ = await self._spend_both(redis, asked, ride, back)
            return admission, rode
        return self._admit(asked, tally, _empty(layout.windows)), rode

    def _spend_op(self, asked: "_Asked", known: Known | None = None) -> Op[Tally]:
        subject, known = asked.subject, known or self._known.get(asked.subject.id)
        return bitfield.spend(
            subject.id, subject.layout, asked.cost, asked.now_ms, known, tokens=asked.tokens, mark=asked.mark
        )

    def _admit(self, asked: "_Asked", tally: Tally, elsewhere: Usage) -> Admission:
        """Judge a call that Redis has counted; ``elsewhere`` is known to be counted and not in Redis."""
        subject, cost, tokens, now_ms, mark = asked.subject, asked.cost, asked.tokens, asked.now_ms, asked.mark
        limits = subject.layout.windows
        usage = plus(tally.usage, elsewhere) if any(elsewhere) else tally.usage
        quota = judge(limits, usage, cost, now_ms, tally.added, tokens=tokens)
        admission = Admission(subject, now_ms, quota, "redis", slot=tally.slot)
        self._known.put(subject.id, tally.known)
        if not quota.allowed:
            # What was noted there before goes back as well: a refused call computes nothing.
            erased = Mark(mark.slot, tally.slot or 0) if mark else None
            refund = bitfield.refund(subject.id, subject.layout, cost, now_ms, tally.added, tokens=tokens, mark=erased)
            admission.owed.append(refund)
            usage = without(limits, usage, cost, now_ms, tally.added, tokens=tokens)
        self._remember(subject, usage, now_ms)
        if bitfield.needs_ttl(tally, now_ms):
            admission.owed.append(bitfield.set_ttl(subject.id, now_ms))
            admission.sets_ttl = True
        return admission

    def _remember(self, subject: Subject, usage: Usage, now_ms: int) -> None:
        usage = certain(subject.layout.windows, usage, now_ms)
        self._seen.put(subject.id, usage)
        given = self._given.get(subject.id)
        self._floors.put(subject.id, usage if given is None else less(usage, given))

    def _recall(self, memory: Bounded[str, Usage], subject: Subject, now_ms: int) -> Usage:
        limits = subject.layout.windows
        return covering(limits, memory.get(subject.id) or _empty(limits), now_ms)

    # Coming back

    def _tell(self, now_ms: int) -> Op[None]:
        """Tell every instance that calls may have been admitted elsewhere: 1 command, once an instance and outage."""
        self._outage_ms = max(self._outage_ms, now_ms)
        # As long as an admitted call can count.
        return Op((("SET", keys.OUTAGE, self._outage_ms, "PX", DAY_MS + 3_600_000),), ignored)

    def _unsettled(self, subject: Subject, now_ms: int) -> bool:
        """Whether Redis may lack calls of a subject that were admitted elsewhere."""
        if self._alone.get(subject.id):
            return True
        outage_ms = self._outage_ms
        if not outage_ms or (self._settled.get(subject.id) or 0) >= outage_ms:
            return False
        return settlement.lasts(subject.layout, outage_ms, now_ms)

    async def _spend_both[T](
        self, redis: RedisStore, asked: "_Asked", ride: Op[tuple[int, T]], back: Op[bitfield.Refunded] | Op[None]
    ) -> tuple[Admission, T]:
        """Count a call in Supabase and give it to Redis at once; in Redis alone where Supabase need not be asked.

        Raises RedisDown. Whatever fails on the way may be done again without counting anything twice, but what this
        instance admitted by itself: of that, a lost reply counts twice, which admits nothing.
        """
        subject, now_ms = asked.subject, asked.now_ms
        first = join(self._tell(now_ms) if self._untold else _NOTHING, back)
        # What was given is read before what is counted: a gift in between must not look like calls that Redis lacks.
        counted = join(
            settlement.read(subject.id, subject.layout, now_ms), bitfield.peek(subject.id, subject.layout, now_ms)
        )
        op = join(join(first, counted), ride)
        (_, (given, tally)), (outage_ms, rode) = await redis.run(op, "ask", self.left_s(asked.deadline))
        self._untold, self._outage_ms = False, max(self._outage_ms, outage_ms)
        heard = given.settled_ms >= self._outage_ms or not _of_calls(subject.layout.windows)
        if self.supabase is not None and not heard:
            floor = highest(
                less(certain(subject.layout.windows, tally.usage, now_ms), given.usage),
                self._recall(self._floors, subject, now_ms),
            )
            try:
                quota, total, spent = await self._ask_supabase(self.supabase, asked, floor)
            except SupabaseDown:
                pass
            else:
                return await self._give(redis, asked, given, tally, quota, total, spent), rode
        return await self._spend_restored(redis, asked, given, tally, heard=heard or self.supabase is None), rode

    async def _give(
        self,
        redis: RedisStore,
        asked: "_Asked",
        given: Given,
        tally: Tally,
        quota: Quota,
        total: Usage,
        spent: Usage,
    ) -> Admission:
        """Give Redis what Supabase has admitted, this call included, before anybody hears of it.

        Whoever counts in Redis alone by now is seen here, or sees this call there.
        """
        subject, cost, tokens, now_ms = asked.subject, asked.cost, asked.tokens, asked.now_ms
        layout, limits, outage_ms = subject.layout, subject.layout.windows, self._outage_ms
        admission = Admission(subject, now_ms, quota, "redis")
        one = _one(limits, cost, tokens, now_ms)
        waited_ms = abs(now_ms - outage_ms)
        quiet = holds(plus(given.usage, one) if quota.allowed else given.usage, spent)
        if waited_ms >= self._grace_ms * (1 if quiet else _PATIENCE):
            self._settled.put(subject.id, outage_ms)
            admission.owed.append(settlement.settle_for_good(subject.id, outage_ms, now_ms))
        gift = {"spent": spent, "carried": less(total, spent), "alone": _empty(limits)}
        self._floors.put(subject.id, gift["carried"])
        if not quota.allowed:
            if not (holds(given.usage, spent) and holds(less(tally.usage, given.usage), gift["carried"])):
                admission.owed.append(settlement.restore(subject.id, layout, now_ms, **gift))
            return admission
        # Tokens are counted by Redis alone.
        gift["alone"] = tuple(own if each.unit == "tokens" else {} for each, own in zip(limits, one, strict=True))
        peek = bitfield.peek(subject.id, layout, now_ms)
        try:
            op = join(settlement.restore(subject.id, layout, now_ms, **gift), peek)
            _, tally = await redis.run(op, "settle", self.left_s(asked.deadline))
        except RedisDown as e:
            # Admitted and counted all the same.
            self._outage_ms, self._untold = max(self._outage_ms, now_ms), True
            self._switch("supabase", str(e))
            return replace(admission, mode="supabase", owed=[])
        self._known.put(subject.id, replace(tally.known, ttl_day=now_ms // DAY_MS))
        counted = [True] * len(limits)
        admission.quota = judge(limits, tally.usage, cost, now_ms, counted, tokens=tokens)
        if not admission.quota.allowed and tokens:
            admission.owed.append(bitfield.refund(subject.id, layout, 0, now_ms, tokens=tokens))
        self._seen.put(subject.id, highest(tally.usage, total))
        return admission

    async def _spend_restored(
        self, redis: RedisStore, asked: "_Asked", given: Given, tally: Tally, *, heard: bool
    ) -> Admission:
        """Count a call in Redis, once that holds what this instance knows it should."""
        subject, now_ms, outage_ms = asked.subject, asked.now_ms, self._outage_ms
        layout = subject.layout
        floor, alone = self._recall(self._floors, subject, now_ms), self._recall(self._alone, subject, now_ms)
        known = given.usage if heard else highest(given.usage, self._recall(self._given, subject, now_ms))
        self._given.put(subject.id, known)
        # What Supabase has admitted counts as far as this instance was told; it is asked again next time.
        elsewhere = less(known, given.usage)
        spend, nothing = self._spend_op(asked, Known()), _NOTHING
        if any(alone) or not holds(less(tally.usage, given.usage), floor):
            nothing = settlement.restore(subject.id, layout, now_ms, spent=given.usage, carried=floor, alone=alone)
        self._alone.drop(subject.id)
        try:
            _, tally = await redis.run(join(nothing, spend), "ask", self.left_s(asked.deadline))
        except RedisDown:
            self._owe(subject, alone, now_ms)
            raise
        if heard:
            self._settled.put(subject.id, outage_ms)
        return self._admit(asked, tally, elsewhere)

    def _owe(self, subject: Subject, alone: Usage, now_ms: int) -> None:
        """Remember what this instance admitted by itself and nobody has heard of."""
        if any(alone):
            self._alone.put(subject.id, plus(alone, self._recall(self._alone, subject, now_ms)))

    # Elsewhere

    async def _spend_elsewhere(
        self, subject: Subject, cost: int, now_ms: int, deadline: float, reason: str, *, switch: bool = True
    ) -> Admission:
        limits = _of_calls(subject.layout.windows)
        if not limits:
            # Nobody is asked; who would be, is not known to have failed.
            mode: Mode = self.mode if self.mode != "redis" else "supabase" if self.supabase else "local"
            quota = Quota(True, "unlimited", ())
        elif self.supabase is not None:
            asked = _Asked(subject, cost, 0, now_ms, deadline, None)
            try:
                quota, _, _ = await self._ask_supabase(
                    self.supabase, asked, self._recall(self._floors, subject, now_ms)
                )
                mode = "supabase"
            except SupabaseDown as e:
                quota, mode, reason = self._spend_local(subject, cost, now_ms), "local", f"{reason}; {e}"
        else:
            quota, mode = self._spend_local(subject, cost, now_ms), "local"
        if switch:
            self._switch(mode, reason)
        return Admission(subject, now_ms, quota, mode)

    async def _ask_supabase(self, supabase: SupabaseStore, asked: "_Asked", floor: Usage) -> tuple[Quota, Usage, Usage]:
        """Let Supabase decide; yields what it counts then, and what of it it has admitted. Raises SupabaseDown."""
        subject, now_ms = asked.subject, asked.now_ms
        # Tokens are counted in Redis only; a calendar day counts as the last 24 hours, which is never more.
        limits = subject.layout.windows
        places = _of_calls(limits)
        alone = self._recall(self._alone, subject, now_ms)
        # Taken before it is told, so that no two calls tell it.
        self._alone.drop(subject.id)
        try:
            quota, counted = await supabase.spend(
                subject.id,
                tuple(replace(limits[place], zone=None) for place in places),
                asked.cost,
                now_ms,
                tuple(floor[place] for place in places),
                tuple(alone[place] for place in places),
                self.left_s(asked.deadline),
            )
        except SupabaseDown:
            self._owe(subject, alone, now_ms)
            raise
        total = covering(limits, _spread(limits, places, counted.total), now_ms)
        spent = covering(limits, _spread(limits, places, counted.spent), now_ms)
        self._seen.put(subject.id, total)
        self._given.put(subject.id, spent)
        return quota, total, spent

    def _spend_local(self, subject: Subject, cost: int, now_ms: int) -> Quota:
        """A share of the limit, and never more than what is known to be left of the whole."""
        all_limits = subject.layout.windows
        places = _of_calls(all_limits)
        limits = tuple(replace(all_limits[place], zone=None) for place in places)
        alone = self._recall(self._alone, subject, now_ms)
        counted = plus(self._recall(self._seen, subject, now_ms), alone)
        whole = judge(limits, [counted[place] for place in places], cost, now_ms)
        if not whole.allowed:
            return whole
        quota = self.local.spend(subject.id, limits, cost, now_ms)
        if quota.allowed and cost:
            self._owe(subject, _one(all_limits, cost, 0, now_ms), now_ms)
        return quota

    def _switch(self, mode: Mode, reason: str) -> None:
        if mode != self.mode:
            self.emit(ModeSwitched(self.mode, mode, reason))
            self.mode, self.since_ms, self.reason = mode, self.clock.now_ms(), reason


@dataclass(frozen=True, slots=True)
class _Asked:
    """A call to be decided."""

    subject: Subject
    cost: int
    tokens: int
    now_ms: int
    deadline: float
    mark: Mark | None


_NOTHING: Op[None] = Op((), ignored)


def _empty(limits: Sequence[Window]) -> Usage:
    return ({},) * len(limits)


def _one(limits: Sequence[Window], cost: int, tokens: int, now_ms: int) -> Usage:
    """One call, as usage."""
    prices = [(each, each.price(cost, tokens)) for each in limits]
    return tuple({now_ms // each.bucket_ms: price} if price else {} for each, price in prices)


def _of_calls(limits: Sequence[Window]) -> list[int]:
    return [place for place, each in enumerate(limits) if each.unit == "calls"]


def _spread(limits: Sequence[Window], places: Sequence[int], usage: Usage) -> Usage:
    """The usage of some windows as the usage of all."""
    by_place = dict(zip(places, usage, strict=True))
    return tuple(by_place.get(place, {}) for place in range(len(limits)))
