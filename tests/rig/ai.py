"""What the tests of the AI path share: a provider on a string, instances around one real Redis, exact counts.

Redis is real, behind the Upstash stand-in. ``FakeProvider`` stands in for the providers where a test has to say when
each piece comes; it keeps the port's contract: any number of Delta, then one End, or ProviderFailed.
"""

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from lib.afterwards import Afterwards, Outbox
from lib.ai.answers import Answer
from lib.ai.budgets import Budget
from lib.ai.chain import Chain
from lib.ai.links import Link
from lib.ai.providers import port
from lib.ai.providers.port import Piece, ProviderFailed
from lib.ai.question import AnyQuestion, Message, Question, hash_of
from lib.app.wiring import build
from lib.base import caller
from lib.base.caller import Caller
from lib.base.clock import Clock
from lib.base.events import Event, RequestDone
from lib.breaker.circuit import BreakerPolicy
from lib.breaker.gate import Gate
from lib.breaker.shared import SharedCircuits
from lib.breaker.vitals import VitalsPolicy
from lib.cache import epochs
from lib.cache.freshness import CacheRules, Directives
from lib.cache.lock import LockRules
from lib.call import Answered, Call
from lib.claims import Claims
from lib.computing import Computing
from lib.guard import Guard
from lib.leading import Leading
from lib.limits.admission import Subject
from lib.limits.grammar import parse_budget, parse_limits
from lib.limits.limiter import Limits
from lib.limits.local import LocalLimits
from lib.pieces import Delta
from lib.redis import keys
from lib.redis.op import Command
from lib.redis.rest import Upstash
from lib.redis.store import RedisStore
from lib.redis.tcp import Tcp
from lib.settings import Settings
from tests.rig.clock import Slept, until
from tests.rig.completions import End, chunk
from tests.rig.instance import AnswerOutcome, Asked, Instance
from tests.rig.redis import OnRedis, RedisFront
from tests.rig.script import CHECK

ROUTE = "ai/supervisor"

_numbers = itertools.count(1)


def somebody() -> Caller:
    """A caller that no other test has."""
    return caller.identify("address", f"caller-{next(_numbers)}", b"kit")


def a_name(kind: str = "fake") -> str:
    """A provider's name that no other test has: its circuit and budget are its own."""
    return f"{kind}-{next(_numbers)}"


@dataclass
class FakeProvider:
    """Answers what it is told to, when it is told to. ``held`` keeps every piece until ``go`` lets it out."""

    name: str = field(default_factory=a_name)
    texts: Sequence[str] = ("Disk / is ", "41 % full.")
    fails: ProviderFailed | None = None
    poison: str = ""
    """It fails at questions with this text only."""
    fails_after: int = 0
    """Pieces of a stream that still come before it fails."""
    end: End = field(default_factory=lambda: End("fake-1", whole=True, tokens=100))
    held: bool = False
    asked: int = 0
    checks: int = 0
    """How often it was asked our own question."""
    is_well: bool = False
    """It answers a check, whatever becomes of others' questions."""
    streamed: int = 0
    closed: int = 0
    """Calls that were ended before their end."""
    questions: list[AnyQuestion] = field(default_factory=list)
    _free: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def ask(
        self, question: AnyQuestion, *, request_id: str, left_s: float, stream: bool
    ) -> AsyncGenerator[Piece]:
        """See ``Provider``."""
        assert left_s > 0, "asked without time to answer"
        if question.session == CHECK.session:
            self.checks += 1
            if self.is_well:
                yield self.end.piece("pong")
                return
            async for piece in self._pieces(question, stream=False):
                yield piece
            return
        self.asked += 1
        self.streamed += stream
        self.questions.append(question)
        await self._tell()
        whole = False
        try:
            async for piece in self._pieces(question, stream=stream):
                whole = isinstance(piece, port.End)
                yield piece
        except ProviderFailed:
            whole = True
            raise
        finally:
            if not whole:
                self.closed += 1

    async def _pieces(self, question: AnyQuestion, *, stream: bool) -> AsyncGenerator[Piece]:
        pieces: list[Piece] = [self.end.piece("".join(self.texts))]
        if stream:
            pieces = [*(Delta(chunk(text, self.end)) for text in self.texts), *self._last_chunks(), *pieces]
        for number, piece in enumerate(pieces):
            if self.held:
                await self._free.acquire()
            fails = number >= self.fails_after or not stream
            if self.fails is not None and fails and self.poison in words_of(question):
                raise self.fails
            yield piece

    def _last_chunks(self) -> list[Piece]:
        return [Delta(each) for each in self.end.last_chunks()]

    def go(self, pieces: int = 100) -> None:
        """Let so many pieces out."""
        for _ in range(pieces):
            self._free.release()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until_asked(self, times: int = 1) -> None:
        """Until it has been asked so often; a minute at most."""
        async with asyncio.timeout(60), self._changed:
            await self._changed.wait_for(lambda: self.asked >= times)


def words_of(question: AnyQuestion) -> str:
    """The text of a question's last message."""
    return question.query if isinstance(question, Question) else str(question.body["messages"][-1]["content"])


@dataclass
class Kit(OnRedis):
    """Makes instances that share a Redis."""

    environ: dict[str, str]
    closing: AsyncExitStack
    time: Slept = field(default_factory=Slept)

    def instance(
        self,
        *providers: FakeProvider | Link,
        limits: str = "9/minute,225/day",
        breaker: BreakerPolicy = BreakerPolicy(),  # noqa: B008 - frozen
        rules: LockRules = LockRules(),  # noqa: B008 - frozen
        clock: Clock | None = None,
        redis: bool = True,
        **environ: str,
    ) -> Instance:
        """A new one. Providers have the budget ``limits`` unless they come as a Link.

        Keyword arguments in capitals are further environment variables of its routes.
        """
        given = {**self.environ, "CLOUD_RUN_AI_URL": "http://127.0.0.1:9"}
        clock, events = clock or self.time.clock, list[Event]()
        parts = build(Settings.from_env({**given, **environ}), clock, (events.append,))

        def note(commands: Sequence[Command]) -> None:
            made.note(commands)

        wire: Upstash | Tcp
        if (url := given.get("REDIS_URL")) is not None:
            wire = Tcp(url, 20, 20, note)
            self.closing.push_async_callback(wire.aclose)
        else:
            wire = Upstash(parts.pool, given["KV_REST_API_URL"], given["KV_REST_API_TOKEN"], 20, 20, note)
        gate = Gate(VitalsPolicy(), clock, 60_000)
        store = RedisStore(wire, gate, clock, events.append, 60_000) if redis else None
        counts = Limits(store, None, LocalLimits(0.25), clock, events.append)
        links = tuple(
            each if isinstance(each, Link) else Link(each, Budget(parse_budget(limits)), breaker) for each in providers
        )
        chain = Chain(links, SharedCircuits(store, clock, events.append), counts, clock, events.append)
        outbox = Outbox(store, events.append, counts.due)
        claims = Claims(counts, store, outbox, clock, rules)
        computing = Computing(counts, store, claims, clock, Leading(clock, rules))
        guard = Guard(counts, computing, outbox, clock)
        made = Instance(replace(parts, guard=guard, kept={Chain: chain}), events)
        self.closing.push_async_callback(made.aclose)
        return made

    def call(
        self,
        who: Caller | None = None,
        query: str = "which disk is fullest?",
        *,
        stream: bool = False,
        directives: Directives = Directives(),  # noqa: B008 - frozen
        limits: str = "10/minute,100/day",
        cache: CacheRules = CacheRules(),  # noqa: B008 - frozen
        left_s: float = 60.0,
        session: str = "s",
        parameters: dict[str, Any] | None = None,
    ) -> Asked:
        """One request of ``who``, with an id of its own."""
        who, layout = who or somebody(), parse_limits(limits)
        question = Question(session, (Message("user", query),), parameters or {})
        call = Call(
            route=ROUTE,
            subject=Subject(caller.subject(who, "ai/supervisor", layout.tag), layout, "ai/supervisor", who.id),
            key=keys.answer(ROUTE, session, hash_of(ROUTE, who.id, question)),
            epochs=epochs.of_session(ROUTE, session),
            directives=directives,
            cache=cache,
            request_id=f"r{next(_numbers)}",
            deadline=self.time.clock.monotonic() + left_s,
            stream=stream,
        )
        return Asked(call, question, who)

    def later(self, ms: int) -> None:
        """Let time pass. Redis' own time does not: locks that have run out meanwhile are removed."""
        self.time.ms += ms
        for key in self.server.keys("lock:*") if ms >= 10_000 else ():
            self.server.delete(key)

    def another(self, asked: Asked, query: str) -> Asked:
        """Another question by the same caller in the same session."""
        question = Question(asked.question.session, (Message("user", query),), {})
        key = keys.answer(ROUTE, question.session, hash_of(ROUTE, asked.caller.id, question))
        return replace(self.again(asked, key=key), question=question)

    def again(self, asked: Asked, **about: Any) -> Asked:
        """The same question by the same caller, as another request."""
        return replace(asked, call=replace(asked.call, request_id=f"r{next(_numbers)}", after=Afterwards(), **about))

    def sleepers_wait_for(self, asked: Asked) -> None:
        """From now on a sleep lasts, where somebody holds the answer's lock, until the answer has been stored anew.

        Time that is set by hand would else be over before a real round trip is.
        """
        key = asked.call.key
        before = self.server.get(key)

        async def stored() -> None:
            if self.server.get(keys.lock(key)) is not None:
                await until(lambda: self.server.get(key) != before)

        self.time.on_sleep = stored


@asynccontextmanager
async def kit(front: RedisFront, transport: str = "rest") -> AsyncIterator[Kit]:
    """An empty Redis and time at noon."""
    front.empty()
    async with AsyncExitStack() as closing:
        yield Kit(front, front.environ_over(transport), closing)
        front.faults.clear()


def answered(outcome: AnswerOutcome) -> Answered[Answer]:
    """The outcome's answer; fails the test where there is none."""
    assert isinstance(outcome.result, Answered), outcome.result
    return outcome.result


async def lifespan(receive: Any, send: Any) -> None:
    """A server's start and end, of which an app has nothing to say."""
    for what in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{what}.complete"})


async def over(made: Instance, requests: int) -> None:
    """Until so many requests are over, write-back included; a minute at most."""
    await until(lambda: len(made.seen(RequestDone)) >= requests and not made.guard.computing.leading.flights)
