"""What the tests of the guard share: instances as Vercel runs them, between real stores and a scripted backend.

Everything is real but the time and, where a test needs an exact reply, the AI backend (``Script``).
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from lib.base.clock import Clock
from lib.base.events import Listener
from lib.breaker import stored
from lib.breaker.circuit import Circuit
from lib.redis import keys
from lib.redis.op import Command
from lib.redis.tcp import Tcp
from tests.conftest import SupabaseStandIn
from tests.rig.callers import a_caller
from tests.rig.clock import Time
from tests.rig.control import Control
from tests.rig.instance import Instance, started, together
from tests.rig.redis import RedisFront
from tests.rig.script import Script

PATIENT = {"REDIS_TIMEOUT_MS": "10000", "REDIS_CONNECT_TIMEOUT_MS": "10000"}
"""For crowds, where a busy machine must not be taken for a Redis that is out."""
NOT_BILLED = {"info", "config", "ping", "hello", "client", "command", "select", "auth", "multi", "exec"}


@dataclass
class Rig:
    """The real parts around instances under test."""

    environ: dict[str, str]
    server: redis.Redis
    upstash: Control
    supabase: Control
    script: Script
    time: Time = field(default_factory=Time)
    instances: list[Instance] = field(default_factory=list)
    trips: int = 0
    """Round trips over TCP, which no stand-in counts."""

    def instance(self, *listeners: Listener, **environ: str | None) -> Instance:
        """A new instance; a variable that is given as None is left out."""
        made = started({**self.environ, **environ}, self.time.clock, *listeners)
        self.instances.append(made)
        store = made.limits.redis
        if store is not None and isinstance(store.redis, Tcp):
            store.redis.sent = self._counted(store.redis.sent)
        return made

    def _counted(self, sent: Callable[[Sequence[Command]], None]) -> Callable[[Sequence[Command]], None]:
        def count(commands: Sequence[Command]) -> None:
            self.trips += 1
            sent(commands)

        return count

    @property
    def nowhere(self) -> dict[str, str]:
        """Variables with which an instance finds no Redis."""
        if "REDIS_URL" in self.environ:
            return {"REDIS_URL": "redis://127.0.0.1:9"}
        return {"KV_REST_API_URL": "http://127.0.0.1:9"}

    @property
    def circuit(self) -> Circuit:
        """The backend's circuit as Redis holds it."""
        return stored.parse(self.circuit_text)

    @property
    def circuit_text(self) -> str | None:
        """Its very text."""
        text: Any = self.server.get(keys.circuit("cloud-run"))
        return None if text is None else text.decode()

    def store(self, circuit: Circuit) -> None:
        """Put a circuit into Redis, as another instance would have."""
        self.server.set(keys.circuit("cloud-run"), stored.dump(circuit))

    def forget_counts(self) -> None:
        """Zero the counters of Redis and of the stand-in before it."""
        self.server.config_resetstat()
        self.upstash.reset()
        self.trips = 0

    def commands(self) -> dict[str, int]:
        """Billed commands by name since then, by the server's own account, those inside scripts included."""
        stats: Any = self.server.info("commandstats")
        calls = {name.removeprefix("cmdstat_").lower(): entry["calls"] for name, entry in stats.items()}
        return {name: count for name, count in calls.items() if name.split("|")[0] not in NOT_BILLED}

    def cost(self) -> tuple[int, int]:
        """Round trips to Redis and billed commands since then."""
        return self.upstash.requests() + self.trips, sum(self.commands().values())

    def without_ttl(self) -> list[str]:
        """Keys that would never expire, and are not among the bounded number of epochs."""
        found: Any = self.server.keys("*")
        return [key.decode() for key in found if self.server.ttl(key) == -1 and not key.startswith(b"epoch:2")]


@asynccontextmanager
async def rigged(
    front: RedisFront, supabase: SupabaseStandIn, script: Script, transport: str = "rest"
) -> AsyncIterator[Rig]:
    """Clean parts for one test, with Redis over REST or over TCP."""
    rest = {"KV_REST_API_URL": front.url, "KV_REST_API_TOKEN": front.token}
    environ = {
        **(rest if transport == "rest" else {"REDIS_URL": front.redis_url}),
        "SUPABASE_URL": supabase.url,
        "SUPABASE_SERVICE_ROLE_KEY": supabase.service_key,
        "SUPABASE_JWT_SECRET": supabase.jwt_secret,
        "CLOUD_RUN_AI_URL": script.url,
        "CLOUD_RUN_API_SECRET": "scripted-secret",
        "TRUSTED_PROXIES": "127.0.0.1/32",
    }
    script.reset()
    with redis.Redis.from_url(front.redis_url, protocol=2, driver_info=None, retry=Retry(NoBackoff(), 0)) as server:
        rig = Rig(environ, server, Control(front.url), Control(supabase.url), script)
        server.flushall()
        for control in (rig.upstash, rig.supabase):
            control.clear()
            control.reset()
        try:
            yield rig
        finally:
            rig.upstash.clear()
            rig.supabase.clear()
            script.release()
            for made in rig.instances:
                await made.aclose()


async def leaving(instance: Instance, script: Script, query: str = "never mind") -> list[dict[str, Any]]:
    """Ask, and close the connection while the backend, which has to hold, is being asked; what was sent by then."""
    return await left_when(instance, lambda: script.until(lambda seen: seen.asked > 0), query)


async def left_when(
    instance: Instance, when: Callable[[], Awaitable[None]], query: str = "never mind", caller: str = ""
) -> list[dict[str, Any]]:
    """Ask over bare ASGI, and disconnect once ``when`` returns; every message that the app sent."""
    body = json.dumps({"query": query}).encode()
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await when()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(dict(message))

    headers = [(b"content-type", b"application/json"), (b"x-forwarded-for", (caller or a_caller()).encode())]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/ai/supervisor",
        "headers": headers,
        "client": ("127.0.0.1", 1),
    }
    await instance.app(scope, receive, send)
    return sent


def fail_from_another_process(environ: dict[str, str], now_ms: int, calls: int) -> list[int]:
    """In a process of its own: ask ``calls`` questions at once; the statuses of the replies."""

    async def run() -> list[int]:
        made = started(environ, Clock(now_ms=lambda: now_ms))
        try:
            replies = await together([made.ask(f"question {number} of {os.getpid()}") for number in range(calls)])
            return [reply.status_code for reply in replies]
        finally:
            await made.aclose()

    return asyncio.run(run())
