"""What a route may say of itself, and how that is read."""

from collections.abc import Sequence
from typing import Literal, TypedDict, overload

from ..cache.freshness import CacheRules

type Scope = Literal["caller", "shared"]

MOST_S = 10 * 365 * 86_400
"""Redis refuses times that it cannot count, and the value would silently not be kept."""

MAX_BODY_BYTES = 4_718_592
"""4.5 MiB: what Vercel itself takes, so that a route takes the same everywhere."""


class RouteOptions(TypedDict, total=False):
    """What a route may say of itself."""

    limit: str | None
    """``"30/minute,500/day"``; None: no limit. Without it, the table of limits by path holds."""
    cache: float | CacheRules | None
    """Seconds for which a value is fresh. Without it, the function is called for each request."""
    stale: float
    """Seconds for which an older value is served as well, while it is computed anew or when that fails."""
    scope: Scope
    """``caller`` (as it is without it): each caller has values of its own; ``shared``: all have the same."""
    vary: str | Sequence[str]
    """Request headers that the value depends on."""
    tags: str | Sequence[str]
    """Names by which values can be invalidated."""
    methods: str | Sequence[str]
    """``("GET",)`` unless it says otherwise; what is cached is read with GET."""
    name: str
    """Names the route in keys and in its limit's variable; else its file's place below ``api/`` does."""
    max_body_bytes: int
    """How large a request's body may be: 4.5 MiB unless it says otherwise. What is cached gets no body."""
    dry_run: bool
    """Nothing is refused: what would have been is logged and counted."""


def check(options: RouteOptions) -> None:
    """Refuse what is no option, or means nothing. Raises TypeError and ValueError."""
    if unknown := sorted(options.keys() - RouteOptions.__annotations__.keys()):
        raise TypeError(f"a route has no option {', '.join(unknown)}")
    if options.get("cache") is None and (given := sorted(options.keys() & {"stale", "scope", "vary", "tags"})):
        raise ValueError(f"{', '.join(given)}: only together with cache")
    if isinstance(options.get("cache"), CacheRules) and "stale" in options:
        raise ValueError("stale: is in the CacheRules that are given as cache")
    if options.get("cache") is not None and "max_body_bytes" in options:
        raise ValueError("max_body_bytes: only without cache, as what is cached gets no body")
    if options.get("max_body_bytes", 0) < 0:
        raise ValueError("max_body_bytes: 0 or more")


def names(given: str | Sequence[str]) -> tuple[str, ...]:
    """One name or several."""
    return (given,) if isinstance(given, str) else tuple(given)


@overload
def rules(fresh: float, stale: float) -> CacheRules: ...
@overload
def rules(fresh: float | None, stale: float) -> CacheRules | None: ...
def rules(fresh: float | None, stale: float) -> CacheRules | None:
    """How long a value may be served, in seconds. Raises ValueError for what cannot be."""
    if fresh is None:
        return None
    if not 0 < fresh <= MOST_S or not 0 <= stale <= MOST_S:
        raise ValueError("a value is fresh for more than 0 seconds, stale for 0 or more, and neither for over 10 years")
    stale_ms = round(stale * 1000)
    return CacheRules(max(1, round(fresh * 1000)), stale_ms, stale_ms)
