"""Steps that a caller's leaving must not cut in two: what they took would be known to nobody."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any


async def unbroken[T](step: Coroutine[Any, Any, T], when_left: Callable[[T], Awaitable[None]]) -> T:
    """Await a short ``step`` to its end; when cancelled meanwhile, give back what it took, then be cancelled."""
    task = asyncio.ensure_future(step)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await when_left(await task)
        raise
