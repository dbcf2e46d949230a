"""What a reply says about limits, cache and time."""

import pytest

from lib.edge import headers
from lib.limits.grammar import parse_limits
from lib.limits.judge import Quota, WindowState

NOW = 1_763_553_600_000
MINUTE, DAY = parse_limits("10/minute,100/day").windows


def quota(minute: int, day: int, minute_ms: int = 30_001, day_ms: int = 86_400_000) -> Quota:
    states = (WindowState(MINUTE, minute, NOW + minute_ms), WindowState(DAY, day, NOW + day_ms))
    return Quota(True, "admitted", states)


@pytest.mark.parametrize(
    ("ahead_ms", "seconds"), [(1, 1), (999, 1), (1_000, 1), (1_001, 2), (60_000, 60), (0, 1), (-5_000, 1)]
)
def test_seconds_until(ahead_ms: int, seconds: int) -> None:
    """Rounded up, so that whoever waits as told is not too early; never 0."""
    assert headers.seconds_until(NOW + ahead_ms, NOW) == seconds


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(
            quota(3, 90),
            {
                "x-ratelimit-limit": "10",
                "x-ratelimit-remaining": "3",
                "x-ratelimit-reset": "1763553631",
                "ratelimit-policy": '"minute";q=10;w=60, "day";q=100;w=86400',
                "ratelimit": '"minute";r=3;t=31, "day";r=90;t=86400',
            },
            id="the minute is tighter",
        ),
        pytest.param(
            quota(10, 5, minute_ms=0),
            {
                "x-ratelimit-limit": "100",
                "x-ratelimit-remaining": "5",
                "x-ratelimit-reset": "1763640000",
                "ratelimit-policy": '"minute";q=10;w=60, "day";q=100;w=86400',
                "ratelimit": '"minute";r=10;t=0, "day";r=5;t=86400',
            },
            id="the day is tighter",
        ),
        pytest.param(
            quota(0, 0, minute_ms=-1),
            {
                "x-ratelimit-limit": "100",
                "x-ratelimit-remaining": "0",
                "x-ratelimit-reset": "1763640000",
                "ratelimit-policy": '"minute";q=10;w=60, "day";q=100;w=86400',
                "ratelimit": '"minute";r=0;t=0, "day";r=0;t=86400',
            },
            id="both used up: the longer one, and no time below 0",
        ),
        pytest.param(Quota(True, "unlimited", ()), {}, id="no limit"),
    ],
)
def test_rate_limit(given: Quota, expected: dict[str, str]) -> None:
    """X-RateLimit for the tightest window, the IETF draft's two fields for all."""
    assert headers.rate_limit(given, NOW) == expected


@pytest.mark.parametrize(
    ("state", "age_ms", "stored", "detail", "expected"),
    [
        pytest.param(
            "hit",
            1_999,
            False,
            "",
            {"x-cache": "HIT", "age": "1", "cache-status": "breakwater; hit; ttl=3598"},
            id="hit",
        ),
        pytest.param(
            "stale",
            3_661_000,
            False,
            "",
            {"x-cache": "STALE", "age": "3661", "cache-status": "breakwater; hit; ttl=-61"},
            id="stale: a negative ttl",
        ),
        pytest.param("miss", None, True, "missing", {"cache-status": "breakwater; fwd=uri-miss; stored"}, id="miss"),
        pytest.param("miss", None, False, "missing", {"cache-status": "breakwater; fwd=uri-miss"}, id="miss, not kept"),
        pytest.param("miss", None, True, "expired", {"cache-status": "breakwater; fwd=stale; stored"}, id="expired"),
        pytest.param("bypass", None, False, "", {"cache-status": "breakwater; fwd=request"}, id="bypass"),
        pytest.param(
            "none", None, False, "rate_limited", {"cache-status": "breakwater; detail=rate_limited"}, id="refused"
        ),
    ],
)
def test_cache(state: str, age_ms: int | None, stored: bool, detail: str, expected: dict[str, str]) -> None:
    """X-Cache, Cache-Status as RFC 9211 has it, and an Age only for what came from the cache."""
    found = headers.cache(state, age_ms, 3_600_000, stored=stored, detail=detail)
    assert found == {"x-cache": state.upper(), **expected}


@pytest.mark.parametrize(
    ("parts", "value"),
    [
        pytest.param([("redis", 1.26), ("backend", 812.0)], "redis;dur=1.3, backend;dur=812.0", id="two"),
        pytest.param([("redis", 1.0), ("backend", 0.0)], "redis;dur=1.0", id="what did not happen is left out"),
        pytest.param([], "", id="nothing"),
    ],
)
def test_server_timing(parts: list[tuple[str, float]], value: str) -> None:
    """Milliseconds by part."""
    assert headers.server_timing(parts) == {"server-timing": value}
