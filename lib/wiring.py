"""Builds the real things, once an instance, on its first request."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass

from lib.clock import Clock
from lib.events import Listener, broadcast, log
from lib.guard import Guard, StockLimits
from lib.health import Health
from lib.local import LocalLimits
from lib.settings import Settings
from lib.wire.backend import Backend
from lib.wire.http import new_client
from lib.wire.signin import SignIn
from lib.wire.supabase import Supabase
from lib.wire.upstash import Upstash


@dataclass(frozen=True, slots=True)
class Parts:
    """All that a handler needs."""

    settings: Settings
    guard: Guard
    health: Health
    signin: SignIn
    clock: Clock
    emit: Listener


def build(settings: Settings, clock: Clock | None = None, listeners: tuple[Listener, ...] = (log,)) -> Parts:
    """Wire the parts for one event loop. Connects to nothing yet."""
    clock, emit, client = clock or Clock(), broadcast(listeners), new_client()
    redis = stock = None
    if settings.redis_enabled and settings.redis_url and settings.redis_token:
        redis = Upstash(
            client,
            settings.redis_url,
            settings.redis_token.get_secret_value(),
            settings.redis_timeout_ms / 1000,
            settings.redis_connect_timeout_ms / 1000,
        )
        if settings.ratelimit_algorithm == "upstash":
            stock = _stock(settings.redis_url, settings.redis_token.get_secret_value(), settings)
    supabase = None
    if settings.supabase_url and settings.supabase_key:
        supabase = Supabase(
            client,
            settings.supabase_url,
            settings.supabase_key.get_secret_value(),
            settings.fallback_timeout_ms / 1000,
        )
    backend = Backend(
        client,
        settings.backend_url,
        settings.backend_secret.get_secret_value() if settings.backend_secret else None,
        settings.backend_timeout_ms / 1000,
        settings.backend_connect_timeout_ms / 1000,
    )
    guard = Guard(
        backend,
        redis,
        supabase,
        LocalLimits(settings.local_share),
        clock,
        emit,
        settings.redis_cooldown_ms,
        settings.redis_slow_ms,
        stock,
    )
    jwt_secret = settings.supabase_jwt_secret.get_secret_value() if settings.supabase_jwt_secret else None
    signin = SignIn(client, settings.supabase_url, jwt_secret, settings.fallback_timeout_ms / 1000, emit)
    return Parts(settings, guard, Health(guard, clock), signin, clock, emit)


def _stock(url: str, token: str, settings: Settings) -> StockLimits:
    # Imported for those who ask for it only: it is a quarter of a cold start.
    from lib.wire.stock import StockWindows

    return StockWindows(url, token, settings.ratelimit_prefix, settings.redis_timeout_ms / 1000)


_built: tuple[asyncio.AbstractEventLoop, Parts] | None = None


async def parts(environ: Mapping[str, str] = os.environ) -> Parts:
    """The parts of this instance, built on its first request. Raises BadSettings.

    A request in a new event loop gets new parts: connections belong to the loop they were made in.
    """
    global _built  # noqa: PLW0603 - the one thing an instance keeps between requests
    loop = asyncio.get_running_loop()
    if _built is None or _built[0] is not loop:
        _built = (loop, build(Settings.from_env(environ)))
    return _built[1]
