"""Whether the main job can be served, cheaply enough to be polled.

A check costs no billed command as a rule: ``PING`` is free on Upstash, and the circuit is the one that requests have
just shown. Only when none has lately is it read (1 command). Concurrent callers share a check.
"""

import asyncio
import math
from dataclasses import dataclass, field
from typing import Literal

from lib.clock import Clock
from lib.events import StoreFailed
from lib.guard import Guard
from lib.replies import BackendHealth, HealthBody, RedisHealth, SupabaseHealth
from lib.rules import breaker, keys
from lib.rules.op import Op, as_text
from lib.wire.supabase import SupabaseDown
from lib.wire.upstash import RedisDown

_FRESH_MS = 1_000
"""A report is told again to whoever asks within this time."""
_CIRCUIT_FRESH_MS = 10_000
_SUPABASE_FRESH_MS = {"up": 30_000, "down": 2_000}


@dataclass(slots=True)
class Health:
    """Checks the parts that a guard uses."""

    guard: Guard
    clock: Clock
    _running: asyncio.Task[None] | None = None
    _checked_ms: int = -_FRESH_MS
    _redis: RedisHealth = field(default_factory=lambda: RedisHealth(state="disabled"))
    _supabase: SupabaseHealth = field(default_factory=lambda: SupabaseHealth(state="not_configured"))
    _supabase_checked_ms: int = 0

    async def report(self, request_id: str) -> HealthBody:
        """The state of all parts, at most a second old."""
        if self.clock.now_ms() - self._checked_ms >= _FRESH_MS:
            if self._running is None or self._running.done():
                self._running = asyncio.ensure_future(self._check())
            # Shared: one caller's leaving must not cancel it for the others.
            await asyncio.shield(self._running)
        now_ms, guard = self.clock.now_ms(), self.guard
        circuit = guard.circuit
        backend: BackendHealth = {"circuit": circuit.state, "failures": circuit.failures}
        serving = breaker.view(circuit, now_ms) != "refuse"
        if not serving:
            backend["retryAfter"] = math.ceil((circuit.until_ms - now_ms) / 1000)
        whole = self._redis["state"] == "up" or (self._redis["state"] == "disabled" and self._supabase["state"] == "up")
        status: Literal["ok", "degraded", "down"] = "down" if not serving else "ok" if whole else "degraded"
        return {
            "status": status,
            "mode": guard.mode,
            "redis": self._redis,
            "supabase": self._supabase,
            "backend": backend,
            "requestId": request_id,
        }

    async def _check(self) -> None:
        await asyncio.gather(self._check_redis(), self._check_supabase())
        self._checked_ms = self.clock.now_ms()

    async def _check_redis(self) -> None:
        redis, guard, now_ms = self.guard.redis, self.guard, self.clock.now_ms()
        if redis is None:
            return
        reads_circuit = now_ms - guard.circuit_seen_ms >= _CIRCUIT_FRESH_MS
        read = (("GET", keys.circuit(guard.backend.name)),) if reads_circuit else ()
        started = self.clock.monotonic()
        try:
            _, *circuits = await redis.run(Op((("PING",), *read), lambda replies: [as_text(each) for each in replies]))
        except RedisDown as e:
            guard.emit(StoreFailed("redis", "health", str(e)))
            self._redis = {"state": "down", "reason": e.kind}
            return
        self._redis = {"state": "up", "roundTripMs": round((self.clock.monotonic() - started) * 1000, 2)}
        for text in circuits:
            guard.circuit, guard.circuit_seen_ms = breaker.parse(text), now_ms

    async def _check_supabase(self) -> None:
        supabase, now_ms = self.guard.supabase, self.clock.now_ms()
        if supabase is None:
            return
        fresh_ms = _SUPABASE_FRESH_MS.get(self._supabase["state"], 0)
        if now_ms - self._supabase_checked_ms < fresh_ms:
            return
        self._supabase_checked_ms = now_ms
        started = self.clock.monotonic()
        try:
            await supabase.ping(now_ms)
        except SupabaseDown as e:
            self.guard.emit(StoreFailed("supabase", "health", str(e)))
            self._supabase = {"state": "down", "reason": e.kind}
            return
        self._supabase = {"state": "up", "roundTripMs": round((self.clock.monotonic() - started) * 1000, 2)}
