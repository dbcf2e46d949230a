"""The first tier: entries that this instance has read from Redis within the last seconds.

Whatever is kept here was valid under its epochs when it was read, so that an invalidation shows after
:data:`MOST_MS` at the latest, and at once in the instance that carried it out. A value that was computed here is not
kept: while it was computed, another instance may have invalidated it. It comes in by the next look at Redis, which
compares its epochs. The one exception is a time without Redis, when there is nothing to compare.
"""

from collections import OrderedDict
from dataclasses import field
from typing import Any

from ..base.values import dataclass
from .entry import Cached

MOST_MS = 5_000
"""How long an entry may be served without a look at Redis."""
MOST_ENTRIES = 500
MOST_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Kept:
    cached: Cached[Any]
    epochs: tuple[str, ...]
    until_s: float


@dataclass(slots=True, eq=False)
class Memory:
    """At most :data:`MOST_ENTRIES` entries and :data:`MOST_BYTES`; those that came first go first."""

    size: int = 0
    """The bytes that the entries take, at most."""
    drops: int = 0
    """How often something was invalidated here: what was read before the last time is not kept."""
    _kept: OrderedDict[str, _Kept] = field(default_factory=OrderedDict)

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: str, now_s: float) -> Cached[Any] | None:
        """An entry that may still be served; ``now_s`` is on the monotonic clock."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        if now_s >= kept.until_s:
            self._remove(key)
            return None
        return kept.cached

    def put(self, key: str, epochs: tuple[str, ...], cached: Cached[Any], until_s: float, drops: int) -> None:
        """Keep an entry until then. ``drops``: what :attr:`drops` was before it was read."""
        if drops != self.drops or cached.size > MOST_BYTES:
            return
        self._remove(key)
        self._kept[key] = _Kept(cached, epochs, until_s)
        self.size += cached.size
        while len(self._kept) > MOST_ENTRIES or self.size > MOST_BYTES:
            self._remove(next(iter(self._kept)))

    def drop(self, epochs: frozenset[str]) -> None:
        """Forget all entries that belong to one of these epochs, and keep nothing that is being read now."""
        self.drops += 1
        for key in [key for key, kept in self._kept.items() if epochs.intersection(kept.epochs)]:
            self._remove(key)

    def _remove(self, key: str) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self.size -= kept.cached.size
