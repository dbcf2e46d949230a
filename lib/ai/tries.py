"""One question, put to the providers in turn until one begins to answer."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import field, replace

from ..afterwards import Afterwards
from ..base.events import ProviderAnswered, ProviderAsked, ProviderFailure
from ..base.values import dataclass
from ..breaker.breaker import Breaker, Passage
from ..call import Attempt, Call
from ..decide import Standing
from ..limits.admission import Admission, Charge
from ..lookup import Lookup
from ..pieces import Done, Exhausted, Piece
from ..redis.op import Op, ignored
from ..source import Opened, Price
from . import budgets
from .answers import Answer
from .attached import Supplement
from .chain import Chain, View
from .completions import Chunk
from .providers.port import End, ProviderFailed
from .providers.port import Piece as ProviderPiece
from .question import AnyQuestion

_RESERVE_S = 1.0
"""Reserved before the function's deadline for the reply and what follows it."""
_ALONE: Op[None] = Op((), ignored)


@dataclass(frozen=True, slots=True)
class Asking:
    """A question to the chain: the guard's source for one request."""

    chain: Chain
    question: AnyQuestion
    caller: str = ""
    """Who asks, by id; empty where nobody is known."""
    unable: Sequence[str | None] = ()
    """What :meth:`Chain.unable` says of the question; empty where every provider can do it."""
    supplement: Supplement | None = None
    """What is added to the question when a provider is about to be called."""

    def lookup(self, now_ms: int) -> "Lookup[Tries]":
        """The chain's shared state, and what can be tried with it."""
        found = self.chain.lookup(now_ms)

        def tries(view: View) -> Tries:
            return Tries(self.chain, self.question, self.caller, self.unable, view, self.supplement)

        return Lookup(found.keys, lambda texts: tries(found.read(texts)), lambda: tries(found.unread()))


@dataclass(slots=True, eq=False)
class _Exchange:
    """One call to one provider, from the moment it goes out."""

    place: int
    passage: Passage
    pieces: AsyncGenerator[ProviderPiece]
    started: float
    admission: Admission
    left_s: float
    """How much time it had when it began."""
    over: bool = False
    """It has ended, and circuit and budget have been updated."""


@dataclass(slots=True, eq=False)
class Tries:
    """The chain as one request sees it, and its calls. See :class:`~..source.Seen`."""

    chain: Chain
    question: AnyQuestion
    caller: str
    unable: Sequence[str | None]
    view: View
    supplement: Supplement | None = None
    attempts: list[Attempt] = field(default_factory=list)
    _checking: "asyncio.Future[None] | None" = None
    """The check that a failure of this request has started."""

    def look(self, after: Afterwards) -> None:
        """Begin the checks that are due."""
        self.chain.look(self.view, after)

    def standings(self, now_ms: int) -> list[Standing]:
        """Which providers may be called."""
        return self.chain.standings(self.view, now_ms, self.caller, self._tokens(), self.unable, self.question.models)

    def price(self, place: int) -> Price:
        """One call of the provider's budget, and the tokens that the question may cost."""
        return Price(self.chain.subject(place, self.view), self._tokens())

    def _tokens(self) -> int:
        more = self.supplement.most_chars if self.supplement is not None else 0
        question = self.question
        return budgets.guess_tokens(question.chars + more, question.max_tokens, question.choices)

    async def open(
        self, call: Call, order: Sequence[int], first: Admission, after: Afterwards, *, stream: bool
    ) -> Opened[Chunk, Answer]:
        """Call the providers in this order until one begins to answer. Raises Exhausted.

        A reply that is not streamed has one piece; whether it is complete is known with its end.
        """
        # An answer from the cache needs none of it.
        from . import verdicts

        failure: ProviderFailed | None = None
        if self.supplement is not None:
            self.question = await self.supplement.complete()
        self.attempts += without(self.chain, self.unable)
        for number, place in enumerate(order):
            if self._left_s(call) <= 0:
                if number == 0:
                    self.chain.limits.give_back(first, after)
                failure = verdicts.out_of_time(failure)
                break
            admission = await self._spend(call, place, after) if number else first
            try:
                passed_over = await self._pass_over(call, place, admission, after)
                if passed_over is None:
                    more = number + 1 < len(order)
                    return await self._begin(call, place, admission, after, stream=stream, more=more)
            except ProviderFailed as e:
                failure = self._heard(place, e, failure)
                if verdicts.is_final(e, safety_failover=self.chain.safety_failover):
                    break
                continue
            self.attempts.append(Attempt(self.chain.links[place].name, passed_over))
            if passed_over == "too_large":
                failure = self._heard(place, verdicts.TOO_LARGE, failure)
        await Breaker.wait_for(self._checking)
        # Where all who were asked cannot do it, those who rest may: it is not the request that has to be changed.
        raise Exhausted(verdicts.to_tell_of_all(failure, others_may=None in self.unable))

    def _heard(self, place: int, error: ProviderFailed, before: ProviderFailed | None) -> ProviderFailed:
        """A provider has failed; which failure is told now. Where it cannot do what is asked, that is remembered."""
        from . import verdicts

        if verdicts.cannot(error):
            self.unable = unable_with(self, place, verdicts.field_in(error), learns=verdicts.is_to_learn(error))
        return verdicts.to_tell(before, error)

    async def _spend(self, call: Call, place: int, after: Afterwards) -> Admission:
        price, now_ms = self.price(place), self.chain.clock.now_ms()
        charge = Charge(price.subject, now_ms, call.deadline, tokens=price.tokens)
        admission, _ = await self.chain.limits.spend(charge, _ALONE, after)
        return admission

    async def _pass_over(self, call: Call, place: int, admission: Admission, after: Afterwards) -> str | None:
        """Why a provider may not be called after all; None where it may."""
        link = self.chain.links[place]
        if not admission.quota.allowed:
            if admission.quota.retry_at_ms is None:
                return "too_large"
            self.chain.spent(link, admission.quota, self._tokens(), admission.charge.now_ms)
            return "budget_spent"
        circuit, breaker, may = self.view.circuits[place], self.chain.breakers[place], False
        try:
            may = await breaker.admit(circuit, after, self._left_s(call), call.while_here)
        finally:
            if not may:
                self.chain.limits.give_back(admission, after)
        return None if may else "circuit_open"

    def _left_s(self, call: Call) -> float:
        return self.chain.clock.left_s(call.deadline) - _RESERVE_S

    async def _begin(
        self, call: Call, place: int, admission: Admission, after: Afterwards, *, stream: bool, more: bool
    ) -> Opened[Chunk, Answer]:
        """Call one provider; ``more``: others will be called if it fails. Raises ProviderFailed."""
        link, left_s = self.chain.links[place], self._left_s(call)
        passage = self.chain.breakers[place].begin(self.view.circuits[place], self.caller)
        self.chain.emit(ProviderAsked(link.name))
        pieces = link.provider.ask(self.question, request_id=call.request_id, left_s=left_s, stream=stream)
        exchange = _Exchange(place, passage, pieces, self.chain.clock.monotonic(), admission, left_s)
        call.waiting()
        try:
            first = await call.while_here(anext(pieces))
        except ProviderFailed as e:
            self.attempts.append(Attempt(link.name, e.kind))
            # The next provider may take long: other instances learn of the failure before it is called.
            await self._failed(call, exchange, e, after, at_once=more)
            raise
        except BaseException:
            await self._close(exchange, after)
            raise
        self.attempts.append(Attempt(link.name, "answered"))
        return Opened(link.name, self._pieces(call, exchange, first, after), lambda: self._close(exchange, after))

    async def _pieces(
        self, call: Call, exchange: _Exchange, first: ProviderPiece, after: Afterwards
    ) -> AsyncGenerator[Piece[Chunk, Answer]]:
        """All pieces of a provider's answer, and the answer that they make."""
        piece = first
        try:
            while not isinstance(piece, End):
                yield piece
                piece = await anext(exchange.pieces)
        except ProviderFailed as e:
            self.attempts[-1] = Attempt(self.chain.links[exchange.place].name, e.kind)
            await self._failed(call, exchange, e, after)
            raise
        yield Done(self._answered(exchange, piece, after), keeps=piece.keeps)

    def _answered(self, exchange: _Exchange, end: End, after: Afterwards) -> Answer:
        """The provider answered to the end: close its circuit, count what it used."""
        place, link, now_ms = exchange.place, self.chain.links[exchange.place], self.chain.clock.now_ms()
        exchange.over = True
        took_ms = (self.chain.clock.monotonic() - exchange.started) * 1000
        cost = self.chain.prices.priced(link.name, end.answer.model, end.answer.cost)
        self.chain.emit(ProviderAnswered(link.name, took_ms, cost))
        self._count_use(exchange, end.answer.tokens, after)
        breaker, circuit = self.chain.breakers[place], self.view.circuits[place]
        if end.rests_s is not None:
            breaker.rests(circuit, exchange.passage, now_ms + int(min(end.rests_s, 1e9) * 1000), after)
        else:
            breaker.succeeded(circuit, exchange.passage, after)
        return replace(end.answer, provider=link.name, took_ms=round(took_ms), cost=cost)

    async def _close(self, exchange: _Exchange, after: Afterwards) -> None:
        """End the call and its connection. An answer without its end says nothing of the provider: the client left."""
        await exchange.pieces.aclose()
        if not exchange.over:
            exchange.over = True
            self._count_use(exchange, None, after)
            self._ended(exchange, "caller left", after)

    def _count_use(self, exchange: _Exchange, tokens: int | None, after: Afterwards) -> None:
        """Record what the call used, and correct its reservation: known when it has ended, successfully or not."""
        if not self.view.shared:
            return
        took_ms = (self.chain.clock.monotonic() - exchange.started) * 1000
        self.chain.used(self.chain.links[exchange.place], self.view, exchange.place, took_ms, after)
        if tokens is not None:
            self.chain.limits.correct(exchange.admission, tokens, after)

    async def _failed(
        self, call: Call, exchange: _Exchange, error: ProviderFailed, after: Afterwards, *, at_once: bool = False
    ) -> None:
        """The provider failed; what becomes of its circuit."""
        from . import verdicts

        exchange.over = True
        place = exchange.place
        link, breaker = self.chain.links[place], self.chain.breakers[place]
        self.chain.emit(ProviderFailure(link.name, str(error), error.fault))
        if error.went_out:
            self._count_use(exchange, 0 if error.used_nothing else None, after)
        else:
            self.chain.limits.give_back(exchange.admission, after)
        failure = verdicts.failure_of(error, exchange.left_s, link.breaker.check_ms / 1000)
        if failure is None:
            self._ended(exchange, error.kind, after)
            return
        quick = error.kind != "timeout" and self._left_s(call) > link.breaker.check_ms / 1000
        circuit, passage = self.view.circuits[place], exchange.passage
        checking = await breaker.failed(circuit, passage, failure, error.kind, after, quick=quick, at_once=at_once)
        self._checking = checking or self._checking

    def _ended(self, exchange: _Exchange, reason: str, after: Afterwards) -> None:
        """The call says nothing of the provider."""
        circuit = self.view.circuits[exchange.place]
        self.chain.breakers[exchange.place].ended(circuit, exchange.passage, reason, after)


def without(chain: Chain, unable: Sequence[str | None]) -> list[Attempt]:
    """The providers that are not called because they cannot do what is asked."""
    passed = zip(chain.links, unable, strict=False)
    return [Attempt(link.name, f"cannot:{asks}") for link, asks in passed if asks is not None]


def unable_with(tries: Tries, place: int, asks: str, *, learns: bool) -> Sequence[str | None]:
    """Who cannot do what is asked, now that a provider has said so of a field.

    ``learns``: the field is not sent there again for a while.
    """
    chain, question = tries.chain, tries.question
    if learns and asks in question.needs:
        chain.learn(chain.links[place], question, tries.caller, asks)
    known = tries.unable or [None] * len(chain.links)
    return [asks if each == place else said for each, said in enumerate(known)]
