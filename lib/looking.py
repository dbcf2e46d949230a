"""Counting calls, and reading everything that is to be decided on: in one round trip, or here (``cache/memory.py``)."""

from collections.abc import Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any

from .afterwards import Afterwards, Outbox
from .base.values import dataclass
from .cache import entry as entries
from .cache.entry import Cached, Codec, Entry
from .cache.freshness import freshness, shortened
from .cache.memory import MOST_MS, Memory
from .call import Answered, Call
from .decide import Deny
from .limits.admission import Admission, Charge, Limited
from .limits.judge import Quota
from .limits.limiter import Limits
from .lookup import Lookup, both, constant, every
from .source import Seen, Source
from .turn import Stopwatch, Turn

if TYPE_CHECKING:
    from .limits.coalescing import Together, Waiting


@dataclass(frozen=True, slots=True, eq=False)
class Recent:
    """What this instance has read a moment ago, and serves without another look where a call's rules allow that."""

    memory: Memory = field(default_factory=Memory)

    def find[V](self, call: Call, now_s: float, now_ms: int) -> Cached[V] | None:
        """What is held, where nothing is left to do but to serve it."""
        if call.cache is None or call.wants_own:
            return None
        held = self.memory.get(call.key, now_s)
        entry = held.entry if held is not None else None
        rules = shortened(call.cache, entry.fresh_ms) if entry is not None else None
        if entry is None or rules is None:
            return None
        return held if freshness(entry.stored_at_ms, now_ms, rules, call.directives) == "fresh" else None

    def keep[V](self, call: Call, cached: Cached[V], now_s: float, now_ms: int, drops: int) -> None:
        """Hold what Redis said, for as long as it may be served without another look."""
        entry = cached.entry
        if call.cache is None or entry is None or not cached.shared:
            return
        rules = shortened(call.cache, entry.fresh_ms) or call.cache
        left_ms = min(rules.memory_ms, MOST_MS, entry.stored_at_ms + rules.settled_ms - now_ms)
        if left_ms > 0:
            self.memory.put(call.key, call.epochs, cached, now_s + left_ms / 1000, drops)

    def keep_alone[V](
        self, call: Call, cached: Cached[V], result: Answered[V], codec: Codec[V], now_s: float, drops: int
    ) -> None:
        """Hold for a moment what was computed while Redis gave no reply: else each request would compute anew."""
        rules = call.cache
        if rules is None or not rules.alone_ms:
            return
        text, entry = codec.dump(result.value), Entry(result.value, result.stored_at_ms)
        held = Cached(entry, cached.epochs, None, "", shared=False, size=entries.size_of(text))
        if 0 < len(text) <= rules.most_chars:
            until_s = now_s + min(rules.alone_ms, rules.fresh_ms) / 1000
            self.memory.put(call.key, call.epochs, held, until_s, drops)


@dataclass(frozen=True, slots=True, eq=False)
class Wish[P, V]:
    """One of several calls that are handled at once."""

    call: Call
    source: Source[P, V]
    codec: Codec[V]


type Found[P, V] = tuple[tuple[Cached[V], Seen[P, V]], Deny | None]


@dataclass(frozen=True, slots=True, eq=False)
class Looking:
    """Looks, for one instance."""

    limits: Limits
    recent: Recent
    outbox: Outbox
    _waiting: "dict[Limited, list[Waiting]]" = field(default_factory=dict)
    """By subject and limits of those of whom a call is being counted: who has come meanwhile."""
    _together: "list[Together]" = field(default_factory=list)
    """What counts these, as soon as there are any."""

    async def count[T](
        self,
        charge: Charge,
        wanted: Lookup[T],
        watch: Stopwatch,
        after: Afterwards,
        *,
        marks_may_be_old: bool = False,
    ) -> tuple[Admission, T]:
        """Count a call and read what is wanted. Calls of one caller at once pay together. Raises nothing."""
        if not charge.subject.layout.windows:
            admission, found = await self.limits.admit(charge, wanted, after)
        elif self.limits.stock is None:
            admission, found = await self._in_turn(charge, wanted, after, marks_may_be_old=marks_may_be_old)
        else:
            # The vendor's limiter spends what it refuses, if that is more than one call.
            admission, found = await self.limits.admit(charge, wanted, after, marks_may_be_old=marks_may_be_old)
        self._note(admission, watch)
        return admission, found

    async def _in_turn[T](
        self, charge: Charge, wanted: Lookup[T], after: Afterwards, *, marks_may_be_old: bool
    ) -> tuple[Admission, T]:
        """The first call of a caller goes at once; what comes meanwhile waits for it (``limits/coalescing.py``)."""
        key = charge.subject.limited
        if key in self._waiting:
            return await self._crowd().join(key, charge, wanted, after, marks_may_be_old=marks_may_be_old)
        waiting: list[Waiting] = []
        self._waiting[key], admission = waiting, None
        try:
            admission, found = await self.limits.admit(charge, wanted, after, marks_may_be_old=marks_may_be_old)
        finally:
            if waiting:
                self._crowd().go_on(key, admission.quota.left if admission is not None else 0)
            else:
                del self._waiting[key]
        return admission, found

    def _crowd(self) -> "Together":
        if not self._together:
            # Needed by callers only who do not wait for their replies.
            from .limits.coalescing import Together

            self._together.append(Together(self.limits, self.outbox, self._waiting))
        return self._together[0]

    def _note(self, admission: Admission, watch: Stopwatch) -> None:
        """Note what the count took, and where."""
        if admission.mode == "redis":
            watch.redis = watch.since(watch.started)
        else:
            watch.fallback = watch.since(watch.started)

    async def look[P, V](
        self, call: Call, source: Source[P, V], codec: Codec[V], watch: Stopwatch, now_ms: int
    ) -> Turn[P, V]:
        """Count the call and read everything that is to be decided on, in one round trip."""
        charge, cache = Charge(call.subject, now_ms, call.deadline, call.cost), call.cache
        if cache is not None and cache.alone_ms:
            return await self._look_here(call, source, codec, watch, charge)
        wanted = both(both(_entry(call, codec), source.lookup(now_ms)), call.veto)
        admission, ((cached, seen), veto) = await self.count(charge, wanted, watch, call.after)
        seen.look(call.after)
        # By the store's clock, which an instance's first reply may have set right.
        return Turn(call, admission, cached, seen, veto, admission.charge.now_ms, call.after, watch)

    async def _look_here[P, V](
        self, call: Call, source: Source[P, V], codec: Codec[V], watch: Stopwatch, charge: Charge
    ) -> Turn[P, V]:
        """The same where the value may be in this instance's memory."""
        drops = self.recent.memory.drops
        wanted, held = self._wanted(call, source, codec, watch.started, charge.now_ms)
        if held and not call.subject.layout.windows and not call.veto.keys:
            # Nothing to count, and nothing to read.
            admission, found = Admission(charge, Quota(True, "unlimited", ()), self.limits.mode), wanted.unread()
        else:
            admission, found = await self.count(charge, wanted, watch, call.after, marks_may_be_old=True)
        return self._begin(call, admission, found, watch, drops, held=held)

    async def look_at_all[P, V](self, wished: Sequence[Wish[P, V]], watch: Stopwatch, now_ms: int) -> list[Turn[P, V]]:
        """The same for several calls of one caller, in one round trip."""
        drops, first = self.recent.memory.drops, wished[0].call
        each = [self._wanted(one.call, one.source, one.codec, watch.started, now_ms) for one in wished]
        charge = Charge(first.subject, now_ms, first.deadline, first.cost)
        read = every([wanted for wanted, _ in each])
        admission, found = await self.count(charge, read, watch, first.after, marks_may_be_old=True)
        return [
            self._begin(one.call, admission, read, watch, drops, held=held)
            for one, (_, held), read in zip(wished, each, found, strict=True)
        ]

    def _wanted[P, V](
        self, call: Call, source: Source[P, V], codec: Codec[V], now_s: float, now_ms: int
    ) -> tuple[Lookup[Found[P, V]], bool]:
        """What has to be read for a call, and whether its value is held here, so that only a veto is left to read."""
        cache = call.cache
        held: Cached[V] | None = self.recent.find(call, now_s, now_ms) if cache and cache.alone_ms else None
        if held is None:
            return both(both(_entry(call, codec), source.lookup(now_ms)), call.veto), False
        return both(constant((held, source.lookup(now_ms).unread())), call.veto), True

    def _begin[P, V](
        self,
        call: Call,
        admission: Admission,
        found: Found[P, V],
        watch: Stopwatch,
        drops: int,
        *,
        held: bool,
    ) -> Turn[P, V]:
        (cached, seen), veto = found
        # By the store's clock, which an instance's first reply may have set right.
        now_ms = admission.charge.now_ms
        if not held:
            seen.look(call.after)
            if call.cache and call.cache.memory_ms:
                self.recent.keep(call, cached, watch.started, now_ms, drops)
        return Turn(call, admission, cached, seen, veto, now_ms, call.after, watch, drops, held)


_NO_ENTRY: Cached[Any] = Cached(None, (), None, "", shared=True)


def _entry[V](call: Call, codec: Codec[V]) -> Lookup[Cached[V]]:
    """What is read of the cache; nothing where nothing is cached."""
    return constant(_NO_ENTRY) if call.cache is None else entries.lookup(call.key, call.epochs, codec)
