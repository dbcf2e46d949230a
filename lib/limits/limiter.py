"""Who counts a call: Redis, else Supabase, else this instance; and the marks that every request reads.

An admitted call takes one ``BITFIELD``, joined with the ``MGET`` of everything else that the request reads. What
happens while Redis is away is in ``elsewhere.py``, what happens when it returns in ``coming_back.py``.
"""

from collections.abc import Callable, Sequence
from dataclasses import field, replace
from typing import Protocol

from ..afterwards import Afterwards
from ..base.clock import Clock
from ..base.events import Listener, Mode, ModeSwitched
from ..base.values import dataclass
from ..lookup import Lookup, both
from ..redis.errors import RedisDown
from ..redis.op import Op, Reply, join
from ..redis.store import RedisStore
from ..redis.thrift import Thrift
from . import bitfield
from .admission import Admission, Charge
from .blocklist import Blocklist
from .coming_back import NOTHING, ComingBack, Outage
from .counting import Counting
from .elsewhere import Elsewhere
from .judge import Quota, too_costly
from .local import LocalLimits
from .marks import Marks, marks
from .news import News
from .remembered import Memory
from .supabase_store import SupabaseStore
from .window import SKEW_AHEAD_MS, Layout, Window

_LONGEST_S = 2.5
"""A call that found Redis away is counted elsewhere within this time; then the cool-down follows."""


class StockLimits(Protocol):
    """The limiter of ``upstash_ratelimit``, for installations that share its counters."""

    async def spend(self, caller_id: str, group: str, limits: Sequence[Window], cost: int) -> Quota:
        """Admit a call or refuse it. Raises RedisDown."""


@dataclass(slots=True)
class Limits:
    """Counts calls wherever they can be counted now. One for each instance; what it remembers may be forgotten."""

    redis: RedisStore | None
    supabase: SupabaseStore | None
    local: LocalLimits
    clock: Clock
    emit: Listener
    stock: StockLimits | None = None
    thrift: Thrift = field(default_factory=Thrift)
    mode: Mode = field(init=False)
    since_ms: int = field(init=False)
    reason: str = "start"
    counting: Counting = field(init=False)
    _memory: Memory = field(default_factory=Memory)
    news: News = field(init=False)
    blocklist: Blocklist = field(default_factory=Blocklist)
    _outage: Outage = field(default_factory=Outage)
    _elsewhere: Elsewhere = field(init=False)
    _coming_back: ComingBack = field(init=False)
    _longest_s: float = field(init=False)

    def __post_init__(self) -> None:
        redis, supabase = self.redis, self.supabase
        self.mode = "redis" if redis else "supabase" if supabase else "local"
        self.since_ms = self.clock.now_ms()
        self._longest_s = (redis.longest_s if redis else 0.0) + (supabase.longest_s if supabase else 0.0)
        cooldown_ms = redis.gate.policy.cooldown_ms if redis else 0
        grace_ms = cooldown_ms + int(max(_LONGEST_S, self._longest_s) * 1000) + SKEW_AHEAD_MS
        self.counting = Counting(self._memory)
        self.news = News(self._forget_where)
        self._elsewhere = Elsewhere(supabase, self.local, self._memory, self.clock)
        self._coming_back = ComingBack(
            self._memory,
            self.counting,
            self._elsewhere,
            self._outage,
            self.clock,
            grace_ms,
            lambda reason: self._switch("supabase", reason),
        )

    async def admit[T](self, charge: Charge, wanted: Lookup[T], after: Afterwards) -> tuple[Admission, T]:
        """Admit a call or refuse it, and read the request's lookup in the same round trip. Raises nothing.

        Takes no longer than the stores' own times together, nor than there is until the deadline.
        """
        op = both(marks(charge.now_ms), wanted).op()
        admission, found = await self._count(charge, op, after)
        if found is None:
            return admission, wanted.unread()
        self.thrift.seen(found[0].thrift, charge.now_ms)
        changed = self.news.heard(found[0].news, charge.now_ms)
        if admission.quota.allowed or not changed(charge.subject.id):
            return admission, found[1]
        # Refused by what this instance remembered of the time before the reset.
        again, found_again = await self._count(charge, op, after)
        return again, (found_again or found)[1]

    async def spend[T](self, charge: Charge, ride: Op[T], after: Afterwards) -> tuple[Admission, T | None]:
        """Admit a call or refuse it; ``ride`` goes along, and yields None unless Redis answers. Raises nothing."""
        windows = charge.subject.layout.windows
        if (never := too_costly(windows, charge.cost, charge.now_ms, tokens=charge.tokens)) is not None:
            # It will never fit: nothing is counted, but what goes along is still sent.
            charge = replace(charge, subject=replace(charge.subject, layout=Layout(())))
        admission, found = await self._count(charge, Op(ride.commands, lambda r: (Marks(), ride.read(r))), after)
        admission = admission if never is None else replace(admission, quota=never)
        return admission, None if found is None else found[1]

    def give_back(self, admission: Admission, after: Afterwards) -> None:
        """Refund a call that was admitted and did not take place."""
        charge = admission.charge
        if admission.mode == "redis" and admission.quota.allowed and charge.subject.layout.windows:
            self.counting.refund(charge, after)

    def correct(self, admission: Admission, tokens: int, after: Afterwards) -> None:
        """Replace the reservation of an admitted call by the tokens that it used."""
        if admission.mode == "redis":
            self.counting.correct(admission.charge, tokens, after)

    def due(self, after: Afterwards) -> None:
        """Add what earlier requests could not send. While Redis is away, nothing can be sent."""
        if self.mode == "redis":
            self.counting.due(after)

    def spares(self, now_ms: int) -> str | None:
        """Why Redis is not used although it answers, if so: its month is nearly used up, and Supabase can count."""
        if self.supabase is None or self.supabase.gate.rests() or self.thrift.step(now_ms).asks_redis:
            return None
        return "the month's Redis commands are nearly used up"

    def is_out(self) -> bool:
        """Whether Redis did not answer the last call."""
        return self.mode != "redis" and self.spares(self.clock.now_ms()) is None

    def forget(self, subject_id: str) -> None:
        """Forget a subject."""
        self._memory.forget(subject_id)
        self.blocklist.forget(subject_id)

    def _forget_where(self, concerned: Callable[[str], bool]) -> None:
        self._memory.forget_where(concerned)
        self.blocklist.forget_where(concerned)

    async def hear_news(self, now_ms: int, deadline: float) -> None:
        """Read what was changed by hand, if nothing was read for a while: before a caller is refused from memory."""
        if self.redis is not None and self.spares(now_ms) is None:
            await self.news.pull(self.redis, now_ms, self.left_s(deadline))

    def left_s(self, deadline: float) -> float:
        """Seconds until a deadline on the monotonic clock; never negative."""
        return max(0.0, deadline - self.clock.monotonic())

    async def _count[T](
        self, charge: Charge, ride: Op[tuple[Marks, T]], after: Afterwards
    ) -> tuple[Admission, tuple[Marks, T] | None]:
        if not charge.subject.layout.windows and not ride.commands:
            # No store is called, and nothing is learned about them.
            return Admission(charge, Quota(True, "unlimited", ()), self.mode), None
        # Not by dataclasses.replace(), which takes as long as judging the call.
        deadline = min(charge.deadline, self.clock.monotonic() + self._longest_s)
        charge = Charge(charge.subject, charge.now_ms, deadline, charge.cost, charge.tokens)
        now_ms = charge.now_ms
        if self.redis is None:
            return await self._count_elsewhere(charge, "redis is disabled"), None
        if (spared := self.spares(now_ms)) is not None:
            # As in an outage: what is admitted meanwhile is settled when Redis counts again.
            self._outage.happened(now_ms)
            return await self._count_elsewhere(charge, spared), None
        if self.redis.failed_ms > self._outage.at_ms:
            # It failed at another operation: a write-back, a circuit. Whether it has lost its data is not known.
            self._outage.happened(self.redis.failed_ms)
        try:
            admission, rode = await self._count_in_redis(self.redis, charge, ride, after)
        except RedisDown as e:
            # An unusable value in one subject's key is no outage.
            outage = e.kind != "command"
            if outage:
                self._outage.happened(now_ms)
            return await self._count_elsewhere(charge, str(e), switch=outage), None
        if self._outage.unreported:
            self._report_outage(now_ms, after)
        if admission.mode == "redis" and not self.redis.gate.rests():
            # A late reply from before the outage does not end it.
            self._switch("redis", "redis answers again")
        return admission, rode

    def _report_outage(self, now_ms: int, after: Afterwards) -> None:
        def lost() -> None:
            self._outage.unreported = True

        self._outage.unreported = False
        after.add(self._outage.report(now_ms), lost=lost)

    async def _count_in_redis[T](
        self, redis: RedisStore, charge: Charge, ride: Op[tuple[Marks, T]], after: Afterwards
    ) -> tuple[Admission, tuple[Marks, T]]:
        subject, left_s, moves = charge.subject, self.left_s(charge.deadline), redis.offset.moves
        if not subject.layout.windows:
            rode = await redis.run(ride, "ask", left_s)
            charge = charge if redis.offset.moves == moves else replace(charge, now_ms=self.clock.now_ms())
            return Admission(charge, Quota(True, "unlimited", ()), "redis"), rode
        if self.stock is not None and subject.stock_id is not None:
            stock, stock_id, windows = self.stock, subject.stock_id, subject.layout.windows
            quota = await redis.call(lambda: stock.spend(stock_id, subject.group, windows, charge.cost), "ask")
            return Admission(charge, quota, "redis"), await redis.run(ride, "ask", self.left_s(charge.deadline))
        if self._coming_back.concerns(charge):
            return await self._coming_back.admit(redis, charge, _with_outage(ride), NOTHING, after)
        try:
            tally, rode = await redis.run(join(self.counting.op(charge), ride), "ask", left_s)
        except BaseException as e:
            if not (isinstance(e, RedisDown) and e.kind == "resting"):
                self.counting.lost(subject.id, charge.now_ms)
            raise
        if redis.offset.moves != moves:
            wrong, charge = charge, replace(charge, now_ms=self.clock.now_ms())
            tally = await self.counting.again(redis, wrong, tally, charge, self.left_s(charge.deadline), after)
        self._outage.heard(rode[0].outage_ms)
        if self._coming_back.concerns(charge):
            # Learned from this very reply: the call is taken back and counted as if the outage had been known.
            back = bitfield.refund(
                subject.id, subject.layout, charge.cost, charge.now_ms, tally.added, tokens=charge.tokens
            )
            admission, _ = await self._coming_back.admit(redis, charge, _with_outage(ride), back, after)
            return admission, rode
        return self.counting.admit(charge, tally, after), rode

    async def _count_elsewhere(self, charge: Charge, reason: str, *, switch: bool = True) -> Admission:
        admission, reason = await self._elsewhere.admit(charge, self.mode, reason)
        if switch:
            self._switch(admission.mode, reason)
        return admission

    def _switch(self, mode: Mode, reason: str) -> None:
        if mode != self.mode:
            self.emit(ModeSwitched(self.mode, mode, reason))
            self.mode, self.since_ms, self.reason = mode, self.clock.now_ms(), reason


def _with_outage[T](ride: Op[tuple[Marks, T]]) -> Op[tuple[int, tuple[Marks, T]]]:
    """The same, with the time of the last reported outage in front."""

    def read(replies: Sequence[Reply]) -> tuple[int, tuple[Marks, T]]:
        found = ride.read(replies)
        return found[0].outage_ms, found

    return Op(ride.commands, read)
