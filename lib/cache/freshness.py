"""When a stored value may be served, and the directives of the request's ``Cache-Control``."""

import re
from typing import Literal

from ..base.values import dataclass

MAX_STORED_CHARS = 262_144
"""Longer values are served but not kept: a few of them would fill a free tier's storage and bandwidth."""


@dataclass(frozen=True, slots=True)
class CacheRules:
    """How long a value is fresh, and why it is stored for longer.

    For ``refresh_ms`` past its time it is served at once while one instance refreshes it (stale-while-revalidate); for
    ``stale_ms`` it is served when the source cannot be called (stale-if-error; both RFC 5861).
    """

    fresh_ms: int = 3_600_000
    refresh_ms: int = 600_000
    stale_ms: int = 86_400_000
    early_ms: int = 0
    """The last part of its fresh time, in which a value is served and computed anew already."""
    memory_ms: int = 0
    """For how long an instance serves what it has read from Redis without looking there again; 0: it always looks."""
    alone_ms: int = 0
    """For how long an instance serves what it has computed while Redis gave no reply; 0: to those who waited for it."""

    most_chars: int = MAX_STORED_CHARS
    """A longer value is served, but not kept."""

    @property
    def ends_ms(self) -> int:
        """The age from which a value is never served."""
        return self.fresh_ms + max(self.refresh_ms, self.stale_ms)

    @property
    def settled_ms(self) -> int:
        """The age up to which there is nothing to do but to serve a value."""
        return self.fresh_ms - self.early_ms


def shortened(rules: CacheRules | None, fresh_ms: int | None) -> CacheRules | None:
    """The rules of a value that says itself for how long it is fresh, which is gone after that."""
    if rules is None or fresh_ms is None:
        return rules
    least_ms, memory_ms, alone_ms = min(rules.fresh_ms, fresh_ms), rules.memory_ms, rules.alone_ms
    return CacheRules(least_ms, 0, 0, memory_ms=memory_ms, alone_ms=alone_ms, most_chars=rules.most_chars)


@dataclass(frozen=True, slots=True)
class Directives:
    """The directives of the request's ``Cache-Control`` (RFC 9111, section 5.2.1)."""

    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    max_age_s: int | None = None


def directives(header: str) -> Directives:
    """Read a ``Cache-Control`` header; directives it does not know, or cannot read, are ignored as RFC 9111 says."""
    found: dict[str, str] = {}
    for part in header.lower().split(","):
        name, _, value = part.strip().partition("=")
        found.setdefault(name.strip(), value.strip().strip('"'))
    age = found.get("max-age", "")
    return Directives(
        no_cache="no-cache" in found,
        no_store="no-store" in found,
        only_if_cached="only-if-cached" in found,
        max_age_s=int(age) if re.fullmatch(r"\d{1,10}", age) else None,
    )


type Freshness = Literal["fresh", "early", "aging", "stale", "unwanted"]


def freshness(stored_at_ms: int, now_ms: int, rules: CacheRules, directives: Directives) -> Freshness:
    """Whether an entry may be served as it is, while it is refreshed, only if nothing can compute another, or never.

    ``early`` is fresh, and refreshed all the same.
    """
    if directives.no_cache or directives.no_store:
        return "unwanted"
    age_ms = max(0, now_ms - stored_at_ms)
    if age_ms >= rules.ends_ms or (directives.max_age_s is not None and age_ms > directives.max_age_s * 1000):
        return "unwanted"
    if age_ms < rules.fresh_ms:
        return "fresh" if age_ms < rules.fresh_ms - rules.early_ms else "early"
    return "aging" if age_ms < rules.fresh_ms + rules.refresh_ms else "stale"
