"""Whether the main job can be served, cheaply enough to be polled.

A check costs no billed command as a rule: ``PING`` is free on Upstash, and the circuits are the ones that requests have
just shown. Only when none has lately are they read (1 command). Concurrent callers share a check.
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Literal

from ..ai.chain import Chain
from ..base.clock import Clock
from ..base.events import Listener, Mode, StoreFailed
from ..base.values import dataclass
from ..breaker import circuit as breaker
from ..edge.redis_health import redis_health
from ..edge.replies import HealthBody, ProviderHealth, RedisHealth, SupabaseHealth
from ..limits.limiter import Limits
from ..limits.supabase import SupabaseDown
from ..redis.errors import RedisDown
from ..redis.op import Op, ignored, join

if TYPE_CHECKING:
    from ..parts import Parts

_FRESH_MS = 1_000
"""Requests within this time get the same report."""
_CIRCUITS_FRESH_MS = 10_000
_SUPABASE_FRESH_MS = {"up": 30_000, "down": 2_000}


@dataclass(slots=True)
class Health:
    """Checks the parts that a guard uses."""

    chain: Chain
    limits: Limits
    clock: Clock
    emit: Listener
    warnings: Sequence[str] = ()
    """What the settings say about themselves."""
    _running: asyncio.Task[None] | None = None
    _checked_ms: int = -_FRESH_MS
    _redis: RedisHealth = field(default_factory=lambda: RedisHealth(state="disabled"))
    _supabase: SupabaseHealth = field(default_factory=lambda: SupabaseHealth(state="not_configured"))
    _supabase_checked_ms: int = 0
    # From the stores' state: on Vercel health is a function by itself, and counts no calls that would show a switch.
    _mode: Mode = "redis"
    _mode_since_ms: int = 0
    _mode_reason: str = "start"

    @classmethod
    def of(cls, parts: "Parts") -> "Health":
        """The instance's."""
        return parts.keep(cls, _as_configured)

    async def report(self, request_id: str) -> HealthBody:
        """The state of all parts, at most a second old."""
        if self.clock.now_ms() - self._checked_ms >= _FRESH_MS:
            if self._running is None or self._running.done():
                self._running = asyncio.ensure_future(self._check())
            # Shielded: one client that disconnects must not cancel it for the others.
            await asyncio.shield(self._running)
        providers = self._providers()
        # Where no provider is configured only data is served, and the stores alone decide.
        serving = not providers or any("retryAfter" not in each for each in providers)
        whole = self._redis["state"] == "up" or (self._redis["state"] == "disabled" and self._supabase["state"] == "up")
        status: Literal["ok", "degraded", "down"] = "down" if not serving else "ok" if whole else "degraded"
        return {
            "status": status,
            "mode": self._mode,
            "modeSince": self._mode_since_ms // 1000,
            "modeReason": self._mode_reason,
            "redis": self._redis,
            "supabase": self._supabase,
            "providers": providers,
            "warnings": list(self.warnings),
            "requestId": request_id,
        }

    def _providers(self) -> list[ProviderHealth]:
        now_ms, found = self.clock.now_ms(), list[ProviderHealth]()
        for link in self.chain.links:
            circuit = self.chain.circuits.known(link.name)
            each: ProviderHealth = {"name": link.name, "circuit": circuit.state, "failures": circuit.failures}
            if breaker.view(circuit, now_ms) == "refuse":
                each["retryAfter"] = math.ceil((circuit.until_ms - now_ms) / 1000)
                each["reason"], each["since"] = circuit.reason, circuit.since_ms // 1000
            found.append(each)
        return found

    async def _check(self) -> None:
        await asyncio.gather(self._check_redis(), self._check_supabase())
        self._checked_ms = self.clock.now_ms()
        mode: Mode = "redis" if self._redis["state"] == "up" else "supabase"
        if mode == "supabase" and self._supabase["state"] != "up":
            mode = "local"
        if mode == self.limits.mode and self.limits.reason != "start":
            self._mode, self._mode_since_ms, self._mode_reason = mode, self.limits.since_ms, self.limits.reason
        elif mode != self._mode or not self._mode_since_ms:
            self._mode, self._mode_since_ms = mode, self._checked_ms
            self._mode_reason = f"redis {self._redis.get('reason', self._redis['state'])}"

    async def _check_redis(self) -> None:
        store, now_ms = self.limits.redis, self.clock.now_ms()
        if store is None:
            return
        ping, stale = Op((("PING",),), ignored), now_ms - self.chain.circuits.seen_ms >= _CIRCUITS_FRESH_MS
        started = self.clock.monotonic()
        try:
            # Past the gate, because the question is whether Redis is back.
            wanted = join(ping, self.chain.lookup(now_ms).op()) if stale and self.chain.links else ping
            await store.redis.run(wanted, math.inf)
        except RedisDown as e:
            self.emit(StoreFailed("redis", "health", str(e)))
            store.contact.failed(e.kind, self.clock.now_ms(), down=True)
        else:
            store.contact.answered((self.clock.monotonic() - started) * 1000, self.clock.now_ms())
        self._redis = redis_health(store)

    async def _check_supabase(self) -> None:
        store, now_ms = self.limits.supabase, self.clock.now_ms()
        if store is None:
            return
        fresh_ms = _SUPABASE_FRESH_MS.get(self._supabase["state"], 0)
        if now_ms - self._supabase_checked_ms < fresh_ms:
            return
        self._supabase_checked_ms = now_ms
        started = self.clock.monotonic()
        try:
            await store.supabase.ping(now_ms)
        except SupabaseDown as e:
            self.emit(StoreFailed("supabase", "health", str(e)))
            self._supabase = {"state": "down", "reason": e.kind}
            return
        self._supabase = {"state": "up", "roundTripMs": round((self.clock.monotonic() - started) * 1000, 2)}


def _as_configured(parts: "Parts") -> Health:
    limits = parts.guard.limits
    return Health(Chain.of(parts), limits, limits.clock, limits.emit, parts.settings.warnings)
