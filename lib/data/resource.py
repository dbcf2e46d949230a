"""A resource: something that many callers read, far more often than it changes. Declared in a few lines:

    MENU = Resource("menus", key="cache:menu:{id}", tier="30m", origin=Rpc("menu"))

Its key is a template. Every part of a filled key is percent-encoded, so that no value that a client sends can name
another key. A value belongs to all beginnings of its key: ``cache:menu`` invalidates all menus, ``cache:menu:7`` one.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Literal, get_args
from urllib.parse import quote

from ..base.values import dataclass
from ..cache.freshness import MAX_STORED_CHARS, CacheRules
from ..redis import keys
from .body import HEAD_CHARS
from .options import Scope, names
from .origins.port import Choice, Origin

type Tier = Literal["15s", "30s", "1m", "5m", "30m", "1h", "24h"]
type Role = Literal["viewer", "admin"]

FRESH_S: Mapping[str, int] = {"15s": 15, "30s": 30, "1m": 60, "5m": 300, "30m": 1_800, "1h": 3_600, "24h": 86_400}
NAMESPACES = ("cache", "tms")
"""What a resource's key may begin with: nothing else in Redis does."""
ABSENT_MS = 30_000
"""For how long it is remembered that something is not there, or that a list is empty; at most its tier's time."""
MOST_CHARS = 200
"""The longest value of a parameter."""
_LEAST_STALE_S = 600
_MEMORY_MS, _ALONE_MS = 5_000, 1_000
_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
_PARAMETER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Query:
    """A parameter of the query: its value where none is sent, and what a value has to look like."""

    default: str
    """Empty: it has to be sent."""
    pattern: str = r"[\w.-]{1,64}"


@dataclass(frozen=True, slots=True, eq=False)
class Resource:
    """What can be read, from where, and for how long it is kept."""

    name: str
    """What the ledger counts it as, and its route in the cache: lower-case letters, digits and hyphens."""
    key: str
    """``cache:menu:{id}``: its parameters are those of the path and of ``query``, all of them."""
    tier: Tier
    """For how long a value is fresh."""
    origin: Origin | Choice
    query: Mapping[str, Query] = field(default_factory=dict)
    tags: Sequence[str] = ()
    """Further names by which values are invalidated."""
    scope: Scope = "shared"
    roles: Sequence[Role] = ()
    """Who may read it; nobody is named: everybody may."""
    cost: int = 1
    """How many calls a read counts as."""
    max_bytes: int = MAX_STORED_CHARS
    """A larger body is served, but not kept."""
    stale_s: int | None = None
    """How much longer a value is served where the origin cannot be read: ten times its fresh time unless it says so."""
    strict: bool = False
    """Every read looks whether the value was invalidated, at the price of a command."""

    def __post_init__(self) -> None:
        """Raises ValueError for what cannot be."""
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"name: {self.name!r}; use lower-case letters, digits and hyphens")
        if self.tier not in FRESH_S:
            raise ValueError(f"tier: one of {', '.join(FRESH_S)}")
        for field_name in ("tags", "roles"):
            object.__setattr__(self, field_name, names(getattr(self, field_name)))
        if unknown := sorted(set(self.roles) - set(get_args(Role.__value__))):
            raise ValueError(f"roles: {', '.join(unknown)}: there are viewer and admin")
        _check_key(self.key)
        if missing := sorted(set(self.query) - set(self.parameters)):
            raise ValueError(f"key: it has to depend on {', '.join(missing)}")
        if self.scope not in get_args(Scope.__value__):
            raise ValueError("scope: 'shared', or 'caller' for values that belong to one caller")
        if self.cost < 0 or not 0 < self.max_bytes <= keys.MOST_BYTES or (self.stale_s or 0) < 0:
            raise ValueError(f"cost and stale_s are 0 or more, max_bytes is 1 to {keys.MOST_BYTES}")

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of all parameters, in the order of the key."""
        return tuple(_PARAMETER.findall(self.key))

    @property
    def route(self) -> str:
        """Its name as a route of the cache."""
        return f"data/{self.name}"

    def filled(self, values: Mapping[str, str], caller: str = "") -> str:
        """The key of one value."""
        return keys.resource(self.key, values, caller)

    def tags_of(self, values: Mapping[str, str]) -> tuple[str, ...]:
        """The names by which one value is invalidated: all beginnings of its key, and its own tags."""
        parts = self.filled(values).split(":")
        return (*(":".join(parts[:end]) for end in range(2, len(parts) + 1)), *self.tags)

    def rules(self, key: str) -> CacheRules:
        """How long a value is kept. Keys differ by up to a tenth, so that they do not all end at once; instances agree.

        In the last tenth of its time whoever takes the lock computes it anew while it is served.
        """
        fresh_ms = FRESH_S[self.tier] * 1000
        spread = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4]) / 2**32
        jittered = round(fresh_ms * (0.9 + spread / 5))
        stale_s = max(_LEAST_STALE_S, FRESH_S[self.tier] * 10) if self.stale_s is None else self.stale_s
        return CacheRules(
            fresh_ms=jittered,
            refresh_ms=min(fresh_ms, stale_s * 1000),
            stale_ms=min(stale_s, FRESH_S["24h"]) * 1000,
            early_ms=jittered // 10,
            memory_ms=0 if self.strict else _MEMORY_MS,
            alone_ms=_ALONE_MS,
            most_chars=self.max_bytes + HEAD_CHARS,
        )


def _check_key(key: str) -> None:
    """Raises ValueError for what cannot be a key."""
    first, *rest = key.split(":")
    if first not in NAMESPACES or not rest or any(_PARAMETER.sub("x", part) == "" for part in rest):
        raise ValueError(f"key: {key!r}; write for example 'cache:menu:{{id}}'")
    if any("{" in _PARAMETER.sub("", part) or (_PARAMETER.search(part) and not _is_whole(part)) for part in rest):
        raise ValueError(f"key: a parameter is a whole part of {key!r}, as in 'cache:menu:{{id}}'")
    if any(quote(part, safe="") != part for part in rest if not _is_whole(part)):
        # An invalidation by name encodes what it is sent, as a parameter is: it would miss such a part.
        raise ValueError(f"key: beside parameters {key!r} may have ASCII letters, digits and -._~ alone")


def _is_whole(part: str) -> bool:
    return _PARAMETER.fullmatch(part) is not None


def may_meet(one: str, other: str) -> bool:
    """Whether some values fill both templates to the same key."""
    ours, theirs = one.split(":"), other.split(":")
    return len(ours) == len(theirs) and all(
        a == b or _is_whole(a) or _is_whole(b) for a, b in zip(ours, theirs, strict=True)
    )
