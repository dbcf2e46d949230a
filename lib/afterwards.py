"""What goes to Redis once the reply is out: refunds, TTLs, the cache entry, corrections, circuits, ledger counts.

A request collects :class:`Step` values while it runs; after the reply they are sent in one round trip. A step may have
a successor that depends on its result (a refund that created the key needs a TTL; a lost compare-and-swap is tried
again): all successors together take one more round trip. Vercel keeps the instance until this is done. What fails here
changes no reply.
"""

from collections.abc import Callable, Sequence
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


@dataclass(slots=True)
class Afterwards:
    """What one request leaves to be sent. Steps are only ever added; nothing else has to be done with them."""

    steps: list[Step[Any]] = field(default_factory=list)

    def add[T](
        self, op: Op[T], then: Callable[[T], Step[Any] | None] | None = None, lost: Callable[[], None] | None = None
    ) -> None:
        """Have an operation sent."""
        self.steps.append(Step(op, then, lost))

    def take(self) -> list[Step[Any]]:
        """Take all steps that are not sent yet."""
        taken, self.steps = self.steps, []
        return taken


@dataclass(slots=True)
class Outbox:
    """Sends what requests leave to be sent."""

    redis: RedisStore | None
    emit: Listener
    due: Callable[[Afterwards], None] = lambda after: None
    """May add what is due of earlier requests: TTLs that no reply has confirmed."""
    rides: Callable[[], Op[None] | None] = lambda: None
    """What is sent along with other steps, and never causes a round trip of its own: the ledger's counts."""

    async def send(self, after: Afterwards, left_s: float) -> None:
        """Send all steps: one round trip, and one more for each generation of successors. Raises RedisDown."""
        self.due(after)
        steps = after.take()
        if not steps or self.redis is None:
            return
        if (ride := self.rides()) is not None:
            steps.append(Step(ride))
        while steps:
            try:
                results = await self.redis.run(_each(steps), "write_back", left_s)
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
            await self.send(after, left_s)
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
