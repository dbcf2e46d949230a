"""The limits as text, and the group whose limit covers a path."""

from dataclasses import replace

import pytest

from lib.cache.freshness import CacheRules
from lib.limits.grammar import parse_limits
from lib.policy import GROUPS, defaults, group_of, policy_of


@pytest.mark.parametrize(
    ("text", "windows"),
    [
        pytest.param("10/minute,100/day", [("minute", 10), ("day", 100)], id="two"),
        pytest.param(" 10 / minute , 100/ day ", [("minute", 10), ("day", 100)], id="spaces"),
        pytest.param("5/hour", [("hour", 5)], id="an hour"),
        pytest.param("1/day,2/hour,3/minute", [("day", 1), ("hour", 2), ("minute", 3)], id="in the order given"),
        pytest.param("4294967295/day", [("day", 4_294_967_295)], id="the largest"),
        pytest.param("off", [], id="off"),
        pytest.param(" OFF ", [], id="off in capitals"),
    ],
)
def test_limits(text: str, windows: list[tuple[str, int]]) -> None:
    """What the text says."""
    assert [(each.name, each.limit) for each in parse_limits(text).windows] == windows


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",",
        "10",
        "10/",
        "/minute",
        "10/minute,",
        "10/week",
        "10/minutes",
        "10/minute;100/day",
        "-1/minute",
        "0/minute",
        "1.5/minute",
        "1e3/minute",
        "10/minute,20/minute",
        "4294967296/day",
        "99999999999/day",
        "10 per minute",
        "unlimited",
        "off,10/minute",
    ],
)
def test_no_limits(text: str) -> None:
    """Anything else is an error that says what is wrong."""
    with pytest.raises(ValueError, match=r"limit|given once"):
        parse_limits(text)


@pytest.mark.parametrize(
    ("path", "group"),
    [
        ("/api/ai/supervisor", "ai/supervisor"),
        ("/api/ai/supervisor/", "ai"),
        ("/api/ai/supervisors", "ai"),
        ("/api/ai/x/y", "ai"),
        ("/api/v1/chat/completions", "ai"),
        ("/api/v1/modelsx", "ai"),
        ("/api/v1/models", "api"),
        ("/api/v1/models/groq/x", "api"),
        ("/api/ai", "api"),
        ("/api/ai/", "api"),
        ("/api/servers", "servers"),
        ("/api/dashboard/history", "servers"),
        ("/api/servers/1/restart", "servers"),
        ("/api/serversx", "api"),
        ("/api/data", "data"),
        ("/api/cache/menu/1", "data"),
        ("/api/rankings/demo", "data"),
        ("/api/rankings", "api"),
        ("/api/health", "api"),
        ("/", "api"),
        ("", "api"),
    ],
)
def test_groups(path: str, group: str) -> None:
    """The first pattern that covers the whole path."""
    assert group_of(path).name == group


def test_a_path_with_a_line_break_has_a_group() -> None:
    """Whatever a client sends as a path has a limit."""
    assert group_of("/api/x\ny").name == "api"


def test_defaults() -> None:
    """Every default can be read, and is under its variable."""
    assert defaults().keys() == {group.variable for group in GROUPS}
    assert [str(parse_limits(text).tag) for text in defaults().values()]
    assert defaults()["RATELIMIT_AI_SUPERVISOR"] == "10/minute,100/day"


@pytest.mark.parametrize("own", [None, CacheRules(5_000, 0, 0)], ids=["as configured", "its own"])
def test_a_group_may_have_lifetimes_of_its_own(own: CacheRules | None) -> None:
    """They win over those of the environment, which hold for all others."""
    configured, layout = CacheRules(60_000, 0, 0), parse_limits("1/minute")
    assert policy_of(replace(GROUPS[0], cache=own), layout, configured).cache == (own or configured)
