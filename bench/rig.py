"""The parts that everything measured shares: one Redis, one stand-in for Upstash before it, one backend."""

from __future__ import annotations

import json
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from bench.processes import Child, stand_in
from bench.stand_ins import SERVICE_KEY, SET_DELAY
from dev.postgres import Postgres
from dev.redis_server import RedisServer
from lib.base import caller
from lib.limits import bitfield
from lib.limits.window import DAY_MS
from lib.redis import keys
from lib.redis.op import Op
from lib.settings import Settings

TOKEN = "bench-token"  # noqa: S105 - nobody but this machine sees it
BACKEND_SECRET = "bench-secret"  # noqa: S105 - likewise
_NOT_BILLED = frozenset({"info", "config", "ping", "hello", "client", "command", "select", "auth", "multi", "exec"})

type Say = Callable[[str], None]


@dataclass(slots=True)
class Rig:
    """Running parts. ``wire_ms`` sets how late Redis's replies come, for those who reach it through the wire."""

    redis_server: RedisServer
    redis: redis.Redis
    upstash: Child
    backend: Child
    control: httpx.Client
    supabase: Child | None = None
    postgres: Postgres | None = None
    wires: dict[str, Child] = field(default_factory=dict)

    def environ(self, *, wired: bool = False) -> dict[str, str]:
        """What a function needs to find the parts."""
        found = {
            "KV_REST_API_URL": self.wires["upstash"].url if wired else self.upstash.url,
            "KV_REST_API_TOKEN": TOKEN,
            "CLOUD_RUN_AI_URL": self.backend.url,
            "CLOUD_RUN_API_SECRET": BACKEND_SECRET,
        }
        if self.supabase is not None:
            found |= {"SUPABASE_URL": self.supabase.url, "SUPABASE_SERVICE_ROLE_KEY": SERVICE_KEY}
        return found

    def redis_port(self, *, wired: bool = False) -> int:
        """Where Redis itself listens, for those who speak its own protocol."""
        return self.wires["redis"].port if wired else self.redis_server.port

    def wire_ms(self, delay_ms: float) -> None:
        """Hold back every reply that comes over the wires."""
        for wire in self.wires.values():
            with socket.create_connection(("127.0.0.1", wire.port)) as connection:
                connection.sendall(SET_DELAY + str(delay_ms).encode())
                connection.recv(16)

    # What happened, by the servers' own account

    def forget(self) -> None:
        """All counters to zero."""
        self.redis.config_resetstat()
        for each in (self.upstash, self.supabase):
            if each is not None:
                self.control.delete(f"{each.url}/_control/stats").raise_for_status()

    def commands(self) -> Counter[str]:
        """Commands that Upstash would bill since then, by Redis's own statistics, those inside scripts included."""
        stats: Any = self.redis.info("commandstats")
        found: Counter[str] = Counter()
        for name, about in stats.items():
            plain = name.removeprefix("cmdstat_").partition("|")[0].lower()
            if plain not in _NOT_BILLED:
                found[plain] += about["calls"]
        return found

    def round_trips(self) -> int:
        """HTTP requests that the stand-in for Upstash has had since then."""
        return int(self._stats(self.upstash)["http_requests"])

    def exchanges(self) -> int:
        """Round trips since then to Redis itself, by the replies that it has sent."""
        stats: Any = self.redis.info("stats")
        # One was to the order to forget.
        return int(stats["total_writes_processed"]) - 1

    def rpc_calls(self) -> int:
        """HTTP requests that the stand-in for Supabase has had since then."""
        return 0 if self.supabase is None else int(self._stats(self.supabase)["http_requests"])

    def _stats(self, part: Child) -> dict[str, Any]:
        found: dict[str, Any] = self.control.get(f"{part.url}/_control/stats").json()
        return found

    def fault(self, fault: Mapping[str, object] | None) -> None:
        """Let the stand-in for Upstash go wrong, or no longer."""
        url = f"{self.upstash.url}/_control/faults"
        reply = self.control.put(url, json=fault) if fault else self.control.delete(url)
        reply.raise_for_status()

    # Shortcuts past HTTP

    def run[T](self, op: Op[T]) -> T:
        """Execute an operation on Redis itself."""
        together = self.redis.pipeline(transaction=False)
        for command in op.commands:
            together.execute_command(*command)  # type: ignore[no-untyped-call]
        return op.read(together.execute())

    def spend_all(self, address: str) -> None:
        """Use up a caller's minute at Breakwater and at the windows of others, without 10 requests each."""
        settings, now_ms = Settings.from_env({**self.environ(), "VERCEL": "1"}), time.time_ns() // 1_000_000
        policy = settings.policy_for("/api/ai/supervisor")
        who = caller.identify("address", address, settings.identity_key)
        subject = caller.subject(who, policy.group, policy.layout.tag)
        key = keys.windows(subject, now_ms // DAY_MS)
        limit = min(each.limit for each in policy.layout.windows)
        self.run(bitfield.spend(subject, policy.layout, limit, now_ms))
        self.redis.expire(key, 7_200)
        for ahead in (0, 1):
            # Also of the next minute: a round may begin in this one and end there.
            for name in ("stock", "node"):
                self.redis.set(f"{name}:minute:{address}:{now_ms // 60_000 + ahead}", 10, ex=180)


@contextmanager
def rig(*, supabase: bool = False, postgres: bool = False, wires: bool = False) -> Iterator[Rig]:
    """Start the parts; Supabase's stand-in has a PostgreSQL. Raises what starting a server raises."""
    with ExitStack() as stack:
        server = stack.enter_context(RedisServer.start())
        client = stack.enter_context(
            redis.Redis(server.host, server.port, protocol=2, driver_info=None, retry=Retry(NoBackoff(), 0))
        )
        upstash = stack.enter_context(stand_in("upstash", server.url, TOKEN))
        backend = stack.enter_context(stand_in("backend"))
        control = stack.enter_context(httpx.Client(trust_env=False, timeout=10))
        found = Rig(server, client, upstash, backend, control)
        client.set("floor", json.dumps({"t": "x" * 300}))
        if supabase or postgres:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-postgres-")))
            found.postgres = stack.enter_context(Postgres.start(home))
            if supabase:
                found.supabase = stack.enter_context(stand_in("supabase", found.postgres.uri))
        if wires:
            found.wires["upstash"] = stack.enter_context(stand_in("delay", str(upstash.port)))
            found.wires["redis"] = stack.enter_context(stand_in("delay", str(server.port)))
        yield found
