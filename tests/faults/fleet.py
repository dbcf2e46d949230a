"""Several instances' limits over one real Redis and one real PostgreSQL, each instance with lines of its own to both.

In one process, with time set by hand, so that any order of events can be played. A line can be cut before a request is
executed, or after it.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import httpcore
import httpx
import redis
from starlette.types import ASGIApp

from dev.postgres import Postgres
from dev.redis_server import RedisServer
from dev.supabase import supabase_app
from dev.upstash import upstash_app
from lib.afterwards import Afterwards, Outbox
from lib.base.events import Event, Mode
from lib.breaker.gate import Gate
from lib.breaker.vitals import VitalsPolicy
from lib.limits import bitfield
from lib.limits.admission import Admission, Charge, Subject
from lib.limits.limiter import Limits
from lib.limits.local import LocalLimits
from lib.limits.supabase import Supabase
from lib.limits.supabase_store import SupabaseStore
from lib.lookup import constant
from lib.redis.errors import RedisDown
from lib.redis.op import Command, Reply
from lib.redis.rest import Upstash
from lib.redis.store import RedisStore
from lib.redis.tcp import Tcp
from tests.rig.clock import Time
from tests.rig.redis import executed
from tests.rig.supabase import forget_calls

COOLDOWN_MS = 5_000
TOKEN = "fleet-token"

type State = Literal["up", "refuse", "drop"]


class Line(httpx.AsyncBaseTransport):
    """The way from one instance to one store."""

    def __init__(self, app: ASGIApp) -> None:
        self._store = httpx.ASGITransport(app=app)
        self.state: State = "up"
        self.answered = 0
        self.meanwhile: Callable[[], Awaitable[object]] | None = None
        """What happens, once, while the next request is on its way."""

    async def leave(self) -> None:
        """A request is on its way."""
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Pass a request on, unless the line is cut."""
        await self.leave()
        if self.state == "refuse":
            raise httpx.ConnectError("refused", request=request)
        response = await self._store.handle_async_request(request)
        if self.state == "drop":
            raise httpx.ReadError("cut after it was executed", request=request)
        self.answered += 1
        return response


class PoolOverLine(httpcore.AsyncConnectionPool):
    """A pool of connections whose requests go along a line."""

    def __init__(self, line: Line) -> None:
        super().__init__()
        self._line = line

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        """The same request, and the same reply or failure, in the terms of httpcore."""
        url, headers, content = bytes(request.url).decode(), request.headers, await _whole(request.stream)
        try:
            got = await self._line.handle_async_request(httpx.Request("POST", url, headers=headers, content=content))
        except httpx.ConnectError as e:
            raise httpcore.ConnectError(str(e)) from e
        except httpx.ReadError as e:
            raise httpcore.ReadError(str(e)) from e
        return httpcore.Response(got.status_code, headers=got.headers.raw, content=await got.aread())


class TcpOverLine(Tcp):
    """Connections by TCP whose round trips go along a line."""

    line: Line

    async def _exchange(self, commands: Sequence[Command], left_s: float) -> tuple[list[Reply], float, float]:
        await self.line.leave()
        if self.line.state == "refuse":
            raise RedisDown("connection", "refused")
        exchanged = await super()._exchange(commands, left_s)
        if self.line.state == "drop":
            raise RedisDown("connection", "cut after it was executed")
        self.line.answered += 1
        return exchanged


async def _whole(stream: Any) -> bytes:
    return b"".join([chunk async for chunk in stream])


@dataclass
class Member:
    """One instance."""

    limits: Limits
    outbox: Outbox
    redis: Upstash | Tcp
    to_redis: Line
    to_supabase: Line
    events: list[Event]
    time: Time

    async def call(self, subject: Subject, cost: int = 1, *, marks_may_be_old: bool = False) -> Admission:
        """Ask for one call and send what is left after the reply; a store that fails then changes nothing."""
        admission, after = await self.ask(subject, cost, marks_may_be_old=marks_may_be_old)
        await self.outbox.try_send(after, math.inf)
        return admission

    async def ask(
        self, subject: Subject, cost: int = 1, *, marks_may_be_old: bool = False
    ) -> tuple[Admission, Afterwards]:
        """Ask for one call; what is left to be sent after the reply."""
        charge, after = Charge(subject, self.time.ms, math.inf, cost), Afterwards()
        admission, _ = await self.limits.admit(charge, constant(None), after, marks_may_be_old=marks_may_be_old)
        return admission, after


@dataclass
class Fleet:
    """The stores, and instances over them."""

    server: redis.Redis
    postgres_uri: str
    redis_app: ASGIApp
    supabase_app: ASGIApp
    redis_url: str | None = None
    """Where Redis is reached by TCP."""
    time: Time = field(default_factory=Time)
    members: list[Member] = field(default_factory=list)

    def join(self, stores: tuple[Mode, ...] = ("redis", "supabase"), share: float = 0.25) -> Member:
        """A new instance that has these stores."""
        events: list[Event] = []
        to_redis, to_supabase, clock = Line(self.redis_app), Line(self.supabase_app), self.time.clock
        policy = VitalsPolicy(COOLDOWN_MS)
        redis = self._way(to_redis)
        client = httpx.AsyncClient(transport=to_supabase)
        supabase = Supabase(lambda: client, "http://supabase", TOKEN, 3.0)
        limits = Limits(
            RedisStore(redis, Gate(policy, clock, math.inf), clock, events.append, 1e9) if "redis" in stores else None,
            SupabaseStore(supabase, Gate(policy, clock, math.inf), events.append) if "supabase" in stores else None,
            LocalLimits(share),
            clock,
            events.append,
        )
        outbox = Outbox(limits.redis, events.append, limits.due)
        member = Member(limits, outbox, redis, to_redis, to_supabase, events, self.time)
        self.members.append(member)
        return member

    def _way(self, line: Line) -> Upstash | Tcp:
        if self.redis_url is None:
            return Upstash(PoolOverLine(line), "http://redis", TOKEN, 2.0, 2.0)
        way = TcpOverLine(self.redis_url, 20.0, 20.0)
        way.line = line
        return way

    def billed(self) -> int:
        """What Upstash would have billed so far, by Redis' own account."""
        return sum(executed(self.server).values())

    def in_redis(self, subject: Subject) -> list[int]:
        """What Redis counts now, by window, whatever anyone remembers."""
        peek = bitfield.peek(subject.id, subject.layout, self.time.ms)
        server: Any = self.server
        replies = [server.execute_command(*command) for command in peek.commands]
        tally = peek.read(replies)
        return [sum(buckets.values()) for buckets in tally.usage]

    def without_ttl(self) -> list[str]:
        """Keys that would never expire."""
        found: list[bytes] = self.server.keys("*")  # type: ignore[assignment] # its types allow for an asynchronous one
        return [key.decode() for key in found if self.server.ttl(key) == -1]


@dataclass(frozen=True)
class Servers:
    """A running Redis and a running PostgreSQL."""

    redis: RedisServer
    postgres: Postgres


@contextmanager
def servers() -> Iterator[Servers]:
    """Both, for as long as the block lasts."""
    # Not tmp_path: see dev/postgres.py.
    with (
        TemporaryDirectory(prefix="breakwater-") as directory,
        RedisServer.start() as redis_server,
        Postgres.start(Path(directory) / "data") as postgres,
    ):
        yield Servers(redis_server, postgres)


@asynccontextmanager
async def fleet(running: Servers, transport: str = "rest") -> AsyncIterator[Fleet]:
    """An empty fleet over empty stores."""
    supabase = supabase_app(running.postgres.uri, service_key=TOKEN, anon_key="anon", jwt_secret="s" * 32)
    with redis.Redis.from_url(running.redis.url, protocol=2) as server:
        server.flushall()
        forget_calls(running.postgres.uri)
        upstash = upstash_app(running.redis.url, TOKEN)
        async with _lifespan(upstash), _lifespan(supabase):
            made = Fleet(
                server,
                running.postgres.uri,
                upstash,
                supabase,
                running.redis.url if transport == "tcp" else None,
            )
            yield made
            for member in made.members:
                await member.redis.aclose()
                if member.limits.supabase:
                    await member.limits.supabase.supabase.client().aclose()


@asynccontextmanager
async def _lifespan(app: ASGIApp) -> AsyncIterator[None]:
    """Run an app's lifespan around the block; its connections belong to this loop."""
    steps: asyncio.Queue[str] = asyncio.Queue()
    done: asyncio.Queue[str] = asyncio.Queue()

    async def receive() -> dict[str, str]:
        return {"type": await steps.get()}

    async def send(message: object) -> None:
        await done.put(str(message))

    task = asyncio.ensure_future(app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send))
    await steps.put("lifespan.startup")
    await done.get()
    try:
        yield
    finally:
        await steps.put("lifespan.shutdown")
        await done.get()
        await task
