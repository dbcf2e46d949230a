"""What the cache holds of a value: a header, a line break, and the value as its codec writes it.

The header says when the value was stored, under which epochs, and by the owner of which lock. The value itself is not
parsed here: a large one is served as it lies in Redis.
"""

import json
from collections.abc import Callable, Sequence
from typing import Protocol

from ..afterwards import Afterwards
from ..base.values import dataclass
from ..lookup import Lookup, Texts
from ..redis import keys
from ..redis.op import Command, Op, Script, ignored
from . import epochs as epoch_ops
from .freshness import CacheRules

_VERSION = 3


class Codec[V](Protocol):
    """How a kind of value is written."""

    def dump(self, value: V) -> str:
        """The value as text; empty where it is not to be kept."""

    def load(self, text: str) -> V | None:
        """The value that a text stores; None where it stores none."""


@dataclass(frozen=True, slots=True)
class Entry[V]:
    """A stored value."""

    value: V
    stored_at_ms: int
    fresh_ms: int | None = None
    """For how long it is fresh, and then gone, where it says so itself; None: as long as all values of its route."""


@dataclass(frozen=True, slots=True)
class Cached[V]:
    """What Redis holds of the value that a request wants."""

    entry: Entry[V] | None
    epochs: tuple[str | None, ...]
    lock: str | None
    stored_by: str
    """The owner of the lock under which the entry was stored, also where the entry is of before an invalidation."""
    shared: bool
    """Whether Redis answered."""
    size: int = 0
    """The bytes of the entry's text, at most."""

    @property
    def generation(self) -> str:
        """The epochs as one word."""
        return ".".join(each or "-" for each in self.epochs)

    @property
    def computing(self) -> bool:
        """Whether another instance computes what is wanted now."""
        lock = self.lock
        return lock is not None and lock != self.stored_by and lock.startswith(f"{self.generation}|")


def lookup[V](key: str, epochs: tuple[str, ...], codec: Codec[V]) -> Lookup[Cached[V]]:
    """Entry, lock and epochs."""

    def read(texts: Texts) -> Cached[V]:
        text, lock, *words = texts
        present = tuple(words)
        if text is None:
            return Cached(None, present, lock, "", shared=True)
        entry, stored_by = _parse(text, present, codec)
        return Cached(entry, present, lock, stored_by, shared=True, size=size_of(text))

    unknown = (None,) * len(epochs)
    return Lookup((key, keys.lock(key), *epochs), read, lambda: Cached(None, unknown, None, "", shared=False))


def size_of(text: str) -> int:
    """The bytes of a text in UTF-8 at most, without encoding it."""
    return len(text) if text.isascii() else 4 * len(text)


def _parse[V](text: str, present: tuple[str | None, ...], codec: Codec[V]) -> tuple[Entry[V] | None, str]:
    """The entry, if it is one and of the present epochs, and the owner who stored it."""
    header, _, body = text.partition("\n")
    try:
        values = json.loads(header)
    except (ValueError, RecursionError):
        return None, ""
    fresh_ms: int | None = None
    match values:
        case [int(version), int(at_ms), str(generation), str(stored_by)] if version == _VERSION:
            pass
        case [int(version), int(at_ms), str(generation), str(stored_by), int(fresh_ms)] if version == _VERSION:
            pass
        case _:
            return None, ""
    if None in present or generation != ".".join(map(str, present)):
        return None, stored_by
    value = codec.load(body)
    return (None if value is None else Entry(value, at_ms, fresh_ms)), stored_by


# Entries are told apart by the time in their headers.
_SET_UNLESS_NEWER = Script(
    2,
    """\
local held = redis.call('GET', KEYS[1])
local at = held and tonumber(string.match(held, '^%[%d+,(%d+),'))
if at and at > tonumber(ARGV[2]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
return 1""",
)


def store[V](
    key: str,
    epoch_keys: Sequence[str],
    cached: Cached[V],
    text: str,
    now_ms: int,
    owner: str,
    lasts_ms: int,
    after: Afterwards,
    *,
    fresh_ms: int | None = None,
    late: bool = False,
    sent: Callable[[], None],
) -> None:
    """Keep a value: 1 command, and 1 for each epoch that is missing and was not created with a lock.

    ``fresh_ms``: see :class:`Entry`. ``late``: a newer value that is there meanwhile stays; billed as 3. ``sent`` is
    called when Redis has the value, or will not have it.
    """
    words = [word or epoch_ops.new_word() for word in cached.epochs]
    for name, before, word in zip(epoch_keys, cached.epochs, words, strict=True):
        if before is None:
            after.add(epoch_ops.create(name, word))
    about = [_VERSION, now_ms, ".".join(words), owner, *(() if fresh_ms is None else (fresh_ms,))]
    header = json.dumps(about, separators=(",", ":"))
    entry = f"{header}\n{text}"
    command: Command = ("SET", key, entry, "PX", lasts_ms)
    if late:
        command = ("EVAL", _SET_UNLESS_NEWER, 1, key, entry, now_ms, lasts_ms)
    after.add(Op((command,), ignored), then=lambda _: sent(), lost=sent)


def drop(key: str, after: Afterwards) -> None:
    """Keep a value no longer: 1 command."""
    after.add(Op((("DEL", key),), ignored))


def lasts_ms(rules: CacheRules, lease_ms: int) -> int:
    """How long an entry is kept: while it may be served, and for a lease at least, as it ends its lock."""
    return max(rules.ends_ms, lease_ms)
