"""A value whose reply takes long: it is kept when the reply is out, and what is served meanwhile is never too old."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import starlette.requests
from starlette.types import Message, Scope

from lib import Asked, Breakwater
from lib.cache.lock import LockRules
from lib.edge.current import current
from tests.rig.clock import PATIENT_BACKEND, patient, until
from tests.rig.door import Counted, Gate, a_name, an_instance, door, get
from tests.rig.guard import Rig

pytestmark = pytest.mark.anyio
FRESH_S, STALE_S = 30, 86_400


@pytest.fixture(params=["rest", "tcp"])
def transport(request: pytest.FixtureRequest) -> str:
    """Redis over both."""
    return str(request.param)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """A reply takes as long as a test says, and not as long as the machine does."""
    return PATIENT_BACKEND


type Read = Callable[[Breakwater], Awaitable[object]]
"""Reads the value through an instance; how long its reply takes is up to the gate."""


class Value:
    """One value behind two doors: what is read, and by what its replies are held."""

    def __init__(self) -> None:
        self.name = a_name()
        self.fill = Counted(1)
        self.gate: Gate | None = None

    async def compute(self, *given: object) -> object:
        """The number of the call."""
        self.fill.value = self.fill.calls + 1
        return await self.fill()

    async def cached(self, bw: Breakwater) -> object:
        """By `bw.cached`, in a route that goes on after it has the value."""

        async def serve(request: starlette.requests.Request) -> object:
            found = await bw.cached(self.name, self.compute, fresh=FRESH_S, stale=STALE_S)
            if self.gate is not None:
                await self.gate()
            return found

        return (await get(bw.route(serve, limit=None, name=f"{self.name}-route"))).json()

    async def route(self, bw: Breakwater) -> object:
        """By a cached route, whose client takes its time to read."""

        async def compute(asked: Asked) -> object:
            return await self.compute()

        app = bw.route(compute, limit=None, name=self.name, cache=FRESH_S, stale=STALE_S, scope="shared")
        sent = list[Message]()

        async def receive() -> Any:
            await asyncio.Event().wait()

        async def send(message: Message) -> None:
            sent.append(message)
            if self.gate is not None and message["type"] == "http.response.body":
                await self.gate()

        scope: Scope = {
            "type": "http",
            "method": "GET",
            "path": "/x",
            "query_string": b"",
            "headers": [],
            "client": None,
        }
        await app(scope, receive, send)
        return int(sent[-1]["body"])


WAYS: Mapping[str, Callable[[Value], Read]] = {
    "a route that goes on": lambda value: value.cached,
    "a client that reads slowly": lambda value: value.route,
}


@asynccontextmanager
async def held(value: Value, reading: Awaitable[object]) -> AsyncIterator[None]:
    """While a reply is held; nothing else is."""
    value.gate = gate = Gate()
    first = asyncio.ensure_future(reading)
    await gate.reached.wait()
    value.gate = None
    yield
    gate.open()
    assert await first == 1


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_it_is_served_while_it_is_fresh(rig: Rig, way: Callable[[Value], Read]) -> None:
    """To others of its instance at once; past its time it is computed anew, however long the first reply takes."""
    bw, value = door(an_instance(rig)), Value()
    read = way(value)
    async with held(value, read(bw)):
        found = [await read(bw)]
        for seconds in (FRESH_S - 1, 2, FRESH_S - 1, 3_600):
            rig.time.later(seconds)
            found.append(await read(bw))
    # Past its time the second one is served, as it is in Redis, and computed anew after the reply.
    assert (found, value.fill.calls) == ([1, 1, 2, 2, 2], 3)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_it_does_not_replace_a_newer_one(rig: Rig, way: Callable[[Value], Read]) -> None:
    """Where another instance has computed it anew meanwhile, that value stays."""
    here, elsewhere, value = door(an_instance(rig)), door(an_instance(rig)), Value()
    read = way(value)
    async with held(value, read(here)):
        rig.time.later(3_600)
        # Their lease is over: Redis' own time has not passed.
        rig.server.delete(*rig.server.keys("lock:*"))
        assert await read(elsewhere) == 2
    assert [await read(each) for each in (here, elsewhere)] == [2, 2]
    assert value.fill.calls == 2


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize(("after_s", "commands"), [(0, 1), (LockRules().lease_ms / 1000, 3)])
async def test_it_is_kept_all_the_same(rig: Rig, way: Callable[[Value], Read], after_s: float, commands: int) -> None:
    """In one round trip after the reply; it costs more only where its lock may be over."""
    here, elsewhere, value = door(an_instance(rig)), door(an_instance(rig)), Value()
    read = way(value)
    async with held(value, read(here)):
        rig.time.later(after_s)
        rig.forget_counts()
    assert rig.cost() == (1, commands)
    assert (await read(elsewhere), value.fill.calls) == (1, 1)
    assert rig.without_ttl() == []


async def test_nobody_waits_for_a_request_that_goes_on(rig: Rig) -> None:
    """A second after a value was computed it is kept, its aging one is replaced, and a refused call is given back."""
    here, elsewhere, value, who = door(an_instance(rig)), door(an_instance(rig)), Value(), a_name()
    await here.cached("aging", Counted("old"), fresh=FRESH_S, stale=STALE_S)
    await elsewhere.limit(who, "1/minute")
    rig.time.later(FRESH_S + 1)
    gate, left = Gate(), list[int]()

    async def serve(request: starlette.requests.Request) -> object:
        found = [await here.cached("aging", Counted("new"), fresh=FRESH_S, stale=STALE_S)]
        assert not (await here.limit(who, "1/minute")).allowed
        found += [await here.cached(value.name, value.compute, fresh=FRESH_S) for _ in range(3)]
        request_ = current()
        assert request_ is not None
        await gate()
        left.append(len(request_.later))
        return found

    reply = asyncio.ensure_future(get(here.route(serve, limit=None, name=a_name())))
    await gate.reached.wait()
    rig.forget_counts()
    await asyncio.wrap_future(patient().move(1.1))
    await until(lambda: not rig.server.keys("lock:*aging*") and len(rig.server.keys("v:*")) == 2)
    found = [await elsewhere.cached(value.name, value.compute, fresh=FRESH_S)]
    found.append(await elsewhere.cached("aging", Counted("newer"), fresh=FRESH_S, stale=STALE_S))
    assert (found, rig.time.slept, value.fill.calls) == ([1, "new"], [], 1)
    gate.open()
    assert (await reply).json() == ["old", 1, 1, 1]
    assert left == [0]
    assert rig.without_ttl() == []
