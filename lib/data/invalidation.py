"""Invalidating values of the cache: here at once, in every other instance within seconds."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..cache import epochs
from ..cache.memory import MOST_MS
from ..edge.problems import Problem
from ..redis.errors import RedisDown
from ..redis.op import gather
from .reading import EDGE_MOST_S

if TYPE_CHECKING:
    from ..parts import Parts

WITHIN_S = MOST_MS // 1000
"""Until then at most another instance may serve what it has read before."""
EDGE_WITHIN_S = EDGE_MOST_S
"""Until then at most a cache on the way may, where a resource is everybody's."""
WAIT_S = 2.0

type Replaced = dict[str, tuple[str | None, str]]
"""By key of an epoch: its word before, and now."""


async def invalidate(parts: "Parts", epoch_keys: Iterable[str]) -> None:
    """Let no value that belongs to one of these epochs be served again: 1 command each, in one round trip.

    Without Redis there is only this instance's memory. Raises Problem (``store_unavailable``) where Redis is used and
    cannot be reached: other instances, and this one after a while, may then still serve older values.
    """
    await replacing(parts, epoch_keys)


async def replacing(parts: "Parts", epoch_keys: Iterable[str]) -> Replaced:
    """The same; what the epochs were, and are. Nothing without Redis."""
    found = dict.fromkeys(epoch_keys)
    redis = parts.guard.limits.redis
    # Before and after: what is read meanwhile may still be the older value.
    parts.guard.recent.memory.drop(frozenset(found))
    if redis is None:
        return {}
    try:
        replaced = await redis.run(gather([epochs.replace(key) for key in found]), "admin", WAIT_S)
    except RedisDown as e:
        raise Problem("store_unavailable", f"Redis gave no usable reply ({e.kind}). Try again.", 5) from e
    finally:
        parts.guard.recent.memory.drop(frozenset(found))
    return dict(zip(found, replaced, strict=True))


async def invalidate_tags(parts: "Parts", tags: Iterable[str]) -> None:
    """The same for names: a resource's key, a beginning of it, or a tag."""
    await invalidate(parts, map(epochs.tag_key, tags))
