"""Builds the real things. Imported with an instance's first request (``instance.py``)."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ..afterwards import Outbox
from ..base.bounded import Bounded
from ..base.clock import Clock
from ..base.events import Listener, ThriftChanged
from ..base.http import new_client, new_pool
from ..base.log import broadcast, log
from ..breaker.shared import SharedCircuits
from ..cache.lock import LockRules
from ..claims import Claims
from ..computing import Computing
from ..guard import Guard
from ..leading import Leading
from ..limits.limiter import Limits
from ..limits.local import LocalLimits
from ..parts import Late, Parts
from ..redis.store_time import StoreTime
from ..redis.thrift import Thrift
from . import stores

if TYPE_CHECKING:
    from ..settings import Settings

_LEAST_S = 2.0
"""The least time for what is sent after a reply off Vercel, where a reply may be streamed for longer than its time."""


def build(
    settings: "Settings",
    clock: Clock | None = None,
    listeners: tuple[Listener, ...] = (log,),
    time: StoreTime | None = None,
) -> Parts:
    """Wire the parts for one event loop. Connects to nothing yet.

    A clock that is handed in is believed; without one, or with ``time``, the machine's is corrected by the store's.
    """
    if clock is None and time is None:
        time = StoreTime()
    clock, local = clock or Clock(), clock or Clock()
    if time is not None:
        clock = replace(clock, now_ms=time.now_ms)
        local = replace(clock, now_ms=lambda: int(time.local_ms()))
    heard = list(listeners)
    emit, client, pool = broadcast(heard), Late(new_client), new_pool()
    thrift = Thrift(
        settings.redis_month_commands if settings.redis_billed else None,
        settings.redis_month_percents,
        lambda before, after: emit(ThriftChanged(before, after)),
    )
    ledger = stores.ledger(settings, clock, thrift)
    heard.append(ledger.listen)
    redis = ledger.redis = stores.redis(settings, pool, clock, local, emit, ledger, time)
    supabase = stores.supabase(settings, client, local, emit, ledger)
    stock = stores.stock(settings, ledger) if redis and settings.ratelimit_algorithm == "upstash" else None
    limits = Limits(redis, supabase, LocalLimits(settings.local_share), clock, emit, stock, thrift)
    circuits = SharedCircuits(redis, clock, emit)
    outbox = Outbox(redis, emit, limits.due, ledger.take, 0.0 if settings.on_vercel else _LEAST_S)
    rules = LockRules(settings.flight_lease_ms)
    claims = Claims(limits, redis, outbox, clock, rules)
    computing = Computing(limits, redis, claims, clock, Leading(clock, rules))
    guard = Guard(limits, computing, outbox, clock)
    return Parts(settings, guard, circuits, Bounded(1_000), clock, emit, client, pool, ledger, Late(_alerts))


def _alerts() -> Callable[[Parts], Awaitable[None]]:
    """What sends the alerts of an instance."""
    from ..ops.alerts import Alerts

    return lambda parts: Alerts.of(parts).settle()
