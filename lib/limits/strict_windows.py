"""The strict windows as a ``Limiter`` of ``upstash_ratelimit``: for code that already calls that library.

    from upstash_ratelimit import Ratelimit
    from upstash_redis import Redis
    from lib import StrictWindows            # installed elsewhere: from breakwater import StrictWindows

    ratelimit = Ratelimit(Redis.from_env(), StrictWindows(minute=10, day=100))
    ratelimit.limit("caller")

The guard itself does not use this: it reads windows, cache and circuits in one round trip.
"""

import hashlib
import math
from collections.abc import Generator, Sequence
from typing import Any

from ..base.bounded import Bounded
from ..base.clock import Clock
from ..base.extras import EXTRAS
from ..redis.op import Command, Op, Reply, gather
from . import bitfield
from .admission import Subject
from .bitfield import Known
from .blocklist import Blocklist
from .judge import Quota, has_ghosts, judge, too_costly, without
from .window import DAY_MS, Layout, window

try:
    from upstash_ratelimit.limiter import Limiter, Response
    from upstash_redis import Redis
    from upstash_redis.asyncio import Redis as AsyncRedis
except ModuleNotFoundError as e:
    raise ModuleNotFoundError("; ".join(EXTRAS["upstash"].missing("StrictWindows")) or str(e), name=e.name) from e

type _Steps[T] = Generator[tuple[Command, ...], Sequence[Reply], T]
"""Yields the commands of a round trip, is sent their replies, returns the result."""


class StrictWindows(Limiter):
    """Never more than ``minute``, ``hour`` and ``day`` calls in any closed minute, hour and day; give at least one.

    A refused call is not counted, and refusals are repeated from memory. Errors of the client library pass through
    unchanged.
    """

    def __init__(
        self, *, minute: int | None = None, hour: int | None = None, day: int | None = None, clock: Clock | None = None
    ) -> None:
        given = (("minute", minute), ("hour", hour), ("day", day))
        self._layout = Layout(tuple(window(unit, limit) for unit, limit in given if limit is not None))
        if not self._layout.windows:
            raise ValueError("give a limit a minute, an hour or a day")
        self._clock = clock or Clock()
        self._blocklist = Blocklist()
        self._known: Bounded[str, Known] = Bounded(10_000)

    def limit(self, redis: Redis, identifier: str, rate: int = 1) -> Response:
        """Admit or refuse a call that costs ``rate``; 1 command when admitted, 2 when refused, 0 when still blocked."""
        return _drive(redis, self._limit(identifier, rate))

    async def limit_async(self, redis: AsyncRedis, identifier: str, rate: int = 1) -> Response:
        """As :meth:`limit`."""
        return await _drive_async(redis, self._limit(identifier, rate))

    def get_remaining(self, redis: Redis, identifier: str) -> int:
        """Calls left in the tightest window; writes nothing."""
        return _drive(redis, self._peek(identifier)).remaining

    async def get_remaining_async(self, redis: AsyncRedis, identifier: str) -> int:
        """As :meth:`get_remaining`."""
        return (await _drive_async(redis, self._peek(identifier))).remaining

    def get_reset(self, redis: Redis, identifier: str) -> float:
        """When the tightest window has its whole limit back, in seconds since the epoch; writes nothing."""
        return _drive(redis, self._peek(identifier)).reset

    async def get_reset_async(self, redis: AsyncRedis, identifier: str) -> float:
        """As :meth:`get_reset`."""
        return (await _drive_async(redis, self._peek(identifier))).reset

    def _subject(self, identifier: str) -> Subject:
        hashed = hashlib.sha256(identifier.encode(errors="surrogatepass")).hexdigest()[:24]
        return Subject(f"{hashed}-{self._layout.tag}", self._layout)

    def _limit(self, identifier: str, rate: int) -> _Steps[Response]:
        if rate < 0:
            raise ValueError(f"a call costs 0 or more, not {rate}")
        if rate == 0:
            return (yield from self._peek(identifier))
        now_ms, whose, limits = self._clock.now_ms(), self._subject(identifier), self._layout.windows
        if (blocked := self._blocklist.find(whose, rate, now_ms)) is not None:
            return _response(blocked[0])
        if (never := too_costly(limits, rate, now_ms)) is not None:
            return _response(never)
        subject = whose.id
        spend = bitfield.spend(subject, self._layout, rate, now_ms, self._known.get(subject))
        tally = spend.read((yield spend.commands))
        quota = judge(limits, tally.usage, rate, now_ms, tally.added)
        known, owed = tally.known, list[Op[object]]()
        if not quota.allowed:
            before = without(limits, tally.usage, rate, now_ms, tally.added)
            self._blocklist.remember(whose, rate, quota, now_ms, sure=not has_ghosts(limits, before, now_ms))
            owed.append(bitfield.refund(subject, self._layout, rate, now_ms, tally.added))
        if needs_ttl := bitfield.needs_ttl(tally, now_ms):
            owed.append(bitfield.set_ttl(subject, now_ms))
            known = Known(known.days, now_ms // DAY_MS)
        if owed:
            rest = gather(owed)
            results = rest.read((yield rest.commands))
            if not needs_ttl and any(isinstance(each, bitfield.Refunded) and each.made_key for each in results):
                # The key was gone between the call and its refund, which created it anew.
                ttl = bitfield.set_ttl(subject, now_ms)
                ttl.read((yield ttl.commands))
        self._known.put(subject, known)
        return _response(quota)

    def _peek(self, identifier: str) -> _Steps[Response]:
        now_ms, subject = self._clock.now_ms(), self._subject(identifier).id
        peek = bitfield.peek(subject, self._layout, now_ms, self._known.get(subject))
        tally = peek.read((yield peek.commands))
        return _response(judge(self._layout.windows, tally.usage, 0, now_ms))


def _response(quota: Quota) -> Response:
    state = quota.tightest
    if state is None:
        raise AssertionError("a limiter has a window")
    reset_s = state.reset_at_ms / 1000
    if not quota.allowed:
        # Infinity for a cost that never fits: a client that waits for the reset waits as long as it is willing to.
        reset_s = math.inf if quota.retry_at_ms is None else quota.retry_at_ms / 1000
    return Response(quota.allowed, state.window.limit, state.remaining if quota.allowed else 0, reset_s)


def _drive[T](redis: Redis, steps: _Steps[T]) -> T:
    try:
        commands = next(steps)
        while True:
            pipeline: Any = redis.pipeline()
            for command in commands:
                pipeline.execute(list(command))
            commands = steps.send(pipeline.exec())
    except StopIteration as done:
        result: T = done.value
        return result


async def _drive_async[T](redis: AsyncRedis, steps: _Steps[T]) -> T:
    try:
        commands = next(steps)
        while True:
            pipeline: Any = redis.pipeline()
            for command in commands:
                pipeline.execute(list(command))
            commands = steps.send(await pipeline.exec())
    except StopIteration as done:
        result: T = done.value
        return result
