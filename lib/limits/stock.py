"""``RATELIMIT_ALGORITHM=upstash``: the sliding windows of ``upstash_ratelimit`` itself.

For installations that share counters with an existing ``@upstash/ratelimit`` service. Not strict: it admits up to twice
the limit around a window's edge, costs several billed commands a window, and a call refused by the second window has
been counted in the first.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import field

from upstash_ratelimit.asyncio import Ratelimit, Response, SlidingWindow
from upstash_redis.asyncio import Redis

from ..base.values import dataclass
from ..redis.errors import RedisDown
from ..redis.op import Command
from .judge import Quota, WindowState
from .window import Window

_KEPT_S = 5.0
"""So long its client keeps a connection that nobody uses."""


@dataclass(slots=True)
class StockWindows:
    """One ``Ratelimit`` a window, under ``<prefix>:<route group>:<window>``."""

    url: str
    token: str
    prefix: str
    timeout_s: float
    connect_timeout_s: float
    # It has a transport of its own, so that what it sends is counted here.
    sent: Callable[[Sequence[Command]], None] = lambda commands: None
    _redis: Redis | None = None
    _answered_at: float = -math.inf
    """When it last answered, by the event loop's clock."""
    _limits: dict[tuple[str, Window], Ratelimit] = field(default_factory=dict)

    async def spend(self, caller_id: str, group: str, limits: Sequence[Window], cost: int) -> Quota:
        """Count in every window in turn, shortest first; the first that refuses ends it. Raises RedisDown."""
        states = []
        for each in sorted(limits, key=lambda w: w.length_ms):
            response = await self._ask(self._ratelimit(group, each), caller_id, cost)
            state = WindowState(each, response.remaining, int(response.reset * 1000))
            states.append(state)
            if not response.allowed:
                return Quota(False, each.name, tuple(states), state.reset_at_ms)
        return Quota(True, "admitted", tuple(states))

    async def _ask(self, ratelimit: Ratelimit, caller_id: str, cost: int) -> Response:
        self.sent((("EVALSHA", "", 2),))
        try:
            async with asyncio.timeout(self._longest_s()):
                response = await ratelimit.limit(caller_id, cost)
        except TimeoutError as e:
            raise RedisDown("timeout", "upstash_ratelimit gave no answer in time") from e
        except Exception as e:
            # The library passes on whatever its transport and its parsing raise, AttributeError included.
            raise RedisDown("server", f"upstash_ratelimit failed with {type(e).__name__}") from e
        self._answered_at = asyncio.get_running_loop().time()
        return response

    def _longest_s(self) -> float:
        """What a call may take: a new connection may take longer."""
        idle_s = asyncio.get_running_loop().time() - self._answered_at
        return self.timeout_s if idle_s < _KEPT_S else self.timeout_s + self.connect_timeout_s

    def _ratelimit(self, group: str, each: Window) -> Ratelimit:
        if self._redis is None:
            # By default it would send a write again after 3 s, whatever the failure was.
            self._redis = Redis(self.url, self.token, rest_retries=0, allow_telemetry=False)
        found = self._limits.get((group, each))
        if found is None:
            limiter = SlidingWindow(max_requests=each.limit, window=each.length_ms, unit="ms")
            found = Ratelimit(self._redis, limiter, prefix=f"{self.prefix}:{group}:{each.name}")
            self._limits[group, each] = found
        return found
