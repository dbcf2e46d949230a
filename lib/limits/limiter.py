"""Who counts a call: Redis, else Supabase, else this instance; and the marks that every request reads.

An admitted call takes one ``BITFIELD``, joined with the ``MGET`` of everything else that the request reads
(``in_redis.py``). What happens while Redis is away is in ``elsewhere.py``, what happens when it returns in
``coming_back.py``.
"""

from collections.abc import Callable
from dataclasses import field, replace

from ..afterwards import Afterwards
from ..base.clock import Clock
from ..base.events import Listener, Mode, ModeSwitched
from ..base.values import dataclass
from ..lookup import Lookup, both
from ..redis.errors import RedisDown
from ..redis.op import Op
from ..redis.store import RedisStore
from ..redis.thrift import Thrift
from .admission import Admission, Charge, Subject
from .blocklist import Blocklist
from .coming_back import ComingBack
from .counting import Counting
from .elsewhere import Elsewhere
from .in_redis import InRedis, StockLimits
from .judge import Quota, too_costly
from .local import LocalLimits
from .marks import Marks, marks
from .news import News
from .outage import Outage
from .remembered import Memory
from .settling import Settling
from .supabase_store import SupabaseStore
from .window import Layout, Usage

MARKS_LAST_MS = 1_000
"""So old the marks may be where a call is counted and nothing else is read."""


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
    _in_redis: InRedis | None = field(init=False)
    _longest_s: float = field(init=False)
    _marks_read_ms: int = -MARKS_LAST_MS
    """When the marks were last read."""

    def __post_init__(self) -> None:
        redis, supabase = self.redis, self.supabase
        self.mode = "redis" if redis else "supabase" if supabase else "local"
        self.since_ms = self.clock.now_ms()
        self._longest_s = (redis.longest_s if redis else 0.0) + (supabase.longest_s if supabase else 0.0)
        self.counting = Counting(self._memory)
        self.news = News([self._forget_where])
        self._elsewhere = Elsewhere(supabase, self.local, self._memory, self.clock)
        self._in_redis = _in_redis(self, redis) if redis is not None else None

    async def admit[T](
        self, charge: Charge, wanted: Lookup[T], after: Afterwards, *, marks_may_be_old: bool = False
    ) -> tuple[Admission, T]:
        """Admit a call or refuse it, and read the request's lookup in the same round trip. Raises nothing.

        Takes no longer than the stores' own times together, nor than there is until the deadline. ``marks_may_be_old``:
        where nothing is to be read, marks of the last second will do, and the call is one command. Where nothing is
        left, the same caller is refused from memory until its time has come.
        """
        admission, found = await self._admit(charge, wanted, after, marks_may_be_old=marks_may_be_old)
        if not admission.quota.allowed or admission.following is not None:
            self._remember_refusal(admission)
        return admission, found

    def _remember_refusal(self, admission: Admission) -> None:
        counted, refusal, cost = admission.charge, admission.quota, admission.charge.cost
        if admission.following is not None:
            refusal, cost = admission.following, 1
        if not refusal.allowed:
            self.blocklist.remember(counted.subject, cost, refusal, counted.now_ms, admission.mode, sure=admission.sure)

    async def _admit[T](
        self, charge: Charge, wanted: Lookup[T], after: Afterwards, *, marks_may_be_old: bool
    ) -> tuple[Admission, T]:
        if marks_may_be_old and not wanted.keys and self._knows_marks(charge.now_ms):
            admission, counted = await self._count(charge, _with_marks(wanted.op(), self._outage.text), after)
            return admission, counted[1] if counted is not None else wanted.unread()
        op = both(marks(charge.now_ms), wanted).op()
        admission, found = await self._count(charge, op, after)
        if found is None:
            return admission, wanted.unread()
        self._marks_read_ms = charge.now_ms
        self.thrift.seen(found[0].thrift, charge.now_ms)
        changed = self.news.heard(found[0].news, charge.now_ms)
        if not changed(charge.subject.id):
            return admission, found[1]
        # It was judged by what this instance remembered of the time before the reset.
        if admission.quota.allowed:
            return replace(admission, following=None), found[1]
        again, found_again = await self._count(charge, op, after)
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

    def seen(self, subject: Subject) -> Usage | None:
        """What Redis held of a subject's windows at this instance's last call of it; None where there was none."""
        remembered = self._memory.seen(subject)
        return None if remembered is None else remembered.seen

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
            await self.news.pull(self.redis, now_ms, self.clock.left_s(deadline))

    def _knows_marks(self, now_ms: int) -> bool:
        """Whether this instance has read the marks within the last second, and they ask nothing of it."""
        if self.redis is None or self._in_redis is None:
            return False
        self._outage.failed(self.redis.failures)
        return abs(now_ms - self._marks_read_ms) < MARKS_LAST_MS and not self._in_redis.coming_back.expects(now_ms)

    async def _count[T](
        self, charge: Charge, ride: Op[tuple[Marks, T]], after: Afterwards
    ) -> tuple[Admission, tuple[Marks, T] | None]:
        if not charge.subject.layout.windows and not ride.commands:
            # No store is called, and nothing is learned about them.
            return Admission(charge, Quota(True, "unlimited", ()), self.mode), None
        # Not by dataclasses.replace(), which takes as long as judging the call.
        deadline = min(charge.deadline, self.clock.monotonic() + self._longest_s)
        charge = Charge(charge.subject, charge.now_ms, deadline, charge.cost, charge.tokens, charge.parts)
        redis, in_redis = self.redis, self._in_redis
        if redis is None or in_redis is None:
            return await self._count_elsewhere(charge, "redis is disabled", after), None
        if (spared := self.spares(charge.now_ms)) is not None:
            # As in an outage: what is admitted meanwhile is settled when Redis counts again.
            self._outage.happened()
            return await self._count_elsewhere(charge, spared, after), None
        # It may have failed at something else: a write-back, a circuit. Whether it has lost its data is not known.
        self._outage.failed(redis.failures)
        try:
            admission, rode = await in_redis.admit(charge, ride, after)
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

    async def _count_elsewhere(
        self, charge: Charge, reason: str, after: Afterwards, *, switch: bool = True, resting: bool = False
    ) -> Admission:
        counted = await self._elsewhere.admit(charge, self.mode, reason)
        admission, decided = counted.admission, counted.decided
        if decided is not None:
            came_back = self._outage.is_news(decided.fence)
            if came_back and decided.quota.allowed and switch and self._in_redis is not None:
                # Somebody has come back and does not know of this call.
                return await self._in_redis.coming_back.give(charge, decided, after)
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


def _in_redis(limits: Limits, redis: RedisStore) -> InRedis:
    counting, memory, outage, clock = limits.counting, limits._memory, limits._outage, limits.clock
    settling = Settling(redis, limits.supabase, memory, outage, clock)

    def gone(reason: str) -> None:
        limits._switch("supabase", reason)

    coming_back = ComingBack(redis, counting, limits._elsewhere, outage, settling, clock, gone)
    return InRedis(redis, counting, coming_back, outage, memory, clock, limits.stock)
