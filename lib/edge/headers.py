"""What a reply says about limits, cache and time, as header fields. Pure: everything comes from the decision."""

import math
from collections.abc import Mapping, Sequence

from ..limits.judge import Quota


def seconds_until(at_ms: int, now_ms: int) -> int:
    """Whole seconds, rounded up, at least 1: a client that waits so long is not too early."""
    return max(1, math.ceil((at_ms - now_ms) / 1000))


def rate_limit(quota: Quota, now_ms: int) -> dict[str, str]:
    """``X-RateLimit-*`` for the tightest window; ``RateLimit-Policy`` and ``RateLimit`` for all of them.

    The latter two follow draft-ietf-httpapi-ratelimit-headers: ``q`` calls in ``w`` seconds; ``r`` left, and the whole
    quota back in ``t`` seconds. ``X-RateLimit-Reset`` is that moment in seconds since the epoch.
    """
    tightest = quota.tightest
    if tightest is None:
        return {}
    states = quota.states
    return {
        "x-ratelimit-limit": str(tightest.window.limit),
        "x-ratelimit-remaining": str(tightest.remaining),
        "x-ratelimit-reset": str(math.ceil(tightest.reset_at_ms / 1000)),
        "ratelimit-policy": ", ".join(
            f'"{s.window.name}";q={s.window.limit};w={s.window.length_ms // 1000}' for s in states
        ),
        "ratelimit": ", ".join(
            f'"{s.window.name}";r={s.remaining};t={max(0, math.ceil((s.reset_at_ms - now_ms) / 1000))}' for s in states
        ),
    }


def cache(state: str, age_ms: int | None, fresh_ms: int, *, stored: bool, detail: str = "") -> dict[str, str]:
    """``X-Cache``, ``Cache-Status`` (RFC 9211) and, for what came from the cache, ``Age``."""
    headers = {"x-cache": state.upper()}
    if age_ms is not None and state in ("hit", "stale"):
        ttl_s = (fresh_ms - age_ms) // 1000
        headers["age"] = str(age_ms // 1000)
        # Who reads it knows without that why an aging value is served; it says so where nothing newer was to be had.
        why = f"; detail={detail}" if detail == "memory" or (state == "stale" and detail not in ("", "aging")) else ""
        headers["cache-status"] = f"breakwater; hit; ttl={ttl_s}{why}"
        return headers
    if state == "none":
        # Refused before the cache had a say: neither a hit nor forwarded.
        headers["cache-status"] = f"breakwater; detail={detail}"
        return headers
    forwarded = "request" if state == "bypass" else "stale" if detail == "expired" else "uri-miss"
    headers["cache-status"] = f"breakwater; fwd={forwarded}" + ("; stored" if stored else "")
    if state == "collapsed":
        headers |= {"x-cache": "MISS", "cache-status": "breakwater; fwd=uri-miss; collapsed"}
    return headers


def attempts(made: Sequence[tuple[str, str]]) -> dict[str, str]:
    """``X-Attempts``: the providers that were tried, in order, each with its outcome."""
    return {"x-attempts": ", ".join(f"{provider};{outcome}" for provider, outcome in made)} if made else {}


def server_timing(parts: Sequence[tuple[str, float]]) -> Mapping[str, str]:
    """``Server-Timing`` in milliseconds; what took no time is left out."""
    return {"server-timing": ", ".join(f"{name};dur={ms:.1f}" for name, ms in parts if ms > 0)}
