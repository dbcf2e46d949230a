"""Time and chance, as something that is passed in."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

from .values import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class Clock:
    """``now_ms``: milliseconds since the epoch, for windows and entries. ``monotonic``: seconds, for durations."""

    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    jitter: Callable[[], float] = random.random
    """A number in [0, 1), to keep instances from doing the same thing at the same time."""

    def left_s(self, deadline: float) -> float:
        """Seconds until a deadline on the monotonic clock; never negative."""
        return max(0.0, deadline - self.monotonic())
