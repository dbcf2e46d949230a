"""Counts what happens in this instance, and hands it over to Redis in one command every so many.

It listens to events and is told of every command that is sent. What it has gathered goes out after a response, beside
the write-back if there is one. An instance that is killed loses what it had not handed over: less than
``LEDGER_FLUSH_COMMANDS`` billed commands and ``_MOST_REQUESTS`` requests, and nothing else (docs/ledger.md).
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from ..base.calendar import month_ends_ms, month_of
from ..base.clock import Clock
from ..base.events import (
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
)
from ..redis import keys, thrift
from ..redis.errors import RedisDown
from ..redis.op import Command, Op, Reply, UnreadableReply, gather, ignored
from ..redis.store import RedisStore
from ..redis.thrift import Thrift
from . import counters
from .bill import billed
from .counters import (
    GUARD_DURATION,
    HTTP_DURATION,
    PROVIDER_DURATION,
    REDIS_DURATION,
    Counts,
    Name,
    Reading,
    Spot,
    Timed,
    Totals,
    known,
)

_MOST_REQUESTS = 1_000
"""Requests that cost no command are handed over at the latest after so many."""
_LANDS_WITHIN_S = 10.0
"""Longer than any round trip may take: what has not arrived by then is handed over again."""
_FLUSH_S = 2.0
_LEAST_AT_END = 8


@dataclass(slots=True, eq=False)
class _Flight:
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
    """What may be worth an alert: fresh readings, and events. Looked at after responses, so that no request waits."""
    landed: int = 0
    """How often counts have arrived: a reading of before is out of date."""
    _pending: Counts = field(default_factory=Counts)
    _commands: int = 0
    _requests: int = 0
    _flying: list[_Flight] = field(default_factory=list)
    _owed: list[Op[None]] = field(default_factory=list)

    # Count

    def sent(self, commands: Sequence[Command]) -> None:
        """Commands are on their way to Redis."""
        number = billed(commands)
        self._commands += number
        totals, timed = self._pending.at(self.clock.now_ms())
        totals[counters.COMMANDS] += number
        totals["redis_round_trips",] += 1
        timed["commands"] += number

    def called(self) -> None:
        """A call is on its way to Supabase."""
        totals, timed = self._pending.at(self.clock.now_ms())
        totals[counters.RPC_CALLS] += 1
        timed["rpc_calls"] += 1

    def listen(self, event: Event) -> None:
        """Count an event."""
        totals, timed = self._pending.at(self.clock.now_ms())
        match event:
            case RequestDone():
                self._requests += 1
                _count_request(event, totals, timed)
            case ProviderAsked(provider):
                name = known(provider, counters.PROVIDERS)
                totals["provider_calls", name] += 1
                timed[f"calls.{name}"] += 1
            case ProviderAnswered(provider, ms):
                name = known(provider, counters.PROVIDERS)
                vcpu_ms = round(ms * self.vcpus.get(provider, 0.0))
                _observe(totals, PROVIDER_DURATION.counts(ms, name))
                totals["vcpu_ms", name] += vcpu_ms
                timed["vcpu_ms"] += vcpu_ms
            case ProviderFailure(provider):
                totals["provider_failures", known(provider, counters.PROVIDERS)] += 1
            case StoreFailed("redis", _, reason):
                totals["redis_errors", known(reason.partition(":")[0], counters.ERRORS)] += 1
            case StoreFailed():
                totals["supabase_errors",] += 1
            case RedisSlow():
                totals["redis_slow",] += 1
                self.news.append(event)
            case CircuitChanged(provider, _, after) if after in counters.STATES:
                totals["circuits", known(provider, counters.PROVIDERS), after] += 1
                self.news.append(event)
            case ModeSwitched(after=after) if after != "off":
                totals["mode_switches", after] += 1
                self.news.append(event)
            case _:
                pass

    # Hand over

    def pending(self) -> Mapping[Spot, int]:
        """What is counted of the present month and not yet in Redis, as far as this instance knows."""
        counts = Counts()
        for each in [self._pending, *(flight.counts for flight in self._flying)]:
            counts.add(each)
        return counts.places().get(month_of(self.clock.now_ms()), {})

    def take(self, least: int | None = None) -> Op[None] | None:
        """The command that hands everything over, if enough has been counted; 2 on the last day of a month."""
        if self.redis is None or self.redis.gate.rests():
            return None
        self._recover()
        now_ms = self.clock.now_ms()
        commands = len(counters.months(now_ms))
        due = self.flush_commands * self.thrift.step(now_ms).flush * commands
        if self._commands < (due if least is None else least) and self._requests < _MOST_REQUESTS * commands:
            return None
        flight = _Flight(self._pending, self._commands, self._requests, self.clock.monotonic())
        write = counters.write(flight.counts.places(), now_ms)
        # Its own commands are counted like all others, but are no reason for the next.
        self._pending, self._commands, self._requests = Counts(), -len(write.commands), 0
        self._flying.append(flight)

        def read(replies: Sequence[Reply]) -> None:
            try:
                written = write.read(replies)
            except UnreadableReply:
                # The string is not what it should be; what rides along must not suffer for it.
                return
            if flight in self._flying:
                self._flying.remove(flight)
                self._arrived(written, now_ms)

        return Op(write.commands, read)

    def _recover(self) -> None:
        """Take back what did not arrive. After a lost reply it counts twice: rather too much than too little."""
        lost = [each for each in self._flying if self.clock.monotonic() - each.started > _LANDS_WITHIN_S]
        for flight in lost:
            self._flying.remove(flight)
            self._commands, self._requests = self._commands + flight.commands, self._requests + flight.requests
            self._pending.add(flight.counts)

    def _arrived(self, written: counters.Written, now_ms: int) -> None:
        self.landed += 1
        if (ttls := counters.ttls(written.touches, now_ms)).commands:
            self._owed.append(ttls)
        if written.reading is not None:
            self.read(written.reading)

    def read(self, reading: Reading) -> None:
        """Learn from a reading of the whole ledger: how sparing to be, and what to tell."""
        now_ms = reading.now_ms
        step = thrift.step_of(reading.commands, self.month_commands, self.percents)
        if step != self.thrift.number(now_ms):
            self.thrift.set(step, now_ms)
            lasts_ms = month_ends_ms(now_ms) - now_ms
            self._owed.append(Op((("SET", keys.thrift(reading.month), step, "PX", lasts_ms),), ignored))
        self.news.append(reading)

    async def settle(self, least: int | None = None) -> None:
        """After a response: hand over what is due. Raises nothing; what fails is tried again later."""
        if self.redis is None:
            return
        try:
            if op := self.take(least):
                await self.redis.run(op, "ledger", _FLUSH_S)
            if self._owed:
                owed, self._owed = self._owed, []
                await self.redis.run(gather(owed), "ledger", _FLUSH_S)
        except RedisDown:
            return

    async def close(self) -> None:
        """The instance ends: hand over what is worth a command."""
        await self.settle(_LEAST_AT_END)


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
            timed["redis_asked"] += 1
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
    route = known(path.removeprefix("/api/"), counters.ROUTES)
    decision = known(decided, counters.DECISIONS)
    group = "429" if status == 429 else known(f"{status // 100}xx", counters.STATUSES)
    counted: list[Name] = [("requests", route, decision), ("statuses", route, group)]
    if mode is not None:
        counted.append(("modes", mode))
    if cache is not None:
        counted.append(("caches", known(cache, counters.CACHES)))
    if decision == "refuse":
        code, _, why = reason.partition(":")
        counted.append(("refusals", "blocked" if why == "blocked" else known(code, counters.REFUSALS)))
    is_timed = route in counters.TIMED_ROUTES and decision in counters.FIVES
    return _Labels(tuple(counted), route if is_timed else None)


def _observe(totals: Totals, counts: Sequence[tuple[Name, int]]) -> None:
    for name, number in counts:
        totals[name] += number
