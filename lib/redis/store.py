"""Redis behind its gate: a call fails at once while the gate is open."""

from collections.abc import Awaitable, Callable
from dataclasses import field
from typing import Protocol

from ..base.clock import Clock
from ..base.events import Listener, RedisSlow, StoreFailed, StorePhase
from ..base.values import dataclass
from ..breaker.gate import AT_ONCE, Gate, Resting, report_switch
from .errors import Kind, RedisDown
from .offset import Offset
from .op import Op


class Redis(Protocol):
    """A way to a Redis."""

    @property
    def timeout_s(self) -> float:
        """What a round trip may take."""

    @property
    def connect_timeout_s(self) -> float:
        """What a new connection may take in addition."""

    async def run[T](self, op: Op[T], left_s: float) -> T:
        """Send an operation in one round trip of at most ``left_s`` seconds and read its replies. Raises RedisDown."""

    async def aclose(self) -> None:
        """Close all connections."""


@dataclass(slots=True, eq=False)
class Contact:
    """How Redis answered this instance last, as its calls showed. Nothing is asked for its sake."""

    up: bool | None = None
    """None: nothing was asked yet."""
    since_ms: int = 0
    """When that began, as this instance saw it."""
    trip_ms: float | None = None
    """What the last round trip took."""
    error: Kind | None = None
    """How it failed last, however long ago."""
    error_ms: int = 0

    def answered(self, trip_ms: float, now_ms: int) -> None:
        """It gave a usable reply."""
        self.trip_ms = trip_ms
        self._is(up=True, now_ms=now_ms)

    def failed(self, kind: Kind, now_ms: int, *, down: bool) -> None:
        """It gave none; ``down``: that says that it is away."""
        self.error, self.error_ms = kind, now_ms
        if down:
            self.trip_ms = None
            self._is(up=False, now_ms=now_ms)

    def _is(self, *, up: bool, now_ms: int) -> None:
        if self.up != up:
            self.up, self.since_ms = up, now_ms


@dataclass(slots=True, eq=False)
class RedisStore:
    """Redis, as long as it works. A slow reply is reported; a failure counts against it, a lack of time does not."""

    redis: Redis
    gate: Gate
    clock: Clock
    emit: Listener
    slow_ms: float
    failures: int = 0
    """How often it has failed, whatever it was asked for: it may have lost what it had counted."""
    offset: Offset = field(default_factory=Offset)
    """How far its clock is from this instance's; stays 0 where nobody measures."""
    contact: Contact = field(default_factory=Contact)
    """How it answered this instance last."""

    @property
    def longest_s(self) -> float:
        """What a round trip may take at most: its own time, and a new connection's."""
        return self.redis.connect_timeout_s + self.redis.timeout_s

    async def run[T](self, op: Op[T], phase: StorePhase, left_s: float) -> T:
        """One round trip of at most ``left_s`` seconds. Raises RedisDown."""
        if not op.commands:
            # Nothing is sent, so nothing is learned: a probe without a command must not close the gate.
            return op.read(())
        if left_s <= 0:
            raise RedisDown("timeout", "no time is left")
        return await self.call(lambda: self.redis.run(op, left_s), phase, hurried=left_s < self.redis.timeout_s)

    async def call[T](self, call: Callable[[], Awaitable[T]], phase: StorePhase, *, hurried: bool = False) -> T:
        """Anything that talks to Redis and raises RedisDown. ``hurried``: it has less time than Redis may take."""
        started = self.clock.monotonic()
        try:
            async with self.gate.call() as passage:
                try:
                    found = await call()
                except RedisDown as e:
                    # Neither says anything about the server: what one key holds, and a time that was too short.
                    neutral = e.kind == "command" or (hurried and e.kind == "timeout")
                    self.contact.failed(e.kind, self.clock.now_ms(), down=not neutral)
                    if neutral:
                        passage.neutral()
                    else:
                        passage.failed(str(e), at_once=e.kind in AT_ONCE)
                        self.failures += 1
                    self.emit(StoreFailed("redis", phase, str(e)))
                    raise
        except Resting as e:
            raise RedisDown("resting", str(e)) from None
        else:
            ms = (self.clock.monotonic() - started) * 1000
            self.contact.answered(ms, self.clock.now_ms())
            if ms > self.slow_ms:
                self.emit(RedisSlow(ms))
            return found
        finally:
            report_switch("redis", self.gate, self.emit)
