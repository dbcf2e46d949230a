"""Limits and lifetimes, by route. Change a default here; the environment overrides a limit (``RATELIMIT_*``)."""

import re
from collections.abc import Mapping
from dataclasses import field
from functools import lru_cache
from typing import Literal

from .base.values import dataclass
from .cache.freshness import CacheRules
from .limits.grammar import parse_limits
from .limits.window import DAY_MS, Layout

type Scope = Literal["session", "caller", "shared"]
"""Who is served an answer again: the session that it was computed for, all sessions of its caller, or everybody."""


@dataclass(frozen=True, slots=True)
class Group:
    """Routes that share a limit, and the environment variable that overrides it."""

    name: str
    pattern: str
    variable: str
    default: str
    cache: CacheRules | None = None
    """How long values of these routes are served; without it, as the ``CACHE_*`` variables say."""


# The first match decides.
GROUPS = (
    Group("ai/supervisor", r"/api/ai/supervisor", "RATELIMIT_AI_SUPERVISOR", "10/minute,100/day"),
    # Counted with the others that ask a model, and kept for a day.
    Group(
        "ai",
        r"/api/llm/.+",
        "RATELIMIT_AI",
        "10/minute,100/day",
        CacheRules(fresh_ms=DAY_MS, refresh_ms=3_600_000, stale_ms=DAY_MS),
    ),
    # A list of models costs nobody's money: it is no question.
    Group("ai", r"/api/(ai/.+|v1/(?!models(/|$)).+)", "RATELIMIT_AI", "10/minute,100/day"),
    Group("servers", r"/api/(dashboard(/history)?|servers(/.+)?)", "RATELIMIT_SERVERS", "30/minute"),
    Group(
        "data",
        r"/api/(data|connections|schemas|tables|columns|dashboard/metrics|(cache|rankings|monitoring|oracle)/.+)",
        "RATELIMIT_DATA",
        "100/minute",
    ),
    Group("api", r".*", "RATELIMIT_API", "100/minute"),
)


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything a decision needs to know that is configuration."""

    group: str
    layout: Layout
    cache: CacheRules = field(default_factory=CacheRules)


SIGN_INS = Policy("sign-in", parse_limits("20/minute,100/day"))
"""How often an address may send a wrong ``ADMIN_TOKEN`` or ``CRON_SECRET``; a right one is never counted."""


def group_of(path: str) -> Group:
    """The group whose limit covers a path."""
    return next(group for group in GROUPS if re.fullmatch(group.pattern, path, re.DOTALL))


def policy_of(group: Group, layout: Layout, cache: CacheRules) -> Policy:
    """The policy of a group with the limit and the lifetimes that are configured."""
    return Policy(group.name, layout, group.cache or cache)


def group_named(name: str) -> str:
    """The group of a route with a limit of its own: apart from the groups of the table, whatever its name is."""
    return f"route:{name}"


@lru_cache(maxsize=256)
def variable_of(name: str) -> str:
    """The environment variable that overrides the limit of a route with a limit of its own: ``RATELIMIT_MY_ROUTE``."""
    return "RATELIMIT_" + re.sub(r"[^A-Z0-9]+", "_", name.upper()).strip("_")


def defaults() -> Mapping[str, str]:
    """The default of every limit, by the variable that overrides it."""
    return {group.variable: group.default for group in GROUPS}
