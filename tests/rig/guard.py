"""What the tests of the guard share: instances as Vercel runs them, between real stores and a scripted backend.

Everything is real but the time and, where a test needs an exact reply, the AI backend (``Script``).
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from lib.base.clock import Clock
from lib.base.events import Listener
from lib.breaker import stored
from lib.breaker.circuit import Circuit
from lib.redis import keys
from lib.redis.store_time import StoreTime
from tests.rig.clock import PatientLoop, Time
from tests.rig.control import Control
from tests.rig.instance import Instance, started, together
from tests.rig.redis import PATIENT, OnRedis, RedisFront
from tests.rig.script import Script
from tests.rig.supabase import SupabaseStandIn


@dataclass
class Rig(OnRedis):
    """The real parts around instances under test."""

    environ: dict[str, str]
    upstash: Control
    supabase: Control
    script: Script
    time: Time = field(default_factory=Time)
    instances: list[Instance] = field(default_factory=list)

    def instance(self, *listeners: Listener, **environ: str | None) -> Instance:
        """A new instance; a variable that is given as None is left out."""
        made = started({**self.environ, **environ}, self.time.clock, *listeners)
        self.instances.append(made)
        return made

    @property
    def nowhere(self) -> dict[str, str]:
        """Variables with which an instance finds no Redis."""
        if "REDIS_URL" in self.environ:
            return {"REDIS_URL": "redis://127.0.0.1:9"}
        return {"KV_REST_API_URL": "http://127.0.0.1:9"}

    def off_by(self, off_ms: int, **environ: str | None) -> Instance:
        """A new instance on a machine whose clock is off; it corrects itself by the store's, which is the real one."""
        machine = StoreTime(lambda: time.time_ns() + off_ms * 1_000_000)
        made = started({**self.environ, **environ}, None, store_time=machine)
        self.instances.append(made)
        return made

    @property
    def circuit(self) -> Circuit:
        """The backend's circuit as Redis holds it."""
        return stored.parse(self.circuit_text)

    @property
    def circuit_text(self) -> str | None:
        """Its very text."""
        text: str | None = self.server.get(keys.circuit("cloud-run"))  # type: ignore[assignment] # decoded
        return text

    def store(self, circuit: Circuit) -> None:
        """Put a circuit into Redis, as another instance would have."""
        self.server.set(keys.circuit("cloud-run"), stored.dump(circuit))


@asynccontextmanager
async def rigged(
    front: RedisFront, supabase: SupabaseStandIn, script: Script, transport: str = "rest"
) -> AsyncIterator[Rig]:
    """Clean parts for one test, with Redis over REST or TCP; see ``about_timeouts`` for the timeouts."""
    loop = asyncio.get_running_loop()
    if timed := isinstance(loop, PatientLoop):
        front.faults.waits = supabase.faults.waits = loop.jump
    environ = {
        **{name: text for name, text in front.environ_over(transport).items() if not timed or name not in PATIENT},
        **supabase.environ,
        "CLOUD_RUN_AI_URL": script.url,
        "CLOUD_RUN_API_SECRET": "scripted-secret",
        "TRUSTED_PROXIES": "127.0.0.1/32",
    }
    script.reset()
    front.empty()
    supabase.empty()
    supabase.faults.clear()
    supabase.control.reset()
    rig = Rig(front, environ, front.control, supabase.control, script)
    try:
        yield rig
    finally:
        for faults in (front.faults, supabase.faults):
            faults.clear()
            faults.waits = lambda: None
        script.release()
        for made in rig.instances:
            await made.aclose()


async def leaving(instance: Instance, script: Script, query: str = "never mind") -> list[dict[str, Any]]:
    """Ask, and close the connection while the backend, which has to hold, is being asked; what was sent by then."""
    return await instance.left_when(lambda: script.until(lambda seen: seen.asked + seen.checks > 0), query)


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
