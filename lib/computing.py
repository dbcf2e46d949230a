"""Computing a value once: a request leads, or follows whoever leads, in this instance first and then across instances.

Within an instance a future is shared, which is free. Across instances a lock decides (``cache/lock.py``); it is asked
for together with the budget of the part of the source that is to be asked, so that a miss takes one round trip more
than a hit. Followers of another instance look again, at growing intervals, until their own deadline. A leader whose
client leaves goes on while anybody here follows it.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from .afterwards import Afterwards, Outbox
from .base.clock import Clock
from .base.leaving import WhileWanted
from .cache import entry as entries
from .cache import lock
from .cache.entry import Cached, Codec, Entry
from .cache.flights import Flight, Flights, Landed
from .cache.freshness import freshness
from .cache.lease import Lease
from .cache.lock import LockRules
from .call import Answered, CacheState, Failed, Refused, Streaming
from .decide import may_be_asked, nobody_to_ask
from .limits.admission import Admission, Charge
from .limits.limiter import Limits
from .pieces import Done, Exhausted, Piece, SourceFailed
from .redis.errors import RedisDown
from .redis.op import Op, ignored
from .redis.store import RedisStore
from .turn import Lead, Turn

_ALONE: Op[None] = Op((), ignored)
"""Nothing goes along with a budget's command."""


_RESERVE_S = 1.0
"""Kept back from a follower's time for its reply."""


async def _nothing() -> None:
    """Waits for nothing: shows whether the client is there."""


def _still_computing() -> Failed:
    return Failed(SourceFailed("timeout", "another request is still computing the same value"))


@dataclass(slots=True)
class Computing:
    """Has values computed, for one instance."""

    limits: Limits
    redis: RedisStore | None
    outbox: Outbox
    clock: Clock
    rules: LockRules = field(default_factory=LockRules)
    flights: Flights[Any] = field(default_factory=Flights)

    async def compute[P, V](
        self, turn: Turn[P, V], codec: Codec[V], reason: str, order: tuple[int, ...]
    ) -> Answered[V] | Streaming[P, V] | Refused | Failed:
        """The value, from whoever computes it."""
        call, cached = turn.call, turn.cached
        # Nothing is taken from a budget for a client that has left.
        await call.while_here(_nothing())
        if call.wants_own:
            first = await self._price(turn, order[0])
            return await self._lead(turn, codec, Lead(cached, None, None), reason, order, first)
        while (flight := self.flights.get(call.key, cached.generation)) is not None:
            turn.to("following")
            landed = await self._follow_here(turn, flight)
            if landed is not None:
                return landed
            # Given up: one of those who waited begins anew.
        flight = self.flights.begin(call.key, cached.generation)
        try:
            result = await self._lead_or_follow(turn, codec, flight, reason, order)
        except BaseException:
            self.flights.land(call.key, flight, None)
            raise
        if not isinstance(result, Streaming):
            self.flights.land(call.key, flight, result)
        return result

    async def refresh[P, V](self, turn: Turn[P, V], codec: Codec[V], order: tuple[int, ...]) -> None:
        """Compute a value for the cache, unless somebody does so already. What fails leaves the older value served."""
        first, lease = await self._claim(turn, turn.cached, order[0])
        if first is None or lease is None:
            return
        await self._lead(turn, codec, Lead(turn.cached, None, lease), "refresh", order, first)
        await self.finish(turn, codec)

    # Follow

    async def _follow_here[P, V](self, turn: Turn[P, V], flight: Flight[V]) -> Landed[V]:
        """What another request of this instance gets for the same value."""
        computed = flight.result.done()
        try:
            landed = await turn.call.while_here(flight.follow(self.limits.left_s(turn.call.deadline)))
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
        while cached.shared and self.redis is not None:
            if not cached.computing:
                first, lease = await self._claim(turn, cached, order[0])
                if first is not None:
                    return await self._lead(turn, codec, Lead(cached, flight, lease), reason, order, first)
            turn.to("following")
            wait_s, left_s = lock.wait_s(looks, self.rules, self.clock.jitter()), self.limits.left_s(call.deadline)
            looks += 1
            if wait_s + _RESERVE_S >= left_s:
                return _still_computing()
            await call.while_here(self.clock.sleep(wait_s), flight.is_followed)
            try:
                lookup = entries.lookup(call.key, call.epochs, codec)
                cached = await self.redis.run(lookup.op(), "poll", left_s - wait_s)
            except RedisDown:
                break
            if (found := self._fresh(turn, cached)) is not None:
                return found
        first = await self._price(turn, order[0])
        return await self._lead(turn, codec, Lead(cached, flight, None), reason, order, first)

    def _fresh[P, V](self, turn: Turn[P, V], cached: Cached[V]) -> Answered[V] | None:
        call, entry = turn.call, cached.entry
        if entry is None or call.cache is None:
            return None
        if freshness(entry.stored_at_ms, self.clock.now_ms(), call.cache, call.directives) != "fresh":
            return None
        return Answered(entry.value, "collapsed", "collapsed", entry.stored_at_ms, stored=True)

    # Take the lock, and pay

    async def _claim[P, V](
        self, turn: Turn[P, V], cached: Cached[V], place: int
    ) -> tuple[Admission | None, Lease | None]:
        """The admission to the source, and with it the lock; no admission where another instance has the lock.

        An admission without a lock: Redis did not say.
        """
        call, redis, started = turn.call, self.redis, self.clock.monotonic()
        if redis is None:
            return await self._price(turn, place), None
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
        return admission, lease if won else None

    async def _price[P, V](self, turn: Turn[P, V], place: int) -> Admission:
        admission, _ = await self.limits.spend(self._charge(turn, place), _ALONE, turn.after)
        return admission

    def _charge[P, V](self, turn: Turn[P, V], place: int) -> Charge:
        price = turn.seen.price(place)
        return Charge(price.subject, self.clock.now_ms(), turn.call.deadline, tokens=price.tokens)

    # Lead

    async def _lead[P, V](
        self,
        turn: Turn[P, V],
        codec: Codec[V],
        lead: Lead[P, V],
        reason: str,
        order: Sequence[int],
        first: Admission,
    ) -> Answered[V] | Streaming[P, V] | Refused | Failed:
        """Have the source asked for this request."""
        turn.begin(lead)
        call, started = turn.call, self.clock.monotonic()
        staying = replace(call, while_here=WhileWanted(call.while_here, lambda: self._wanted(turn)))
        try:
            turn.open(await turn.seen.open(staying, order, first, turn.after, stream=call.stream))
            if not call.stream:
                return await self._collect(turn, codec, reason)
        except Exhausted as e:
            return self._without_value(turn, e.failure)
        except SourceFailed as e:
            return self._without_value(turn, e)
        finally:
            turn.watch.backend += turn.watch.since(started)
        turn.to("streaming")
        return Streaming(self._pump(turn, codec), turn.opened.name if turn.opened else "", _missed(turn), reason)

    def _wanted[P, V](self, turn: Turn[P, V]) -> bool:
        """Whether the value is wanted although the client has left."""
        return turn.call.finish_abandoned or (turn.lead is not None and turn.lead.wanted())

    async def _collect[P, V](self, turn: Turn[P, V], codec: Codec[V], reason: str) -> Answered[V]:
        """The whole value at once. Raises SourceFailed."""
        if turn.opened is None:
            raise AssertionError("nothing was opened")
        try:
            async for piece in turn.opened.pieces:
                if isinstance(piece, Done):
                    return self._complete(turn, codec, piece, reason)
        finally:
            await turn.opened.close()
        raise AssertionError("a source's pieces end with a Done")

    async def _pump[P, V](self, turn: Turn[P, V], codec: Codec[V]) -> AsyncGenerator[Piece[P, V]]:
        """The pieces as they come; the value is kept after the last one only.

        Whoever leaves may close this without ever having started it. What the source still has to give is left as it
        is: others may want it.
        """
        if turn.opened is None:
            raise AssertionError("nothing was opened")
        started = self.clock.monotonic()
        try:
            async for piece in turn.opened.pieces:
                if isinstance(piece, Done):
                    self.land(turn, self._complete(turn, codec, piece, "streamed"))
                yield piece
        except SourceFailed as e:
            turn.to("failed")
            self.land(turn, Failed(e))
            raise
        finally:
            turn.watch.backend += turn.watch.since(started)

    def _complete[P, V](self, turn: Turn[P, V], codec: Codec[V], done: Done[V], reason: str) -> Answered[V]:
        """The value is whole: keep it if it may be kept."""
        turn.to("answered")
        call, lead, now_ms = turn.call, turn.lead, self.clock.now_ms()
        stored = False
        if lead is not None and call.cache is not None and lead.cached.shared and done.keeps:
            text = "" if call.directives.no_store else codec.dump(done.value)
            if stored := 0 < len(text) <= entries.MAX_STORED_CHARS:
                lasts_ms = entries.lasts_ms(call.cache, self.rules.lease_ms)
                entries.store(
                    call.key,
                    call.epochs,
                    lead.cached,
                    text,
                    now_ms,
                    lead.owner,
                    lasts_ms,
                    turn.after,
                    sent=lambda: self._end(turn),
                )
        if lead is not None and lead.lease is not None:
            if stored:
                lead.lease.end()
            else:
                lead.lease.release(turn.after)
        return Answered(done.value, _missed(turn), reason, now_ms, stored)

    def _without_value[P, V](self, turn: Turn[P, V], failure: SourceFailed | None) -> Answered[V] | Refused | Failed:
        """An older value if there is one; else the failure, or when the source may be asked again."""
        now_ms = self.clock.now_ms()
        if (older := _older(turn, now_ms)) is not None:
            turn.to("failed")
            return Answered(
                older.value, "stale", failure.kind if failure else "no_provider", older.stored_at_ms, stored=True
            )
        standings = turn.seen.standings(now_ms)
        if failure is None:
            turn.to("refused")
            denied = nobody_to_ask(standings, now_ms)
            return Refused(denied.code, denied.reason, denied.retry_at_ms)
        turn.to("failed")
        nobody = standings and not any(may_be_asked(each, now_ms) for each in standings)
        return Failed(failure, nobody_to_ask(standings, now_ms).retry_at_ms if nobody else None)

    # Afterwards

    async def finish[P, V](self, turn: Turn[P, V], codec: Codec[V]) -> None:
        """The reply is out, or nobody waits for it: end what was begun."""
        if turn.abandoned and turn.opened is not None and self._wanted(turn):
            # The client left a stream that others wait for.
            with suppress(SourceFailed):
                self.land(turn, await self._collect(turn, codec, "abandoned"))
        if turn.opened is not None:
            await turn.opened.close()
        lease = turn.lead.lease if turn.lead is not None else None
        if lease is not None and turn.state != "answered":
            lease.release(turn.after)

    def land[P, V](self, turn: Turn[P, V], result: Landed[V]) -> None:
        """Give the result to the requests of this instance that wait for it, if any can."""
        if turn.lead is not None and turn.lead.flight is not None:
            self.flights.land(turn.call.key, turn.lead.flight, result)

    def _end[P, V](self, turn: Turn[P, V]) -> None:
        """What was computed is in Redis, or will not be: it is not found here any more."""
        if turn.lead is not None and turn.lead.flight is not None:
            self.flights.end(turn.call.key, turn.lead.flight)


def _missed[P, V](turn: Turn[P, V]) -> CacheState:
    call = turn.call
    return "bypass" if call.wants_own or not turn.cached.shared else "miss"


def _older[P, V](turn: Turn[P, V], now_ms: int) -> Entry[V] | None:
    """The stored value that may be served for want of another."""
    call, entry = turn.call, turn.cached.entry
    if entry is None or call.cache is None:
        return None
    usable = freshness(entry.stored_at_ms, now_ms, call.cache, call.directives)
    return None if usable == "unwanted" else entry
