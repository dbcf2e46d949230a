"""What goes to Redis once the reply is out: refunds, TTLs, the cache entry, corrections, circuits, ledger counts.

A request collects :class:`Step` values while it runs; after the reply they are sent in one round trip. A step may have
a successor that depends on its result (a refund that created the key needs a TTL; a lost compare-and-swap is tried
again): all successors together take one more round trip. Vercel keeps the instance until this is done. What fails here
changes no reply.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import field
from typing import Any

from .base.events import Listener, StoreFailed
from .base.values import dataclass
from .redis.errors import RedisDown
from .redis.op import Op, Reply, UnreadableReply
from .redis.store import RedisStore


@dataclass(frozen=True, slots=True)
class Step[T]:
    """One operation to send; ``then`` may yield its successor, ``lost`` is called where no result came."""

    op: Op[T]
    then: "Callable[[T], Step[Any] | None] | None" = None
    lost: Callable[[], None] | None = None


type Job = Callable[[float], Awaitable[None]]
"""Runs for at most so many seconds."""


@dataclass(slots=True)
class Afterwards:
    """What one request leaves to be sent. Steps are only ever added; nothing else has to be done with them."""

    steps: list[Step[Any]] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    """What takes more than one round trip; run when all steps are sent. A job sees to its own failures."""
    waits: "list[asyncio.Future[None]]" = field(default_factory=list)
    """Work that was begun beside the request and goes on after its reply, such as a check."""

    def add[T](
        self, op: Op[T], then: Callable[[T], Step[Any] | None] | None = None, lost: Callable[[], None] | None = None
    ) -> None:
        """Have an operation sent."""
        self.steps.append(Step(op, then, lost))

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left to be done."""
        return not (self.steps or self.jobs or self.waits)

    def take(self) -> list[Step[Any]]:
        """Take all steps that are not sent yet."""
        taken, self.steps = self.steps, []
        return taken

    def leave_to(self, other: "Afterwards") -> None:
        """Have another request see to everything that is left."""
        other.steps += self.take()
        other.jobs += self.take_jobs()
        waits, self.waits = self.waits, []
        other.waits += waits

    def take_jobs(self) -> list[Job]:
        """All jobs that have not run yet, for whoever runs them."""
        taken, self.jobs = self.jobs, []
        return taken


@dataclass(slots=True)
class Outbox:
    """Sends what requests leave to be sent."""

    redis: RedisStore | None
    emit: Listener
    due: Callable[[Afterwards], None] = lambda after: None
    """May add what is due of earlier requests: TTLs that no reply has confirmed."""
    rides: Callable[[], Op[Any] | None] = lambda: None
    """What is sent along with other steps, and never causes a round trip of its own: the ledger's counts."""
    least_s: float = 0.0
    """What :meth:`try_send` has at least, where nothing stops the process at the end of a request's time."""

    async def send(self, after: Afterwards, left_s: float) -> None:
        """Send all steps, then run the jobs. Raises RedisDown.

        The steps take one round trip, and one more for each generation of successors. Then it waits for what is still
        under way.
        """
        try:
            await self._send_all(after, left_s)
        finally:
            while after.waits:
                await asyncio.wait({after.waits.pop()}, timeout=left_s)

    async def _send_all(self, after: Afterwards, left_s: float) -> None:
        self.due(after)
        steps = after.take()
        if self.redis is None:
            return
        if steps:
            await self._send(self.redis, steps, left_s)
        for job in after.take_jobs():
            await job(left_s)

    async def _send(self, redis: RedisStore, steps: list[Step[Any]], left_s: float) -> None:
        if (ride := self.rides()) is not None:
            steps.append(Step(ride))
        while steps:
            try:
                results = await redis.run(_each(steps), "write_back", left_s)
            except BaseException:
                for step in steps:
                    if step.lost is not None:
                        step.lost()
                raise
            steps = self._successors(steps, results)

    def _successors(self, steps: Sequence[Step[Any]], results: Sequence[Any]) -> list[Step[Any]]:
        found = []
        for step, result in zip(steps, results, strict=True):
            if isinstance(result, UnreadableReply):
                # A refused command concerns its own step only; the results of the others still count.
                self.emit(StoreFailed("redis", "write_back", str(result)))
                if step.lost is not None:
                    step.lost()
            elif step.then is not None and (successor := step.then(result)) is not None:
                found.append(successor)
        return found

    async def try_send(self, after: Afterwards, left_s: float) -> None:
        """As :meth:`send`; a failure, which the store has reported, loses at most what this request left."""
        try:
            await self.send(after, max(self.least_s, left_s))
        except RedisDown:
            return


def _each(steps: Sequence[Step[Any]]) -> Op[list[Any]]:
    """All operations in one round trip; a result that cannot be read is the error itself, in its place."""

    def read(replies: Sequence[Reply]) -> list[Any]:
        results, at = list[Any](), 0
        for step in steps:
            own = replies[at : at + len(step.op.commands)]
            at += len(own)
            try:
                results.append(step.op.read(own))
            except UnreadableReply as e:
                results.append(e)
        return results

    return Op(tuple(command for step in steps for command in step.op.commands), read)
