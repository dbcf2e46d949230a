"""What each of several processes does at once; in a module of its own, so that a new process imports little else."""

import asyncio
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier

from lib.base.http import new_pool
from lib.limits import bitfield
from lib.limits.judge import judge
from lib.redis.rest import Upstash
from lib.redis.tcp import Tcp
from tests.limits.instance import NOON_MS, TEN_HUNDRED


def burst(url: str, token: str, subject: str, calls: int, barrier: Barrier, results: "Queue[int]") -> None:
    """A process with a connection of its own: all its calls at once, when everybody is ready."""

    async def run() -> int:
        redis = Tcp(url, 10, 10) if url.startswith("redis://") else Upstash(new_pool(), url, token, 10, 10)
        try:
            await redis.run(bitfield.peek(subject, TEN_HUNDRED, NOON_MS))
            barrier.wait(30)
            spends = [bitfield.spend(subject, TEN_HUNDRED, 1, NOON_MS) for _ in range(calls)]
            passed = 0
            for tally in await asyncio.gather(*(redis.run(spend) for spend in spends)):
                if judge(TEN_HUNDRED.windows, tally.usage, 1, NOON_MS, tally.added).allowed:
                    passed += 1
                else:
                    await redis.run(bitfield.refund(subject, TEN_HUNDRED, 1, NOON_MS, tally.added))
            return passed
        finally:
            await redis.aclose()

    results.put(asyncio.run(run()))
