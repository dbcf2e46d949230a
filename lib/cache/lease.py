"""A lock that is taken while a value is computed, and renewed as long as the work goes on."""

import asyncio

from ..afterwards import Afterwards
from ..base.values import dataclass
from ..redis.errors import RedisDown
from ..redis.store import RedisStore
from . import lock
from .lock import LockRules

_WAIT_S = 1.0


@dataclass(slots=True, eq=False)
class Lease:
    """One lock. Nothing runs for work that ends before the first renewal is due."""

    redis: RedisStore
    key: str
    owner: str
    rules: LockRules
    held: bool = False
    """Whether Redis has said that it is ours."""
    _timer: asyncio.TimerHandle | None = None
    _task: asyncio.Task[None] | None = None

    def hold(self) -> None:
        """It is ours: renew it from now on, whenever two thirds of its lease have passed."""
        self.held = True
        self._timer = asyncio.get_running_loop().call_later(self.rules.renew_s, self._begin)

    def _begin(self) -> None:
        self._task = asyncio.ensure_future(self._renew())

    async def _renew(self) -> None:
        while True:
            try:
                if not await self.redis.run(lock.renew(self.key, self.owner, self.rules), "claim", _WAIT_S):
                    # It ran out and is somebody else's: two compute, and both may store.
                    return
            except RedisDown:
                await asyncio.sleep(self.rules.renew_s / 4)
            else:
                await asyncio.sleep(self.rules.renew_s)

    def end(self) -> None:
        """The work is over: renew no more."""
        for running in (self._timer, self._task):
            if running is not None:
                running.cancel()

    def release(self, after: Afterwards) -> None:
        """Nothing was stored: let others try at once."""
        self.end()
        after.add(lock.release(self.key, self.owner))
