"""Write-through: after a write the new value is in the cache, under a new epoch, and no older one is served.

Of two writers at once neither knows whose write was committed last. Each reads the epochs before it commits and
replaces them afterwards, which tells what they were: where somebody else has replaced one meanwhile, the value is not
stored, and the next reader asks the origin. A value that is stored all the same, and late, names an epoch that is over.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from ..afterwards import Afterwards
from ..cache import entry as entries
from ..cache import epochs
from ..cache.entry import Cached
from ..cache.freshness import shortened
from ..edge.problems import Problem
from ..redis.errors import RedisDown
from ..redis.op import Op, as_list, as_text
from .body import Body, BodyCodec
from .invalidation import WAIT_S, invalidate_tags, replacing
from .resource import ABSENT_MS, Resource

if TYPE_CHECKING:
    from ..parts import Parts

type Words = Sequence[str | None]


async def write[T](
    parts: "Parts", resource: Resource, values: Mapping[str, str], commit: Callable[[], Awaitable[T]]
) -> T:
    """Carry out a write, then let its value be served; what ``commit`` returned.

    ``commit`` has to be through with the write when it returns, and returns what the origin would give now. The cache
    costs 1 command before the write; after it 1 for the value's own epoch, 1 for each tag and 1 for the value. A write
    that raises may have been committed: its value is invalidated, and the error is raised. Raises Problem
    (``store_unavailable``) where the write stands and older values may still be served, TypeError and ValueError where
    what ``commit`` returned is no JSON, and ValueError for a resource of which each caller has its own.
    """
    if resource.scope != "shared":
        raise ValueError(f"{resource.name}: each caller has a value of its own; which one is written?")
    key = resource.filled(values)
    names, own = epochs.of_tags(resource.route, resource.tags_of(values)), (key, *resource.tags)
    before = await _words(parts, names)
    try:
        value = await commit()
        body = Body.of(value)
    except BaseException:
        # Where Redis gives no reply either, whoever writes has to hear of the write all the same.
        with suppress(Problem):
            await invalidate_tags(parts, own)
        raise
    replaced = await replacing(parts, [epochs.tag_key(tag) for tag in own])
    read = dict(zip(names, before, strict=True))
    alone = all(read[name] is not None and read[name] == was for name, (was, _) in replaced.items())
    if alone and None not in before:
        words = [replaced[name][1] if name in replaced else word for name, word in read.items()]
        await _store(parts, resource, key, names, words, body)
    return value


async def _words(parts: "Parts", names: Sequence[str]) -> Words:
    """The epochs' words; none where Redis does not tell."""
    redis, unknown = parts.guard.limits.redis, (None,) * len(names)
    if redis is None:
        return unknown
    read = Op((("MGET", *names),), lambda replies: tuple(map(as_text, as_list(replies[0], len(names)))))
    try:
        return await redis.run(read, "read", WAIT_S)
    except RedisDown:
        return unknown


async def _store(parts: "Parts", resource: Resource, key: str, names: Sequence[str], words: Words, body: Body) -> None:
    """Keep the value. A failure loses it, and the next reader asks the origin."""
    if len(body.content) > resource.max_bytes:
        return
    text = BodyCodec().dump(body)
    fresh_ms = None if body.kind == "value" else ABSENT_MS
    rules = resource.rules(key)
    lasts_ms = entries.lasts_ms(shortened(rules, fresh_ms) or rules, parts.guard.computing.leading.rules.lease_ms)
    cached: Cached[Body] = Cached(None, tuple(words), None, "", shared=True)
    after = Afterwards()
    now_ms = parts.clock.now_ms()
    entries.store(key, names, cached, text, now_ms, "", lasts_ms, after, fresh_ms=fresh_ms, sent=lambda: None)
    await parts.guard.outbox.try_send(after, WAIT_S)
