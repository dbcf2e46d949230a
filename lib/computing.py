"""Computing a value once: a request leads or follows another one, in this instance first and then across instances.

Within an instance a future is shared, which is free. Across instances a lock decides (``cache/lock.py``). It is taken
together with the budget of the part of the source that is called first, so that a miss takes one round trip more than
a hit before its reply. Followers of another instance look again, at growing intervals, until their own deadline. A
leader whose client leaves goes on while another request of this instance follows it.
"""

from dataclasses import replace

from .base.clock import Clock
from .base.values import dataclass
from .cache import entry as entries
from .cache import lock
from .cache.entry import Cached, Codec
from .cache.flights import Flight, Landed
from .cache.freshness import freshness, shortened
from .call import Answered, Call, Failed, Refused, Streaming
from .claims import Claims
from .decide import Stored
from .leading import Leading
from .limits.limiter import Limits
from .pieces import SourceFailed
from .redis.errors import RedisDown
from .redis.store import RedisStore
from .turn import Lead, Turn

_RESERVE_S = 1.0
"""Reserved from a follower's time for its reply."""


async def _nothing() -> None:
    """Waits for nothing: shows whether the client is there."""


def _still_computing() -> Failed:
    return Failed(SourceFailed("timeout", "another request is still computing the same value"))


@dataclass(slots=True)
class Computing:
    """Leads or follows, for one instance."""

    limits: Limits
    redis: RedisStore | None
    claims: Claims
    clock: Clock
    leading: Leading

    async def compute[P, V](
        self, turn: Turn[P, V], codec: Codec[V], reason: str, order: tuple[int, ...]
    ) -> Answered[V] | Streaming[P, V] | Refused | Failed:
        """The value, computed here or by another request."""
        call, cached = turn.call, turn.cached
        # Nothing is taken from a budget for a client that has left.
        await call.while_here(_nothing())
        if call.wants_own:
            first = await self.claims.price(turn, order[0])
            return await self.leading.lead(turn, codec, Lead(cached, None, None), reason, order, first)
        useless: Flight[V] | None = None
        while (
            (flight := self.leading.flights.get(call.key, cached.epochs, turn.watch.started)) is not None
            and flight is not useless
            and not self._is_past(turn, flight)
        ):
            turn.to("following")
            turn.call.waiting()
            landed = await self._follow_here(turn, flight)
            if isinstance(landed, Answered) and not call.takes(landed.value):
                useless = flight
            elif landed is not None:
                return landed
            # Given up, or of no use here: one of those who waited begins anew.
        flight = self.leading.flights.begin(call.key, cached.epochs)
        try:
            result = await self._lead_or_follow(turn, codec, flight, reason, order)
        except BaseException:
            # Where this request leads, the lock is freed first: see `Leading.finish`.
            if turn.lead is None:
                self.leading.flights.land(call.key, flight, None)
            raise
        if turn.lead is None:
            # Found in Redis, where all others find it too; or this request's time is up, which is not everybody's.
            self.leading.flights.land(call.key, flight, result if isinstance(result, Answered) else None)
            self.leading.flights.end(call.key, flight)
        elif not isinstance(result, Streaming):
            self.leading.flights.land(call.key, flight, result)
        return result

    async def refresh[P, V](self, turn: Turn[P, V], codec: Codec[V], order: tuple[int, ...]) -> None:
        """Compute a value for the cache, unless somebody does so already. What fails leaves the older value served."""
        claimed = await self.claims.claim(turn, turn.cached, order[0])
        if claimed is None or claimed.lease is None:
            return
        if not claimed.lease.held:
            claimed.lease.release(turn.after)
            return
        lead: Lead[P, V] = Lead(claimed.cached, None, claimed.lease)
        try:
            await self.leading.lead(turn, codec, lead, "refresh", order, claimed.admission)
        finally:
            await self.leading.finish(turn, codec)

    # Follow

    def _is_past[P, V](self, turn: Turn[P, V], flight: Flight[V]) -> bool:
        """Whether its value is not fresh any more: it is stored when the reply is out, which may be hours later."""
        value = flight.result.result() if flight.result.done() else None
        return isinstance(value, Answered) and not self._is_fresh(turn.call, value)

    async def _follow_here[P, V](self, turn: Turn[P, V], flight: Flight[V]) -> Landed[V]:
        """What another request of this instance gets for the same value."""
        computed = flight.result.done()
        try:
            landed = await turn.call.while_here(flight.follow(self.clock.left_s(turn.call.deadline)))
        except TimeoutError:
            return _still_computing()
        if isinstance(landed, Answered) and landed.cache != "stale":
            # Computed before, and on its way to Redis: as good as read from there.
            return replace(landed, cache="hit" if computed else "collapsed", reason="in flight")
        return landed

    async def _lead_or_follow[P, V](
        self, turn: Turn[P, V], codec: Codec[V], flight: Flight[V], reason: str, order: tuple[int, ...]
    ) -> Answered[V] | Streaming[P, V] | Refused | Failed:
        """Compute the value here, unless another instance does so."""
        call, cached, looks = turn.call, turn.cached, 0
        over: str | None = None
        while cached.shared and self.redis is not None:
            if not cached.computing or cached.lock == over:
                claimed = await self.claims.claim(turn, cached, order[0])
                if claimed is not None:
                    if None in cached.epochs:
                        flight.created(claimed.cached.epochs, self.clock.monotonic())
                    lead: Lead[P, V] = Lead(claimed.cached, flight, claimed.lease)
                    return await self.leading.lead(turn, codec, lead, reason, order, claimed.admission)
            turn.to("following")
            turn.call.waiting()
            # A lock whose work is known here to be over is not waited for. One look shows whether the value has come
            # since the lock was read.
            over = cached.lock if self.leading.is_over(call.key, cached.lock) else None
            if over is None:
                wait_s = lock.wait_s(looks, self.leading.rules, self.clock.jitter())
                looks += 1
                if wait_s + _RESERVE_S >= self.clock.left_s(call.deadline):
                    return _still_computing()
                await call.while_here(self.clock.sleep(wait_s), flight.is_followed)
            try:
                lookup = entries.lookup(call.key, call.epochs, codec)
                cached = await self.redis.run(lookup.op(), "poll", self.clock.left_s(call.deadline))
            except RedisDown:
                break
            if (found := self._fresh(turn, cached)) is not None:
                return found
        first = await self.claims.price(turn, order[0])
        return await self.leading.lead(turn, codec, Lead(cached, flight, None), reason, order, first)

    def _is_fresh(self, call: Call, value: Stored) -> bool:
        rules = shortened(call.cache, value.fresh_ms)
        if rules is None:
            return False
        return freshness(value.stored_at_ms, self.clock.now_ms(), rules, call.directives) in ("fresh", "early")

    def _fresh[P, V](self, turn: Turn[P, V], cached: Cached[V]) -> Answered[V] | None:
        entry = cached.entry
        if entry is None or not self._is_fresh(turn.call, entry):
            return None
        return Answered(entry.value, "collapsed", "collapsed", entry.stored_at_ms, stored=True)
