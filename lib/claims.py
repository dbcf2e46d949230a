"""Taking the lock of a value, and the budget of the part of its source that is called first, in one round trip."""

from contextlib import suppress
from dataclasses import replace

from .afterwards import Afterwards, Outbox
from .base.clock import Clock
from .base.values import dataclass
from .cache import epochs, lock
from .cache.entry import Cached
from .cache.lease import Lease
from .cache.lock import LockRules
from .limits.admission import Admission, Charge
from .limits.limiter import Limits
from .redis.errors import RedisDown
from .redis.op import Op, ignored
from .redis.store import RedisStore
from .turn import Turn


@dataclass(frozen=True, slots=True)
class Claimed[V]:
    """The source may be called, as far as its budget's ``admission`` says, for a value of these epochs.

    A lock that is not held: Redis did not say whether it was taken.
    """

    admission: Admission
    lease: Lease | None
    cached: Cached[V]


_ALONE: Op[None] = Op((), ignored)
"""Nothing goes along with a budget's command."""


@dataclass(slots=True)
class Claims:
    """Claims for one instance."""

    limits: Limits
    redis: RedisStore | None
    outbox: Outbox
    clock: Clock
    rules: LockRules

    async def claim[P, V](self, turn: Turn[P, V], cached: Cached[V], place: int) -> "Claimed[V] | None":
        """The admission to the source, and with it the lock; None where another request has it.

        Epochs that are missing are created before, in a round trip of their own: a lock names those under which it
        computes, or others could not tell that it is of their time.
        """
        call, redis, started = turn.call, self.redis, self.clock.monotonic()
        if redis is None:
            return Claimed(await self.price(turn, place), None, cached)
        if None in cached.epochs:
            # Whatever was invalidated meanwhile: nothing has been asked of the source yet.
            complete = epochs.complete(call.epochs, cached.epochs)
            with suppress(RedisDown):
                words = await redis.run(complete, "claim", self.clock.left_s(call.deadline))
                cached = replace(cached, epochs=words)
        owner = lock.owner(cached.generation, call.request_id)
        claim = lock.claim(call.key, owner, self.rules)
        if cached.lock is not None:
            # The lock of work that is over, or of before an invalidation.
            claim = lock.replace(call.key, cached.lock, owner, self.rules)
        lease, own = Lease(redis, call.key, owner, self.rules), Afterwards()
        try:
            admission, won = await self.limits.spend(self._charge(turn, place), claim, own)
        except BaseException:
            # It may be ours by now; to release what is not ours does no harm.
            lease.release(turn.after)
            own.leave_to(turn.after)
            raise
        turn.watch.redis += turn.watch.since(started)
        if won is False:
            # At once, not after the wait: meanwhile others would be refused for a call that does not take place.
            self.limits.give_back(admission, own)
            await self.outbox.try_send(own, self.clock.left_s(call.deadline))
            return None
        own.leave_to(turn.after)
        if won:
            lease.hold()
        return Claimed(admission, lease, cached)

    async def price[P, V](self, turn: Turn[P, V], place: int) -> Admission:
        """The admission to the source alone, where there is no lock to be had or wanted."""
        admission, _ = await self.limits.spend(self._charge(turn, place), _ALONE, turn.after)
        return admission

    def _charge[P, V](self, turn: Turn[P, V], place: int) -> Charge:
        price = turn.seen.price(place)
        return Charge(price.subject, self.clock.now_ms(), turn.call.deadline, tokens=price.tokens)
