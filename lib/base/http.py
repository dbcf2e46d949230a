"""HTTP connections of an instance: kept alive, with one TLS context. They belong to the loop that first uses them."""

import logging
import ssl
from functools import cache
from typing import TYPE_CHECKING

import httpcore

from .kept import Looking

if TYPE_CHECKING:
    import httpx

_MOST_CONNECTIONS, _MOST_KEPT, _KEPT_S = 100, 20, 55.0


@cache
def _tls() -> ssl.SSLContext:
    # Building one from certifi's bundle is most of what a client costs.
    return ssl.create_default_context()


def new_client() -> "httpx.AsyncClient":
    """A client for all that we call, except Redis. Calls name their own timeouts; none could hang by default."""
    # A value from the cache needs none of this.
    import httpx

    logger = logging.getLogger("httpx")
    if logger.level == logging.NOTSET:
        # It logs the address of each call, and a webhook's address is a secret; our own events say what matters.
        logger.setLevel(logging.WARNING)
    transport = httpx.AsyncHTTPTransport(verify=_tls(), trust_env=False)
    # It has no parameter for how connections are made.
    transport._pool = new_pool()
    return httpx.AsyncClient(
        transport=transport,
        timeout=httpx.Timeout(5.0),
        follow_redirects=False,
        # An instance's environment must not route guarded traffic through a proxy by accident.
        trust_env=False,
    )


def new_pool() -> httpcore.AsyncConnectionPool:
    """Connections to Redis, for :class:`lib.redis.rest.Upstash`."""
    return httpcore.AsyncConnectionPool(
        network_backend=Looking(),
        ssl_context=_tls(),
        max_connections=_MOST_CONNECTIONS,
        max_keepalive_connections=_MOST_KEPT,
        keepalive_expiry=_KEPT_S,
    )
