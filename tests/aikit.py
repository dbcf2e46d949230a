"""What the tests of the AI path share: a provider on a string, instances around one real Redis, exact counts.

Redis is real, behind the Upstash stand-in. ``FakeProvider`` stands in for the providers where a test has to say when
each piece comes; it keeps the port's contract: at least one Delta, then one End, or ProviderFailed.
"""

import asyncio
import atexit
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from dev.faults import Faults
from dev.redis_server import RedisServer
from dev.serve import ThreadedServer
from dev.upstash import upstash_app
from lib.afterwards import Afterwards, Outbox
from lib.ai.budgets import Budget
from lib.ai.chain import Chain, Link
from lib.ai.providers.port import Delta, End, Piece, ProviderFailed
from lib.ai.question import Answer, AnswerCodec, Message, Question, hash_of
from lib.ai.tries import Asking
from lib.app.settings import Settings
from lib.app.wiring import Late, build
from lib.base import caller
from lib.base.caller import Caller
from lib.base.clock import Clock
from lib.base.events import Event, RequestDone
from lib.base.http import new_pool
from lib.breaker.circuit import BreakerPolicy
from lib.breaker.gate import Gate
from lib.breaker.shared import SharedCircuits
from lib.breaker.vitals import VitalsPolicy
from lib.cache import epochs
from lib.cache.freshness import CacheRules, Directives
from lib.cache.lock import LockRules
from lib.call import Answered, Call, Outcome, Streaming
from lib.claims import Claims
from lib.computing import Computing
from lib.guard import Guard
from lib.leading import Leading
from lib.limits.admission import Subject
from lib.limits.grammar import parse_budget, parse_limits
from lib.limits.limiter import Limits
from lib.limits.local import LocalLimits
from lib.redis import keys
from lib.redis.op import Command
from lib.redis.rest import Upstash
from lib.redis.store import RedisStore
from tests.built import routes as all_routes
from tests.rig.clock import until

NOON_MS = 1_795_262_401_000
"""A second past noon UTC: no window reaches into another day."""
TOKEN = "kit-token"
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
    fails_after: int = 0
    """Pieces that still come before it fails."""
    end: End = field(default_factory=lambda: End("fake-1", whole=True, tokens=100))
    held: bool = False
    asked: int = 0
    streamed: int = 0
    closed: int = 0
    """Calls that were ended before their end."""
    questions: list[Question] = field(default_factory=list)
    _free: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def ask(self, question: Question, *, request_id: str, left_s: float, stream: bool) -> AsyncGenerator[Piece]:
        """See ``Provider``."""
        assert left_s > 0, "asked without time to answer"
        self.asked += 1
        self.streamed += stream
        self.questions.append(question)
        await self._tell()
        whole = False
        try:
            async for piece in self._pieces(stream=stream):
                whole = isinstance(piece, End)
                yield piece
        except ProviderFailed:
            whole = True
            raise
        finally:
            if not whole:
                self.closed += 1

    async def _pieces(self, *, stream: bool) -> AsyncGenerator[Piece]:
        texts = self.texts if stream else ["".join(self.texts)]
        pieces: list[Piece] = [*(Delta(text) for text in texts), self.end]
        for number, piece in enumerate(pieces):
            if self.held:
                await self._free.acquire()
            if self.fails is not None and number >= self.fails_after:
                raise self.fails
            yield piece

    def go(self, pieces: int = 100) -> None:
        """Let so many pieces out."""
        for _ in range(pieces):
            self._free.release()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until_asked(self, times: int = 1) -> None:
        """Until it has been asked so often; 10 s at most."""
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(lambda: self.asked >= times)


@dataclass
class Time:
    """The time of day, set by hand; sleeping moves it. ``on_sleep`` may do what happens meanwhile."""

    ms: int = NOON_MS
    slept: list[float] = field(default_factory=list)
    on_sleep: Callable[[], Any] | None = None

    @property
    def clock(self) -> Clock:
        """A clock that shows it. Durations stay real: they bound real servers."""
        return Clock(now_ms=lambda: self.ms, sleep=self._sleep, jitter=lambda: 0.0)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.ms += int(seconds * 1000)
        if self.on_sleep is not None:
            await self.on_sleep()
        await asyncio.sleep(0)


@dataclass(frozen=True)
class Stand:
    """One real Redis and its stand-in, for the whole run."""

    server: RedisServer
    url: str
    faults: Faults
    direct: "redis.Redis"
    """Redis itself, past the stand-in."""


@cache
def stand() -> Stand:
    """Started with the first test that wants it, stopped when the run ends."""
    server, faults = RedisServer.start(), Faults()
    served = ThreadedServer(upstash_app(server.url, TOKEN, faults=faults)).start()
    direct = redis.Redis.from_url(
        server.url, protocol=2, driver_info=None, decode_responses=True, retry=Retry(NoBackoff(), 0)
    )
    atexit.register(served.stop)
    atexit.register(direct.close)
    return Stand(server, served.url, faults, direct)


@dataclass
class Instance:
    """One instance of the functions, below the HTTP edge, and what it sent to Redis."""

    guard: Guard
    chain: Chain
    sent: list[Sequence[Command]]
    _changed: asyncio.Event
    events: list[Event]

    @property
    def limits(self) -> Limits:
        """Who counts."""
        return self.guard.limits

    def counts(self) -> tuple[int, int]:
        """Round trips and commands since the last look; those inside a script count as the vendor bills them."""
        found = len(self.sent), sum(3 if c[0] == "EVAL" else 1 for commands in self.sent for c in commands)
        self.sent.clear()
        return found

    async def until_sent(self, round_trips: int) -> None:
        """Until so many round trips were begun since the last look; 10 s at most."""
        async with asyncio.timeout(10):
            while len(self.sent) < round_trips:
                self._changed.clear()
                await self._changed.wait()

    async def handle(self, asked: "Asked") -> "AnswerOutcome":
        """As the edge does, up to the reply."""
        return await self.guard.handle(asked.call, Asking(self.chain, asked.question), AnswerCodec())

    async def whole(self, asked: "Asked") -> "AnswerOutcome":
        """As the edge does, write-back included; a stream is read to its end."""
        outcome = await self.handle(asked)
        try:
            if isinstance(outcome.result, Streaming):
                async for _ in outcome.result.pieces:
                    pass
        finally:
            if isinstance(outcome.result, Streaming):
                await outcome.result.pieces.aclose()
            await outcome.after()
        return outcome

    def seen[E: Event](self, kind: type[E]) -> list[E]:
        """The events of one kind so far."""
        return [event for event in self.events if isinstance(event, kind)]


@dataclass(frozen=True)
class Asked:
    """One request: what the guard is asked to do, and the question."""

    call: Call
    question: Question
    caller: Caller


type AnswerOutcome = Outcome[str, Answer]


@dataclass
class Kit:
    """Makes instances that share a Redis."""

    time: Time
    redis: "redis.Redis"
    faults: Faults
    url: str
    closing: AsyncExitStack

    def instance(
        self,
        *providers: FakeProvider | Link,
        limits: str = "9/minute,225/day",
        breaker: BreakerPolicy = BreakerPolicy(),  # noqa: B008 - frozen
        rules: LockRules = LockRules(),  # noqa: B008 - frozen
        clock: Clock | None = None,
        redis: bool = True,
    ) -> Instance:
        """A new one. Providers have the budget ``limits`` unless they come as a Link."""
        sent: list[Sequence[Command]] = []
        events: list[Event] = []
        changed = asyncio.Event()

        def note(commands: Sequence[Command]) -> None:
            sent.append(commands)
            changed.set()

        clock, pool = clock or self.time.clock, new_pool()
        self.closing.push_async_callback(pool.aclose)
        wire = Upstash(pool, self.url, TOKEN, 5, 5, note)
        gate = Gate(VitalsPolicy(), clock, 2_500)
        store = RedisStore(wire, gate, clock, events.append, 5_000) if redis else None
        counts = Limits(store, None, LocalLimits(0.25), clock, events.append)
        links = tuple(
            each if isinstance(each, Link) else Link(each, Budget(parse_budget(limits)), breaker) for each in providers
        )
        chain = Chain(links, SharedCircuits(store, clock, events.append), counts, clock, events.append)
        outbox = Outbox(store, events.append, counts.due)
        claims = Claims(counts, store, outbox, clock, rules)
        computing = Computing(counts, store, claims, clock, Leading(clock, rules))
        guard = Guard(counts, computing, outbox, clock)
        return Instance(guard, chain, sent, changed, events)

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
        for key in self.redis.keys("lock:*") if ms >= 10_000 else ():
            self.redis.delete(key)

    def another(self, asked: Asked, query: str) -> Asked:
        """Another question by the same caller in the same session."""
        question = replace(asked.question, messages=(Message("user", query),))
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
        before = self.redis.get(key)

        async def stored() -> None:
            if self.redis.get(keys.lock(key)) is not None:
                await until(lambda: self.redis.get(key) != before)

        self.time.on_sleep = stored

    def executed(self, command: str) -> int:
        """How often Redis itself has executed a command, by its lower-case name."""
        stats: Any = self.redis.info("commandstats")
        calls: int = stats.get(f"cmdstat_{command}", {"calls": 0})["calls"]
        return calls

    def without_ttl(self) -> list[str]:
        """Keys that would never expire, and are not among the bounded number of epochs."""
        found: Any = self.redis.keys("*")
        return [key for key in found if self.redis.ttl(key) == -1 and not key.startswith("epoch:2")]


@asynccontextmanager
async def kit() -> AsyncIterator[Kit]:
    """An empty Redis and time at noon."""
    parts = stand()
    parts.faults.clear()
    parts.direct.flushall()
    async with AsyncExitStack() as closing:
        yield Kit(Time(), parts.direct, parts.faults, parts.url, closing)
        parts.faults.clear()


def answered(outcome: AnswerOutcome) -> Answered[Answer]:
    """The outcome's answer; fails the test where there is none."""
    assert isinstance(outcome.result, Answered), outcome.result
    return outcome.result


async def together[T](calls: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """All at once."""
    return list(await asyncio.gather(*calls))


def routes(made: Instance, k: Kit, **environ: str) -> Any:
    """The AI routes of an instance as one app, by path."""
    settings = Settings.from_env(
        {"KV_REST_API_URL": k.url, "KV_REST_API_TOKEN": TOKEN, "CLOUD_RUN_AI_URL": "http://127.0.0.1:9", **environ}
    )
    chain = Late(lambda: made.chain)
    parts = replace(build(settings, listeners=(made.events.append,)), guard=made.guard, late_chain=chain)
    k.closing.push_async_callback(parts.aclose)
    return all_routes(parts)


async def lifespan(receive: Any, send: Any) -> None:
    """A server's start and end, of which an app has nothing to say."""
    for what in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{what}.complete"})


async def over(made: Instance, requests: int) -> None:
    """Until so many requests are over, write-back included; 10 s at most."""
    await until(lambda: len(made.seen(RequestDone)) >= requests and not made.guard.computing.leading.flights)
