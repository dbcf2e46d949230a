"""Who counts a call: Redis, else Supabase, else this instance, without an allowance growing on the way.

What Redis was last known to hold goes along to Supabase as a floor, and what either other counter admitted is given
back to Redis when it returns, before its counts alone decide anything (docs/failure-modes.md derives the bound).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from lib.bounded import Bounded
from lib.clock import Clock
from lib.events import Listener, Mode, ModeSwitched
from lib.local import LocalLimits
from lib.rules import keys, windows
from lib.rules.op import Op, gather, ignored, join
from lib.rules.windows import Buckets, Known, Layout, Mark, Quota, Tally, Usage, Window, judge
from lib.stores import RedisStore, SupabaseStore
from lib.thrift import Thrift
from lib.wire.supabase import SupabaseDown
from lib.wire.upstash import RedisDown

_REMEMBERED = 10_000


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
    thrift: Thrift = field(default_factory=lambda: Thrift(lambda event: None))
    riding: Callable[[], Op[None] | None] = lambda: None
    """What is due to go to Redis on its own account, and rides along with a write-back."""
    mode: Mode = field(init=False)
    since_ms: int = field(init=False)
    reason: str = "start"
    _outage_ms: int = 0
    """When Redis was last known to be out: what was admitted elsewhere until then is settled, subject by subject."""
    _settled: Bounded[str, int] = field(default_factory=lambda: Bounded(_REMEMBERED))
    _known: Bounded[str, Known] = field(default_factory=lambda: Bounded(_REMEMBERED))
    _unsure: Bounded[str, int] = field(default_factory=lambda: Bounded(1_000))
    """Subjects whose call may have made a key, at the time given, without our having learned of it: they need a TTL."""
    _floors: Bounded[str, Usage] = field(default_factory=lambda: Bounded(_REMEMBERED))

    def __post_init__(self) -> None:
        self.mode = "redis" if self.redis else "supabase" if self.supabase else "local"
        self.since_ms = self.clock.now_ms()

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

        ``ride`` yields the outage marker (:data:`keys.OUTAGE`, 0 for none) beside what its owner wants.
        """
        if not subject.layout.windows and not ride.commands:
            return Admission(subject, now_ms, Quota(True, "unlimited", ()), self.mode), None
        reason = "redis is disabled"
        spared = self.spares(now_ms)
        if self.redis is not None and spared is not None:
            # As in an outage: what is admitted meanwhile is settled when Redis counts again.
            self._outage_ms, reason = max(self._outage_ms, now_ms), spared
        elif self.redis is not None:
            try:
                admission, rode = await self._spend_redis(
                    self.redis, subject, cost, now_ms, ride, deadline, tokens, mark
                )
            except RedisDown as e:
                self._outage_ms, reason = max(self._outage_ms, now_ms), str(e)
            else:
                if self.mode != "redis":
                    # Told to the other instances, some of which may have missed it.
                    admission.owed.append(_mark_outage(now_ms))
                self._switch("redis", "redis answers again")
                return admission, rode
        return await self._spend_elsewhere(subject, cost, now_ms, deadline, reason), None

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
        self._known.drop(subject_id)
        self._floors.drop(subject_id)

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
            subject = Subject(subject_id, windows.Layout(()))
            owed.append((self.debt(subject, [], at_ms), windows.set_ttl(subject_id, at_ms)))
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
                self._known.put(each.subject.id, replace(known, ttl_day=each.now_ms // windows.DAY_MS))
            elif isinstance(result, windows.Refunded) and result.made_key:
                # The key went between the call and its refund, which made it anew.
                late[each.subject.id] = windows.set_ttl(each.subject.id, each.now_ms)
        if late:
            await self.redis.run(gather(list(late.values())), "write_back", self.left_s(deadline))

    def _passengers(self) -> list[tuple[Admission, Op[object]]]:
        riding = self.riding()
        return [] if riding is None else [(self.debt(Subject("", windows.Layout(())), [], 0), riding)]

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
        known = self._known.get(subject.id)
        spend = windows.spend(subject.id, layout, cost, now_ms, known, tokens=tokens, mark=mark)
        try:
            tally, (outage_ms, rode) = await redis.run(join(spend, ride), "ask", left_s)
        except BaseException as e:
            if not (isinstance(e, RedisDown) and e.kind == "resting"):
                self._unsure.put(subject.id, now_ms)
            raise
        self._known.put(subject.id, tally.known)
        self._outage_ms = max(self._outage_ms, outage_ms)
        if self._settled.get(subject.id) != self._outage_ms and self._outage_ms:
            tally = await self._settle(redis, subject, cost, now_ms, tally, deadline, tokens)
        quota = judge(layout.windows, tally.usage, cost, now_ms, tally.added, tokens=tokens)
        admission = Admission(subject, now_ms, quota, "redis", slot=tally.slot)
        usage: Sequence[Buckets] = tally.usage
        if not quota.allowed:
            # What was noted there before goes back as well: a refused call computes nothing.
            erased = Mark(mark.slot, tally.slot or 0) if mark else None
            refund = windows.refund(subject.id, layout, cost, now_ms, tally.added, tokens=tokens, mark=erased)
            admission.owed.append(refund)
            usage = windows.without(layout.windows, usage, cost, now_ms, tally.added, tokens=tokens)
        self._floors.put(subject.id, windows.certain(layout.windows, usage, now_ms))
        if windows.needs_ttl(tally, now_ms):
            admission.owed.append(windows.set_ttl(subject.id, now_ms))
            admission.sets_ttl = True
        return admission, rode

    async def _settle(
        self, redis: RedisStore, subject: Subject, cost: int, now_ms: int, tally: Tally, deadline: float, tokens: int
    ) -> Tally:
        """Give back to Redis what was admitted elsewhere, and what Redis itself has lost; yields the counts after it.

        What Supabase hands out, it hands out once; what others were handed, it shows as carried, so that a call that
        gets here before they have given it back is decided as strictly.
        """
        outage_ms, limits = self._outage_ms, subject.layout.windows
        before = windows.without(limits, tally.usage, cost, now_ms, tally.added, tokens=tokens)
        floor = windows.covering(limits, self._floors.get(subject.id) or ({},) * len(limits), now_ms)
        spent: Usage = ({},) * len(limits)
        if self.supabase is not None:
            try:
                settled = await self.supabase.settle(subject.id, limits, now_ms, self.left_s(deadline))
            except SupabaseDown:
                # Not settled: the next call of this subject tries again.
                outage_ms = 0
            else:
                floor = windows.highest(floor, windows.covering(limits, settled.carried, now_ms))
                spent = windows.covering(limits, settled.spent, now_ms)
        missing = windows.lacking(before, floor, spent)
        if any(missing):
            add = windows.add(subject.id, subject.layout, missing, now_ms)
            peek = windows.peek(subject.id, subject.layout, now_ms)
            _, after = await redis.run(join(add, peek), "settle", self.left_s(deadline))
            tally = replace(tally, usage=after.usage, known=after.known)
            self._known.put(subject.id, after.known)
        self._settled.put(subject.id, outage_ms)
        return tally

    # Elsewhere

    async def _spend_elsewhere(
        self, subject: Subject, cost: int, now_ms: int, deadline: float, reason: str
    ) -> Admission:
        # Tokens are counted in Redis only; a calendar day counts as the last 24 hours, which is never more.
        limits = tuple(replace(each, zone=None) for each in subject.layout.windows if each.unit == "calls")
        if self.supabase is not None:
            floor = self._floors.get(subject.id)
            if floor is not None:
                of_calls = [b for b, each in zip(floor, subject.layout.windows, strict=True) if each.unit == "calls"]
                floor = windows.covering(limits, of_calls, now_ms)
            try:
                quota = Quota(True, "unlimited", ())
                if limits:
                    left_s = self.left_s(deadline)
                    quota = await self.supabase.spend(subject.id, limits, cost, now_ms, floor, left_s)
            except SupabaseDown as e:
                reason = f"{reason}; {e}"
            else:
                self._switch("supabase", reason)
                return Admission(subject, now_ms, quota, "supabase")
        self._switch("local", reason)
        return Admission(subject, now_ms, self._spend_local(subject, cost, now_ms), "local")

    def _spend_local(self, subject: Subject, cost: int, now_ms: int) -> Quota:
        """A share of the limit, and never more than what is known to be left of the whole."""
        limits = subject.layout.windows
        if not limits:
            return Quota(True, "unlimited", ())
        floor = windows.covering(limits, self._floors.get(subject.id) or ({},) * len(limits), now_ms)
        whole = judge(limits, floor, cost, now_ms)
        if not whole.allowed:
            return whole
        quota = self.local.spend(subject.id, limits, cost, now_ms)
        if quota.allowed:
            # From here on known: to Supabase as a floor, to Redis when it is back.
            one = tuple({now_ms // each.bucket_ms: each.price(cost, 0)} for each in limits)
            self._floors.put(subject.id, windows.plus(floor, one))
        return quota

    def _switch(self, mode: Mode, reason: str) -> None:
        if mode != self.mode:
            self.emit(ModeSwitched(self.mode, mode, reason))
            self.mode, self.since_ms, self.reason = mode, self.clock.now_ms(), reason


def _mark_outage(now_ms: int) -> Op[None]:
    """Tell every instance that calls may have been admitted elsewhere: 1 command, once an instance and outage."""
    # As long as an admitted call can count.
    return Op((("SET", keys.OUTAGE, now_ms, "PX", windows.DAY_MS + 3_600_000),), ignored)
