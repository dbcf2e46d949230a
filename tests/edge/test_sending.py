"""What follows a reply: whoever counted the request, and however long its reply took, what it leaves is done."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import starlette.requests
from starlette.responses import JSONResponse, StreamingResponse
from starlette.types import ASGIApp

from lib import Breakwater, GuardMiddleware
from lib.edge.current import current
from lib.limits.marker import parse
from lib.redis import keys
from tests.rig.door import Counted, Gate, a_name, an_instance, client, door, get
from tests.rig.guard import Rig

pytestmark = pytest.mark.anyio


async def one(given: object) -> object:
    return 1


WAYS: Mapping[str, Callable[[Breakwater], ASGIApp]] = {
    "counted by the edge": lambda bw: bw.route(one, limit="100/minute", name=a_name()),
    "counted by the guard": lambda bw: bw.route(one, limit="100/minute", name=a_name(), cache=1),
    "counted by the middleware": lambda bw: GuardMiddleware(JSONResponse(1), breakwater=bw, limit="100/minute"),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_an_outage_is_settled_by_the_first_request_after_it(
    rig: Rig, way: Callable[[Breakwater], ASGIApp]
) -> None:
    """Redis then holds what was admitted elsewhere, and nobody has to ask both stores any more (CASE 35)."""
    async with client(way(door(an_instance(rig)))) as http:
        rig.upstash.fault("refuse")
        replies = [await http.get("/api/x") for _ in range(4)]
        rig.upstash.clear()
        rig.time.later(6)
        replies += [await http.get("/api/x")]
    assert [each.headers["x-guard-mode"] for each in replies] == ["supabase"] * 4 + ["redis"]
    marker: Any = rig.server.get(keys.OUTAGE)
    assert not parse(marker).holds(rig.time.ms)
    assert replies[-1].headers["x-ratelimit-remaining"] == "95"


async def test_a_request_that_is_cancelled(rig: Rig) -> None:
    """As a server may do whose client has left: its key has its TTL all the same (CASE 11)."""
    gate = Gate()
    app = door(an_instance(rig)).route(Counted(gate=gate), limit="5/minute", name=a_name())
    reply = asyncio.ensure_future(get(app))
    await gate.reached.wait()
    reply.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reply
    assert len(rig.server.keys("rl:*")) == 1
    assert rig.without_ttl() == []


async def test_a_stream_that_outlasts_a_request(rig: Rig) -> None:
    """What a route has left before or during a reply of hours is sent after it: the value is there for others."""
    bw, elsewhere = door(an_instance(rig)), door(an_instance(rig))
    before, during = Counted("before"), Counted("during")

    async def serve(request: starlette.requests.Request) -> StreamingResponse:
        await bw.cached("before", before, fresh=600)

        async def chunks() -> Any:
            yield b"one"
            here = current()
            assert here is not None
            here.deadline -= 86_400
            await bw.cached("during", during, fresh=600)
            yield b"two"

        return StreamingResponse(chunks())

    assert (await get(bw.route(serve, limit="5/minute", name=a_name()))).text == "onetwo"
    found = [await elsewhere.cached("before", before, fresh=600), await elsewhere.cached("during", during, fresh=600)]
    assert (found, before.calls, during.calls) == (["before", "during"], 1, 1)
    assert rig.without_ttl() == []
