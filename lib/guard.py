"""The shell around the rules: count and look up, decide, serve or compute, and send what is left afterwards.

    handle   ->  blocked here?                       refused from memory
             ->  Limits.admit                        one round trip: the count, and everything that is read
             ->  decide                              a pure function: Deny, Serve or Compute
             ->  Computing.compute                   lead or follow, here first, then across instances
             ->  finish, once the reply is out       close, land, refresh, send what is left: one round trip

It never retries a write: a failure costs a caller at most one call of its limit, and never calls a source twice.
"""

from dataclasses import replace
from typing import Any

from .afterwards import Afterwards, Outbox
from .base.clock import Clock
from .base.events import Mode, Spent
from .base.leaving import in_any_case
from .base.values import dataclass
from .cache import entry as entries
from .cache.entry import Cached, Codec
from .call import Answered, Call, Failed, Outcome, Refused, Streaming
from .computing import Computing
from .decide import Compute, Deny, Serve, decide
from .limits.admission import Admission, Charge, Subject
from .limits.judge import Quota, too_costly
from .limits.limiter import Limits
from .lookup import Lookup, both, constant
from .source import Source
from .turn import Stopwatch, Turn


@dataclass(frozen=True, slots=True)
class Counted:
    """The verdict on a call that was counted and had nothing else to read."""

    quota: Quota
    mode: Mode
    reason: str
    now_ms: int
    spent: Spent


async def _nothing(*, send: bool = True) -> None:
    """Nothing is left to do after the reply."""


@dataclass(slots=True)
class Guard:
    """Stands in front of sources. One for each instance; everything that it remembers may be lost without harm."""

    limits: Limits
    computing: Computing
    outbox: Outbox
    clock: Clock

    async def handle[P, V](self, call: Call, source: Source[P, V], codec: Codec[V]) -> Outcome[P, V]:
        """Decide one request and carry it out. Raises what ``call.while_here`` raises when the client leaves."""
        watch, now_ms = Stopwatch(self.clock, self.clock.monotonic()), self.clock.now_ms()
        if (refused := await self.refusal(call.subject, call.deadline, call.cost)) is not None:
            return refused
        turn = await self._look(call, source, codec, watch, now_ms)
        try:
            result, refresh = await self._act(turn, codec)
        except BaseException:
            # The client left, or a bug: what was taken on the way is still returned.
            await self._finish(turn, codec, (), send=True)
            raise
        admission = turn.admission
        mode = admission.mode if call.subject.layout.windows else "off"
        return Outcome(
            result,
            mode,
            admission.quota,
            watch.read(),
            turn.now_ms,
            _fresh_ms(call),
            turn.seen.attempts,
            lambda *, send=True: self._finish(turn, codec, refresh, send=send),
        )

    async def refusal(self, subject: Subject, deadline: float, cost: int = 1) -> Outcome[Any, Any] | None:
        """The outcome of a call that is refused from memory; a route looks before it prepares anything."""
        watch, now_ms = Stopwatch(self.clock, self.clock.monotonic()), self.clock.now_ms()
        known = await self._refusal(subject, cost, watch, now_ms, deadline)
        if known is None:
            return None
        refused = Refused("rate_limited", known.reason, known.quota.retry_at_ms)
        return Outcome(refused, known.mode, known.quota, known.spent, now_ms, 0, (), _nothing)

    async def count(self, subject: Subject, cost: int, deadline: float, after: Afterwards) -> Counted:
        """Count a call that has nothing else to read; what follows from it is added to ``after``. Raises nothing.

        Where there is no limit, no store is called.
        """
        watch, now_ms = Stopwatch(self.clock, self.clock.monotonic()), self.clock.now_ms()
        if (known := await self._refusal(subject, cost, watch, now_ms, deadline)) is not None:
            return known
        if not subject.layout.windows:
            return Counted(Quota(True, "unlimited", ()), "off", "unlimited", now_ms, watch.read())
        admission, _ = await self.limits.admit(Charge(subject, now_ms, deadline, cost), constant(None), after)
        self._time(watch, admission)
        self._remember(admission)
        return Counted(admission.quota, admission.mode, admission.quota.reason, admission.charge.now_ms, watch.read())

    async def _refusal(
        self, subject: Subject, cost: int, watch: Stopwatch, now_ms: int, deadline: float
    ) -> Counted | None:
        """A refusal that needs no command: one that still stands, or a cost that never fits."""
        blocklist = self.limits.blocklist
        if blocklist.find(subject.id, cost, now_ms) is not None:
            await self.limits.hear_news(now_ms, deadline)
            if (blocked := blocklist.find(subject.id, cost, now_ms)) is not None:
                return Counted(*blocked, "blocked", now_ms, watch.read())
        if (never := too_costly(subject.layout.windows, cost, now_ms)) is not None:
            return Counted(never, self.limits.mode, never.reason, now_ms, watch.read())
        return None

    def _remember(self, admission: Admission) -> None:
        """Refuse the same caller from memory until its time has come, already from the call on that left nothing."""
        if admission.quota.allowed and admission.following is None:
            return
        charge, refusal, cost = admission.charge, admission.quota, admission.charge.cost
        if admission.following is not None:
            refusal, cost = admission.following, 1
        self.limits.blocklist.remember(
            charge.subject.id, cost, refusal, charge.now_ms, admission.mode, sure=admission.sure
        )

    def _time(self, watch: Stopwatch, admission: Admission) -> None:
        if admission.mode == "redis":
            watch.redis = watch.since(watch.started)
        else:
            watch.fallback = watch.since(watch.started)

    async def _look[P, V](
        self, call: Call, source: Source[P, V], codec: Codec[V], watch: Stopwatch, now_ms: int
    ) -> Turn[P, V]:
        """Count the call and read everything that is to be decided on, in one round trip."""
        after, charge = call.after, Charge(call.subject, now_ms, call.deadline, call.cost)
        wanted = both(both(_entry(call, codec), source.lookup(now_ms)), call.veto)
        admission, ((cached, seen), veto) = await self.limits.admit(charge, wanted, after)
        self._time(watch, admission)
        self._remember(admission)
        seen.look(after)
        # By the store's clock, which an instance's first reply may have set right.
        return Turn(call, admission, cached, seen, veto, admission.charge.now_ms, after, watch)

    async def _act[P, V](
        self, turn: Turn[P, V], codec: Codec[V]
    ) -> tuple[Answered[V] | Streaming[P, V] | Refused | Failed, tuple[int, ...]]:
        """Carry the decision out; the result, and by what the entry that is served is to be refreshed afterwards."""
        call, now_ms = turn.call, turn.now_ms
        standings = turn.seen.standings(now_ms)
        decision = decide(
            turn.admission.quota, turn.veto, turn.cached.entry, standings, now_ms, call.cache, call.directives
        )
        match decision:
            case Deny(code, reason, retry_at_ms):
                turn.to("refused")
                return Refused(code, reason, retry_at_ms), ()
            case Serve(found, stale, reason, refresh):
                turn.to("serving")
                # Where another instance computes it already, that will do.
                refreshes = self.limits.thrift.step(now_ms).refreshes and not turn.cached.computing
                served = Answered(found.value, "stale" if stale else "hit", reason, found.stored_at_ms, stored=True)
                return served, refresh if refreshes else ()
            case Compute(reason, order):
                return await self.computing.compute(turn, codec, reason, order), ()

    async def _finish[P, V](self, turn: Turn[P, V], codec: Codec[V], refresh: tuple[int, ...], *, send: bool) -> None:
        """What is left to do after the reply. A failure here is logged and changes no reply."""
        try:
            await self.computing.leading.finish(turn, codec)
            if refresh:
                await self._refresh(turn, codec, refresh)
        finally:
            try:
                if send:
                    # No longer than the platform allows: sources have reserved a second for this. A failure was
                    # logged where it happened; at most this request's own refund, TTL or entry is lost.
                    await self.outbox.try_send(turn.after, self.limits.left_s(turn.call.deadline))
            finally:
                self.computing.leading.land(turn, None)

    async def _refresh[P, V](self, turn: Turn[P, V], codec: Codec[V], order: tuple[int, ...]) -> None:
        """Compute an aging value anew, unless somebody does so: another turn, with no client that could leave."""
        call = replace(turn.call, stream=False, while_here=in_any_case)
        again = replace(turn, call=call, state="admitted")
        await self.computing.refresh(again, codec, order)


def _fresh_ms(call: Call) -> int:
    return call.cache.fresh_ms if call.cache is not None else 0


_NO_ENTRY: Cached[Any] = Cached(None, (), None, "", shared=True)


def _entry[V](call: Call, codec: Codec[V]) -> Lookup[Cached[V]]:
    """What is read of the cache; nothing where nothing is cached."""
    return constant(_NO_ENTRY) if call.cache is None else entries.lookup(call.key, call.epochs, codec)
