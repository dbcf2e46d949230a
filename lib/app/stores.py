"""The stores as the settings describe them: Redis, Supabase, and the ledger that lies in Redis."""

from typing import TYPE_CHECKING

import httpcore

from ..base.clock import Clock
from ..base.env import opened
from ..base.events import Listener
from ..breaker.gate import Gate
from ..breaker.vitals import VitalsPolicy
from ..ledger.ledger import Ledger
from ..ledger.recent import Recent
from ..limits.in_redis import StockLimits
from ..limits.supabase import Supabase
from ..limits.supabase_store import SupabaseStore
from ..redis.offset import Offset
from ..redis.rest import Upstash
from ..redis.store import Redis, RedisStore
from ..redis.store_time import StoreTime
from ..redis.thrift import Thrift

if TYPE_CHECKING:
    import httpx

    from ..parts import Late
    from ..settings import Settings


def ledger(settings: "Settings", clock: Clock, thrift: Thrift) -> Ledger:
    """The ledger; it gets its Redis once that is made."""
    return Ledger(
        None,
        thrift,
        clock,
        settings.ledger_flush_commands,
        {each.name: each.vcpus for each in settings.providers},
        Recent(settings.request_slow_ms),
    )


def redis(
    settings: "Settings",
    pool: httpcore.AsyncConnectionPool,
    clock: Clock,
    local: Clock,
    emit: Listener,
    ledger: Ledger,
    time: StoreTime | None,
) -> RedisStore | None:
    """Redis, if it is configured and not switched off."""
    if not settings.redis_enabled:
        return None
    timeout_ms = settings.redis_timeout_ms
    redis = _transport(settings, pool, ledger, time)
    if settings.key_prefix:
        # Imported only where it is configured.
        from ..redis.prefixed import Prefixed

        redis = Prefixed(redis, settings.key_prefix)
    # Replies that use up half of their time are as good as an outage when they do not stop. Its cool-down is a length
    # of time: it must not change when the clock is corrected.
    gate = Gate(VitalsPolicy(settings.redis_cooldown_ms), local, timeout_ms / 2)
    offset = time.offset if time is not None else Offset()
    return RedisStore(redis, gate, clock, emit, settings.redis_slow_ms, offset=offset)


def _transport(
    settings: "Settings", pool: httpcore.AsyncConnectionPool, ledger: Ledger, time: StoreTime | None
) -> Redis:
    """The way to Redis: the settings see to it that there is one."""
    timeout_s, connect_s = settings.redis_timeout_ms / 1000, settings.redis_connect_timeout_ms / 1000
    token, tcp_url = opened(settings.redis_token), opened(settings.redis_tcp_url)
    if tcp_url is not None and settings.uses_tcp:
        # Imported only where it is configured.
        from ..redis.tcp import Tcp

        return Tcp(tcp_url, timeout_s, connect_s, ledger.sent, time, settings.redis_ca)
    return Upstash(pool, settings.redis_url or "", token or "", timeout_s, connect_s, ledger.sent, time)


def supabase(
    settings: "Settings", client: "Late[httpx.AsyncClient]", local: Clock, emit: Listener, ledger: Ledger
) -> SupabaseStore | None:
    """Supabase, if it is configured."""
    key = opened(settings.supabase_key)
    if settings.supabase_url is None or key is None:
        return None
    timeout_ms = settings.fallback_timeout_ms
    # There is nothing better to switch to when it is slow.
    gate = Gate(VitalsPolicy(settings.redis_cooldown_ms), local, float("inf"))
    return SupabaseStore(Supabase(client.get, settings.supabase_url, key, timeout_ms / 1000, ledger.called), gate, emit)


def stock(settings: "Settings", ledger: Ledger) -> StockLimits:
    """The limiter of ``upstash_ratelimit``."""
    # Imported only where it is configured: it is a quarter of a cold start.
    from ..limits.stock import StockWindows

    url, token = settings.redis_url or "", opened(settings.redis_token) or ""
    timeout_s, connect_s = settings.redis_timeout_ms / 1000, settings.redis_connect_timeout_ms / 1000
    return StockWindows(url, token, settings.ratelimit_prefix, timeout_s, connect_s, ledger.sent)
