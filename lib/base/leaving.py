"""A client that leaves ends the long waits of its request: for a provider, and for another request's answer.

Everything between is short and carried to its end: what it takes from Redis is known and given back.
"""

from collections.abc import Awaitable
from typing import Protocol


class WhileHere(Protocol):
    """Awaits something for as long as the client is there; raises when it has left, before or meanwhile."""

    async def __call__[T](self, wait: Awaitable[T], /) -> T:
        """What was waited for."""


async def in_any_case[T](wait: Awaitable[T], /) -> T:
    """The same where nobody is there who could leave."""
    return await wait
