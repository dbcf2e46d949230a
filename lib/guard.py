"""The shell around the rules: count and look up, decide, serve or compute, and send what is left afterwards.

    handle   ->  blocked here?                       refused from memory
             ->  Limits.admit                        one round trip: the count, and everything that is read
             ->  decide                              a pure function: Deny, Serve or Compute
             ->  Computing.compute                   lead or follow, here first, then across instances
             ->  finish, once the reply is out       close, land, refresh, send what is left: one round trip

It never retries a write: a failure costs a caller at most one call of its limit, and never calls a source twice.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import field, replace
from typing import Any

from .afterwards import Afterwards, Outbox
from .base.clock import Clock
from .base.events import Mode, Spent
from .base.leaving import in_any_case
from .base.values import dataclass
from .cache.entry import Codec
from .call import Answered, Call, Failed, Outcome, Refused, Streaming
from .computing import Computing
from .decide import Compute, Deny, Serve, decide
from .limits.admission import Charge, Subject
from .limits.judge import Quota, too_costly
from .limits.limiter import Limits
from .looking import Looking, Recent, Wish
from .lookup import constant
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
    recent: Recent = field(default_factory=Recent)
    looking: Looking = field(init=False)

    def __post_init__(self) -> None:
        self.looking = Looking(self.limits, self.recent, self.outbox)

    async def handle[P, V](self, call: Call, source: Source[P, V], codec: Codec[V]) -> Outcome[P, V]:
        """Decide one request and carry it out. Raises what ``call.while_here`` raises when the client leaves."""
        watch, now_ms = Stopwatch(self.clock, self.clock.monotonic()), self.clock.now_ms()
        # For all who call this. A route that prepares much has looked before; but while it waited, another of the
        # caller's requests may have been refused.
        if (refused := await self.refusal(call.subject, call.deadline, call.cost)) is not None:
            return refused
        return await self._carry_out(await self.looking.look(call, source, codec, watch, now_ms), codec)

    async def handle_all[P, V](self, wished: Sequence[Wish[P, V]]) -> list[Outcome[P, V]]:
        """Several calls of one caller, counted once, as the first one says, and read in one round trip.

        Raises as `handle`; what the others have begun by then is ended.
        """
        watch, now_ms = Stopwatch(self.clock, self.clock.monotonic()), self.clock.now_ms()
        first = wished[0].call
        if (refused := await self.refusal(first.subject, first.deadline, first.cost)) is not None:
            return [refused for _ in wished]
        turns = await self.looking.look_at_all(wished, watch, now_ms)
        ways = [self._carry_out(turn, one.codec) for turn, one in zip(turns, wished, strict=True)]
        found = await asyncio.gather(*ways, return_exceptions=True)
        outcomes = [each for each in found if not isinstance(each, BaseException)]
        for each in found:
            if isinstance(each, BaseException):
                for outcome in outcomes:
                    await outcome.after(send=False)
                raise each
        return outcomes

    async def _carry_out[P, V](self, turn: Turn[P, V], codec: Codec[V]) -> Outcome[P, V]:
        """Act on what was read, and say what is left to do."""
        try:
            result, refresh = await self._act(turn, codec)
        except BaseException:
            # The client left, or a bug: what was taken on the way is still returned.
            await self._finish(turn, codec, (), send=True)
            raise
        if isinstance(result, Answered) and not turn.cached.shared and not turn.held:
            self.recent.keep_alone(turn.call, turn.cached, result, codec, self.clock.monotonic(), turn.drops)
        return Outcome(
            result,
            _mode(turn),
            turn.admission.quota,
            turn.watch.read(),
            turn.now_ms,
            _fresh_ms(turn.call),
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
        charge = Charge(subject, now_ms, deadline, cost)
        admission, _ = await self.looking.count(charge, constant(None), watch, after)
        return Counted(admission.quota, admission.mode, admission.quota.reason, admission.charge.now_ms, watch.read())

    async def _refusal(
        self, subject: Subject, cost: int, watch: Stopwatch, now_ms: int, deadline: float
    ) -> Counted | None:
        """A refusal that needs no command: one that still stands, or a cost that never fits."""
        blocklist = self.limits.blocklist
        if blocklist.find(subject, cost, now_ms) is not None:
            await self.limits.hear_news(now_ms, deadline)
            if (blocked := blocklist.find(subject, cost, now_ms)) is not None:
                return Counted(*blocked, "blocked", now_ms, watch.read())
        if (never := too_costly(subject.layout.windows, cost, now_ms)) is not None:
            return Counted(never, self.limits.mode, never.reason, now_ms, watch.read())
        return None

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
                reason = "memory" if turn.held else reason
                served = Answered(found.value, "stale" if stale else "hit", reason, found.stored_at_ms, stored=True)
                return served, refresh if refreshes else ()
            case Compute(reason, order):
                if call.progress is not None:
                    call.progress.mode, call.progress.quota = _mode(turn), turn.admission.quota
                    call.progress.now_ms = now_ms
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
                    await self.outbox.try_send(turn.after, self.clock.left_s(turn.call.deadline))
            finally:
                self.computing.leading.land(turn, None)

    async def _refresh[P, V](self, turn: Turn[P, V], codec: Codec[V], order: tuple[int, ...]) -> None:
        """Compute an aging value anew, unless somebody does so: another turn, with no client that could leave."""
        call = replace(turn.call, stream=False, while_here=in_any_case)
        again = replace(turn, call=call, state="admitted")
        await self.computing.refresh(again, codec, order)


def _mode(turn: Turn[Any, Any]) -> Mode:
    return turn.admission.mode if turn.call.subject.layout.windows else "off"


def _fresh_ms(call: Call) -> int:
    return call.cache.fresh_ms if call.cache is not None else 0
