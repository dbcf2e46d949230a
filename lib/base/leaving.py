"""A client that disconnects ends the long waits of its request: for a source, and for another request's value.

Everything between is short and carried to its end, so that whatever it took from Redis is known and can be returned.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from .values import dataclass


def never() -> bool:
    """Nobody else waits for it."""
    return False


def is_cancelled() -> bool:
    """Whether somebody cancels this task. Where nobody does, a CancelledError comes from what it awaits."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class WhileHere(Protocol):
    """Awaits something for as long as the client is connected, or ``wanted`` says that somebody else waits for it."""

    async def __call__[T](self, wait: Awaitable[T], /, wanted: Callable[[], bool] = never) -> T:
        """The result. Raises when the client has disconnected, before or meanwhile."""


async def in_any_case[T](wait: Awaitable[T], /, wanted: Callable[[], bool] = never) -> T:
    """The same where there is no client that could disconnect."""
    return await wait


@dataclass(frozen=True, slots=True)
class WhileWanted:
    """The same for work that others may wait for as well."""

    while_here: WhileHere
    also: Callable[[], bool]

    async def __call__[T](self, wait: Awaitable[T], /, wanted: Callable[[], bool] = never) -> T:
        """See :class:`WhileHere`."""
        return await self.while_here(wait, lambda: self.also() or wanted())
