"""One question, put to the providers in turn until one begins to answer."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import field

from ..afterwards import Afterwards
from ..base.events import ProviderAnswered, ProviderAsked, ProviderFailure
from ..base.values import dataclass
from ..breaker import circuit as breaker
from ..breaker.circuit import Circuit, Ticket
from ..breaker.shared import Change
from ..call import Attempt, Call
from ..decide import Standing
from ..limits.admission import Admission, Charge
from ..lookup import Lookup, Texts
from ..pieces import Delta, Done, Exhausted, Piece
from ..redis.errors import RedisDown
from ..redis.op import Op, ignored
from ..source import Opened, Price
from . import budgets
from .chain import Chain, View
from .providers.port import End, ProviderFailed
from .providers.port import Piece as ProviderPiece
from .question import Answer, Question

_RESERVE_S = 1.0
"""Reserved before the function's deadline for the reply and what follows it."""
_LONGEST_REST_S = 86_400.0
"""A provider that says it refuses calls for longer is called again after a day: it may be a mistake."""
_ALONE: Op[None] = Op((), ignored)


@dataclass(frozen=True, slots=True)
class Asking:
    """A question to the chain: the guard's source for one request."""

    chain: Chain
    question: Question

    def lookup(self, now_ms: int) -> "Lookup[Tries]":
        """The chain's shared state, and what can be tried with it."""
        found = self.chain.lookup(now_ms)

        def read(texts: Texts) -> Tries:
            return Tries(self.chain, self.question, found.read(texts))

        return Lookup(found.keys, read, lambda: Tries(self.chain, self.question, found.unread()))


@dataclass(slots=True, eq=False)
class _Exchange:
    """One call to one provider, from the moment it goes out."""

    place: int
    ticket: Ticket
    pieces: AsyncGenerator[ProviderPiece]
    started: float
    admission: Admission
    over: bool = False
    """It has ended, and circuit and budget have been updated."""


@dataclass(slots=True, eq=False)
class Tries:
    """The chain as one request sees it, and its calls. See :class:`~..source.Seen`."""

    chain: Chain
    question: Question
    view: View
    attempts: list[Attempt] = field(default_factory=list)

    def standings(self, now_ms: int) -> list[Standing]:
        """Which providers may be called."""
        return self.chain.standings(self.view, now_ms)

    def price(self, place: int) -> Price:
        """One call of the provider's budget, and the tokens that the question may cost."""
        return Price(self.chain.links[place].subject, self._tokens())

    def _tokens(self) -> int:
        chars = sum(len(turn.content) for turn in self.question.messages)
        wishes = (self.question.parameters.get(name) for name in ("maxTokens", "max_completion_tokens", "max_tokens"))
        return budgets.guess_tokens(chars, next((wish for wish in wishes if wish is not None), None))

    async def open(
        self, call: Call, order: Sequence[int], first: Admission, after: Afterwards, *, stream: bool
    ) -> Opened[str, Answer]:
        """Call the providers in this order until one begins to answer. Raises Exhausted.

        A reply that is not streamed has one piece; whether it is complete is known with its end.
        """
        failure: ProviderFailed | None = None
        for number, place in enumerate(order):
            admission = first
            if self._left_s(call) <= 0:
                if number == 0:
                    self.chain.limits.give_back(first, after)
                failure = failure or ProviderFailed("timeout", "no time is left", went_out=False)
                break
            if number:
                admission = await self._spend(call, place, after)
            try:
                passed_over = await self._pass_over(call, place, admission, after)
                if passed_over is None:
                    more = number + 1 < len(order)
                    return await self._begin(call, place, admission, after, stream=stream, more=more)
            except ProviderFailed as e:
                failure = e
                continue
            self.attempts.append(Attempt(self.chain.links[place].name, passed_over))
            if passed_over == "too_large" and failure is None:
                failure = ProviderFailed("rejected", "more tokens than the provider's limit can hold", went_out=False)
        raise Exhausted(failure)

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
            self.chain.spent(link, admission.quota.retry_at_ms)
            return "budget_spent"
        if await self.chain.circuits.claim(self.view.circuits[place], call.request_id, link.breaker):
            return None
        self.chain.limits.give_back(admission, after)
        return "circuit_open"

    def _left_s(self, call: Call) -> float:
        return self.chain.limits.left_s(call.deadline) - _RESERVE_S

    async def _begin(
        self, call: Call, place: int, admission: Admission, after: Afterwards, *, stream: bool, more: bool
    ) -> Opened[str, Answer]:
        """Call one provider; ``more``: others will be called if it fails. Raises ProviderFailed."""
        link = self.chain.links[place]
        ticket = breaker.ticket(self.view.circuits[place].circuit)
        self.chain.emit(ProviderAsked(link.name))
        pieces = link.provider.ask(self.question, request_id=call.request_id, left_s=self._left_s(call), stream=stream)
        exchange = _Exchange(place, ticket, pieces, self.chain.clock.monotonic(), admission)
        try:
            first = await call.while_here(anext(pieces))
        except ProviderFailed as e:
            self.attempts.append(Attempt(link.name, e.kind))
            change = self._failed(exchange, e, after)
            if more:
                # The next provider may take long: other instances learn of the failure before it is called.
                with suppress(RedisDown):
                    await self.chain.circuits.move_now(self.view.circuits[place], change, e.kind)
            else:
                self._move(place, change, e.kind, after)
            raise
        except BaseException:
            await self._close(exchange, after)
            raise
        self.attempts.append(Attempt(link.name, "answered"))
        return Opened(link.name, self._pieces(exchange, first, after), lambda: self._close(exchange, after))

    async def _pieces(
        self, exchange: _Exchange, first: ProviderPiece, after: Afterwards
    ) -> AsyncGenerator[Piece[str, Answer]]:
        """All pieces of a provider's answer, and the answer that they make."""
        texts, piece = list[str](), first
        try:
            while not isinstance(piece, End):
                texts.append(piece.text)
                yield Delta(piece.text)
                piece = await anext(exchange.pieces)
            text = "".join(texts)
            if not text.strip():
                raise ProviderFailed("empty", "the answer is empty")  # noqa: TRY301 - fails like all others
        except ProviderFailed as e:
            self.attempts[-1] = Attempt(self.chain.links[exchange.place].name, e.kind)
            self._move(exchange.place, self._failed(exchange, e, after), e.kind, after)
            raise
        answer = self._answered(exchange, text, piece, after)
        yield Done(answer, keeps=piece.whole)

    # How it ended

    def _answered(self, exchange: _Exchange, text: str, end: End, after: Afterwards) -> Answer:
        """The provider answered to the end: close its circuit, count what it used."""
        place, link, now_ms = exchange.place, self.chain.links[exchange.place], self.chain.clock.now_ms()
        exchange.over = True
        took_ms = (self.chain.clock.monotonic() - exchange.started) * 1000
        self.chain.emit(ProviderAnswered(link.name, took_ms))
        self._count_use(exchange, end.tokens, after)
        if end.rests_s is not None:
            until_ms, policy = _until_ms(now_ms, end.rests_s), link.breaker

            def rest(circuit: Circuit) -> Circuit:
                return breaker.fail(circuit, exchange.ticket, now_ms, policy, "used_up", until_ms)

            self._move(place, rest, "used_up", after)
        else:
            self._move(place, lambda circuit: breaker.succeed(circuit, exchange.ticket), "answered", after)
        return Answer(text, end.model, link.name, end.tokens, round(took_ms), end.whole)

    async def _close(self, exchange: _Exchange, after: Afterwards) -> None:
        """End the call and its connection. An answer without its end says nothing of the provider: the client left."""
        await exchange.pieces.aclose()
        if not exchange.over:
            exchange.over = True
            self._count_use(exchange, None, after)
            self._release(exchange, "caller left", after)

    def _count_use(self, exchange: _Exchange, tokens: int | None, after: Afterwards) -> None:
        """Record what the call used, and correct its reservation: known when it has ended, successfully or not."""
        if not self.view.shared:
            return
        took_ms = (self.chain.clock.monotonic() - exchange.started) * 1000
        self.chain.used(self.chain.links[exchange.place], self.view, exchange.place, took_ms, after)
        if tokens is not None:
            self.chain.limits.correct(exchange.admission, tokens, after)

    def _failed(self, exchange: _Exchange, error: ProviderFailed, after: Afterwards) -> Change:
        """The provider failed: how its circuit changes. Only failures that are its own fault count against it."""
        exchange.over = True
        link, now_ms = self.chain.links[exchange.place], self.chain.clock.now_ms()
        self.chain.emit(ProviderFailure(link.name, str(error), error.fault))
        if error.went_out:
            self._count_use(exchange, None, after)
        else:
            self.chain.limits.give_back(exchange.admission, after)
        if error.fault != "theirs":
            return lambda circuit: breaker.release(circuit, exchange.ticket, now_ms)
        until_ms = None if error.rests_s is None else _until_ms(now_ms, error.rests_s)

        def fail(circuit: Circuit) -> Circuit:
            return breaker.fail(circuit, exchange.ticket, now_ms, link.breaker, error.kind, until_ms)

        return fail

    def _release(self, exchange: _Exchange, reason: str, after: Afterwards) -> None:
        """Give up a probe that says nothing of the provider."""
        now_ms = self.chain.clock.now_ms()
        self._move(exchange.place, lambda circuit: breaker.release(circuit, exchange.ticket, now_ms), reason, after)

    def _move(self, place: int, change: Change, reason: str, after: Afterwards) -> None:
        self.chain.circuits.move(self.view.circuits[place], change, reason, after)


def _until_ms(now_ms: int, rests_s: float) -> int:
    return now_ms + int(min(rests_s, _LONGEST_REST_S) * 1000)
