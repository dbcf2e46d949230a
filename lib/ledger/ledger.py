"""Counts what happens in this instance, and adds it to Redis in one command every ``LEDGER_FLUSH_COMMANDS`` commands.

It listens to events, and the transports report every command they send. A flush follows a response, in the same round
trip as the write-back where there is one. With little traffic it also follows the first response after
``FLUSH_AFTER_S``; where requests cost no command, one that many have preceded. All instances together flush so for
``TIME_SHARE`` of the month's commands at most: each such flush is counted in the month's string, whose reading comes
with every flush, and when they are ahead of the month a text that every request reads anyway tells all instances to
leave it (``redis/thrift.py``).

An instance that is killed loses what it had not flushed: less than ``LEDGER_FLUSH_COMMANDS`` billed commands and
``_MOST_REQUESTS`` requests, all of the last ``FLUSH_AFTER_S``, unless that share is spent (docs/ledger.md).
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING

from ..base.calendar import month_ends_ms, month_of
from ..base.clock import Clock
from ..base.events import (
    WARNING,
    CircuitChanged,
    DataRead,
    Event,
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
from ..redis import keys
from ..redis.errors import RedisDown
from ..redis.op import Command, Op, Reply, UnreadableReply, gather, ignored
from ..redis.store import RedisStore
from ..redis.thrift import Thrift
from . import places, reading, upgrade
from .bill import billed
from .counts import Counts
from .places import Name, known
from .reading import Reading, Written
from .recent import Recent
from .requests import count_provider, count_read, count_request
from .table import Place, month_starts_ms, months

if TYPE_CHECKING:
    from .batches import Batch

_MOST_REQUESTS = 1_000
"""Requests that cost no command are flushed after so many, within ``TIME_SHARE``."""
_MOST_NEWS = 10_000
"""More than what all requests of an instance bring that fail at one moment: none that calls for an alert gets lost."""
_REPLY_WITHIN_S = 10.0
"""Longer than any round trip may take: a flush without a reply by then is repeated."""
_FLUSH_S = 2.0
FLUSH_AFTER_S = 300.0
_READ_AFTER_S = 30.0
"""A flush reads the month back if the last reading is older: some 1,700 numbers, which cost more than the flush."""
TIME_SHARE = 0.02
"""The part of the month's commands that may go into flushes which no commands that were sent call for."""
_BURST = 200
"""So many such flushes may come ahead of the month's passing: a busy morning of a quiet site."""
_LEAST_AT_END = 8


@dataclass(slots=True, eq=False)
class _Flush:
    """Counts on their way to Redis."""

    counts: Counts
    commands: int
    requests: int
    started: float
    batch: "Batch | None"


@dataclass(slots=True)
class Ledger:
    """One per instance. ``redis`` is None where Redis is switched off, and set once it is made otherwise."""

    redis: RedisStore | None
    thrift: Thrift
    clock: Clock
    flush_commands: int
    vcpus: Mapping[str, float]
    recent: Recent = field(default_factory=Recent)
    """Callers, notable requests and circuits, which are written along with the counts now and then."""
    news: deque[Reading | Event] = field(default_factory=lambda: deque(maxlen=_MOST_NEWS))
    """Fresh readings and events that are logged as warnings: the rules of alerts see them after the response."""
    flushes: int = 0
    """How many flushes have reached Redis: a reading from before the last of them is out of date."""
    _pending: Counts = field(default_factory=Counts)
    _commands: int = 0
    _requests: int = 0
    _flushed_at: float | None = None
    """When the last flush was sent, on the clock that never jumps; at first, when anything was counted."""
    _read: tuple[str, float] = ("", 0.0)
    """Of which month the last reading was, and when, on the clock that never jumps. A new month is read at once."""
    _in_flight: list[_Flush] = field(default_factory=list)
    _follow_ups: list[Op[None]] = field(default_factory=list)
    """What the reply to a flush calls for: TTLs, another step."""

    # Count

    def sent(self, commands: Sequence[Command]) -> None:
        """Count commands that are on their way to Redis."""
        number = billed(commands)
        self._commands += number
        totals, timed = self._pending.at(self.clock.now_ms())
        totals["redis_round_trips",] += 1
        if self.thrift.plan is not None:
            totals[places.COMMANDS] += number
            timed["commands"] += number

    def called(self) -> None:
        """Count a call that is on its way to Supabase."""
        totals, timed = self._pending.at(self.clock.now_ms())
        totals[places.RPC_CALLS] += 1
        timed["rpc_calls"] += 1

    def listen(self, event: Event) -> None:
        """Count an event."""
        now_ms = self.clock.now_ms()
        totals, timed = self._pending.at(now_ms)
        match event:
            case RequestDone():
                self._requests += 1
                count_request(event, totals, timed)
                self.recent.note(event, now_ms)
            case ProviderAsked() | ProviderAnswered() | ProviderFailure():
                count_provider(event, totals, timed, self.vcpus)
            case StoreFailed(store, _, reason):
                totals[_store_error(store, reason)] += 1
            case DataRead(family, tier, size):
                count_read(known(family, places.FAMILIES), tier, size, totals, timed)
            case WouldRefuse():
                totals["refusals", "dry_run"] += 1
            case RedisSlow():
                totals["redis_slow",] += 1
            case CircuitChanged(provider, _, after) if after in places.STATES:
                totals["circuits", known(provider, places.PROVIDERS), after] += 1
                self.recent.moved(event, now_ms)
            case ModeSwitched(after=after) if after in places.COUNTING_MODES:
                totals["mode_switches", after] += 1
        if event.level >= WARNING:
            self.news.append(event)

    # Flush

    def pending(self) -> Mapping[Place, int]:
        """What is counted of the present month and not yet in Redis, as far as this instance knows."""
        counts = Counts()
        for each in [self._pending, *(flush.counts for flush in self._in_flight)]:
            counts.add(each)
        return counts.places().get(month_of(self.clock.now_ms()), {})

    def take(self, least: int | None = None, *, reads: bool = False) -> Op[Reading | None] | None:
        """The command that writes all counts, if enough has been counted; 2 on the last day of a month.

        A batch of ``recent`` may go along, as one more command. Yields the month as it stands then; None where the key
        holds something else, or where it was read a moment ago and nobody insists on it (``reads``).
        """
        if self.redis is None or self.redis.gate.rests():
            return None
        self._take_back()
        now_ms, now = self.clock.now_ms(), self.clock.monotonic()
        writes = len(months(now_ms))
        due = self.flush_commands * self.thrift.step(now_ms).flush * writes
        by_commands = self._commands >= (due if least is None else least)
        if not by_commands and not self._is_due_without(now_ms, now, writes):
            return None
        batch = self.recent.take(now_ms)
        more = [batch.push()] if batch else []
        # The present month is written to in any case: its reading comes with that.
        totals, _ = self._pending.at(now_ms)
        if not by_commands:
            totals[places.TIME_FLUSHES] += len(self._pending.months()) + len(more)
        self._flushed_at = now
        flush = _Flush(self._pending, self._commands, self._requests, now, batch)
        month, at = self._read
        reads = reads or month != month_of(now_ms) or now - at >= _READ_AFTER_S
        write = reading.write(flush.counts.places(), now_ms, reads=reads)
        # The commands of a flush are counted like all others, but bring the next flush no nearer.
        # Counts of the month before may be among them: two strings are written then, whatever the day is.
        written_to = len(write.commands)
        self._pending, self._commands, self._requests = Counts(), -written_to - len(more), 0
        self._in_flight.append(flush)

        def read(replies: Sequence[Reply]) -> Reading | None:
            try:
                written = write.read(replies[:written_to])
                pushed = gather(more).read(replies[written_to:])
            except UnreadableReply:
                # The key holds something else. Other commands of the same round trip must not fail because of it.
                return None
            if flush in self._in_flight:
                self._in_flight.remove(flush)
                self._confirm(written, now_ms)
                self._follow_ups += [each for each in pushed if each is not None]
            return written.reading

        return Op((*write.commands, *gather(more).commands), read)

    def _is_due_without(self, now_ms: int, now: float, writes: int) -> bool:
        """Whether counts are due although too few commands were sent: by their number or by time, within the share."""
        if self._flushed_at is None:
            self._flushed_at = now
        waited = now - self._flushed_at >= FLUSH_AFTER_S and (self._commands > 0 or self._requests > 0)
        if not waited and self._requests < _MOST_REQUESTS * writes:
            return False
        plan = self.thrift.plan
        return plan is None or (not self.thrift.quiet(now_ms) and plan * TIME_SHARE >= writes)

    def _take_back(self) -> None:
        """Count again what got no reply. Where only the reply was lost, it counts twice, which is the safer side."""
        lost = [each for each in self._in_flight if self.clock.monotonic() - each.started > _REPLY_WITHIN_S]
        for flush in lost:
            self._in_flight.remove(flush)
            self._commands, self._requests = self._commands + flush.commands, self._requests + flush.requests
            self._pending.add(flush.counts)
            if flush.batch is not None:
                self.recent.give_back(flush.batch)

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
        else:
            self._read = month, self.clock.monotonic()
        self.learn(written.reading, lowers=not is_new)

    def _upgrade(self, commands: int, month: str) -> None:
        if commands:
            noted = reading.set_totals({places.EARLIER_COMMANDS: commands}, month)
            self._follow_ups.append(Op(noted.commands, ignored))

    def learn(self, seen: Reading, *, lowers: bool = True) -> None:
        """Take the step of thrift from a reading, and keep the reading for alerts. ``lowers``: a lower step counts."""
        if (plan := self.thrift.plan) is not None:
            now_ms = seen.now_ms
            quiet = time_is_spent(seen, plan * TIME_SHARE, was_quiet=self.thrift.quiet(now_ms))
            if (text := self.thrift.reckon(seen.commands, now_ms, quiet=quiet, lowers=lowers)) is not None:
                lasts_ms = month_ends_ms(now_ms) - now_ms
                self._follow_ups.append(Op((("SET", keys.thrift(seen.month), text, "PX", lasts_ms),), ignored))
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
        self.recent.close()
        await self.settle(_LEAST_AT_END)


def time_is_spent(seen: Reading, most: float, *, was_quiet: bool) -> bool:
    """Whether flushes by time, ``most`` a month, are ahead of the month. They then rest until they are behind it."""
    burst = min(_BURST, most / 10)
    begins_ms = month_starts_ms(seen.month)
    passed = (seen.now_ms - begins_ms) / (month_ends_ms(begins_ms) - begins_ms)
    # Instances that have not read the text yet may still flush: the last burst is kept for them.
    allowed = min(most * passed + burst, most - burst)
    return seen.total(*places.TIME_FLUSHES) >= (max(0.0, allowed - burst) if was_quiet else allowed)


def _store_error(store: str, reason: str) -> Name:
    if store == "supabase":
        return ("supabase_errors",)
    return ("redis_errors", known(reason.partition(":")[0], places.ERRORS))
