"""Counts what happens in this instance, and adds it to Redis in one command every ``LEDGER_FLUSH_COMMANDS`` commands.

It listens to events, and the transports report every command they send. A flush follows a response, in the same round
trip as the write-back where there is one. An instance that is killed loses what it had not flushed: less than
``LEDGER_FLUSH_COMMANDS`` billed commands and ``_MOST_REQUESTS`` requests, and nothing else (docs/ledger.md).
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import field
from functools import lru_cache

from ..base.calendar import month_ends_ms, month_of
from ..base.clock import Clock
from ..base.events import (
    WARNING,
    CircuitChanged,
    Event,
    Mode,
    ModeSwitched,
    ProviderAnswered,
    ProviderAsked,
    ProviderFailure,
    RedisSlow,
    RequestDone,
    StoreFailed,
    WouldRefuse,
)
from ..base.values import dataclass
from ..redis import keys, thrift
from ..redis.errors import RedisDown
from ..redis.op import Command, Op, Reply, UnreadableReply, gather, ignored
from ..redis.store import RedisStore
from ..redis.thrift import Thrift
from . import places, reading, upgrade
from .bill import billed
from .counts import Counts, Timed, Totals
from .places import (
    GUARD_DURATION,
    HTTP_DURATION,
    PROVIDER_DURATION,
    REDIS_DURATION,
    Name,
    known,
)
from .reading import Reading, Written
from .table import Place, months

_MOST_REQUESTS = 1_000
"""Requests that cost no command are flushed after so many at the latest."""
_REPLY_WITHIN_S = 10.0
"""Longer than any round trip may take: a flush without a reply by then is repeated."""
_FLUSH_S = 2.0
_LEAST_AT_END = 8


@dataclass(slots=True, eq=False)
class _Flush:
    """Counts on their way to Redis."""

    counts: Counts
    commands: int
    requests: int
    started: float


@dataclass(slots=True)
class Ledger:
    """One per instance. ``redis`` is None where Redis is switched off, and set once it is made otherwise."""

    redis: RedisStore | None
    thrift: Thrift
    clock: Clock
    flush_commands: int
    month_commands: int
    percents: Sequence[int]
    vcpus: Mapping[str, float]
    news: deque[Reading | Event] = field(default_factory=lambda: deque(maxlen=100))
    """Fresh readings and events that are logged as warnings: the rules of alerts see them after the response."""
    flushes: int = 0
    """How many flushes have reached Redis: a reading from before the last of them is out of date."""
    _pending: Counts = field(default_factory=Counts)
    _commands: int = 0
    _requests: int = 0
    _in_flight: list[_Flush] = field(default_factory=list)
    _follow_ups: list[Op[None]] = field(default_factory=list)
    """What the reply to a flush calls for: TTLs, another step."""

    # Count

    def sent(self, commands: Sequence[Command]) -> None:
        """Count commands that are on their way to Redis."""
        number = billed(commands)
        self._commands += number
        totals, timed = self._pending.at(self.clock.now_ms())
        totals[places.COMMANDS] += number
        totals["redis_round_trips",] += 1
        timed["commands"] += number

    def called(self) -> None:
        """Count a call that is on its way to Supabase."""
        totals, timed = self._pending.at(self.clock.now_ms())
        totals[places.RPC_CALLS] += 1
        timed["rpc_calls"] += 1

    def listen(self, event: Event) -> None:
        """Count an event."""
        totals, timed = self._pending.at(self.clock.now_ms())
        match event:
            case RequestDone():
                self._requests += 1
                _count_request(event, totals, timed)
            case ProviderAsked() | ProviderAnswered() | ProviderFailure():
                self._count_provider(event, totals, timed)
            case StoreFailed(store, _, reason):
                totals[_store_error(store, reason)] += 1
            case WouldRefuse():
                totals["refusals", "dry_run"] += 1
            case RedisSlow():
                totals["redis_slow",] += 1
            case CircuitChanged(provider, _, after) if after in places.STATES:
                totals["circuits", known(provider, places.PROVIDERS), after] += 1
            case ModeSwitched(after=after) if after in places.COUNTING_MODES:
                totals["mode_switches", after] += 1
            case _:
                pass
        if event.level >= WARNING:
            self.news.append(event)

    def _count_provider(
        self, event: ProviderAsked | ProviderAnswered | ProviderFailure, totals: Totals, timed: Timed
    ) -> None:
        name = known(event.provider, places.PROVIDERS)
        match event:
            case ProviderAsked():
                totals["provider_calls", name] += 1
                timed[f"calls.{name}"] += 1
            case ProviderAnswered(provider, ms):
                vcpu_ms = round(ms * self.vcpus.get(provider, 0.0))
                _observe(totals, PROVIDER_DURATION.counts(ms, name))
                totals["vcpu_ms", name] += vcpu_ms
                timed["vcpu_ms"] += vcpu_ms
            case ProviderFailure():
                totals["provider_failures", name] += 1

    # Flush

    def pending(self) -> Mapping[Place, int]:
        """What is counted of the present month and not yet in Redis, as far as this instance knows."""
        counts = Counts()
        for each in [self._pending, *(flush.counts for flush in self._in_flight)]:
            counts.add(each)
        return counts.places().get(month_of(self.clock.now_ms()), {})

    def take(self, least: int | None = None) -> Op[None] | None:
        """The command that writes all counts, if enough has been counted; 2 on the last day of a month."""
        if self.redis is None or self.redis.gate.rests():
            return None
        self._take_back()
        now_ms = self.clock.now_ms()
        commands = len(months(now_ms))
        due = self.flush_commands * self.thrift.step(now_ms).flush * commands
        if self._commands < (due if least is None else least) and self._requests < _MOST_REQUESTS * commands:
            return None
        flush = _Flush(self._pending, self._commands, self._requests, self.clock.monotonic())
        write = reading.write(flush.counts.places(), now_ms)
        # The commands of a flush are counted like all others, but bring the next flush no nearer.
        self._pending, self._commands, self._requests = Counts(), -len(write.commands), 0
        self._in_flight.append(flush)

        def read(replies: Sequence[Reply]) -> None:
            try:
                written = write.read(replies)
            except UnreadableReply:
                # The key holds something else. Other commands of the same round trip must not fail because of it.
                return
            if flush in self._in_flight:
                self._in_flight.remove(flush)
                self._confirm(written, now_ms)

        return Op(write.commands, read)

    def _take_back(self) -> None:
        """Count again what got no reply. Where only the reply was lost, it counts twice, which is the safer side."""
        lost = [each for each in self._in_flight if self.clock.monotonic() - each.started > _REPLY_WITHIN_S]
        for flush in lost:
            self._in_flight.remove(flush)
            self._commands, self._requests = self._commands + flush.commands, self._requests + flush.requests
            self._pending.add(flush.counts)

    def _confirm(self, written: Written, now_ms: int) -> None:
        self.flushes += 1
        if (expiring := reading.expire_new(written.writes, now_ms)).commands:
            self._follow_ups.append(expiring)
        if written.reading is None:
            return
        month = written.reading.month
        is_new = written.writes[month] <= reading.FIRST_WRITES
        if is_new:
            earlier = upgrade.commands(month)
            self._follow_ups.append(Op(earlier.commands, lambda replies: self._upgrade(earlier.read(replies), month)))
        self.learn(written.reading, lowers=not is_new)

    def _upgrade(self, commands: int, month: str) -> None:
        if commands:
            noted = reading.set_totals({places.EARLIER_COMMANDS: commands}, month)
            self._follow_ups.append(Op(noted.commands, ignored))

    def learn(self, seen: Reading, *, lowers: bool = True) -> None:
        """Take the step of thrift from a reading, and keep the reading for alerts. ``lowers``: a lower step counts."""
        now_ms = seen.now_ms
        before = self.thrift.number(now_ms)
        step = thrift.step_of(seen.commands, self.month_commands, self.percents)
        if step > before or (step < before and lowers):
            self.thrift.set(step, now_ms)
            lasts_ms = month_ends_ms(now_ms) - now_ms
            self._follow_ups.append(Op((("SET", keys.thrift(seen.month), step, "PX", lasts_ms),), ignored))
        self.news.append(seen)

    async def settle(self, least: int | None = None) -> None:
        """After a response: flush if it is due. Raises nothing; what fails is tried again later."""
        if self.redis is None:
            return
        try:
            if op := self.take(least):
                await self.redis.run(op, "ledger", _FLUSH_S)
            while self._follow_ups:
                ops, self._follow_ups = self._follow_ups, []
                await self.redis.run(gather(ops), "ledger", _FLUSH_S)
        except RedisDown:
            return

    async def close(self) -> None:
        """The instance ends: flush what is worth a command."""
        await self.settle(_LEAST_AT_END)


def _store_error(store: str, reason: str) -> Name:
    if store == "supabase":
        return ("supabase_errors",)
    return ("redis_errors", known(reason.partition(":")[0], places.ERRORS))


def _count_request(done: RequestDone, totals: Totals, timed: Timed) -> None:
    labels = _labels(done.route, done.decision, done.status, done.mode, done.cache, done.reason)
    spent = done.spent_ms
    for name in labels.counted:
        totals[name] += 1
    if done.mode is not None:
        _observe(totals, GUARD_DURATION.counts(spent.guard))
        if done.mode == "redis" and spent.redis:
            _observe(totals, REDIS_DURATION.counts(spent.redis))
            timed["redis_us"] += round(spent.redis * 1000)
            timed["redis_timed"] += 1
    if done.cache in ("hit", "stale", "collapsed"):
        timed["cached"] += 1
    if labels.timed_route is not None:
        took_ms = spent.guard + spent.redis + spent.fallback + spent.backend
        _observe(totals, HTTP_DURATION.counts(took_ms, labels.timed_route))
        timed[done.decision] += 1
        timed["request_ms"] += round(took_ms)


@dataclass(frozen=True, slots=True)
class _Labels:
    """What a request is counted as."""

    counted: tuple[Name, ...]
    timed_route: str | None


@lru_cache(maxsize=256)
def _labels(path: str, decided: str, status: int, mode: Mode | None, cache: str | None, reason: str) -> _Labels:
    route = known(path.removeprefix("/api/"), places.ROUTES)
    decision = known(decided, places.DECISIONS, "none")
    group = "429" if status == 429 else known(f"{status // 100}xx", places.STATUSES, "5xx")
    counted: list[Name] = [("requests", route, decision), ("statuses", route, group)]
    if mode is not None:
        counted.append(("modes", mode))
    if cache is not None:
        counted.append(("caches", known(cache, places.CACHES, "none")))
    if decision == "refuse":
        code, _, why = reason.partition(":")
        counted.append(("refusals", "blocked" if why == "blocked" else known(code, places.REFUSALS)))
    is_guarded = mode is not None or route != places.OTHER
    is_timed = is_guarded and route in places.TIMED_ROUTES and decision in places.FIVE_MINUTE_FIELDS
    return _Labels(tuple(counted), route if is_timed else None)


def _observe(totals: Totals, counts: Sequence[tuple[Name, int]]) -> None:
    for name, number in counts:
        totals[name] += number
