"""One HTTP client for an instance: connections are kept, and a TLS context is made once."""

import importlib.util
import logging
import ssl
import sys

import httpx

# It logs a line of plain text for each call, at the level that Vercel shows; what matters of it our own events tell.
logging.getLogger("httpx").setLevel(logging.WARNING)

if importlib.util.find_spec("sniffio") is None:
    # httpcore tries to import it four times a call; told once that it is not there, Python does not search its whole
    # path for it each time (docs/performance.md).
    sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type] # the import system, 5.3.1: None is "not there"


def new_client() -> httpx.AsyncClient:
    """A client for every party we call. Each call names its own timeouts; there is no default that could hang.

    It belongs to the event loop it is first used in.
    """
    return httpx.AsyncClient(
        # Handing httpx a context spares it from building one from certifi's bundle, most of a client's cost.
        verify=ssl.create_default_context(),
        timeout=httpx.Timeout(5.0),
        limits=httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=55.0),
        follow_redirects=False,
        # An instance's environment must not route guarded traffic through a proxy by accident.
        trust_env=False,
    )
