"""What a request may cost, as counts that repeat on any machine; `make bench` measures what they amount to in time."""

import asyncio
import gc
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
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
from bench.subjects import ask as question
from lib.app.instance import start
from lib.app.wiring import build
from lib.base.clock import Clock
from lib.edge.request import Request
from lib.limits.admission import Subject
from lib.limits.window import Layout
from lib.settings import Settings
from tests.rig.callers import a_caller
from tests.rig.clock import Time
from tests.rig.instance import Instance
from tests.rig.redis import OnRedis, RedisFront
from tests.rig.script import Script

ROOT = Path(__file__).resolve().parent.parent

# Raise a number only with a reason that is worth it to every request, and say the reason with the change.
COMMANDS_AND_ROUND_TRIPS = {
    "blocked": (0, 0),
    "refused": (3, 2),
    "hit": (2, 1),
    "miss": (4, 3),
    "first call of a caller": (6, 3),
}
TASKS_A_HIT = 0
LATE_MS = 1_763_596_740_000
"""A minute before midnight UTC, when a hit costs most."""
INSTRUCTIONS_A_HIT = 33_000
"""Bytecode instructions of everything that runs between a request and the end of its work, packages included."""
OWN_INSTRUCTIONS_A_HIT = 11_200
"""Those of `lib` and `api` alone. Instructions and not calls: a small function that says what it does costs a few."""


@dataclass
class Gate(OnRedis):
    """One instance as Vercel runs it, and what stands behind it."""

    environ: dict[str, str]
    instance: Instance

    async def ask(self, caller: str, query: str = "which disk is fullest?") -> httpx.Response:
        """One question."""
        return await self.instance.ask(query, X_Vercel_Forwarded_For=caller)


@pytest.fixture
def environ(front: RedisFront, script: Script, transport: str) -> dict[str, str]:
    """What an instance is told."""
    return {**front.environ_over(transport), "CLOUD_RUN_AI_URL": script.url, "VERCEL": "1"}


@asynccontextmanager
async def an_instance(front: RedisFront, environ: dict[str, str], clock: Clock | None = None) -> AsyncIterator[Gate]:
    """A new instance, in the running event loop."""
    start(on_vercel=False)
    # Nobody listens to its events: that would be counted.
    made = Instance(build(Settings.from_env(environ), clock), [], session="gates")
    try:
        yield Gate(front, environ, made)
    finally:
        await made.aclose()


async def _prepare(gate: Gate, kind: str, caller: str) -> str:
    """Bring a caller to where its next request is of that kind; yields the question to ask."""
    for _ in range(2):
        # An instance's first requests carry the question what time it is.
        await gate.ask(a_caller())
    if kind == "first call of a caller":
        # Of a route and session that others use: their epochs exist.
        await gate.ask(a_caller())
        return "which disk is fullest?"
    await gate.ask(caller)
    if kind == "miss":
        # Whoever made the key was the first; whether its TTL stands is looked after twice.
        await gate.ask(caller)
        return "something else"
    await gate.ask(caller)
    if kind == "refused":
        # Whoever admits the last call knows that the next is refused; another instance has to ask.
        async with an_instance(gate.front, gate.environ) as other:
            for _ in range(8):
                assert (await other.ask(caller)).status_code == 200
    if kind == "blocked":
        for _ in range(8):
            assert (await gate.ask(caller)).status_code == 200
    return "which disk is fullest?"


@pytest.mark.parametrize("transport", ["rest", "tcp"])
@pytest.mark.parametrize("kind", COMMANDS_AND_ROUND_TRIPS)
def test_commands_and_round_trips(front: RedisFront, environ: dict[str, str], kind: str) -> None:
    """A request costs as many billed commands and round trips as the documents say of its kind."""

    async def run() -> tuple[int, int, httpx.Response]:
        async with an_instance(front, environ) as gate:
            caller = a_caller()
            query = await _prepare(gate, kind, caller)
            gate.forget_counts()
            reply = await gate.ask(caller, query)
            return *gate.cost(), reply

    round_trips, commands, reply = asyncio.run(run())
    assert (commands, round_trips) == COMMANDS_AND_ROUND_TRIPS[kind]
    assert reply.status_code == (429 if kind in ("refused", "blocked") else 200)
    assert reply.json().get("cached", False) is (kind == "hit")


async def _a_hit(gate: Gate) -> Callable[[], Awaitable[httpx.Response]]:
    caller = a_caller()
    await _prepare(gate, "hit", caller)
    return lambda: gate.ask(caller)


def test_tasks_of_a_hit(front: RedisFront, environ: dict[str, str]) -> None:
    """Each task is a detour through the event loop; those of the one who asks do not count."""

    async def run() -> int:
        async with an_instance(front, environ) as gate:
            hit, made, loop = await _a_hit(gate), list[str](), asyncio.get_running_loop()

            def count(loop: asyncio.AbstractEventLoop, work: Any, **about: Any) -> asyncio.Task[Any]:
                made.append(repr(work))
                return asyncio.Task(work, loop=loop, **about)

            loop.set_task_factory(count)
            assert json.loads((await hit()).content)["cached"]
            return len(made)

    assert asyncio.run(run()) == TASKS_A_HIT


@pytest.mark.skipif(sys.version_info[:2] != (3, 12), reason="each version of Python has instructions of its own")
def test_instructions_of_a_hit(front: RedisFront, environ: dict[str, str]) -> None:
    """What a hit executes, by count: it moves with the packages' versions, and with nothing that a machine does.

    Nor with the time of day, which is set by hand: the later it is, the more of the day is read.
    """

    own_code = (str(ROOT / "lib"), str(ROOT / "api"))

    async def run() -> tuple[int, int]:
        async with an_instance(front, environ, Time(LATE_MS).clock) as gate:
            caller, counts = a_caller(), list[tuple[int, int]]()
            for number in range(2_000):
                # Others call as well: how many an instance knows costs nobody anything.
                gate.instance.parts.guard.limits.counting.memory.of(Subject(f"another caller {number}", Layout(())))
            for _ in range(6):
                # Those of this thread: the stand-ins run in others.
                with instructions() as count:
                    status, body = await call(gate.instance.app, caller)
                assert status == 200
                if b'"cached":true' in body:
                    own = sum(number for code, number in count.items() if code.co_filename.startswith(own_code))
                    counts.append((count.total(), own))
            assert len(counts) == 5
            # Whether the event loop has to wait for the reply depends on the machine, and waiting is a turn more of it.
            return min(total for total, _ in counts), min(own for _, own in counts)

    total, own = asyncio.run(run())
    assert total <= INSTRUCTIONS_A_HIT
    assert own <= OWN_INSTRUCTIONS_A_HIT


QUESTION = b'{"query": "which disk is fullest?", "sessionId": "gates"}'


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        pytest.param("hit", QUESTION, 200, id="hit"),
        pytest.param("miss", b'{"query": "something else"}', 200, id="miss"),
        pytest.param("refused", QUESTION, 429, id="refused"),
        pytest.param("blocked", QUESTION, 429, id="blocked"),
        pytest.param("hit", b"{", 400, id="no JSON"),
        pytest.param("hit", b"{}", 422, id="no question"),
    ],
)
def test_a_request_is_forgotten_at_once(
    front: RedisFront, environ: dict[str, str], kind: str, body: bytes, status: int
) -> None:
    """Not when the garbage collector comes: until then a crowd that is refused would keep all its bodies in memory."""

    def requests() -> list[Request]:
        return [each for each in gc.get_objects() if type(each) is Request]

    async def run() -> tuple[int, int]:
        async with an_instance(front, environ) as gate:
            caller = a_caller()
            await _prepare(gate, kind, caller)
            gc.collect()
            gc.disable()
            try:
                # Other tests' may be among them.
                before = requests()
                found, _ = await call(gate.instance.app, caller, body)
                return found, sum(each not in before for each in requests())
            finally:
                gc.enable()

    assert asyncio.run(run()) == (status, 0)


WATCHING = """
import os, sys
class Watching:
    def find_spec(self, name, path=None, target=None):
        with open(os.environ["LOOKED_FOR"], "a") as found:
            print(name, file=found)
sys.meta_path.insert(0, Watching())
"""


def test_a_hit_looks_for_no_module(environ: dict[str, str], tmp_path: Path) -> None:
    """Under Vercel's runtime: what is not there is looked for in all of sys.path, each time (lib/base/absent.py)."""
    looked_for = tmp_path / "looked_for"
    (tmp_path / "sitecustomize.py").write_text(WATCHING)
    watched = {**environ, "LOOKED_FOR": str(looked_for), "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    asked = question("which disk is fullest?", a_caller())
    with function("gates", "api/ai/supervisor.py", watched) as child:
        connection = Connection(child.port)
        connection.send(asked)
        assert b'"cached":true' in connection.send(asked).body
        assert "pydantic" in looked_for.read_text().split()
        looked_for.write_text("")
        assert b'"cached":true' in connection.send(asked).body
        assert looked_for.read_text() == ""
        connection.close()
