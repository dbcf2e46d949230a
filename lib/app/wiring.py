"""Builds the real things. Imported with an instance's first request (``instance.py``)."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import httpcore

from ..afterwards import Outbox
from ..base.bounded import Bounded
from ..base.clock import Clock
from ..base.events import Listener, ThriftChanged
from ..base.http import new_client, new_pool
from ..base.log import broadcast, log
from ..base.values import dataclass
from ..breaker.gate import Gate
from ..breaker.shared import SharedCircuits
from ..breaker.vitals import VitalsPolicy
from ..cache.lock import LockRules
from ..claims import Claims
from ..computing import Computing
from ..edge.signin import SignIn
from ..guard import Guard
from ..leading import Leading
from ..ledger.ledger import Ledger
from ..limits.limiter import Limits, StockLimits
from ..limits.local import LocalLimits
from ..limits.supabase import Supabase
from ..limits.supabase_store import SupabaseStore
from ..redis.rest import Upstash
from ..redis.store import RedisStore
from ..redis.thrift import Thrift

if TYPE_CHECKING:
    import httpx

    from ..ai.chain import Chain, Visit
    from ..base.env import Secret
    from ..breaker.breaker import Breaker
    from ..ops.alerts import Alerts
    from ..ops.health import Health
    from ..ops.overview import Overview
    from .settings import Settings


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


def build(settings: "Settings", clock: Clock | None = None, listeners: tuple[Listener, ...] = (log,)) -> Parts:
    """Wire the parts for one event loop. Connects to nothing yet."""
    heard = list(listeners)
    clock, emit, client, pool = clock or Clock(), broadcast(heard), Late(new_client), new_pool()
    thrift = Thrift(lambda before, after: emit(ThriftChanged(before, after)))
    ledger = _ledger(settings, clock, thrift)
    heard.append(ledger.listen)
    redis = ledger.redis = _redis(settings, pool, clock, emit, ledger)
    supabase = _supabase(settings, client, clock, emit, ledger)
    stock = _stock(settings, ledger) if redis and settings.ratelimit_algorithm == "upstash" else None
    limits = Limits(redis, supabase, LocalLimits(settings.local_share), clock, emit, stock, thrift)
    circuits = SharedCircuits(redis, clock, emit)
    outbox = Outbox(redis, emit, limits.due, ledger.take)
    rules = LockRules(settings.flight_lease_ms)
    claims = Claims(limits, redis, outbox, clock, rules)
    computing = Computing(limits, redis, claims, clock, Leading(clock, rules))
    guard = Guard(limits, computing, outbox, clock)
    timeout_s = settings.fallback_timeout_ms / 1000
    signin = SignIn(client.get, settings.supabase_url, _open(settings.supabase_jwt_secret), timeout_s, emit)
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
        pool,
        ledger,
        late_chain,
        late_health,
        late_overview,
        late_alerts,
    )


def _chain(
    settings: "Settings", client: "Late[httpx.AsyncClient]", circuits: SharedCircuits, limits: Limits
) -> "Chain":
    from ..ai.budgets import Budget
    from ..ai.chain import Chain, Link
    from ..ai.providers.lazy import LazyProvider

    links = [
        Link(
            LazyProvider(each, client.get),
            Budget(each.limits, each.month_s, each.vcpus),
            settings.breaker,
            _visit(client, each.health_url, _open(each.key)),
            settings.check_query,
        )
        for each in settings.providers
    ]
    return Chain(tuple(links), circuits, limits, limits.clock, limits.emit)


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
    from ..ops.overview import Overview

    return Overview(chain, limits, ledger, ledger.thrift, limits.clock, settings.supabase_mb)


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
        _open(settings.slack_webhook),
        _open(settings.alert_webhook),
        settings.alert_webhook_format,
    )


def _ledger(settings: "Settings", clock: Clock, thrift: Thrift) -> Ledger:
    return Ledger(
        None,
        thrift,
        clock,
        settings.ledger_flush_commands,
        settings.redis_month_commands,
        settings.redis_month_percents,
        {each.name: each.vcpus for each in settings.providers},
    )


def _redis(
    settings: "Settings", pool: httpcore.AsyncConnectionPool, clock: Clock, emit: Listener, ledger: Ledger
) -> RedisStore | None:
    token = _open(settings.redis_token)
    if not settings.redis_enabled or settings.redis_url is None or token is None:
        return None
    timeout_ms = settings.redis_timeout_ms
    connect_s = settings.redis_connect_timeout_ms / 1000
    redis = Upstash(pool, settings.redis_url, token, timeout_ms / 1000, connect_s, ledger.sent)
    # Replies that use up half of their time are as good as an outage when they do not stop.
    gate = Gate(VitalsPolicy(settings.redis_cooldown_ms), clock, timeout_ms / 2)
    return RedisStore(redis, gate, clock, emit, settings.redis_slow_ms)


def _supabase(
    settings: "Settings", client: "Late[httpx.AsyncClient]", clock: Clock, emit: Listener, ledger: Ledger
) -> SupabaseStore | None:
    key = _open(settings.supabase_key)
    if settings.supabase_url is None or key is None:
        return None
    timeout_ms = settings.fallback_timeout_ms
    # There is nothing better to switch to when it is slow.
    gate = Gate(VitalsPolicy(settings.redis_cooldown_ms), clock, float("inf"))
    return SupabaseStore(Supabase(client.get, settings.supabase_url, key, timeout_ms / 1000, ledger.called), gate, emit)


def _stock(settings: "Settings", ledger: Ledger) -> StockLimits:
    # Imported only where it is configured: it is a quarter of a cold start.
    from ..limits.stock import StockWindows

    url, token = settings.redis_url or "", _open(settings.redis_token) or ""
    return StockWindows(url, token, settings.ratelimit_prefix, settings.redis_timeout_ms / 1000, ledger.sent)


def _open(secret: "Secret | None") -> str | None:
    return secret.value if secret else None
