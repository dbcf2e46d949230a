"""What a request's Cache-Control wants, and when a stored value may be served."""

import pytest

from lib.cache.freshness import CacheRules, Directives, Freshness, directives, freshness

NOW = 1_763_553_600_000


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        pytest.param("", Directives(), id="nothing"),
        pytest.param("no-cache", Directives(no_cache=True), id="no-cache"),
        pytest.param("No-Store", Directives(no_store=True), id="in capitals"),
        pytest.param("only-if-cached", Directives(only_if_cached=True), id="only-if-cached"),
        pytest.param("max-age=0", Directives(max_age_s=0), id="max-age 0"),
        pytest.param('max-age="60"', Directives(max_age_s=60), id="quoted"),
        pytest.param(" max-age = 60 ,no-cache", Directives(no_cache=True, max_age_s=60), id="spaces"),
        pytest.param("max-age=60, max-age=5", Directives(max_age_s=60), id="twice: the first"),
        pytest.param("max-age", Directives(), id="without a value"),
        pytest.param("max-age=-1", Directives(), id="negative"),
        pytest.param("max-age=1.5", Directives(), id="a fraction"),
        pytest.param("max-age=x", Directives(), id="no number"),
        pytest.param("max-age=99999999999", Directives(), id="too large"),
        pytest.param("max-stale=5, min-fresh=1, no-transform, x=y", Directives(), id="unknown ones"),
        pytest.param(",,=,", Directives(), id="commas"),
        pytest.param("no-cache=x", Directives(no_cache=True), id="a value where there is none"),
        pytest.param("xno-cache", Directives(), id="a longer name"),
    ],
)
def test_directives(header: str, expected: Directives) -> None:
    """What is known and readable counts, the rest is ignored (RFC 9111, 5.2)."""
    assert directives(header) == expected


RULES = CacheRules(fresh_ms=3_600_000, refresh_ms=600_000, stale_ms=86_400_000)


@pytest.mark.parametrize(
    ("age_ms", "wanted", "expected"),
    [
        pytest.param(0, Directives(), "fresh", id="new"),
        pytest.param(3_599_999, Directives(), "fresh", id="the last fresh millisecond"),
        pytest.param(3_600_000, Directives(), "aging", id="an hour"),
        pytest.param(4_199_999, Directives(), "aging", id="the last millisecond of its refreshing"),
        pytest.param(4_200_000, Directives(), "stale", id="an hour and ten minutes"),
        pytest.param(86_400_000, Directives(), "stale", id="a day"),
        pytest.param(89_999_999, Directives(), "stale", id="the last millisecond of all"),
        pytest.param(90_000_000, Directives(), "unwanted", id="past its end"),
        pytest.param(-5_000, Directives(), "fresh", id="stored by a faster clock"),
        pytest.param(0, Directives(no_cache=True), "unwanted", id="no-cache"),
        pytest.param(0, Directives(no_store=True), "unwanted", id="no-store"),
        pytest.param(0, Directives(only_if_cached=True), "fresh", id="only-if-cached"),
        pytest.param(60_000, Directives(max_age_s=60), "fresh", id="as old as may be"),
        pytest.param(60_001, Directives(max_age_s=60), "unwanted", id="older"),
        pytest.param(1, Directives(max_age_s=0), "unwanted", id="max-age 0"),
        pytest.param(-1, Directives(max_age_s=0), "fresh", id="max-age 0, a faster clock"),
        pytest.param(4_000_000, Directives(max_age_s=9_999), "aging", id="max-age does not freshen"),
        pytest.param(5_000_000, Directives(max_age_s=9_999), "stale", id="nor does it refresh"),
        pytest.param(4_000_000, Directives(no_cache=True), "unwanted", id="aging and no-cache"),
        pytest.param(5_000_000, Directives(no_cache=True), "unwanted", id="stale and no-cache"),
        pytest.param(4_000_000, Directives(max_age_s=60), "unwanted", id="aging and older"),
    ],
)
def test_freshness(age_ms: int, wanted: Directives, expected: Freshness) -> None:
    """Whether an entry of an age may be served to a request."""
    assert freshness(NOW - age_ms, NOW, RULES, wanted) == expected
