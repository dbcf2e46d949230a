"""The limits, by route. Change a default here; a deployment overrides it by environment (``RATELIMIT_*``)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from .cache.freshness import CacheRules
from .limits.window import Layout, window


@dataclass(frozen=True, slots=True)
class Group:
    """Routes that share a limit, and the environment variable that overrides it."""

    name: str
    pattern: str
    variable: str
    default: str


# The first match decides.
GROUPS = (
    Group("ai/supervisor", r"/api/ai/supervisor", "RATELIMIT_AI_SUPERVISOR", "10/minute,100/day"),
    Group("ai", r"/api/(ai|v1)/.+", "RATELIMIT_AI", "10/minute,100/day"),
    Group("servers", r"/api/servers(/.+)?", "RATELIMIT_SERVERS", "30/minute"),
    Group("api", r".*", "RATELIMIT_API", "100/minute"),
)

OFF = "off"


def parse_limits(text: str) -> Layout:
    """Read ``10/minute,100/day``, or ``off`` for no limit. Raises ValueError with what to write instead."""
    if text.strip().lower() == OFF:
        return Layout(())
    windows = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,10})\s*/\s*(minute|hour|day)\s*", part)
        if not found:
            raise ValueError("not a limit: write for example '10/minute,100/day', or 'off'")
        windows.append(window(found[2], int(found[1])))
    if len({each.name for each in windows}) != len(windows):
        raise ValueError("each of minute, hour and day may be given once")
    return Layout(tuple(windows))


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything a decision needs to know that is configuration."""

    group: str
    layout: Layout
    cache: CacheRules = field(default_factory=CacheRules)


def group_of(path: str) -> Group:
    """The group whose limit covers a path."""
    return next(group for group in GROUPS if re.fullmatch(group.pattern, path, re.DOTALL))


def defaults() -> Mapping[str, str]:
    """The default of every limit, by the variable that overrides it."""
    return {group.variable: group.default for group in GROUPS}
