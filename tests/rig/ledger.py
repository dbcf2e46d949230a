"""What the tests of ledger, page and alerts share: whole instances on a real Redis, with time that is set by hand."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from starlette.types import Receive, Scope, Send

from dev.faults import Fault, read_body
from dev.serve import ThreadedServer
from tests.rig.clock import Time
from tests.rig.instance import Instance, started
from tests.rig.redis import OnRedis, RedisFront

MIDMONTH_MS = int(datetime(2025, 11, 14, 12, 0, 1, tzinfo=UTC).timestamp() * 1000)
CRON = {"authorization": "Bearer cron-secret-for-tests"}


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
    usage: dict[str, int] | None = None
    """What the AI backend says that an answer used."""

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
        reply: object = {"answer": "41 %", "model": "m", **({"usage": self.usage} if self.usage else {})}
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
class World(OnRedis):
    """A Redis of one's own, everything outside, and the instances under test."""

    outside: Outside
    environ: dict[str, str]
    time: Time = field(default_factory=lambda: Time(MIDMONTH_MS))
    instances: list[Instance] = field(default_factory=list)

    def instance(self, **environ: str | None) -> Instance:
        """A new instance; a variable that is given as None is left out."""
        made = started({**self.environ, **environ}, self.time.clock, caller="10.0.0.1", session="s")
        self.instances.append(made)
        return made

    def billed(self) -> dict[str, int]:
        """Billed commands by name since `forget_counts`, as the stand-in bills them."""
        found: dict[str, int] = self.front.control.stats()["commands"]
        return found

    def redis_down(self) -> None:
        """Let every request to Redis fail."""
        self.front.faults.set(Fault(kind="refuse"))


@contextmanager
def outsides() -> Iterator[Outside]:
    """Everything outside, served."""
    outside = Outside()
    with ThreadedServer(outside) as served:
        outside.url = served.url
        yield outside


@asynccontextmanager
async def worlds(front: RedisFront, outside: Outside) -> AsyncIterator[World]:
    """A clean world for one test."""
    outside.fails, outside.month_requests, outside.posted, outside.asked = False, 0, [], 0
    outside.usage = None
    given = {
        **front.environ,
        "CLOUD_RUN_AI_URL": f"{outside.url}/ai",
        "TRUSTED_PROXIES": "127.0.0.1/32",
        "RATELIMIT_AI_SUPERVISOR": "1000000/minute",
        "ADMIN_TOKEN": "admin-token-for-tests",
        "CRON_SECRET": "cron-secret-for-tests",
        "ALERT_WEBHOOK_URL": f"{outside.url}/hook",
        "SLACK_WEBHOOK_URL": f"{outside.url}/slack",
    }
    front.empty()
    world = World(front, outside, given)
    try:
        yield world
    finally:
        front.faults.clear()
        for made in world.instances:
            await made.aclose()
