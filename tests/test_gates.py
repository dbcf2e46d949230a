"""What a request may cost, as counts that repeat on any machine; `make bench` measures what they amount to in time."""

import asyncio
import itertools
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench.calling import Connection
from bench.processes import function
from bench.profile_hit import ask as call
from bench.profile_hit import instructions
from bench.stand_ins import backend
from bench.subjects import ask as question
from dev.redis_server import RedisServer
from dev.serve import GatheringProtocol, ThreadedServer
from dev.upstash import upstash_app
from lib.app.instance import start
from lib.app.settings import Settings
from lib.app.wiring import build
from tests.rig.instance import routes

ROOT = Path(__file__).resolve().parent.parent
TOKEN = "gates"
PATIENT = {"REDIS_TIMEOUT_MS": "60000", "REDIS_CONNECT_TIMEOUT_MS": "60000", "REDIS_SLOW_MS": "60000"}
"""A busy machine is neither a slow Redis, which is logged and left alone, nor one that is away."""
_callers = itertools.count(1)

# Raise a number only with a reason that is worth it to every request, and say the reason with the change.
COMMANDS_AND_ROUND_TRIPS = {
    "blocked": (0, 0),
    "refused": (3, 2),
    "hit": (2, 1),
    "miss": (4, 3),
    "first call of a caller": (6, 3),
}
TASKS_A_HIT = 0
INSTRUCTIONS_A_HIT = 34_000
"""Bytecode instructions of everything that runs between a request and the end of its work, packages included."""
OWN_INSTRUCTIONS_A_HIT = 10_800
"""Those of `lib` and `api` alone. Instructions and not calls: a small function that says what it does costs a few."""


@dataclass(frozen=True)
class Rig:
    """One instance, and what stands behind it."""

    app: Any
    upstash: str
    backend: str

    async def ask(self, caller: str, query: str = "which disk is fullest?") -> httpx.Response:
        """One question."""
        transport = httpx.ASGITransport(app=self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://breakwater") as client:
            return await client.post(
                "/api/ai/supervisor",
                json={"query": query, "sessionId": "gates"},
                headers={"x-vercel-forwarded-for": caller},
            )

    async def cost(self, work: Callable[[], Awaitable[httpx.Response]]) -> tuple[int, int, httpx.Response]:
        """Billed commands and round trips of one request, what is done after the reply included."""
        async with httpx.AsyncClient(base_url=self.upstash) as client:
            await client.delete("/_control/stats")
            reply = await work()
            stats = (await client.get("/_control/stats")).json()
        return stats["billed_commands"], stats["http_requests"], reply


def a_caller() -> str:
    """An address that nobody else calls from."""
    return f"10.1.0.{next(_callers)}"


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[str, str]]:
    """Addresses of Upstash's stand-in and of a backend."""
    with (
        RedisServer.start() as redis,
        ThreadedServer(upstash_app(redis.url, TOKEN), protocol=GatheringProtocol) as upstash,
        ThreadedServer(backend) as answering,
    ):
        yield upstash.url, answering.url


@asynccontextmanager
async def an_instance(servers: tuple[str, str]) -> AsyncIterator[Rig]:
    """A new instance, in the running event loop."""
    environ = {"KV_REST_API_URL": servers[0], "KV_REST_API_TOKEN": TOKEN, "CLOUD_RUN_AI_URL": servers[1], "VERCEL": "1"}
    start(on_vercel=False)
    parts = build(Settings.from_env({**environ, **PATIENT}))

    try:
        yield Rig(routes(parts), *servers)
    finally:
        await parts.aclose()


async def _prepare(rig: Rig, kind: str, caller: str) -> str:
    """Bring a caller to where its next request is of that kind; yields the question to ask."""
    for _ in range(2):
        # An instance's first requests carry the question what time it is.
        await rig.ask(a_caller())
    if kind == "first call of a caller":
        # Of a route and session that others use: their epochs exist.
        await rig.ask(a_caller())
        return "which disk is fullest?"
    await rig.ask(caller)
    if kind == "miss":
        # Whoever made the key was the first; whether its TTL stands is looked after twice.
        await rig.ask(caller)
        return "something else"
    await rig.ask(caller)
    if kind == "refused":
        # Whoever admits the last call knows that the next is refused; another instance has to ask.
        async with an_instance((rig.upstash, rig.backend)) as other:
            for _ in range(8):
                assert (await other.ask(caller)).status_code == 200
    if kind == "blocked":
        for _ in range(8):
            assert (await rig.ask(caller)).status_code == 200
    return "which disk is fullest?"


@pytest.mark.parametrize("kind", COMMANDS_AND_ROUND_TRIPS)
def test_commands_and_round_trips(servers: tuple[str, str], kind: str) -> None:
    """A request costs as many billed commands and round trips as the documents say of its kind."""

    async def run() -> tuple[int, int, httpx.Response]:
        async with an_instance(servers) as rig:
            caller = a_caller()
            query = await _prepare(rig, kind, caller)
            return await rig.cost(lambda: rig.ask(caller, query))

    commands, round_trips, reply = asyncio.run(run())
    assert (commands, round_trips) == COMMANDS_AND_ROUND_TRIPS[kind]
    assert reply.status_code == (429 if kind in ("refused", "blocked") else 200)
    assert reply.json().get("cached", False) is (kind == "hit")


async def _a_hit(rig: Rig) -> Callable[[], Awaitable[httpx.Response]]:
    caller = a_caller()
    await _prepare(rig, "hit", caller)
    return lambda: rig.ask(caller)


def test_tasks_of_a_hit(servers: tuple[str, str]) -> None:
    """Each task is a detour through the event loop; those of the one who asks do not count."""

    async def run() -> int:
        async with an_instance(servers) as rig:
            hit, made, loop = await _a_hit(rig), list[str](), asyncio.get_running_loop()

            def count(loop: asyncio.AbstractEventLoop, work: Any, **about: Any) -> asyncio.Task[Any]:
                made.append(repr(work))
                return asyncio.Task(work, loop=loop, **about)

            loop.set_task_factory(count)
            assert json.loads((await hit()).content)["cached"]
            return len(made)

    assert asyncio.run(run()) == TASKS_A_HIT


@pytest.mark.skipif(sys.version_info[:2] != (3, 12), reason="each version of Python has instructions of its own")
def test_instructions_of_a_hit(servers: tuple[str, str]) -> None:
    """What a hit executes, by count: it moves with the packages' versions, and with nothing that a machine does."""

    own_code = (str(ROOT / "lib"), str(ROOT / "api"))

    async def run() -> tuple[int, int]:
        async with an_instance(servers) as rig:
            caller, counts = a_caller(), list[tuple[int, int]]()
            for _ in range(6):
                # Those of this thread: the stand-ins run in others.
                with instructions() as count:
                    status, body = await call(rig.app, caller)
                assert status == 200
                if b'"cached":true' in body:
                    own = sum(number for code, number in count.items() if code.co_filename.startswith(own_code))
                    counts.append((count.total(), own))
            assert len(counts) == 5
            # Whether the event loop has to wait for the reply depends on the machine, and waiting is a turn more of it.
            return min(counts)

    total, own = asyncio.run(run())
    assert total <= INSTRUCTIONS_A_HIT
    assert own <= OWN_INSTRUCTIONS_A_HIT


WATCHING = """
import os, sys
class Watching:
    def find_spec(self, name, path=None, target=None):
        with open(os.environ["LOOKED_FOR"], "a") as found:
            print(name, file=found)
sys.meta_path.insert(0, Watching())
"""


def test_a_hit_looks_for_no_module(servers: tuple[str, str], tmp_path: Path) -> None:
    """Under Vercel's runtime: what is not there is looked for in all of sys.path, each time (lib/base/absent.py)."""
    looked_for = tmp_path / "looked_for"
    (tmp_path / "sitecustomize.py").write_text(WATCHING)
    environ = {
        "KV_REST_API_URL": servers[0],
        "KV_REST_API_TOKEN": TOKEN,
        "CLOUD_RUN_AI_URL": servers[1],
        **PATIENT,
        "LOOKED_FOR": str(looked_for),
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
    }
    asked = question("which disk is fullest?", a_caller())
    with function("gates", "api/ai/supervisor.py", environ) as child:
        connection = Connection(child.port)
        connection.send(asked)
        assert b'"cached":true' in connection.send(asked).body
        assert "pydantic" in looked_for.read_text().split()
        looked_for.write_text("")
        assert b'"cached":true' in connection.send(asked).body
        assert looked_for.read_text() == ""
        connection.close()
