"""What a request reads from Redis, as a value: string keys, and how to read what they hold.

Any number of participants (the cache entry, its lock, epochs, circuits, monthly use, marks of the limiter) each provide
a :class:`Lookup`. Merged they are one ``MGET``, one billed command, and each still reads its own keys only.
"""

from collections.abc import Callable, Sequence

from .base.values import dataclass
from .redis.op import Op, Reply, as_list, as_text

type Texts = Sequence[str | None]
"""The values of some keys, in their order; None for a key that is missing."""


@dataclass(frozen=True, slots=True)
class Lookup[T]:
    """Keys, how to read their values, and what to go on with when Redis gave no reply."""

    keys: tuple[str, ...]
    read: Callable[[Texts], T]
    unread: Callable[[], T]

    def op(self) -> Op[T]:
        """One ``MGET``; no command where there is no key."""
        count, read = len(self.keys), self.read
        if not count:
            return Op((), lambda replies: read(()))

        def answer(replies: Sequence[Reply]) -> T:
            return read([as_text(each) for each in as_list(replies[0], count)])

        return Op((("MGET", *self.keys),), answer)


def both[A, B](a: Lookup[A], b: Lookup[B], /) -> Lookup[tuple[A, B]]:
    """Two lookups in one."""
    cut = len(a.keys)
    return Lookup(
        a.keys + b.keys,
        lambda texts: (a.read(texts[:cut]), b.read(texts[cut:])),
        lambda: (a.unread(), b.unread()),
    )


def every[T](lookups: Sequence[Lookup[T]]) -> Lookup[list[T]]:
    """Any number of lookups of one kind in one."""

    def read(texts: Texts) -> list[T]:
        found, at = list[T](), 0
        for each in lookups:
            found.append(each.read(texts[at : at + len(each.keys)]))
            at += len(each.keys)
        return found

    wanted = tuple(key for each in lookups for key in each.keys)
    return Lookup(wanted, read, lambda: [each.unread() for each in lookups])


def constant[T](value: T) -> Lookup[T]:
    """Nothing to read: this value, whatever Redis says."""
    return Lookup((), lambda texts: value, lambda: value)
