"""Leading: the source is called for this request, and for all that follow it.

Whether the value comes whole or in pieces, it is stored after its end only. A leader whose client leaves goes on while
another request of the instance waits for the value, or where the call says so.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import field, replace
from typing import Any

from .base.bounded import Bounded
from .base.clock import Clock
from .base.leaving import WhileWanted
from .base.values import dataclass
from .cache import entry as entries
from .cache.entry import Codec, Entry
from .cache.flights import Flights, Landed
from .cache.freshness import CacheRules, freshness, shortened
from .cache.lease import Lease
from .cache.lock import LockRules
from .call import Answered, CacheState, Failed, Refused, Streaming
from .decide import may_be_asked, nobody_to_ask
from .feed import Feed
from .limits.admission import Admission
from .pieces import Done, Exhausted, Piece, SourceFailed
from .turn import Lead, Turn


@dataclass(slots=True)
class Leading:
    """Leads, for one instance."""

    clock: Clock
    rules: LockRules
    flights: Flights[Any] = field(default_factory=Flights)
    _over: Bounded[str, str] = field(default_factory=lambda: Bounded(1_000))
    """Whose work on a value has ended last. Redis may not have heard of the end, or may have lost the entry that tells
    of it."""

    async def lead[P, V](
        self,
        turn: Turn[P, V],
        codec: Codec[V],
        lead: Lead[P, V],
        reason: str,
        order: Sequence[int],
        first: Admission,
    ) -> Answered[V] | Streaming[P, V] | Refused | Failed:
        """Call the source for this request."""
        turn.begin(lead)
        call, started = turn.call, self.clock.monotonic()
        staying = replace(call, while_here=WhileWanted(call.while_here, lambda: self._wanted(turn)))
        try:
            opened = await turn.seen.open(staying, order, first, turn.after, stream=call.stream)
            turn.open(feed := Feed(opened))
            if not call.stream:
                return self._complete(turn, codec, await feed.last(), reason)
        except Exhausted as e:
            return self._without_value(turn, e.failure)
        except SourceFailed as e:
            return self._without_value(turn, e)
        finally:
            turn.watch.backend += turn.watch.since(started)
        turn.to("streaming")
        return Streaming(self._pump(turn, codec, feed), opened.name, _missed(turn), reason)

    def _wanted[P, V](self, turn: Turn[P, V]) -> bool:
        """Whether the value is wanted although the client has left."""
        return turn.call.finish_abandoned or (turn.lead is not None and turn.lead.wanted())

    async def _pump[P, V](self, turn: Turn[P, V], codec: Codec[V], feed: Feed[P, V]) -> AsyncGenerator[Piece[P, V]]:
        """The pieces as they come; the value is stored after the last one only.

        Whoever leaves may cancel this, or close it without ever having started it. What the source still has to give is
        left as it is: others may want it.
        """
        started = self.clock.monotonic()
        try:
            while not feed.ended:
                piece = await feed.next()
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
        """The value is whole: store it if it may be stored."""
        lead, rules, now_ms = turn.lead, turn.call.cache, self.clock.now_ms()
        stored = False
        if lead is not None and rules is not None and lead.cached.shared and done.keeps:
            text = "" if turn.call.directives.no_store else codec.dump(done.value)
            if stored := 0 < len(text) <= rules.most_chars:
                turn.keep(lambda: self._store(turn, rules, lead, text, now_ms, done.fresh_ms))
        if done.ends:
            self._drop(turn)
        if lead is not None and lead.lease is not None:
            if stored:
                lead.lease.end()
            else:
                self._release(turn, lead.lease)
        # Not before: a codec may raise, and what was begun is then ended as for every other failure.
        turn.to("answered")
        return Answered(done.value, _missed(turn), reason, now_ms, stored, done.fresh_ms)

    def _store[P, V](
        self, turn: Turn[P, V], rules: CacheRules, lead: Lead[P, V], text: str, at_ms: int, fresh_ms: int | None
    ) -> None:
        """Have a value stored that was computed at a time, perhaps long ago: a reply may take hours."""
        call = turn.call
        entries.store(
            call.key,
            call.epochs,
            lead.cached,
            text,
            at_ms,
            lead.owner,
            entries.lasts_ms(shortened(rules, fresh_ms) or rules, self.rules.lease_ms),
            turn.after,
            fresh_ms=fresh_ms,
            # The lock may be over: others compute, and store.
            late=self.clock.now_ms() - at_ms >= self.rules.left_ms,
            sent=lambda: self._end(turn),
        )
        if lead.lease is not None and lead.is_contested:
            self._release(turn, lead.lease)

    def _without_value[P, V](self, turn: Turn[P, V], failure: SourceFailed | None) -> Answered[V] | Refused | Failed:
        """An older value if there is one; else the failure, or when the source may be called again."""
        now_ms = self.clock.now_ms()
        if failure is not None and failure.ends:
            self._drop(turn)
        elif (older := _older(turn, now_ms)) is not None:
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
        """The reply is sent, or no client waits for it: end what was begun."""
        feed = turn.feed
        try:
            if turn.state == "streaming" and feed is not None and not feed.ended and self._wanted(turn):
                # The client left a stream that others wait for.
                with suppress(SourceFailed):
                    self.land(turn, self._complete(turn, codec, await feed.last(), "abandoned"))
            if feed is not None:
                await feed.close()
        finally:
            store, turn.store = turn.store, None
            if store is not None:
                store()
            lease = turn.lead.lease if turn.lead is not None else None
            if lease is not None and turn.state != "answered":
                self._release(turn, lease)

    def _release[P, V](self, turn: Turn[P, V], lease: Lease) -> None:
        lease.release(turn.after)
        self._over.put(turn.call.key, lease.owner)

    def _drop[P, V](self, turn: Turn[P, V]) -> None:
        """There is no such value any more: what is stored goes, so that nobody is served it."""
        if turn.lead is not None and turn.lead.cached.entry is not None:
            entries.drop(turn.call.key, turn.after)

    def land[P, V](self, turn: Turn[P, V], result: Landed[V]) -> None:
        """Give the result to the requests of this instance that wait for it, if any can."""
        if turn.lead is not None and turn.lead.flight is not None:
            self.flights.land(turn.call.key, turn.lead.flight, result)

    def _end[P, V](self, turn: Turn[P, V]) -> None:
        """What was computed is in Redis, or will not be: it is not found here any more."""
        if turn.lead is not None and turn.lead.flight is not None:
            self.flights.end(turn.call.key, turn.lead.flight)
        if turn.lead is not None and turn.lead.lease is not None:
            self._over.put(turn.call.key, turn.lead.owner)

    def is_over(self, key: str, held: str | None) -> bool:
        """Whether a value's lock belongs to a request of this instance that has ended."""
        return held is not None and self._over.get(key) == held


def _missed[P, V](turn: Turn[P, V]) -> CacheState:
    call = turn.call
    return "bypass" if call.wants_own or not turn.cached.shared else "miss"


def _older[P, V](turn: Turn[P, V], now_ms: int) -> Entry[V] | None:
    """The stored value that may be served for want of another."""
    call, entry = turn.call, turn.cached.entry
    rules = shortened(call.cache, entry.fresh_ms) if entry is not None else None
    if entry is None or rules is None:
        return None
    usable = freshness(entry.stored_at_ms, now_ms, rules, call.directives)
    return None if usable == "unwanted" else entry
