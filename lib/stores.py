"""Redis and Supabase behind their gates: whoever asks learns at once when a store is left alone."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from lib.clock import Clock
from lib.events import Listener, RedisSlow, StoreFailed, StorePhase, StoreSwitched
from lib.gate import Gate, Resting
from lib.rules.op import Op
from lib.rules.windows import Quota, Usage, Window
from lib.wire.supabase import Counted, Supabase, SupabaseDown
from lib.wire.upstash import RedisDown, Upstash

# What a second try at once would not cure, or what costs a wait each time.
_AT_ONCE = ("timeout", "unauthorized", "quota")


@dataclass(slots=True)
class RedisStore:
    """Redis, as long as it is well. A slow reply is told of; a failure counts against it, a lack of time does not."""

    redis: Upstash
    gate: Gate
    clock: Clock
    emit: Listener
    slow_ms: float
    failed_ms: int = 0
    """When it last failed, whatever it was asked for: it may have lost what it had counted."""

    @property
    def longest_s(self) -> float:
        """What a round trip may take at most: its own time, and a new connection's."""
        return self.redis.connect_timeout_s + self.redis.timeout_s

    async def run[T](self, op: Op[T], phase: StorePhase, left_s: float) -> T:
        """One round trip of at most ``left_s`` seconds. Raises RedisDown."""
        if not op.commands:
            # Nothing was asked, so nothing was learned: a probe that asks nothing must not close the gate.
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
                    return await call()
                except RedisDown as e:
                    # Neither says anything of the server: what one key holds, and a time that was too short for it.
                    if e.kind == "command" or (hurried and e.kind == "timeout"):
                        passage.neutral()
                    else:
                        passage.failed(str(e), at_once=e.kind in _AT_ONCE)
                        self.failed_ms = self.clock.now_ms()
                    self.emit(StoreFailed("redis", phase, str(e)))
                    raise
        except Resting as e:
            raise RedisDown("resting", str(e)) from None
        finally:
            ms = (self.clock.monotonic() - started) * 1000
            if ms > self.slow_ms:
                self.emit(RedisSlow(ms))
            _report("redis", self.gate, self.emit)


@dataclass(slots=True)
class SupabaseStore:
    """Supabase, as long as it is well."""

    supabase: Supabase
    gate: Gate
    emit: Listener

    @property
    def longest_s(self) -> float:
        """What a call may take at most."""
        return self.supabase.timeout_s

    async def spend(
        self,
        subject: str,
        windows: Sequence[Window],
        cost: int,
        now_ms: int,
        floor: Usage | None,
        owed: Usage | None,
        left_s: float,
    ) -> tuple[Quota, Counted]:
        """As :meth:`Supabase.spend`. Raises SupabaseDown."""
        spend = self.supabase.spend
        return await self._call("ask", left_s, lambda: spend(subject, windows, cost, now_ms, floor, owed, left_s))

    async def reset(self, subject: str, left_s: float) -> int:
        """As :meth:`Supabase.reset`. Raises SupabaseDown."""
        return await self._call("admin", left_s, lambda: self.supabase.reset(subject, left_s))

    async def _call[T](self, phase: StorePhase, left_s: float, call: Callable[[], Awaitable[T]]) -> T:
        if left_s <= 0:
            raise SupabaseDown("timeout", "no time is left")
        try:
            async with self.gate.call() as passage:
                try:
                    return await call()
                except SupabaseDown as e:
                    if e.kind == "timeout" and left_s < self.supabase.timeout_s:
                        passage.neutral()
                    else:
                        passage.failed(str(e), at_once=e.kind in _AT_ONCE)
                    self.emit(StoreFailed("supabase", phase, str(e)))
                    raise
        except Resting as e:
            raise SupabaseDown("resting", str(e)) from None
        finally:
            _report("supabase", self.gate, self.emit)


def _report(store: Literal["redis", "supabase"], gate: Gate, emit: Listener) -> None:
    now = gate.news()
    if now is not None:
        emit(StoreSwitched(store, "left alone" if now == "open" else "asked again", gate.circuit.reason))
