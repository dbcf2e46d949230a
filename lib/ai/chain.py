"""The providers, in order: each with a circuit and a budget of its own, tried until one answers.

Circuits live in Redis while Redis answers, and go on from what was last seen in this instance while it does not.
Budgets are counted like callers, by :class:`Limits`, and spent only for a call that really goes out.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field

from ..base.calendar import month_ends_ms, month_of
from ..base.clock import Clock
from ..base.events import CircuitChanged, Listener, ProviderAnswered, ProviderAsked, ProviderFailure
from ..base.leaving import WhileHere
from ..breaker import circuit as breaker
from ..breaker.circuit import BreakerPolicy, Circuit, Ticket
from ..decide import Standing
from ..limits import bitfield
from ..limits.judge import too_costly
from ..limits.limiter import Admission, Limits, Subject
from ..limits.window import Layout
from ..redis import keys
from ..redis.errors import RedisDown
from ..redis.op import Op
from ..redis.store import RedisStore
from . import budgets
from .budgets import Budget
from .providers.port import End, Piece, Provider, ProviderFailed
from .question import Answer, Question

_RESERVE_S = 1.0
"""Kept back from the function's deadline for the reply and the write-back."""


@dataclass(frozen=True, slots=True)
class Link:
    """One provider of the chain."""

    provider: Provider
    budget: Budget
    breaker: BreakerPolicy

    @property
    def name(self) -> str:
        """The provider's name."""
        return self.provider.name

    @property
    def subject(self) -> Subject:
        """Whom its calls are counted for."""
        return Subject(keys.budget(self.name), self.budget.layout)


@dataclass(frozen=True, slots=True)
class Attempt:
    """What became of one provider on the way to an answer: ``answered``, or why it was passed over or failed."""

    provider: str
    outcome: str


@dataclass(slots=True)
class View:
    """The providers' shared state as one request read it. ``shared``: from Redis, and written there."""

    circuits: list[Circuit]
    texts: list[str | None]
    used: list[str | None]
    shared: bool
    read_ms: int


@dataclass(slots=True)
class Opened:
    """A provider has begun to answer: nothing can fail over from here on."""

    place: int
    held: Ticket
    first: Piece
    rest: AsyncGenerator[Piece]
    started: float
    tokens: int
    admission: Admission
    over: bool = False
    """It has ended, one way or another, and its circuit and budget were told."""


class NobodyAnswered(Exception):
    """Every provider was passed over or failed. ``failure`` is the last one's, None where none was asked."""

    def __init__(self, failure: ProviderFailed | None) -> None:
        super().__init__(str(failure) if failure else "no provider could be asked")
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Asking:
    """What a provider is to be asked, and in what frame. ``owed`` collects what has to be written back afterwards."""

    question: Question
    request_id: str
    deadline: float
    stream: bool
    attempts: list[Attempt]
    owed: list[Admission]
    while_here: WhileHere


@dataclass(slots=True)
class Chain:
    """All providers, as this instance knows them."""

    links: tuple[Link, ...]
    redis: RedisStore | None
    limits: Limits
    clock: Clock
    emit: Listener
    circuits: list[Circuit] = field(init=False)
    """As last seen, by place."""
    seen_ms: int = 0
    """When the shared circuits were last read."""
    _spent_until: list[int] = field(init=False)
    _unwritten_ms: list[float] = field(init=False)
    """vCPU-milliseconds that are not yet in Redis, by place; an instance that is killed loses them."""

    def __post_init__(self) -> None:
        self.circuits = [Circuit() for _ in self.links]
        self._spent_until = [0 for _ in self.links]
        self._unwritten_ms = [0.0 for _ in self.links]

    # What is read with every request

    def keys(self, now_ms: int) -> list[str]:
        """The keys that hold the shared state: a circuit a provider, then a month's use a provider."""
        month = month_of(now_ms)
        return [keys.circuit(link.name) for link in self.links] + [keys.month(link.name, month) for link in self.links]

    def view(self, values: Sequence[str | None] | None, now_ms: int) -> View:
        """The state that :meth:`keys` held; None where Redis did not answer."""
        count = len(self.links)
        if values is None:
            return View(list(self.circuits), [None] * count, [None] * count, False, now_ms)
        texts, used = list(values[:count]), list(values[count:])
        self.circuits, self.seen_ms = [breaker.parse(text) for text in texts], now_ms
        return View(list(self.circuits), texts, used, True, now_ms)

    def standings(self, view: View, now_ms: int) -> list[Standing]:
        """Who may be asked, for the decision."""
        found = []
        for place, link in enumerate(self.links):
            until = self._spent_until[place]
            if budgets.used_up(link.budget, view.used[place]):
                until = max(until, month_ends_ms(now_ms))
            found.append(Standing(view.circuits[place], until))
        return found

    # Asking

    async def spend[T](self, place: int, asking: Asking, ride: Op[tuple[int, T]]) -> tuple[Admission, T | None]:
        """Take one call from a provider's budget; ``ride`` goes along to Redis (None where it does not answer)."""
        tokens, now_ms, subject = self._guess(asking.question), self.clock.now_ms(), self.links[place].subject
        never_fits = too_costly(subject.layout.windows, 1, now_ms, tokens=tokens)
        if never_fits is not None:
            # It will never fit: nothing is counted, but what rides along still goes.
            subject = Subject(subject.id, Layout(()))
        admission, rode = await self.limits.spend(subject, 1, now_ms, ride, asking.deadline, tokens=tokens)
        if never_fits is not None:
            admission.quota = never_fits
        asking.owed.append(admission)
        return admission, rode

    def unspend(self, place: int, asking: Asking, admission: Admission) -> None:
        """Give a call back that did not go out."""
        link = self.links[place]
        if admission.mode == "redis" and admission.quota.allowed and link.budget.layout.windows:
            tokens = self._guess(asking.question)
            back = bitfield.refund(link.subject.id, link.budget.layout, 1, admission.now_ms, tokens=tokens)
            admission.owed.append(back)

    async def open(self, asking: Asking, view: View, order: Sequence[int], first: Admission) -> Opened:
        """The first provider of ``order`` that begins to answer. ``first`` is the first one's admission.

        Raises NobodyAnswered. What a reply that is not streamed lacks when it fails, is not noticed here but in the
        rest; its one piece and its end come together.
        """
        failure: ProviderFailed | None = None
        for number, place in enumerate(order):
            admission = first
            if self._left_s(asking) <= 0:
                if number == 0:
                    self.unspend(place, asking, first)
                failure = failure or ProviderFailed("timeout", "no time is left", went_out=False)
                break
            if number:
                admission, _ = await self.spend(place, asking, ALONE)
            try:
                passed_over = await self._pass_over(asking, view, place, admission)
                if passed_over is None:
                    return await self._begin(asking, view, place, admission)
            except ProviderFailed as e:
                failure = e
                continue
            asking.attempts.append(Attempt(self.links[place].name, passed_over))
            if passed_over == "too_large" and failure is None:
                failure = ProviderFailed("rejected", "more tokens than the provider's limit can hold", went_out=False)
        raise NobodyAnswered(failure)

    async def _pass_over(self, asking: Asking, view: View, place: int, admission: Admission) -> str | None:
        """Why a provider may not be asked after all, if it may not."""
        if not admission.quota.allowed:
            if admission.quota.retry_at_ms is None:
                return "too_large"
            self._spent_until[place] = admission.quota.retry_at_ms
            return "budget_spent"
        if await self._may_go(asking, view, place):
            return None
        self.unspend(place, asking, admission)
        return "circuit_open"

    def _left_s(self, asking: Asking) -> float:
        return self.limits.left_s(asking.deadline) - _RESERVE_S

    async def _begin(self, asking: Asking, view: View, place: int, admission: Admission) -> Opened:
        link, held = self.links[place], breaker.ticket(view.circuits[place])
        left_s = self._left_s(asking)
        self.emit(ProviderAsked(link.name))
        pieces = link.provider.ask(asking.question, request_id=asking.request_id, left_s=left_s, stream=asking.stream)
        tokens, started = self._guess(asking.question), self.clock.monotonic()
        opened = Opened(place, held, End("", whole=False), pieces, started, tokens, admission)
        try:
            opened.first = await asking.while_here(anext(pieces))
        except ProviderFailed as e:
            asking.attempts.append(Attempt(link.name, e.kind))
            await self._failed(asking, view, opened, e)
            raise
        except BaseException:
            await self.close(asking, view, opened)
            raise
        asking.attempts.append(Attempt(link.name, "answered"))
        return opened

    def _guess(self, question: Question) -> int:
        chars = sum(len(turn.content) for turn in question.messages)
        wishes = (question.parameters.get(name) for name in ("maxTokens", "max_completion_tokens", "max_tokens"))
        return budgets.guess_tokens(chars, next((wish for wish in wishes if wish is not None), None))

    # How it ended

    async def answered(self, asking: Asking, view: View, opened: Opened, text: str, end: End) -> Answer:
        """The provider answered to the end: close its circuit, count what it used."""
        place, link, now_ms = opened.place, self.links[opened.place], self.clock.now_ms()
        opened.over = True
        took_ms = (self.clock.monotonic() - opened.started) * 1000
        self.emit(ProviderAnswered(link.name, took_ms))
        self._owe_use(asking, view, opened, end.tokens)
        if end.rests_s is not None:
            until_ms, policy = _until_ms(now_ms, end.rests_s), link.breaker
            await self._move(
                view, place, lambda c: breaker.fail(c, opened.held, now_ms, policy, "used_up", until_ms), "used_up"
            )
        else:
            await self._move(view, place, lambda c: breaker.succeed(c, opened.held), "answered")
        return Answer(text, end.model, link.name, now_ms, end.tokens, round(took_ms), end.whole)

    async def broke(self, asking: Asking, view: View, opened: Opened, error: ProviderFailed) -> None:
        """The provider failed after it had begun to answer."""
        asking.attempts[-1] = Attempt(self.links[opened.place].name, error.kind)
        await self._failed(asking, view, opened, error)

    async def close(self, asking: Asking, view: View, opened: Opened) -> None:
        """End the call and its connection. If the answer has not ended, the caller left: that says nothing of it."""
        await opened.rest.aclose()
        if not opened.over:
            opened.over = True
            self._owe_use(asking, view, opened, None)
            await self._release(view, opened.place, opened.held, "caller left")

    def _owe_use(self, asking: Asking, view: View, opened: Opened, tokens: int | None) -> None:
        """What the call used beyond what was taken for it: it is known when it has ended, however it did."""
        if not view.shared:
            return
        place, link = opened.place, self.links[opened.place]
        owed: list[Op[object]] = []
        if link.budget.month_s:
            took_ms = (self.clock.monotonic() - opened.started) * 1000
            self._unwritten_ms[place] += took_ms * link.budget.vcpus
            if self._unwritten_ms[place] >= link.budget.write_ms:
                # Counted for the month that was looked at: only of that one it is known whether it has a TTL.
                month, amount_ms = month_of(view.read_ms), max(1, round(self._unwritten_ms[place]))
                self._unwritten_ms[place] = 0.0
                owed.append(budgets.use(link.name, amount_ms, month, first=view.used[place] is None))
        counted = opened.admission.mode == "redis" and any(w.unit == "tokens" for w in link.budget.layout.windows)
        if counted and tokens is not None and tokens != opened.tokens:
            # What was guessed too much goes back, what was guessed too little is added.
            subject, layout, asked_ms = link.subject.id, link.budget.layout, opened.admission.now_ms
            owed.append(bitfield.refund(subject, layout, 0, asked_ms, tokens=opened.tokens - tokens))
        if owed:
            asking.owed.append(self.limits.debt(link.subject, owed, opened.admission.now_ms))

    async def _failed(self, asking: Asking, view: View, opened: Opened, error: ProviderFailed) -> None:
        """The provider failed: only what is its own fault counts against it."""
        opened.over = True
        place, held, link, now_ms = opened.place, opened.held, self.links[opened.place], self.clock.now_ms()
        self.emit(ProviderFailure(link.name, str(error), error.fault))
        if error.went_out:
            self._owe_use(asking, view, opened, None)
        else:
            self.unspend(place, asking, opened.admission)
        if error.fault != "theirs":
            await self._release(view, place, held, error.kind)
            return
        until_ms = None if error.rests_s is None else _until_ms(now_ms, error.rests_s)
        policy = link.breaker
        await self._move(view, place, lambda c: breaker.fail(c, held, now_ms, policy, error.kind, until_ms), error.kind)

    async def _release(self, view: View, place: int, held: Ticket, reason: str) -> None:
        """Hand a probe back that said nothing of the provider."""
        now_ms = self.clock.now_ms()
        await self._move(view, place, lambda c: breaker.release(c, held, now_ms), reason)

    # Circuits

    async def _may_go(self, asking: Asking, view: View, place: int) -> bool:
        """Whether the circuit lets a call pass, as its probe where it must be one."""
        now_ms, me, policy = self.clock.now_ms(), asking.request_id, self.links[place].breaker
        match breaker.view(view.circuits[place], now_ms):
            case "pass":
                return True
            case "refuse":
                return False

        def take(circuit: Circuit) -> Circuit:
            may = breaker.view(circuit, now_ms) == "probe"
            return breaker.claim(circuit, me, now_ms, policy) if may else circuit

        await self._move(view, place, take, "probe")
        circuit = view.circuits[place]
        return circuit.state == "closed" or circuit.owner == me

    async def _move(self, view: View, place: int, change: Callable[[Circuit], Circuit], reason: str) -> None:
        """Carry a transition out on the circuit where it lives; a lost swap is tried again on what won.

        Bounded: each lost try means that another instance moved the circuit, and after ``threshold`` failures an open
        circuit takes no more of them.
        """
        if not view.shared or self.redis is None:
            before = self.circuits[place]
            self.circuits[place] = view.circuits[place] = after = change(before)
            self._report(place, before, after, reason)
            return
        before, text = view.circuits[place], view.texts[place]
        link, now_ms = self.links[place], self.clock.now_ms()
        try:
            for _ in range(link.breaker.threshold + 2):
                after = change(before)
                if after == before:
                    break
                swap = breaker.swap(keys.circuit(link.name), text, after, now_ms)
                done, text = await self.redis.run(swap, "circuit", _SWAP_S)
                if done:
                    self._report(place, before, after, reason)
                    before = after
                    break
                before = breaker.parse(text)
        except RedisDown:
            # In Redis it stays as it was; this instance at least goes on from what it has seen.
            before = change(before)
        view.circuits[place], view.texts[place] = before, text
        self.circuits[place] = before

    def _report(self, place: int, before: Circuit, after: Circuit, reason: str) -> None:
        if before.state != after.state:
            self.emit(CircuitChanged(self.links[place].name, before.state, after.state, reason))


_SWAP_S = 2.0
_LONGEST_REST_S = 86_400.0
"""A provider that asks to be left alone for longer is asked again after a day: it may have been a slip."""


def _until_ms(now_ms: int, rests_s: float) -> int:
    return now_ms + int(min(rests_s, _LONGEST_REST_S) * 1000)


ALONE: Op[tuple[int, None]] = Op((), lambda replies: (0, None))
"""Nothing rides along."""
