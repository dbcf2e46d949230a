"""Redis and Supabase behind their gates: whoever asks learns at once when a store is left alone."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from lib.clock import Clock
from lib.events import Listener, RedisSlow, StoreFailed, StorePhase, StoreSwitched
from lib.gate import Gate, Resting
from lib.rules.op import Op
from lib.rules.windows import Quota, Usage, Window
from lib.wire.supabase import Settled, Supabase, SupabaseDown
from lib.wire.upstash import RedisDown, Upstash

# What a second try at once would not cure, or what costs a wait each time.
_AT_ONCE = ("timeout", "unauthorized", "quota")


@dataclass(slots=True)
class RedisStore:
    """Redis, as long as it is well. A slow reply is told of; a failure counts against it."""

    redis: Upstash
    gate: Gate
    clock: Clock
    emit: Listener
    slow_ms: float

    async def run[T](self, op: Op[T], phase: StorePhase, left_s: float) -> T:
        """One round trip of at most ``left_s`` seconds. Raises RedisDown."""
        return await self.call(lambda: self.redis.run(op, left_s), phase)

    async def call[T](self, call: Callable[[], Awaitable[T]], phase: StorePhase) -> T:
        """Anything that talks to Redis and raises RedisDown."""
        before = self.gate.circuit.state
        started = self.clock.monotonic()
        try:
            async with self.gate.call() as passage:
                try:
                    return await call()
                except RedisDown as e:
                    # A command refused for what its key holds says nothing of the server.
                    if e.kind == "command":
                        passage.neutral()
                    else:
                        passage.failed(str(e), at_once=e.kind in _AT_ONCE)
                    self.emit(StoreFailed("redis", phase, str(e)))
                    raise
        except Resting as e:
            raise RedisDown("resting", str(e)) from None
        finally:
            ms = (self.clock.monotonic() - started) * 1000
            if ms > self.slow_ms:
                self.emit(RedisSlow(ms))
            _report("redis", self.gate, before, self.emit)


@dataclass(slots=True)
class SupabaseStore:
    """Supabase, as long as it is well."""

    supabase: Supabase
    gate: Gate
    emit: Listener

    async def spend(
        self, subject: str, windows: Sequence[Window], cost: int, now_ms: int, floor: Usage | None, left_s: float
    ) -> Quota:
        """As :meth:`Supabase.spend`. Raises SupabaseDown."""
        return await self._call("ask", lambda: self.supabase.spend(subject, windows, cost, now_ms, floor, left_s))

    async def settle(self, subject: str, windows: Sequence[Window], now_ms: int, left_s: float) -> Settled:
        """As :meth:`Supabase.settle`. Raises SupabaseDown."""
        return await self._call("settle", lambda: self.supabase.settle(subject, windows, now_ms, left_s))

    async def reset(self, subject: str, left_s: float) -> int:
        """As :meth:`Supabase.reset`. Raises SupabaseDown."""
        return await self._call("admin", lambda: self.supabase.reset(subject, left_s))

    async def _call[T](self, phase: StorePhase, call: Callable[[], Awaitable[T]]) -> T:
        before = self.gate.circuit.state
        try:
            async with self.gate.call() as passage:
                try:
                    return await call()
                except SupabaseDown as e:
                    passage.failed(str(e), at_once=e.kind in _AT_ONCE)
                    self.emit(StoreFailed("supabase", phase, str(e)))
                    raise
        except Resting as e:
            raise SupabaseDown("resting", str(e)) from None
        finally:
            _report("supabase", self.gate, before, self.emit)


def _report(store: Literal["redis", "supabase"], gate: Gate, before: str, emit: Listener) -> None:
    after = gate.circuit.state
    # A probe's way through half open is not news; that it failed or succeeded is.
    if after not in (before, "half_open"):
        emit(StoreSwitched(store, "left alone" if after == "open" else "asked again", gate.circuit.reason))
