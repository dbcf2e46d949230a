"""HTTP connections of an instance: kept, and with one TLS context. They belong to the loop they are first used in."""

import logging
import ssl
from functools import cache

import httpcore
import httpx

# It logs a line of plain text for each call, at the level that Vercel shows; what matters of it our own events tell.
logging.getLogger("httpx").setLevel(logging.WARNING)

_MOST_CONNECTIONS, _MOST_KEPT, _KEPT_S = 100, 20, 55.0


@cache
def _tls() -> ssl.SSLContext:
    # Building one from certifi's bundle is most of what a client costs.
    return ssl.create_default_context()


def new_client() -> httpx.AsyncClient:
    """A client for every party we call but Redis. Each call names its own timeouts; none could hang by default."""
    return httpx.AsyncClient(
        verify=_tls(),
        timeout=httpx.Timeout(5.0),
        limits=httpx.Limits(
            max_connections=_MOST_CONNECTIONS, max_keepalive_connections=_MOST_KEPT, keepalive_expiry=_KEPT_S
        ),
        follow_redirects=False,
        # An instance's environment must not route guarded traffic through a proxy by accident.
        trust_env=False,
    )


def new_pool() -> httpcore.AsyncConnectionPool:
    """Connections to Redis, for :class:`lib.wire.upstash.Upstash`."""
    return httpcore.AsyncConnectionPool(
        ssl_context=_tls(),
        max_connections=_MOST_CONNECTIONS,
        max_keepalive_connections=_MOST_KEPT,
        keepalive_expiry=_KEPT_S,
    )
