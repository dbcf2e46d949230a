"""Capped lists in Redis, newest first: to push costs one command, and two more in every ``cap`` pushes.

A list is trimmed once it has twice as many items as are kept. Its TTL is set with its first pushes and with each trim.
"""

from collections.abc import Sequence

from ..base.values import dataclass
from ..redis.op import Op, Reply, as_text, ignored

FIRST_PUSHES = 3
"""So many first pushes each set the TTL: two instances may be killed before they do, or get no reply."""


@dataclass(frozen=True, slots=True)
class Capped:
    """One list: its key, how many items are kept at least, and its TTL in seconds."""

    key: str
    cap: int
    lasts_s: int

    def push(self, item: str) -> Op[Op[None] | None]:
        """Add an item: 1 command. Yields what the list needs next, if anything."""

        def read(replies: Sequence[Reply]) -> Op[None] | None:
            length, expire = replies[0], ("EXPIRE", self.key, self.lasts_s)
            if not isinstance(length, int):
                # The key holds something else. What goes along in the same round trip must not fail because of it.
                return None
            if length >= 2 * self.cap:
                return Op((("LTRIM", self.key, 0, self.cap - 1), expire), ignored)
            return Op((expire,), ignored) if length <= FIRST_PUSHES else None

        return Op((("LPUSH", self.key, item),), read)

    def read(self) -> Op[list[str]]:
        """The items that are kept, newest first: 1 command."""

        def answer(replies: Sequence[Reply]) -> list[str]:
            items = replies[0] if isinstance(replies[0], list) else [replies[0]]
            return [text for each in items if (text := as_text(each)) is not None]

        return Op((("LRANGE", self.key, 0, self.cap - 1),), answer)
