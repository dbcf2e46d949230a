"""The shell around the rules: ask, decide, call a provider, write back. The order of things for a guarded request.

It never retries a write: a failure costs a caller at most one call of its allowance, and never runs a provider twice.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Literal

from .ai import question
from .ai.chain import ALONE, Asking, Chain, NobodyAnswered, Opened, View
from .ai.providers.port import Delta, End, Piece, ProviderFailed
from .ai.question import Answer
from .base import caller
from .base.bounded import Bounded
from .base.calendar import month_of
from .base.clock import Clock
from .base.events import Listener, Mode, Spent
from .base.leaving import in_any_case
from .cache import answers
from .cache import single_flight as flight
from .cache.answers import Entry
from .cache.flights import Flight, Flights, Landed
from .cache.freshness import freshness
from .cache.single_flight import FlightRules
from .call import Answered, CacheState, Call, Failed, Outcome, Refused, Result, Streaming
from .decide import Compute, Deny, Serve, decide, may_be_asked, without_providers
from .limits import bitfield
from .limits.bitfield import Mark
from .limits.blocklist import Blocklist
from .limits.judge import too_costly
from .limits.limiter import Admission, Limits, Subject
from .policy import Policy
from .redis import keys
from .redis.errors import RedisDown
from .redis.op import Op, Reply, as_list, as_text, ignored, join
from .redis.store import RedisStore

_STILL_FLYING = Failed(ProviderFailed("timeout", "the same question is still being answered"))


@dataclass(frozen=True, slots=True)
class _State:
    """What Redis holds of a question, and of the providers."""

    answer: Answer | None = None
    lock: str | None = None
    outdated: bool = False
    """An answer is stored, but of before an invalidation."""
    epochs: tuple[int, ...] = ()
    providers: tuple[str | None, ...] | None = None
    thrift: str | None = None
    """How sparingly Redis is to be used."""
    reset_ms: int = 0
    """When the caller was last reset by hand."""


@dataclass(slots=True)
class _Asked:
    """What one request learned before it was decided, and what it still has to do."""

    call: Call
    now_ms: int
    admission: Admission
    state: _State
    view: View
    key: str
    mark: Mark | None
    """The note that this request left of its question; None where it wants an answer of its own."""
    asking: Asking
    watch: "_Watch"
    refresh: tuple[int, ...] = ()
    locked: bool = False
    """Whether this request holds the lock of its answer in Redis."""
    stored: bool = False
    """Whether an answer is in Redis, or will be: then neither note nor lock need be taken back."""
    part: Literal["none", "leads", "follows"] = "none"
    """Who computes: nobody for this request, this request, or another, whose note is not ours to take back."""
    flying: Flight | None = None
    """What this instance was computing of this answer when the request came."""
    mine: Flight | None = None
    """What this request computes, or has computed and is still to be stored."""
    opened: Opened | None = None
    """A provider's answer that may have to be broken off."""

    @property
    def me(self) -> str:
        """What the lock holds when it is ours."""
        return flight.owner(self.call.request_id, self.state.epochs)


@dataclass(slots=True)
class _Watch:
    """Milliseconds by what they were spent on."""

    clock: Clock
    started: float
    redis: float = 0.0
    fallback: float = 0.0
    backend: float = 0.0

    def since(self, started: float) -> float:
        return (self.clock.monotonic() - started) * 1000

    def read(self) -> Spent:
        others = self.redis + self.fallback + self.backend
        return Spent(max(0.0, self.since(self.started) - others), self.redis, self.fallback, self.backend)


async def _nothing() -> None:
    """Nothing is left to do after the reply."""


@dataclass(slots=True)
class Guard:
    """Stands in front of the providers. One per instance; everything it remembers may be lost without harm."""

    chain: Chain
    limits: Limits
    redis: RedisStore | None
    clock: Clock
    emit: Listener
    flight: FlightRules = field(default_factory=FlightRules)
    blocklist: Blocklist = field(default_factory=Blocklist)
    _resets: Bounded[str, int] = field(default_factory=lambda: Bounded(1_000))
    """The resets by hand that this instance has heard of."""
    _flights: Flights = field(default_factory=Flights)

    async def handle(self, call: Call) -> Outcome:
        """Decide one request and carry it out. Raises what ``call.while_here`` raises when the client leaves."""
        watch, now_ms = _Watch(self.clock, self.clock.monotonic()), self.clock.now_ms()
        policy = call.policy
        subject = Subject(
            caller.subject(call.caller, policy.group, policy.layout.tag), policy.layout, policy.group, call.caller.id
        )
        refusal, reason = self.blocklist.find(subject.id, call.cost, now_ms), "blocked"
        mode: Mode = self.limits.mode if refusal is None else self.blocklist.mode(subject.id)
        if refusal is None:
            refusal, reason = too_costly(policy.layout.windows, call.cost, now_ms), "cost_exceeds_limit"
        if refusal is not None:
            refused = Refused("rate_limited", reason, refusal.retry_at_ms)
            return Outcome(refused, mode, refusal, watch.read(), now_ms, policy.cache.fresh_ms, (), _nothing)
        asked = await self._ask(call, subject, now_ms, watch)
        try:
            result = await self._act(asked)
        except BaseException:
            # The client left, or a bug: what was spent and taken on the way is still given back.
            await self._finish(asked)
            raise
        quota = asked.admission.quota
        if isinstance(result, Refused) and result.code == "rate_limited":
            longest_ms = self.limits.thrift.step(now_ms).block_ms
            self.blocklist.remember(subject.id, call.cost, quota, now_ms, longest_ms, asked.admission.mode)
        mode = asked.admission.mode if policy.layout.windows else "off"
        return Outcome(
            result,
            mode,
            quota,
            watch.read(),
            now_ms,
            policy.cache.fresh_ms,
            asked.asking.attempts,
            lambda: self._finish(asked),
        )

    # Ask

    async def _ask(self, call: Call, subject: Subject, now_ms: int, watch: _Watch) -> _Asked:
        hashed = question.query_hash(call.route, call.caller.id, call.question)
        key = keys.answer(call.route, call.question.session, hashed)
        read, flying, mine = self._read_state(call, subject, key, now_ms), self._flights.get(key), None
        if not (call.asked.no_cache or call.asked.no_store or call.asked.only_if_cached) and flying is None:
            mine = self._flights.begin(key)
        mark = flight.note(hashed, now_ms) if mine is not None else None
        try:
            admissions, state = await self._spend(subject, call, now_ms, read, mark)
        except BaseException:
            if mine is not None:
                # A bug; nobody may wait for it.
                self._flights.land(key, mine, (), None)
            raise
        admission = admissions[-1]
        if admission.mode == "redis":
            watch.redis = watch.since(watch.started)
        else:
            watch.fallback = watch.since(watch.started)
        state = state or _State()
        if mine is not None:
            mine.epochs.set_result(state.epochs)
        view = self.chain.view(state.providers, now_ms)
        # Only the answer goes to the provider as a stream; what is computed for the cache alone does not.
        asking = Asking(call.question, call.request_id, call.deadline, call.stream, [], admissions, call.while_here)
        return _Asked(call, now_ms, admission, state, view, key, mark, asking, watch, flying=flying, mine=mine)

    async def _spend(
        self, subject: Subject, call: Call, now_ms: int, read: Op[tuple[int, _State]], mark: Mark | None
    ) -> tuple[list[Admission], _State | None]:
        """The verdict on the call, last, and what was read with it."""
        admission, state = await self.limits.spend(subject, call.cost, now_ms, read, call.deadline, mark=mark)
        if state is None:
            return [admission], None
        self.limits.thrift.seen(state.thrift, now_ms)
        if not self._is_new_reset(subject, state) or admission.quota.allowed:
            return [admission], state
        # Refused by what this instance remembered of before. Without a note: it would find its own and wait for itself.
        second, again = await self.limits.spend(subject, call.cost, now_ms, read, call.deadline)
        return [admission, second], again or state

    def _is_new_reset(self, subject: Subject, state: _State) -> bool:
        """Whether the caller was reset by hand since this instance last looked; then it forgets what it knew."""
        if state.reset_ms <= (self._resets.get(subject.id) or 0):
            return False
        self._resets.put(subject.id, state.reset_ms)
        self.limits.forget(subject.id)
        return True

    def _read_state(self, call: Call, subject: Subject, key: str, now_ms: int) -> Op[tuple[int, _State]]:
        """The outage marker, the answer, its lock, what was done by hand, and the providers: 1 command."""
        names = [
            keys.OUTAGE,
            keys.thrift(month_of(now_ms)),
            keys.reset(subject.id),
            keys.EPOCH_ALL,
            key,
            keys.lock(key),
            keys.epoch_route(call.route),
            keys.epoch_session(call.route, call.question.session),
            *self.chain.keys(now_ms),
        ]

        def read(replies: Sequence[Reply]) -> tuple[int, _State]:
            outage, thrift, reset, everything, entry, lock, route, session, *providers = (
                as_text(each) for each in as_list(replies[0], len(names))
            )
            # Both only grow, so that their sum names a state as well as each of them.
            epochs = (
                answers.parse_epoch(everything) + answers.parse_epoch(route),
                answers.parse_epoch(session),
            )
            answer = answers.parse(entry, epochs)
            outdated = entry is not None and answer is None
            return answers.parse_epoch(outage), _State(
                answer, lock, outdated, epochs, tuple(providers), thrift, answers.parse_epoch(reset)
            )

        return Op((("MGET", *names),), read)

    # Act

    async def _act(self, asked: _Asked) -> Result:
        call = asked.call
        standings = self.chain.standings(asked.view, asked.now_ms)
        decision = decide(asked.admission.quota, asked.state.answer, standings, asked.now_ms, call.policy, call.asked)
        match decision:
            case Deny(code, reason, retry_at_ms):
                self._land(asked, None)
                return Refused(code, reason, retry_at_ms)
            case Serve(answer, stale, reason, refresh):
                self._land(asked, None)
                # Whoever refreshes it now will do; that is seen from the lock that came with the answer.
                asked.stored = True
                refreshes = self.limits.thrift.step(asked.now_ms).refreshes
                if refreshes and not flight.is_locked(asked.state.lock, asked.state.epochs):
                    asked.refresh = refresh
                return Answered(answer, "stale" if stale else "hit", reason, stored=True)
            case Compute(reason, order):
                return await self._compute(asked, reason, order)

    async def _compute(self, asked: _Asked, reason: str, order: tuple[int, ...]) -> Result:
        """Ask the providers, or wait for a request that does so for the same answer."""
        # Nothing is taken from a provider's budget for a client that has left.
        await asked.call.while_here(_nothing())
        if asked.call.asked.no_cache or asked.call.asked.no_store:
            # Wants an answer of its own.
            return await self._lead(asked, reason, order)
        given_up = False
        while asked.mine is None:
            flying = await self._flying(asked)
            if flying is None:
                asked.mine = self._flights.begin(asked.key)
                asked.mine.epochs.set_result(asked.state.epochs)
                break
            asked.part, was_done = "follows", flying.result.done()
            result = await asked.call.while_here(self._wait(flying.result, asked.call.deadline))
            if isinstance(result, Answered):
                asked.stored = result.stored
                if result.cache == "stale":
                    return result
                # Already there, on its way to Redis: as good as read from there.
                return Answered(result.answer, "hit" if was_done else "collapsed", "in flight", result.stored)
            if result is not None:
                return result
            given_up, asked.flying = True, None
        try:
            led = await self._lead(asked, reason, order, given_up=given_up)
        except BaseException:
            self._land(asked, None)
            raise
        if not isinstance(led, Streaming):
            self._land(asked, led)
        return led

    async def _flying(self, asked: _Asked) -> Flight | None:
        """What this instance computes of this answer, unless it began before an invalidation."""
        for flying in (asked.flying, self._flights.get(asked.key)):
            if flying is not None and await self._wait(flying.epochs, asked.call.deadline) == asked.state.epochs:
                return flying
        return None

    async def _wait[T](self, flying: asyncio.Future[T], deadline: float) -> T | Failed:
        """What another request of this instance gets for the same question."""
        try:
            async with asyncio.timeout(self.limits.left_s(deadline)):
                # Shielded: one follower's leaving must not end it for the others.
                return await asyncio.shield(flying)
        except TimeoutError:
            return _STILL_FLYING

    def _land(self, asked: _Asked, result: Landed) -> None:
        """Tell those of this instance who wait for this request, if anybody can."""
        if asked.mine is not None:
            self._flights.land(asked.key, asked.mine, asked.state.epochs, result)

    async def _lead(self, asked: _Asked, reason: str, order: tuple[int, ...], *, given_up: bool = False) -> Result:
        """Compute the answer here, unless another instance does."""
        first: Admission | None = None
        role = self._role(asked, given_up=given_up) if asked.mine is not None and asked.view.shared else "leads"
        if role != "leads":
            asked.part = "follows"
            followed = await self._follow_or_claim(asked, order, claims=role == "claims")
            if isinstance(followed, Answered | Failed):
                return followed
            first = followed
        asked.part = "leads"
        if first is None:
            first, _ = await self.chain.spend(order[0], asked.asking, ALONE)
        return await self._ask_providers(asked, reason, order, first)

    def _role(self, asked: _Asked, *, given_up: bool) -> Literal["leads", "follows", "claims"]:
        """What note and lock say: whether nobody else computes this answer, somebody does, or the lock must tell."""
        state, slot, mark = asked.state, asked.admission.slot, asked.mark
        if given_up:
            # By a request of this instance, whose note and lock are what was read.
            return "claims"
        if flight.is_locked(state.lock, state.epochs):
            return "follows"
        if mark is None or slot is None or state.answer is not None or state.outdated:
            # Whoever found the entry usable left a note as well.
            return "claims"
        if self._flights.is_over(asked.key, slot):
            # Announced by a request of this instance that is over, and whose answer is not there: it was not stored.
            return "claims"
        return "follows" if flight.is_flying(slot, mark, asked.now_ms, self.flight) else "leads"

    async def _follow_or_claim(
        self, asked: _Asked, order: tuple[int, ...], *, claims: bool
    ) -> Answered | Failed | Admission | None:
        """Another instance's answer; or, with the lock in hand, the first provider's admission.

        None: nothing can be learned of others any more, and the answer is computed here whoever else does.
        """
        waits = flight.waits_ms(self.flight, self.clock.jitter())
        while True:
            if claims:
                first, won = await self._claim(asked, order[0], asked.asking)
                if won is not False:
                    return first
            if not waits:
                # Whoever took over is at it still: one more call would be no faster.
                return _STILL_FLYING
            wait_s, left_s = waits.pop(0) / 1000, self.limits.left_s(asked.call.deadline)
            if wait_s >= left_s or self.redis is None:
                return None
            await asked.call.while_here(self.clock.sleep(wait_s))
            try:
                asked.state, slot = await self.redis.run(self._poll(asked), "poll", left_s - wait_s)
            except RedisDown:
                return None
            state, now_ms, mark, call = asked.state, self.clock.now_ms(), asked.mark, asked.call
            if state.answer is not None and freshness(state.answer, now_ms, call.policy.cache, call.asked) == "fresh":
                asked.stored = True
                return Answered(state.answer, "collapsed", "collapsed", stored=True)
            noted = state.answer is None and not state.outdated and mark is not None
            flying = noted and mark is not None and flight.is_flying(slot, mark, now_ms, self.flight)
            claims = not flying and not flight.is_locked(state.lock, state.epochs)

    async def _claim(self, asked: _Asked, place: int, asking: Asking) -> tuple[Admission, bool | None]:
        """The provider's admission and, in the same round trip, the lock of the answer; None: Redis did not say."""
        held = asked.state.lock
        claim = flight.claim(asked.key, asked.me, self.flight)
        if held is not None and not flight.is_locked(held, asked.state.epochs):
            claim = flight.replace(asked.key, held, asked.me, self.flight)
        # Held until it is known: to release what is not ours does no harm.
        asked.locked = True
        ride = Op(claim.commands, lambda replies: (0, claim.read(replies)))
        admission, won = await self.chain.spend(place, asking, ride)
        asked.locked = won is True
        if won is False:
            self.chain.unspend(place, asking, admission)
            # At once, not after the wait: meanwhile others would be refused for a call that does not go out.
            with suppress(RedisDown):
                await self.limits.finish([admission], asked.call.deadline)
        return admission, won

    def _poll(self, asked: _Asked) -> Op[tuple[_State, int | None]]:
        """Look again for the answer and for who computes it: 2 commands, 1 where no notes are left."""
        read = self._read_state(asked.call, asked.admission.subject, asked.key, asked.now_ms)
        if asked.mark is None or asked.admission.slot is None:
            return Op(read.commands, lambda replies: (read.read(replies)[1], None))
        slot = bitfield.get_slot(asked.admission.subject.id, asked.mark.slot, asked.now_ms)
        both = join(read, slot)

        def answer(replies: Sequence[Reply]) -> tuple[_State, int]:
            (_, state), held = both.read(replies)
            return state, held

        return Op(both.commands, answer)

    async def _ask_providers(self, asked: _Asked, reason: str, order: tuple[int, ...], first: Admission) -> Result:
        call, started = asked.call, self.clock.monotonic()
        try:
            asked.opened = await self.chain.open(asked.asking, asked.view, order, first)
            if not call.stream:
                return await self._collect(asked, asked.opened, reason)
        except NobodyAnswered as e:
            return self._without_answer(asked, e.failure)
        except ProviderFailed as e:
            return self._without_answer(asked, e)
        finally:
            asked.watch.backend += asked.watch.since(started)
        provider = self.chain.links[asked.opened.place].name
        return Streaming(self._pump(asked, asked.opened), provider, self._missed(asked), reason)

    def _without_answer(self, asked: _Asked, failure: ProviderFailed | None) -> Answered | Refused | Failed:
        """An older answer if there is one; else the failure, or when somebody may be asked again."""
        call, now_ms, answer = asked.call, self.clock.now_ms(), asked.state.answer
        if answer and freshness(answer, now_ms, call.policy.cache, call.asked) == "unwanted":
            answer = None
        if answer is not None:
            return Answered(answer, "stale", failure.kind if failure else "no_provider", stored=True)
        standings = self.chain.standings(asked.view, now_ms)
        denied = without_providers(standings, now_ms)
        if failure is None:
            return Refused(denied.code, denied.reason, denied.retry_at_ms)
        nobody = not any(may_be_asked(each, now_ms) for each in standings)
        return Failed(failure, denied.retry_at_ms if nobody else None)

    def _missed(self, asked: _Asked) -> CacheState:
        asks_anew = asked.call.asked.no_cache or asked.call.asked.no_store
        return "bypass" if asks_anew or not asked.view.shared else "miss"

    async def _collect(self, asked: _Asked, opened: Opened, reason: str) -> Answered:
        """The whole answer at once."""
        texts: list[str] = []
        try:
            async with aclosing(self._pieces(asked, opened)) as pieces:
                async for piece in pieces:
                    if isinstance(piece, End):
                        return await self._complete(asked, opened, "".join(texts), piece, reason)
                    texts.append(piece.text)
        finally:
            await self._close(asked)
        raise AssertionError("a provider's answer has an end")

    async def _pump(self, asked: _Asked, opened: Opened) -> AsyncGenerator[Piece]:
        """The pieces as they come; what they amount to is kept after the last one only.

        Whoever leaves may close it without ever having started it: what is left to do then is for :meth:`_finish`.
        """
        texts: list[str] = []
        result: Answered | Failed | None = None
        started = self.clock.monotonic()
        try:
            async with aclosing(self._pieces(asked, opened)) as pieces:
                async for piece in pieces:
                    if isinstance(piece, Delta):
                        texts.append(piece.text)
                    else:
                        result = await self._complete(asked, opened, "".join(texts), piece, "streamed")
                        self._land(asked, result)
                    yield piece
        except ProviderFailed as e:
            result = Failed(e)
            raise
        finally:
            asked.watch.backend += asked.watch.since(started)
            self._land(asked, result)

    async def _pieces(self, asked: _Asked, opened: Opened) -> AsyncGenerator[Piece]:
        """All pieces of an opened answer; tells the circuit if it fails."""
        try:
            yield opened.first
            async for piece in opened.rest:
                yield piece
        except ProviderFailed as e:
            await self.chain.broke(asked.asking, asked.view, opened, e)
            raise

    async def _close(self, asked: _Asked) -> None:
        """End a provider's call, if it goes on, and hand back what was taken for it."""
        if asked.opened is not None:
            await self.chain.close(asked.asking, asked.view, asked.opened)

    async def _complete(self, asked: _Asked, opened: Opened, text: str, end: End, reason: str) -> Answered:
        """A whole answer: tell its circuit and budget, keep it if it may be kept."""
        if not text.strip():
            error = ProviderFailed("empty", "the answer is empty")
            await self.chain.broke(asked.asking, asked.view, opened, error)
            raise error
        answer = await self.chain.answered(asked.asking, asked.view, opened, text, end)
        keeps = asked.view.shared and end.whole and not asked.call.asked.no_store and question.storable(answer)
        if keeps:
            asked.stored = True
            asked.admission.owed.append(_store(asked.key, Entry(answer, asked.state.epochs), asked.call.policy))
        return Answered(answer, self._missed(asked), reason, keeps)

    # Afterwards

    async def _finish(self, asked: _Asked) -> None:
        """What is left when the reply has gone out. What fails here is logged and changes no answer."""
        try:
            await self._close(asked)
            self._land(asked, None)
            if asked.refresh:
                await self._refresh(asked)
            self._let_others_try(asked)
            # Not a moment longer than the platform lets it: the providers have left it a second.
            await self.limits.finish(asked.asking.owed, asked.call.deadline)
        except RedisDown:
            # Logged where it failed. At most this request's own refund, TTL or answer is lost.
            return
        finally:
            if asked.mine is not None:
                self._flights.end(asked.key, asked.mine)
            if asked.mark is not None:
                self._flights.leave_note(asked.key, asked.mark.value)

    def _let_others_try(self, asked: _Asked) -> None:
        """Take back note and lock where no answer came of them. A refused call's refund has done so."""
        if asked.stored or not asked.view.shared or not asked.admission.quota.allowed:
            return
        owed: list[Op[object]] = []
        held_ms, slot, mark = self.clock.now_ms() - asked.now_ms, asked.admission.slot, asked.mark
        # Ours for a lease only: later it may be another's.
        if mark is not None and slot is not None and held_ms < self.flight.lease_ms:
            # Whoever computed nothing (all providers closed, the caller left at once) may have written over a leader's;
            # whoever followed has, unless that leader of this instance had taken it back before.
            before = flight.erased(mark) if asked.part == "leads" else Mark(mark.slot, slot)
            if asked.part != "follows" or not flight.is_flying(slot, mark, asked.now_ms, self.flight):
                owed.append(bitfield.set_slot(asked.admission.subject.id, before, asked.now_ms))
        if asked.locked:
            owed.append(flight.release(asked.key, asked.me))
        if owed:
            asked.asking.owed.append(self.limits.debt(asked.admission.subject, owed, asked.now_ms))

    async def _refresh(self, asked: _Asked) -> None:
        """Compute an aging answer anew, unless somebody does so already."""
        call, order = asked.call, asked.refresh
        asked.asking = Asking(call.question, call.request_id, call.deadline, False, [], asked.asking.owed, in_any_case)
        asked.refresh = ()
        first, won = await self._claim(asked, order[0], asked.asking)
        if won is not True:
            return
        asked.stored = False
        try:
            asked.opened = await self.chain.open(asked.asking, asked.view, order, first)
            await self._collect(asked, asked.opened, "refresh")
        except (NobodyAnswered, ProviderFailed):
            # Told by its own event; the older answer goes on being served.
            return


def _store(key: str, entry: Entry, policy: Policy) -> Op[None]:
    """Keep an answer for as long as it may be served, fresh or stale: 1 command."""
    lasts_ms = policy.cache.fresh_ms + max(policy.cache.refresh_ms, policy.cache.stale_ms)
    return Op((("SET", key, answers.dump(entry), "PX", lasts_ms),), ignored)
