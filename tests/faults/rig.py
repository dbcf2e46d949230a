"""One instance between real parts, each of which can be broken at any step of a request: what a case is played on.

instance -> dev.proxy (TCP) -> a door (steps, odd replies) -> dev.faults (HTTP) -> stand-in -> Redis, PostgreSQL
instance -> dev.proxy (TCP) -> a scripted provider
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx
import psycopg
from redis import Redis
from starlette.types import ASGIApp

from dev.faults import Fault, Faults
from dev.proxy import Proxy
from dev.serve import ThreadedServer
from dev.supabase import supabase_app
from dev.upstash import upstash_app
from lib.app.settings import Settings
from lib.app.wiring import Parts, build
from lib.base.events import Event
from lib.limits import bitfield
from lib.limits.grammar import parse_limits
from tests.built import routes
from tests.faults.fleet import Servers
from tests.faults.parts import Door, ScriptedProvider, Waits
from tests.rig.clock import Time, patient

TEN = parse_limits("10/minute,100/day")
TOKEN, SECRET = "rig-token", "s" * 40
USED_UP = b'{"error":"ERR max requests limit exceeded. Limit: 500000, Usage: 500001."}'

type Step = Literal["ask", "budget", "write-back"]


@dataclass
class Broken:
    """One store, and the ways to break it."""

    door: Door
    faults: Faults
    proxy: Proxy
    kill: Callable[[], None]
    restart: Callable[[], None]
    dead: bool = False

    def set(self, fault: str) -> None:
        """Break it: ``tcp ...`` by the proxy, ``process ...`` for real, ``http ...`` by what it answers.

        ``late ...`` lets each reply take so many seconds.
        """
        how, _, what = fault.partition(" ")
        if how == "tcp":
            self.proxy.set(what)  # type: ignore[arg-type] # a name out of a table
        elif how == "process":
            self.kill()
            self.dead = True
        elif fault == "http used up":
            self.door.odd = (400, USED_UP)
        elif how == "late":
            self.door.late_s = float(what)
        elif how == "http":
            kind, _, detail = what.partition(" ")
            about = {"delay": "delay_ms", "status": "status", "html": "status"}.get(kind)
            extra = {about: int(detail)} if about and detail else {}
            self.faults.set(Fault.model_validate({"kind": kind, **extra}))

    def heal(self) -> None:
        """As if nothing had been."""
        self.proxy.set("pass")
        self.faults.clear()
        self.door.odd = self.door.then = None
        self.door.late_s = 0.0
        if self.dead:
            self.restart()
            self.dead = False


@dataclass
class Rig:
    """All parts, and an instance that talks to them."""

    redis: Broken
    supabase: Broken
    provider: ScriptedProvider
    waits: Waits
    to_provider: Proxy
    server: Any
    postgres_uri: str
    environ: dict[str, str]
    time: Time = field(default_factory=Time)
    events: list[Event] = field(default_factory=list)

    def break_at(self, step: Step, store: Broken, fault: str) -> None:
        """Break a store when a request comes to this step."""
        if step == "ask":
            store.set(fault)
        elif step == "budget":
            # The first sight of the provider's windows: between the ask and the provider.
            self.redis.door.text, self.redis.door.then = "provider-cloud-run", lambda: store.set(fault)
        else:
            self.provider.then = lambda: store.set(fault)

    def in_redis(self) -> int:
        """Calls that Redis counts for the only caller there is, in this minute."""
        total = 0
        server: Any = self.server
        for key in server.keys("rl:{*"):
            name = key.decode().partition("{")[2].partition("}")[0]
            if not name.startswith("provider-"):
                peek = bitfield.peek(name, TEN, self.time.ms)
                replies = [server.execute_command(*command) for command in peek.commands]
                total += sum(peek.read(replies).usage[0].values())
        return total

    def in_supabase(self) -> int:
        """Calls that Supabase admitted for it."""
        query = (
            "select coalesce(sum(spent), 0) from public.breakwater_windows "
            "where window_ms = 60000 and subject not like 'provider-%'"
        )
        with psycopg.connect(self.postgres_uri) as connection:
            row = connection.execute(query).fetchone()
        return int(row[0]) if row else 0

    def forget(self) -> None:
        """Empty stores, nothing broken, noon."""
        for store in (self.redis, self.supabase):
            store.heal()
        self.to_provider.set("pass")
        self.waits.crowd, self.waits.waiting = 1, 0
        provider = self.provider
        provider.how, provider.then, provider.asked, provider.left = "ok", None, 0, 0
        provider.entered.clear()
        self.server.flushall()
        with psycopg.connect(self.postgres_uri, autocommit=True) as owner:
            owner.execute("truncate public.breakwater_windows")
        self.events.clear()
        self.time = Time()

    @asynccontextmanager
    async def instance(self, **environ: str) -> AsyncIterator["Instance"]:
        """A new instance, warm: connections made, modules imported, as after its first request."""
        self.waits.loop = patient()
        parts = build(Settings.from_env({**self.environ, **environ}), self.time.clock, (self.events.append,))

        app = routes(parts)
        transport: Any = httpx.ASGITransport(app=app)
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://breakwater", timeout=None) as client:  # noqa: S113
                made = Instance(self, app, client, parts)
                await made.health()
                yield made
        finally:
            self.waits.loop = None
            await parts.aclose()


@dataclass
class Instance:
    """One instance, called as its clients do."""

    rig: Rig
    app: ASGIApp
    client: httpx.AsyncClient
    parts: Parts
    number: int = 0

    async def health(self) -> dict[str, Any]:
        """The health report."""
        found: dict[str, Any] = (await self.client.get("/api/health")).json()
        return found

    async def ask(self, *, stream: bool = False, query: str = "") -> httpx.Response:
        """A question that nobody has asked before, from the same caller."""
        self.number += 1
        accept = {"accept": "text/event-stream"} if stream else {}
        return await self.client.post(
            "/api/ai/supervisor",
            json={"query": query or f"question {self.number}", "stream": stream},
            headers={"x-forwarded-for": "10.0.0.1", **accept},
        )

    async def ask_and_leave(self) -> None:
        """Ask, and leave once the provider has been asked."""
        body = json.dumps({"query": "question"}).encode()
        scope: Any = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": "/api/ai/supervisor", "raw_path": b"/api/ai/supervisor", "query_string": b"", "root_path": "",
            "headers": [(b"content-type", b"application/json"), (b"x-forwarded-for", b"10.0.0.1")],
            "client": ("127.0.0.1", 1), "server": ("breakwater", 80),
        }  # fmt: skip
        sent = False

        async def receive() -> Any:
            nonlocal sent
            if not sent:
                sent = True
                return {"type": "http.request", "body": body, "more_body": False}
            await asyncio.to_thread(self.rig.provider.entered.wait, 10)
            return {"type": "http.disconnect"}

        async def send(_: Mapping[str, Any]) -> None:
            """Nobody listens."""

        await self.app(scope, receive, send)


@contextmanager
def rigged(running: Servers) -> Iterator[Rig]:
    """Everything but the instances, for as long as the block lasts."""
    waits = Waits()
    redis_faults, supabase_faults, provider = Faults(waits), Faults(waits), ScriptedProvider(waits)
    redis_door = Door(upstash_app(running.redis.url, TOKEN, faults=redis_faults), waits=waits)
    supabase_door = Door(
        supabase_app(
            running.postgres.uri, service_key=TOKEN, anon_key="anon", jwt_secret=SECRET, faults=supabase_faults
        )
    )
    with ExitStack() as stack:
        ports = [stack.enter_context(ThreadedServer(app)).port for app in (redis_door, supabase_door, provider)]
        to_redis, to_supabase, to_provider = (stack.enter_context(Proxy("127.0.0.1", port, waits)) for port in ports)
        server = stack.enter_context(Redis.from_url(running.redis.url, protocol=2))
        environ = {
            "KV_REST_API_URL": to_redis.url, "KV_REST_API_TOKEN": TOKEN,
            "SUPABASE_URL": to_supabase.url, "SUPABASE_SERVICE_ROLE_KEY": TOKEN, "SUPABASE_JWT_SECRET": SECRET,
            "CLOUD_RUN_AI_URL": to_provider.url, "CLOUD_RUN_LIMITS": "1000/day",
            "TRUSTED_PROXIES": "127.0.0.1/32", "AI_TIMEOUT_MS": "1500",
        }  # fmt: skip
        yield Rig(
            Broken(redis_door, redis_faults, to_redis, running.redis.kill, running.redis.restart),
            Broken(supabase_door, supabase_faults, to_supabase, running.postgres.kill, running.postgres.restart),
            provider,
            waits,
            to_provider,
            server,
            running.postgres.uri,
            environ,
        )
