"""Rankings: scores by member in one sorted set of Redis, the lists of the best as resources, one's own rank exactly.

A list is invalidated only where a write changed it: the write says, in one step, which rank its member had before and
has now.
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from ..base.values import dataclass
from ..edge.problems import Problem
from ..redis import keys
from ..redis.errors import RedisDown
from ..redis.op import Op, Reply, Script, as_int, as_list, as_text, join
from .body import Body
from .invalidation import invalidate_tags
from .origins.port import OriginFailed, Values
from .resource import Query, Resource

if TYPE_CHECKING:
    from ..parts import Parts

LISTS = (10, 100)
"""How long lists may be."""
MOST_MEMBERS = 10_000
"""A board keeps so many of the best."""
MOST_SCORE = 2**53 - 1
"""Larger ones are no longer exact in Redis."""
_WAIT_S = 2.0

type Keep = Literal["best", "last"]

_WRITE = Script(
    6,
    """\
local had = redis.call('ZSCORE', KEYS[1], ARGV[1])
local before = redis.call('ZREVRANK', KEYS[1], ARGV[1])
if ARGV[3] == 'best' then redis.call('ZADD', KEYS[1], 'GT', ARGV[2], ARGV[1])
else redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1]) end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[4]))
local has = redis.call('ZSCORE', KEYS[1], ARGV[1])
local after = redis.call('ZREVRANK', KEYS[1], ARGV[1])
return {before or -1, after or -1, had == has and 0 or 1, has or ''}""",
)


@dataclass(frozen=True, slots=True)
class Standing:
    """A member's place: ``rank`` from 1, None where the member is not on the board."""

    rank: int | None
    score: int | None


@dataclass(frozen=True, slots=True)
class Written:
    """What a write did: where the member stands now, and whether every reader sees it within seconds."""

    standing: Standing
    shown: bool


@dataclass(frozen=True, slots=True, eq=False)
class Best:
    """The first members of a board, as an origin; an empty list where nobody is on it."""

    name: str = "rankings"
    timeout_s: float = 2.0
    has_check: bool = False
    """Redis has a gate of its own."""

    async def fetch(self, parts: "Parts", values: Values, left_s: float) -> Body:
        """Read the list: 1 command."""
        redis = parts.guard.limits.redis
        if redis is None:
            raise OriginFailed("unauthorized", "Redis is switched off", "ours", sent=False)
        command = ("ZREVRANGE", keys.board(values["board"]), 0, int(values["top"]) - 1, "WITHSCORES")
        try:
            found = await redis.run(Op((command,), _pairs), "read", left_s)
        except RedisDown as e:
            raise OriginFailed("timeout" if e.kind == "timeout" else "connection", e.kind, "ours") from e
        return Body.of(
            [{"rank": rank, "member": member, "score": score} for rank, (member, score) in enumerate(found, 1)]
        )

    async def check(self, parts: "Parts") -> None:
        """There is none."""


RANKING = Resource(
    "rankings",
    key="cache:ranking:{board}:{top}",
    tier="1m",
    origin=Best(),
    query={"top": Query("10", "|".join(map(str, LISTS)))},
)


async def standing(parts: "Parts", board: str, member: str) -> Standing:
    """A member's place now: 2 commands, never from the cache. Raises Problem."""
    key = keys.board(board)
    rank = Op((("ZREVRANK", key, member),), lambda replies: None if replies[0] is None else as_int(replies[0]) + 1)
    score = Op((("ZSCORE", key, member),), lambda replies: _number(as_text(replies[0])))
    return Standing(*await _run(parts, join(rank, score)))


async def write(parts: "Parts", board: str, member: str, score: int, keep: Keep) -> Written:
    """Give a member a score, or its better one: 1 command, billed as 7; 1 more for each list that changed.

    Lists are invalidated after the score stands: a reader who has seen the old epoch stores what nobody reads any more.
    """
    command = ("EVAL", _WRITE, 1, keys.board(board), member, score, keep, MOST_MEMBERS)
    before, after, changed, text = await _run(parts, Op((command,), _moved))
    concerned = [rank for rank in (before, after) if rank >= 0]
    lists = [top for top in LISTS if changed and concerned and min(concerned) < top]
    shown = True
    if lists:
        try:
            await invalidate_tags(parts, [RANKING.filled({"board": board, "top": str(top)}) for top in lists])
        except Problem:
            # The score stands: to say that the write failed would have it repeated.
            shown = False
    return Written(Standing(after + 1 if after >= 0 else None, _number(text)), shown)


async def _run[T](parts: "Parts", op: Op[T]) -> T:
    redis = parts.guard.limits.redis
    if redis is None:
        raise Problem("store_unavailable", "Redis is switched off, and rankings are kept there.")
    try:
        return await redis.run(op, "read", _WAIT_S)
    except RedisDown as e:
        raise Problem("store_unavailable", f"Redis gave no usable reply ({e.kind}). Try again.", 5) from e


def _pairs(replies: Sequence[Reply]) -> list[tuple[str, int | None]]:
    """Members with their scores, in order."""
    flat = replies[0] if isinstance(replies[0], list) else as_list(replies[0], 0)
    texts = [as_text(each) or "" for each in flat]
    return [(member, _number(score)) for member, score in zip(texts[::2], texts[1::2], strict=True)]


def _moved(replies: Sequence[Reply]) -> tuple[int, int, int, str | None]:
    before, after, changed, text = as_list(replies[0], 4)
    return as_int(before), as_int(after), as_int(changed), as_text(text)


def _number(text: str | None) -> int | None:
    """A score, which Redis writes as 5, 5.5 or 1e+20."""
    return int(json.loads(text, parse_float=float)) if text else None
