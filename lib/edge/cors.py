"""Cross-origin requests: the browser's questions are answered for the origins that are allowed."""

import re
from collections.abc import Iterable, Sequence

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


_NOT_A_PAGES = re.compile(r"cookie2?|forwarded|x-forwarded-.*|x-real-ip|x-vercel-.*")
"""Headers that say who calls, or open a deployment's protection: they are the platform's, and no page's to send."""


def allows(allowed: Sequence[str], origin: str) -> bool:
    """Whether pages of an origin may call, by what ``base.env.origins`` has read."""
    if not origin:
        return False
    return any(_covers(each, origin.lower()) for each in allowed)


def _covers(allowed: str, origin: str) -> bool:
    scheme, wild, rest = allowed.partition("://*.")
    if not wild:
        return allowed in ("*", origin)
    return (
        origin.startswith(f"{scheme}://") and origin.endswith(f".{rest}") and len(origin) > len(f"{scheme}://.{rest}")
    )


def for_all(allowed: Sequence[str]) -> dict[str, str]:
    """What a reply says that caches on the way may give to anybody: every page may read it, or none."""
    return {"access-control-allow-origin": "*"} if "*" in allowed else {}


def may_send(requested: str) -> list[str]:
    """Of the headers that a preflight asks for, those that a page may send: all but the platform's."""
    names = [name.strip().lower() for name in requested.split(",")]
    return [name for name in names if name and not _NOT_A_PAGES.fullmatch(name)]


def named(allowed: Sequence[str], origin: str) -> str:
    """How replies name an allowed origin: not at all where all are allowed."""
    return "*" if "*" in allowed else origin


def readable(origin: str) -> dict[str, str]:
    """What a reply says so that a page may read it; ``origin`` as it is named."""
    return {"access-control-allow-origin": origin, "access-control-expose-headers": ", ".join(EXPOSED)}


def preflights(app: ASGIApp, origin: str, methods: Iterable[str], requested: str) -> ASGIApp:
    """Answers a preflight of an origin, as it is named. ``requested``: the headers that it asks for."""
    from starlette.middleware.cors import CORSMiddleware

    return CORSMiddleware(
        app,
        allow_origins=(origin,),
        allow_methods=sorted(methods),
        allow_headers=may_send(requested),
        max_age=86_400,
    )
