"""A check: a trivial question of our own, whose answer says whether a source is there."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal

from ..base.leaving import is_cancelled
from ..base.values import dataclass


@dataclass(frozen=True, slots=True)
class Result:
    """What a check found."""

    verdict: Literal["passed", "failed", "undecided"]
    """``undecided``: it says nothing of the source, because our key is wrong or a budget does not allow it."""
    kind: str = ""
    """How it failed."""
    doubtful: bool = False
    """It failed in a way in which a healthy source may fail now and then."""
    until_ms: int | None = None
    """When the source says that it will answer again."""


type Check = Callable[[float], Awaitable[Result]]
"""Asks; the argument is how long it may take, in seconds. Raises nothing."""

PASSED = Result("passed")
UNDECIDED = Result("undecided")


def calling(function: Callable[[], Awaitable[object]]) -> Check:
    """A check that passes unless the function raises, or takes too long."""

    async def check(timeout_s: float) -> Result:
        try:
            async with asyncio.timeout(timeout_s):
                await function()
        except TimeoutError:
            return Result("failed", "timeout")
        except Exception as e:  # noqa: BLE001 - somebody else's function
            return Result("failed", type(e).__name__, doubtful=True)
        except asyncio.CancelledError as e:
            if is_cancelled():
                raise
            return Result("failed", type(e).__name__, doubtful=True)
        return PASSED

    return check
