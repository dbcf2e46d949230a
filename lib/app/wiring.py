"""Builds the real things. Imported with an instance's first request (``instance.py``)."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import httpcore

from ..afterwards import Outbox
from ..base.bounded import Bounded
from ..base.clock import Clock
from ..base.env import opened
from ..base.events import Listener, ThriftChanged
from ..base.http import new_client, new_pool
from ..base.log import broadcast, log
from ..base.values import dataclass
from ..breaker.shared import SharedCircuits
from ..cache.lock import LockRules
from ..claims import Claims
from ..computing import Computing
from ..edge.signin import SignIn
from ..guard import Guard
from ..leading import Leading
from ..ledger.ledger import Ledger
from ..limits.limiter import Limits
from ..limits.local import LocalLimits
from ..redis.store_time import StoreTime
from ..redis.thrift import Thrift
from . import stores

if TYPE_CHECKING:
    import httpx

    from ..ai.chain import Chain, Visit
    from ..breaker.breaker import Breaker
    from ..data.origins.postgres import Database
    from ..databases.watching import Databases
    from ..fleet.fleet import Fleet
    from ..ops.alerts import Alerts
    from ..ops.health import Health
    from ..ops.overview import Overview
    from .settings import Settings

_LEAST_S = 2.0
"""The least time for what is sent after a reply off Vercel, where a reply may be streamed for longer than its time."""


@dataclass(slots=True, eq=False)
class Late[T]:
    """Something that is imported and made when it is first needed, which for most requests is never."""

    make: Callable[[], T]
    made: T | None = None

    def get(self) -> T:
        """The thing itself."""
        if self.made is None:
            self.made = self.make()
        return self.made


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """All that a handler needs."""

    settings: "Settings"
    guard: Guard
    circuits: SharedCircuits
    breakers: "Bounded[str, Breaker]"
    """Circuits around other people's code, by name."""
    signin: SignIn
    clock: Clock
    emit: Listener
    client: "Late[httpx.AsyncClient]"
    """For all that we call, except Redis."""
    database: "Late[Database]"
    """The PostgreSQL that ``DATABASE_URL`` names."""
    late_fleet: "Late[Fleet]"
    databases: "Late[Databases]"
    """Those that ``DB_CONNECTIONS`` names."""
    pool: httpcore.AsyncConnectionPool
    ledger: Ledger
    late_chain: "Late[Chain]"
    late_health: "Late[Health]"
    late_overview: "Late[Overview]"
    late_alerts: "Late[Alerts]"

    @property
    def chain(self) -> "Chain":
        """The AI providers."""
        return self.late_chain.get()

    @property
    def fleet(self) -> "Fleet":
        """What this instance knows of the servers that report."""
        return self.late_fleet.get()

    @property
    def health(self) -> "Health":
        """What checks the parts."""
        return self.late_health.get()

    @property
    def overview(self) -> "Overview":
        """What reads the ledger."""
        return self.late_overview.get()

    @property
    def alerts(self) -> "Alerts":
        """What sends alerts."""
        return self.late_alerts.get()

    async def aclose(self) -> None:
        """Close all connections."""
        if self.client.made is not None:
            await self.client.made.aclose()
        if self.database.made is not None:
            await self.database.made.aclose()
        if self.databases.made is not None:
            await self.databases.made.aclose()
        redis = self.guard.limits.redis
        if redis is not None:
            await redis.redis.aclose()
        await self.pool.aclose()

    async def settle(self) -> None:
        """After a reply, what belongs to no request: counts to flush, alerts to send."""
        await self.ledger.settle()
        self.notice()
        if self.late_alerts.made is not None:
            await self.late_alerts.made.settle()

    def notice(self) -> int:
        """Apply the rules of alerts to what is new; returns how many alerts wait to be sent."""
        if self.ledger.news:
            news = list(self.ledger.news)
            self.ledger.news.clear()
            for each in news:
                self.alerts.notice(each)
        return self.late_alerts.made.waiting if self.late_alerts.made else 0


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
    thrift = Thrift(lambda before, after: emit(ThriftChanged(before, after)))
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
    timeout_s = settings.fallback_timeout_ms / 1000
    signin = SignIn(client.get, settings.supabase_url, opened(settings.supabase_jwt_secret), timeout_s, emit, clock)
    late_chain = Late(lambda: _chain(settings, client, circuits, limits))
    late_health = Late(lambda: _health(settings, late_chain.get(), limits))
    late_overview = Late(lambda: _overview(settings, late_chain.get(), limits, ledger))
    late_alerts = Late(lambda: _alerts(settings, limits, client, late_overview.get()))
    return Parts(
        settings,
        guard,
        circuits,
        Bounded(1_000),
        signin,
        clock,
        emit,
        client,
        Late(lambda: _database(settings)),
        Late(lambda: _fleet(settings)),
        Late(lambda: _databases(settings, client, ledger)),
        pool,
        ledger,
        late_chain,
        late_health,
        late_overview,
        late_alerts,
    )


def _database(settings: "Settings") -> "Database":
    from ..data.origins.postgres import Database

    return Database(settings.database_url)


def _fleet(settings: "Settings") -> "Fleet":
    from ..fleet.fleet import Fleet

    return Fleet(tuple(settings.fleet_tokens), settings.alert_server_percent, settings.alert_server_reports)


def _databases(settings: "Settings", client: "Late[httpx.AsyncClient]", ledger: Ledger) -> "Databases":
    from ..databases.readers import reader_of
    from ..databases.watching import Databases

    connections = {each.id: each for each in settings.connections}
    make = reader_of(client.get, settings.supabase_key, ledger.called)
    return Databases(connections, settings.db_show_literals, make)


def _chain(
    settings: "Settings", client: "Late[httpx.AsyncClient]", circuits: SharedCircuits, limits: Limits
) -> "Chain":
    from ..ai.budgets import Budget
    from ..ai.chain import Chain, Link
    from ..ai.providers import dialects
    from ..ai.providers.lazy import LazyProvider

    links = [
        Link(
            LazyProvider(each, client.get),
            Budget(each.limits, each.month_s, each.vcpus),
            settings.breaker,
            _visit(client, each.health_url, opened(each.key)),
            settings.check_query,
            dialects.CLOUD_RUN.cannot if each.name == "cloud-run" else dialects.of(each.dialect, each.url).cannot,
        )
        for each in settings.providers
    ]
    return Chain(
        tuple(links), circuits, limits, limits.clock, limits.emit, settings.ai_safety_failover, settings.ai_prices
    )


def _visit(client: "Late[httpx.AsyncClient]", url: str | None, key: str | None) -> "Visit | None":
    """What calls a provider's health address, where it has one."""
    if url is None:
        return None

    async def call() -> int:
        from ..ai.checks import visit

        return await visit(client.get(), url, key)

    return call


def _health(settings: "Settings", chain: "Chain", limits: Limits) -> "Health":
    from ..ops.health import Health

    return Health(chain, limits, limits.clock, limits.emit, settings.warnings)


def _overview(settings: "Settings", chain: "Chain", limits: Limits, ledger: Ledger) -> "Overview":
    from ..ops.activity import Activity
    from ..ops.history import History
    from ..ops.overview import Overview

    thrift, clock = ledger.thrift, limits.clock
    activity = Activity(limits.redis, ledger.recent, thrift, clock)
    history = History(limits.redis, thrift, clock, settings.chain)
    return Overview(chain, limits, ledger, thrift, clock, settings.supabase_mb, activity, history)


def _alerts(settings: "Settings", limits: Limits, client: "Late[httpx.AsyncClient]", overview: "Overview") -> "Alerts":
    from ..ops.alert_rules import Thresholds
    from ..ops.alerts import Alerts

    return Alerts(
        limits.redis,
        limits.supabase,
        client.get,
        limits.clock,
        limits.emit,
        overview.ledger,
        Thresholds(settings.redis_month_percents, settings.alert_error_percent, settings.redis_slow_ms),
        limits.is_out,
        opened(settings.slack_webhook),
        opened(settings.alert_webhook),
        settings.alert_webhook_format,
    )
