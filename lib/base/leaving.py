"""A client that leaves ends the long waits of its request: for a source, and for another request's value.

Everything between is short and carried to its end: what it takes from Redis is known and given back.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from .values import dataclass


def never() -> bool:
    """Nobody else wants it."""
    return False


class WhileHere(Protocol):
    """Awaits something for as long as the client is there, or ``wanted`` says that somebody else wants it."""

    async def __call__[T](self, wait: Awaitable[T], /, wanted: Callable[[], bool] = never) -> T:
        """What was waited for. Raises when the client has left, before or meanwhile."""


async def in_any_case[T](wait: Awaitable[T], /, wanted: Callable[[], bool] = never) -> T:
    """The same where nobody is there who could leave."""
    return await wait


@dataclass(frozen=True, slots=True)
class WhileWanted:
    """The same for work that others may want as well."""

    while_here: WhileHere
    also: Callable[[], bool]

    async def __call__[T](self, wait: Awaitable[T], /, wanted: Callable[[], bool] = never) -> T:
        """See :class:`WhileHere`."""
        return await self.while_here(wait, lambda: self.also() or wanted())
