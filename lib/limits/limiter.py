"""Who counts a call: Redis, else Supabase, else this instance; and the marks that every request reads.

An admitted call takes one ``BITFIELD``, joined with the ``MGET`` of everything else that the request reads. What
happens while Redis is away is in ``elsewhere.py``, what happens when it returns in ``coming_back.py``.
"""

from collections.abc import Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING, Protocol

from ..afterwards import Afterwards
from ..base.bounded import Bounded
from ..base.calendar import month_of
from ..base.clock import Clock
from ..base.events import Listener, Mode, ModeSwitched
from ..base.values import dataclass
from ..lookup import Lookup, Texts, both
from ..redis import keys
from ..redis.errors import RedisDown
from ..redis.op import Op, join
from ..redis.store import RedisStore
from ..redis.thrift import Thrift
from . import bitfield
from .admission import Admission, Charge
from .coming_back import NOTHING, ComingBack
from .counting import Counting
from .elsewhere import Elsewhere
from .judge import Quota, too_costly
from .local import LocalLimits
from .outage import Outage
from .remembered import Memory
from .settling import Settling
from .supabase_store import SupabaseStore
from .window import Layout, Window

if TYPE_CHECKING:
    from .carry_over import CarryOver


class StockLimits(Protocol):
    """The limiter of ``upstash_ratelimit``, for installations that share its counters."""

    async def spend(self, caller_id: str, group: str, limits: Sequence[Window], cost: int) -> Quota:
        """Admit a call or refuse it. Raises RedisDown."""


@dataclass(frozen=True, slots=True)
class Marks:
    """What instances and operators leave in Redis for every request to see."""

    outage: str | None = None
    """Whether somebody settles an outage (``marker.py``)."""
    thrift: str | None = None
    """The thrift step, as Redis holds it."""
    reset_ms: int = 0
    """When the subject's counts were last reset by an admin action; 0 for never."""


def marks(subject_id: str, now_ms: int) -> Lookup[Marks]:
    """The marks that concern a subject."""

    def read(texts: Texts) -> Marks:
        outage, thrift, reset = texts
        return Marks(outage, thrift, _number(reset))

    return Lookup((keys.OUTAGE, keys.thrift(month_of(now_ms)), keys.reset(subject_id)), read, Marks)


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 16 else 0


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
    _resets: Bounded[str, int] = field(default_factory=lambda: Bounded(1_000))
    """The resets that this instance knows of."""
    _outage: Outage = field(default_factory=Outage)
    _carry_over: "CarryOver | None" = None
    """Made with the first call of a budget: a hit from the cache does not load it."""
    _elsewhere: Elsewhere = field(init=False)
    _coming_back: ComingBack | None = field(init=False)
    _longest_s: float = field(init=False)

    def __post_init__(self) -> None:
        redis, supabase = self.redis, self.supabase
        self.mode = "redis" if redis else "supabase" if supabase else "local"
        self.since_ms = self.clock.now_ms()
        self._longest_s = (redis.longest_s if redis else 0.0) + (supabase.longest_s if supabase else 0.0)
        self.counting = Counting(self._memory)
        self._elsewhere = Elsewhere(supabase, self.local, self._memory, self.clock)
        self._coming_back = _coming_back(self, redis) if redis is not None else None

    async def admit[T](self, charge: Charge, wanted: Lookup[T], after: Afterwards) -> tuple[Admission, T]:
        """Admit a call or refuse it, and read the request's lookup in the same round trip. Raises nothing.

        Takes no longer than the stores' own times together, nor than there is until the deadline.
        """
        lookup = both(marks(charge.subject.id, charge.now_ms), wanted)
        admission, found = await self._count(charge, lookup.op(), after)
        if found is None:
            return admission, wanted.unread()
        self.thrift.seen(found[0].thrift, charge.now_ms)
        if not self._is_new_reset(charge.subject.id, found[0]) or admission.quota.allowed:
            return admission, found[1]
        # Refused by what this instance remembered of the time before the reset.
        again, found_again = await self._count(charge, lookup.op(), after)
        return again, (found_again or found)[1]

    async def spend[T](self, charge: Charge, ride: Op[T], after: Afterwards) -> tuple[Admission, T | None]:
        """Admit a call or refuse it; ``ride`` goes along, and yields None unless Redis answers. Raises nothing."""
        windows = charge.subject.layout.windows
        if (never := too_costly(windows, charge.cost, charge.now_ms, tokens=charge.tokens)) is not None:
            # It will never fit: nothing is counted, but what goes along is still sent.
            charge = replace(charge, subject=replace(charge.subject, layout=Layout(())))
        admission, found = await self._count(charge, _with_marks(ride, self._outage.text), after)
        admission = admission if never is None else replace(admission, quota=never)
        return admission, None if found is None else found[1]

    def give_back(self, admission: Admission, after: Afterwards) -> None:
        """Refund a call that was admitted and did not take place."""
        charge = admission.charge
        if admission.mode == "redis" and admission.quota.allowed and charge.subject.layout.windows:
            self.counting.give_back(charge, after)

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

    def left_s(self, deadline: float) -> float:
        """Seconds until a deadline on the monotonic clock; never negative."""
        return max(0.0, deadline - self.clock.monotonic())

    def _is_new_reset(self, subject_id: str, found: Marks) -> bool:
        """Whether the subject was reset since this instance last looked; then this instance forgets what it knew."""
        if found.reset_ms <= (self._resets.get(subject_id) or 0):
            return False
        self._resets.put(subject_id, found.reset_ms)
        self.forget(subject_id)
        return True

    async def _count[T](
        self, charge: Charge, ride: Op[tuple[Marks, T]], after: Afterwards
    ) -> tuple[Admission, tuple[Marks, T] | None]:
        if not charge.subject.layout.windows and not ride.commands:
            # No store is called, and nothing is learned about them.
            return Admission(charge, Quota(True, "unlimited", ()), self.mode), None
        # Not by dataclasses.replace(), which takes as long as judging the call.
        deadline = min(charge.deadline, self.clock.monotonic() + self._longest_s)
        charge = Charge(charge.subject, charge.now_ms, deadline, charge.cost, charge.tokens)
        redis, coming_back = self.redis, self._coming_back
        if redis is None or coming_back is None:
            return await self._count_elsewhere(charge, "redis is disabled", after), None
        if (spared := self.spares(charge.now_ms)) is not None:
            # As in an outage: what is admitted meanwhile is settled when Redis counts again.
            self._outage.happened()
            return await self._count_elsewhere(charge, spared, after), None
        # It may have failed at something else: a write-back, a circuit. Whether it has lost its data is not known.
        self._outage.failed(redis.failures)
        try:
            admission, rode = await self._count_in_redis(redis, coming_back, charge, ride, after)
        except RedisDown as e:
            # What one subject's key holds is no outage.
            if e.kind == "command":
                return await self._count_elsewhere(charge, str(e), after, switch=False), None
            self._outage.happened()
            admission = await self._count_elsewhere(charge, str(e), after, resting=e.kind == "resting")
            return admission, None
        self._outage.failed(redis.failures)
        if admission.mode == "redis" and not redis.gate.rests():
            # A late reply from before the outage does not end it.
            self._switch("redis", "redis answers again")
        return admission, rode

    async def _count_in_redis[T](
        self,
        redis: RedisStore,
        coming_back: ComingBack,
        charge: Charge,
        ride: Op[tuple[Marks, T]],
        after: Afterwards,
    ) -> tuple[Admission, tuple[Marks, T]]:
        subject, left_s = charge.subject, self.left_s(charge.deadline)
        if not subject.layout.windows:
            rode = await redis.run(ride, "ask", left_s)
            coming_back.look_after(rode[0].outage, charge.now_ms, after)
            return Admission(charge, Quota(True, "unlimited", ()), "redis"), rode
        if self.stock is not None and subject.stock_id is not None:
            stock, stock_id, windows = self.stock, subject.stock_id, subject.layout.windows
            quota = await redis.call(lambda: stock.spend(stock_id, subject.group, windows, charge.cost), "ask")
            return Admission(charge, quota, "redis"), await redis.run(ride, "ask", self.left_s(charge.deadline))
        if subject.shapes is not None:
            if self._carry_over is None:
                from .carry_over import CarryOver

                self._carry_over = CarryOver(self._memory)
            await self._carry_over.before(redis, charge, left_s, after)
            left_s = self.left_s(charge.deadline)
        if coming_back.expects(charge.now_ms):
            # Not counted before it is known who decides: others would take it for an admitted call.
            rode = await redis.run(ride, "ask", left_s)
            return await coming_back.admit(charge, rode[0].outage, NOTHING, after), rode
        try:
            tally, rode = await redis.run(join(self.counting.op(charge), ride), "ask", left_s)
        except BaseException as e:
            if not (isinstance(e, RedisDown) and e.kind == "resting"):
                self.counting.lost(subject.id, charge.now_ms)
            raise
        if coming_back.is_over(rode[0].outage, charge, tally):
            coming_back.give_own_later(after)
            return self.counting.admit(charge, tally, after, self._outage.marker.settled), rode
        # The call is taken back, and counted as whoever knows of the outage counts it.
        self.counting.see_to_ttl(charge, tally, after)
        back = bitfield.refund(
            subject.id, subject.layout, charge.cost, charge.now_ms, tally.added, tokens=charge.tokens
        )
        return await coming_back.admit(charge, rode[0].outage, back, after), rode

    async def _count_elsewhere(
        self, charge: Charge, reason: str, after: Afterwards, *, switch: bool = True, resting: bool = False
    ) -> Admission:
        counted = await self._elsewhere.admit(charge, self.mode, reason)
        admission, decided = counted.admission, counted.decided
        if decided is not None:
            came_back = self._outage.is_news(decided.fence)
            if came_back and decided.quota.allowed and switch and self._coming_back is not None:
                # Somebody has come back and does not know of this call.
                return await self._coming_back.give(charge, decided, after)
        # Redis may have answered another request since this one found it left alone.
        if switch and not (resting and self.mode == "redis" and self.redis and not self.redis.gate.rests()):
            self._switch(admission.mode, counted.reason)
        return admission

    def _switch(self, mode: Mode, reason: str) -> None:
        if mode != self.mode:
            self.emit(ModeSwitched(self.mode, mode, reason))
            self.mode, self.since_ms, self.reason = mode, self.clock.now_ms(), reason


def _with_marks[T](ride: Op[T], marker: str) -> Op[tuple[Marks, T]]:
    """What was read with the request's first call is all that a later one knows of the marks."""
    return Op(ride.commands, lambda replies: (Marks(marker), ride.read(replies)))


def _coming_back(limits: Limits, redis: RedisStore) -> ComingBack:
    settling = Settling(redis, limits.supabase, limits._memory, limits._outage, limits.clock)
    return ComingBack(
        redis,
        limits.counting,
        limits._elsewhere,
        limits._outage,
        settling,
        limits.clock,
        lambda reason: limits._switch("supabase", reason),
    )
