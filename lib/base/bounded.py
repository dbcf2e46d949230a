"""A map that never grows beyond a bound: the least recently written entry goes first."""

from collections import OrderedDict
from collections.abc import Callable


class Bounded[K, V]:
    """At most ``size`` entries. What is kept here may be forgotten at any time without harm."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """The entry, or None."""
        return self._entries.get(key)

    def put(self, key: K, value: V) -> None:
        """Set an entry, dropping the oldest beyond the bound."""
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)

    def drop(self, key: K) -> None:
        """Remove an entry if it is there."""
        self._entries.pop(key, None)

    def drop_where(self, concerned: Callable[[K], bool]) -> None:
        """Remove every entry whose key passes a test."""
        for key in [key for key in self._entries if concerned(key)]:
            del self._entries[key]

    def take(self) -> list[tuple[K, V]]:
        """All entries, oldest first, leaving none."""
        taken = list(self._entries.items())
        self._entries.clear()
        return taken
