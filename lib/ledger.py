"""Counts what happens in this instance, and hands it over to Redis in one command every so many.

It listens to events and is told of every command that is sent. What it has gathered goes out after a response, beside
the write-back if there is one. An instance that is killed loses what it had not handed over: less than
``LEDGER_FLUSH_COMMANDS`` billed commands and ``_MOST_REQUESTS`` requests, and nothing else (docs/ledger.md).
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lib.clock import Clock
from lib.events import (
    CircuitChanged,
    Event,
    ModeSwitched,
    ProviderAnswered,
    ProviderAsked,
    ProviderFailure,
    RedisSlow,
    RequestDone,
    StoreFailed,
)
from lib.rules import counters, keys, thrift
from lib.rules.bill import billed
from lib.rules.budgets import month_ends_ms, month_of
from lib.rules.counters import Name, Reading, Spot, known
from lib.rules.op import Command, Op, Reply, UnreadableReply, gather, ignored
from lib.stores import RedisStore
from lib.thrift import Thrift
from lib.wire.upstash import RedisDown

_MOST_REQUESTS = 1_000
"""Requests that cost no command are handed over at the latest after so many."""
_LANDS_WITHIN_S = 10.0
"""Longer than any round trip may take: what has not arrived by then is handed over again."""
_FLUSH_S = 2.0
_MOST_PLACES = 4_000
_LEAST_AT_END = 8

type _Deltas = dict[str, dict[Spot, int]]
"""What is to be added, by month and place."""


@dataclass(slots=True, eq=False)
class _Flight:
    """Counts on their way to Redis."""

    deltas: _Deltas
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
    _pending: _Deltas = field(default_factory=dict)
    _commands: int = 0
    _requests: int = 0
    _flying: list[_Flight] = field(default_factory=list)
    _owed: list[Op[None]] = field(default_factory=list)

    # Count

    def sent(self, commands: Sequence[Command]) -> None:
        """Commands are on their way to Redis."""
        number = billed(commands)
        self._commands += number
        self._add([(counters.COMMANDS, number), (("redis_round_trips",), 1)], [("commands", number)])

    def called(self) -> None:
        """A call is on its way to Supabase."""
        self._add([(counters.RPC_CALLS, 1)], [("rpc_calls", 1)])

    def listen(self, event: Event) -> None:
        """Count an event."""
        match event:
            case RequestDone():
                self._requests += 1
                self._count_request(event)
            case ProviderAsked(provider):
                name = known(provider, counters.PROVIDERS)
                self._add([(("provider_calls", name), 1)], [(f"calls.{name}", 1)])
            case ProviderAnswered(provider, ms):
                name = known(provider, counters.PROVIDERS)
                vcpu_ms = round(ms * self.vcpus.get(provider, 0.0))
                totals = [*counters.PROVIDER_DURATION.counts(ms, name), (("vcpu_ms", name), vcpu_ms)]
                self._add(totals, [("vcpu_ms", vcpu_ms)])
            case ProviderFailure(provider):
                self._add([(("provider_failures", known(provider, counters.PROVIDERS)), 1)])
            case StoreFailed("redis", _, reason):
                self._add([(("redis_errors", known(reason.partition(":")[0], counters.ERRORS)), 1)])
            case StoreFailed():
                self._add([(("supabase_errors",), 1)])
            case RedisSlow():
                self._add([(("redis_slow",), 1)])
                self.news.append(event)
            case CircuitChanged(provider, _, after) if after in counters.STATES:
                self._add([(("circuits", known(provider, counters.PROVIDERS), after), 1)])
                self.news.append(event)
            case ModeSwitched(after=after) if after != "off":
                self._add([(("mode_switches", after), 1)])
                self.news.append(event)
            case _:
                pass

    def _count_request(self, done: RequestDone) -> None:
        route = known(done.route.removeprefix("/api/"), counters.ROUTES)
        decision = known(done.decision, counters.DECISIONS)
        status = "429" if done.status == 429 else known(f"{done.status // 100}xx", counters.STATUSES)
        totals: list[tuple[Name, int]] = [(("requests", route, decision), 1), (("statuses", route, status), 1)]
        hourly: list[tuple[str, int]] = []
        spent = done.spent_ms
        if done.mode is not None:
            totals.append((("modes", done.mode), 1))
            totals += counters.GUARD_DURATION.counts(spent.guard)
            if done.mode == "redis" and spent.redis:
                totals += counters.REDIS_DURATION.counts(spent.redis)
                hourly += [("redis_us", round(spent.redis * 1000)), ("redis_asked", 1)]
        if done.cache is not None:
            totals.append((("caches", known(done.cache, counters.CACHES)), 1))
            hourly += [("cached", 1)] if done.cache in ("hit", "stale", "collapsed") else []
        if decision == "refuse":
            code, _, reason = done.reason.partition(":")
            totals.append((("refusals", "blocked" if reason == "blocked" else known(code, counters.REFUSALS)), 1))
        fives: list[tuple[str, int]] = []
        if route in counters.TIMED_ROUTES and decision in counters.FIVES:
            took_ms = spent.guard + spent.redis + spent.fallback + spent.backend
            totals += counters.HTTP_DURATION.counts(took_ms, route)
            hourly += [(decision, 1), ("request_ms", round(took_ms))]
            fives = [(decision, 1)]
        self._add(totals, hourly, fives)

    def _add(
        self,
        totals: Iterable[tuple[Name, int]],
        hourly: Iterable[tuple[str, int]] = (),
        fives: Iterable[tuple[str, int]] = (),
    ) -> None:
        now_ms = self.clock.now_ms()
        months = counters.months(now_ms)
        _merge(self._pending.setdefault(months[0], {}), ((counters.spot(name), n) for name, n in totals))
        for month in months:
            places = self._pending.setdefault(month, {})
            _merge(places, ((counters.hour_spot(name, now_ms, month), n) for name, n in hourly))
            _merge(places, ((counters.five_spot(name, now_ms, month), n) for name, n in fives))
            if len(places) > _MOST_PLACES:
                # Nothing has arrived for days: the totals and the last day are kept.
                self._pending[month] = {s: n for s, n in places.items() if s in counters.wanted(now_ms, month)}

    # Hand over

    def pending(self) -> Mapping[Spot, int]:
        """What is counted of the present month and not yet in Redis, as far as this instance knows."""
        month, found = month_of(self.clock.now_ms()), dict[Spot, int]()
        for deltas in [self._pending, *(flight.deltas for flight in self._flying)]:
            _merge(found, deltas.get(month, {}).items())
        return found

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
        write = counters.write(flight.deltas, now_ms)
        # Its own commands are counted like all others, but are no reason for the next.
        self._pending, self._commands, self._requests = {}, -len(write.commands), 0
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
            for month, places in flight.deltas.items():
                _merge(self._pending.setdefault(month, {}), places.items())

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


def _merge(into: dict[Spot, int], more: Iterable[tuple[Spot, int]]) -> None:
    for place, number in more:
        into[place] = into.get(place, 0) + number
