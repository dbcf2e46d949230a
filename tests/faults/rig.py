"""One instance of the rig between real parts, each of which can be broken at any step of a request.

instance -> dev.proxy (TCP) -> a door (steps, odd replies) -> dev.faults (HTTP) -> stand-in -> Redis, PostgreSQL
instance -> a scripted backend
"""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from unittest.mock import patch
from urllib.parse import urlsplit

import psycopg

from dev.proxy import Proxy
from lib.base import kept
from lib.limits import bitfield
from lib.limits.grammar import parse_limits
from tests.faults.fleet import Servers
from tests.faults.parts import Broken, Door, Waits
from tests.rig.clock import PatientLoop, Time, patient
from tests.rig.instance import Instance, started
from tests.rig.redis import PATIENT, OnRedis, redis_front
from tests.rig.script import Script, scripted
from tests.rig.supabase import forget_calls, supabase_stand_in

TEN = parse_limits("10/minute,100/day")
REFUSAL = b'{"error":{"message":"no"}}'
WORDS = "".join(f'data: {{"delta":"{word} "}}\n\n' for word in ["Disk", "/", "is", "41", "%", "full."])
STREAM = f': here\n\n{WORDS}data: {{"done":true,"model":"scripted"}}\n\ndata: [DONE]\n\n'.encode()
WAYS: dict[str, dict[str, Any]] = {
    "ok": {},
    "html": {"status": 502, "body": b"<html>502</html>", "headers": {"content-type": "text/html"}},
    "not_json": {"body": b"please wait", "headers": {"content-type": "text/plain"}},
    "empty": {"body": b'{"answer":" "}'},
    "too_large": {"body": json.dumps({"answer": "x" * 4_200_000}).encode()},
    "refuse": {"refuse": True},
    "cut before": {"cut": 0.05},
    "cut after": {"cut": 0.5},
    "hang": {"hold": True},
    "hold": {"hold": True},
}
"""Ways of a backend, as the script is told them; a number is a status. ``hold`` waits until its caller has left."""

type Step = Literal["ask", "budget", "write-back"]


@dataclass
class Rig(OnRedis):
    """All parts, and an instance that talks to them."""

    redis: Broken
    supabase: Broken
    script: Script
    waits: Waits
    postgres_uri: str
    environ: dict[str, str]
    time: Time = field(default_factory=Time)

    def answers(self, how: str, *, stream: bool = False) -> None:
        """What the backend does from now on."""
        about = {"status": int(how), "body": REFUSAL} if how.isdecimal() else WAYS[how]
        if stream and "status" not in about:
            about = {"body": STREAM, "headers": {"content-type": "text/event-stream"}, **about}
        self.script.reset(**about, waits=self.waits if how == "hang" else None)

    def break_at(self, step: Step, store: Broken, fault: str) -> None:
        """Break a store when a request comes to this step."""
        if step == "ask":
            store.set(fault)
        elif step == "budget":
            # The first sight of the provider's windows: between the ask and the provider.
            self.redis.door.text, self.redis.door.then = "rl:{provider-cloud-run", lambda: store.set(fault)
        else:
            self.script.then = lambda: store.set(fault)

    def in_redis(self) -> int:
        """Calls that Redis counts for the only caller there is, in this minute."""
        total = 0
        server: Any = self.server
        for key in server.keys("rl:{*"):
            name = key.partition("{")[2].partition("}")[0]
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
        self.waits.crowd, self.waits.waiting = 1, 0
        self.script.reset()
        self.server.flushall()
        forget_calls(self.postgres_uri)
        self.time = Time()

    @asynccontextmanager
    async def instance(self, **environ: str) -> AsyncIterator[Instance]:
        """A new instance, warm: connections made, modules imported, as after its first request."""
        self.waits.loop = patient()
        made = started({**self.environ, **environ}, self.time.clock, caller="10.0.0.1")
        try:
            await made.health()
            yield made
        finally:
            self.waits.loop = None
            await made.aclose()


@contextmanager
def rigged(running: Servers) -> Iterator[Rig]:
    """Everything but the instances, for as long as the block lasts. Timeouts are production's."""
    waits = Waits()
    redis_door, supabase_door = Door(waits), Door()
    # What a connection waits for from the other machine takes its time by that machine's clock.
    real_s = tuple(wait_s / PatientLoop.SLOWER for wait_s in kept._REFUSED_WITHIN_S)
    with ExitStack() as stack:
        stack.enter_context(patch.object(kept, "_REFUSED_WITHIN_S", real_s))
        front = stack.enter_context(redis_front(running.redis, redis_door.before))
        supabase = stack.enter_context(supabase_stand_in(running.postgres, supabase_door.before))
        script = stack.enter_context(scripted())
        front.faults.waits = supabase.faults.waits = waits
        to_redis, to_supabase = (
            stack.enter_context(Proxy("127.0.0.1", urlsplit(url).port or 0, waits)) for url in (front.url, supabase.url)
        )
        environ = {
            **{name: value for name, value in front.environ.items() if name not in PATIENT},
            **supabase.environ,
            "KV_REST_API_URL": to_redis.url,
            "SUPABASE_URL": to_supabase.url,
            "CLOUD_RUN_AI_URL": script.url,
            "CLOUD_RUN_LIMITS": "1000/day",
            "TRUSTED_PROXIES": "127.0.0.1/32",
            "AI_TIMEOUT_MS": "1500",
        }
        yield Rig(
            front,
            Broken(redis_door, front.faults, to_redis, running.redis.kill, running.redis.restart),
            Broken(supabase_door, supabase.faults, to_supabase, running.postgres.kill, running.postgres.restart),
            script,
            waits,
            running.postgres.uri,
            environ,
        )
