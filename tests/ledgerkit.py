"""What the tests of ledger, page and alerts share: whole instances on a real Redis, with time that is set by hand."""

import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import redis as redis_py
from starlette.types import Receive, Scope, Send

from dev.faults import Fault, Faults, read_body
from dev.redis_server import RedisServer
from dev.serve import ThreadedServer
from dev.upstash import upstash_app
from lib.app.settings import Settings
from lib.app.wiring import Parts, build
from lib.base.clock import Clock
from lib.base.events import Event
from tests.built import routes

MIDMONTH_MS = int(datetime(2025, 11, 14, 12, 0, 1, tzinfo=UTC).timestamp() * 1000)
ADMIN = {"authorization": "Bearer admin-token"}
CRON = {"authorization": "Bearer cron-secret"}


@dataclass
class Outside:
    """A server for everything outside: the AI backend, webhooks, and Upstash's developer API. It notes what it gets."""

    url: str = ""
    fails: bool = False
    """Whether webhooks and the AI backend fail."""
    month_requests: object = 0
    host: str = "127.0.0.1"
    posted: list[tuple[str, Any]] = field(default_factory=list)
    asked: int = 0

    def alerts(self, to: str = "/hook") -> list[Any]:
        """What a webhook was sent."""
        return [body for path, body in self.posted if path == to]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": f"{message['type']}.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        body, path = await read_body(receive), scope["path"]
        if path in ("/hook", "/slack"):
            self.posted.append((path, json.loads(body or b"")))
        elif path == "/ai":
            self.asked += 1
        reply: object = {"answer": "41 %", "model": "m"}
        if path == "/v2/redis/databases":
            reply = [{"database_id": "other", "endpoint": "elsewhere"}, {"database_id": "id-1", "endpoint": self.host}]
        elif path == "/v2/redis/stats/id-1":
            reply = {"total_monthly_requests": self.month_requests}
        status = 500 if self.fails and not path.startswith("/v2/") else 200
        await send(
            {"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]}
        )
        await send({"type": "http.response.body", "body": json.dumps(reply).encode()})


@dataclass
class Instance:
    """One instance with all its routes, its events, and a client."""

    parts: Parts
    http: httpx.AsyncClient
    events: list[Event]

    async def ask(
        self, query: str = "which disk is fullest?", caller: str = "10.0.0.1", **headers: str
    ) -> httpx.Response:
        """POST a question."""
        return await self.http.post(
            "/api/ai/supervisor",
            json={"query": query, "sessionId": "s"},
            headers={"x-forwarded-for": caller, **{k.replace("_", "-"): v for k, v in headers.items()}},
        )

    async def act(self, **action: object) -> httpx.Response:
        """POST an admin action."""
        return await self.http.post("/api/admin", json=action, headers=ADMIN)

    async def overview(self) -> Any:
        """GET the overview's body."""
        reply = await self.http.get("/api/overview", headers=ADMIN)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def seen[E: Event](self, kind: type[E]) -> list[E]:
        """The events of one kind so far."""
        return [event for event in self.events if isinstance(event, kind)]


@dataclass
class World:
    """A Redis of one's own, everything outside, and the instances under test."""

    server: redis_py.Redis
    control: httpx.Client
    faults: Faults
    outside: Outside
    environ: dict[str, str]
    now_ms: int = MIDMONTH_MS
    ahead_s: float = 0.0
    """How far durations have been moved on by hand."""
    instances: list[Instance] = field(default_factory=list)

    def instance(self, **environ: str | None) -> Instance:
        """A new instance; a variable that is given as None is left out."""
        merged = {name: value for name, value in {**self.environ, **environ}.items() if value is not None}
        events: list[Event] = []
        parts = build(Settings.from_env(merged), self._clock, (events.append,))
        transport: Any = httpx.ASGITransport(app=routes(parts))
        made = Instance(parts, httpx.AsyncClient(transport=transport, base_url="http://breakwater"), events)
        self.instances.append(made)
        return made

    @property
    def _clock(self) -> Clock:
        return Clock(now_ms=lambda: self.now_ms, monotonic=lambda: time.monotonic() + self.ahead_s)

    def billed(self) -> dict[str, int]:
        """Billed commands by name since `forget`, as the stand-in bills them."""
        found: dict[str, int] = self.control.get("/_control/stats").json()["commands"]
        return found

    def forget(self) -> None:
        """All bills to zero."""
        self.control.delete("/_control/stats")

    def redis_down(self) -> None:
        """Let every request to Redis fail."""
        self.faults.set(Fault(kind="refuse"))


@dataclass(frozen=True)
class Ground:
    """The servers of a module's tests."""

    server: RedisServer
    upstash: str
    faults: Faults
    outside: Outside


@contextmanager
def grounded() -> Iterator[Ground]:
    """Start Redis, the stand-in before it, and everything outside."""
    faults, outside = Faults(), Outside()
    with (
        RedisServer.start() as server,
        ThreadedServer(upstash_app(server.url, "redis-token", faults=faults)) as upstash,
        ThreadedServer(outside) as served,
    ):
        outside.url = served.url
        yield Ground(server, upstash.url, faults, outside)


@asynccontextmanager
async def worlds(ground: Ground, **environ: str) -> AsyncIterator[World]:
    """A clean world for one test."""
    outside = ground.outside
    outside.fails, outside.month_requests, outside.posted, outside.asked = False, 0, [], 0
    given = {
        "KV_REST_API_URL": ground.upstash,
        "KV_REST_API_TOKEN": "redis-token",
        "CLOUD_RUN_AI_URL": f"{outside.url}/ai",
        "TRUSTED_PROXIES": "127.0.0.1/32",
        # A busy machine is no outage.
        "REDIS_TIMEOUT_MS": "20000",
        "REDIS_CONNECT_TIMEOUT_MS": "20000",
        "REDIS_SLOW_MS": "60000",
        "RATELIMIT_AI_SUPERVISOR": "1000000/minute",
        "ADMIN_TOKEN": "admin-token",
        "CRON_SECRET": "cron-secret",
        "ALERT_WEBHOOK_URL": f"{outside.url}/hook",
        "SLACK_WEBHOOK_URL": f"{outside.url}/slack",
        **environ,
    }
    with (
        redis_py.Redis.from_url(ground.server.url, protocol=2, driver_info=None, decode_responses=True) as server,
        httpx.Client(base_url=ground.upstash, timeout=10, verify=False, trust_env=False) as control,  # noqa: S501 - plain HTTP on loopback
    ):
        server.flushall()
        ground.faults.clear()
        world = World(server, control, ground.faults, outside, given)
        world.forget()
        try:
            yield world
        finally:
            ground.faults.clear()
            for made in world.instances:
                await made.http.aclose()
                await made.parts.aclose()
