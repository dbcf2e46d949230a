"""Taking the lock of a value and paying the part of the source that is to be asked first: one round trip for both.

Who gets the lock, computes. Where another instance has it the payment is given back.
"""

from dataclasses import dataclass, field

from .afterwards import Afterwards, Outbox
from .base.bounded import Bounded
from .base.clock import Clock
from .cache import lock
from .cache.entry import Cached
from .cache.lease import Lease
from .cache.lock import LockRules
from .limits.admission import Admission, Charge
from .limits.limiter import Limits
from .redis.op import Op, ignored
from .redis.store import RedisStore
from .turn import Turn

_ALONE: Op[None] = Op((), ignored)
"""Nothing goes along with a budget's command."""


@dataclass(slots=True)
class Claims:
    """What this instance takes before it has something computed."""

    limits: Limits
    redis: RedisStore | None
    outbox: Outbox
    clock: Clock
    rules: LockRules
    _over: Bounded[str, str] = field(default_factory=lambda: Bounded(1_000))
    """The owner of this instance whose work on a value has ended last. Redis may not have heard of the end, or have
    lost the entry that tells of it."""

    def is_over(self, key: str, held: str | None) -> bool:
        """Whether a value's lock belongs to a request of this instance that computes no more."""
        return held is not None and self._over.get(key) == held

    async def take[P, V](
        self, turn: Turn[P, V], cached: Cached[V], place: int
    ) -> tuple[Admission | None, Lease | None]:
        """The admission to the source, and with it the lock; no admission where another instance has the lock.

        A lock that is not held: Redis did not say whether it was taken.
        """
        call, redis, started = turn.call, self.redis, self.clock.monotonic()
        if redis is None:
            return await self.pay(turn, place), None
        owner = lock.owner(cached.generation, call.request_id)
        claim = lock.claim(call.key, owner, self.rules)
        if cached.lock is not None:
            # The lock of work that is over, or of before an invalidation.
            claim = lock.replace(call.key, cached.lock, owner, self.rules)
        lease, own = Lease(redis, call.key, owner, self.rules, self._over), Afterwards()
        try:
            admission, won = await self.limits.spend(self._charge(turn, place), claim, own)
        except BaseException:
            # It may be ours by now; to release what is not ours does no harm.
            lease.release(turn.after)
            raise
        turn.watch.redis += turn.watch.since(started)
        if won is False:
            # At once, not after the wait: meanwhile others would be refused for a call that does not take place.
            self.limits.give_back(admission, own)
            await self.outbox.try_send(own, self.limits.left_s(call.deadline))
            return None, None
        turn.after.steps += own.take()
        if won:
            lease.hold()
        return admission, lease

    async def pay[P, V](self, turn: Turn[P, V], place: int) -> Admission:
        """The admission to the source alone."""
        admission, _ = await self.limits.spend(self._charge(turn, place), _ALONE, turn.after)
        return admission

    def _charge[P, V](self, turn: Turn[P, V], place: int) -> Charge:
        price = turn.seen.price(place)
        return Charge(price.subject, self.clock.now_ms(), turn.call.deadline, tokens=price.tokens)
