"""Cross-origin requests: the browser's questions are answered for the origins that are allowed."""

from collections.abc import Iterable

from starlette.types import ASGIApp

EXPOSED = (
    "Age",
    "Cache-Status",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "Server-Timing",
    "X-Attempts",
    "X-Cache",
    "X-Guard-Mode",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "X-Request-Id",
    "X-Should-Retry",
)
"""The headers of replies that a page may read."""


def cors(app: ASGIApp, origins: tuple[str, ...], methods: Iterable[str]) -> ASGIApp:
    """The same application for requests of allowed origins; answers their preflights."""
    from starlette.middleware.cors import CORSMiddleware

    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=sorted(methods),
        allow_headers=("Authorization", "Cache-Control", "Content-Type"),
        expose_headers=EXPOSED,
        max_age=86_400,
    )
