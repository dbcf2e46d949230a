"""Past hours: every hour in its place, across months as well; what it costs, and what is refused."""

from datetime import UTC, datetime
from typing import Any

import pytest

from lib.base.calendar import month_of
from lib.base.env import Secret
from lib.edge import tokens
from lib.ledger.table import HOUR_MS, hour_place
from tests.rig.instance import ADMIN, Instance
from tests.rig.ledger import World

pytestmark = pytest.mark.anyio


async def history(one: Instance, **params: str) -> Any:
    """What the page gets."""
    reply = await one.http.get("/api/history", params=params, headers=ADMIN)
    assert reply.status_code == 200, reply.text
    return reply.json()


def count(world: World, name: str, at_ms: int, number: int) -> None:
    """Let an hour have counted something."""
    month = month_of(at_ms)
    world.server.bitfield(f"ledger:2:{month}").set(*hour_place(name, at_ms, month), number).execute()


@pytest.mark.parametrize(("wanted", "hours"), [("7d", 169), ("30d", 721)])
@pytest.mark.parametrize("day", [3, 14], ids=["soon after a month began", "in the middle"])
async def test_every_hour_in_its_place(world: World, wanted: str, hours: int, day: int) -> None:
    """The present hour is the last; what lies in the month before is read from that month's string."""
    world.time.ms = int(datetime(2025, 11, day, 12, 0, 1, tzinfo=UTC).timestamp() * 1000)
    this_ms = world.time.ms // HOUR_MS * HOUR_MS
    for back in (0, 1, 100, hours - 1):
        count(world, "serve", this_ms - back * HOUR_MS, back + 1)
    count(world, "serve", this_ms - hours * HOUR_MS, 5_000)
    found = await history(world.instance(), range=wanted)
    serve = next(each["counts"] for each in found["series"] if each["name"] == "serve")
    assert found["from"] * 1000 == this_ms - (hours - 1) * HOUR_MS
    assert len(serve) == hours
    assert {len(serve) - 1 - at: n for at, n in enumerate(serve) if n} == {
        0: 1,
        1: 2,
        100: 101,
        hours - 1: hours,
    }


async def test_by_whatever_is_counted(world: World) -> None:
    """Requests by outcome, status and route, and the calls of each provider: the same requests, each once."""
    one = world.instance()
    for number in range(3):
        await one.ask(f"question {number % 2}")
    world.outside.fails = True
    await one.ask("fails")
    await one.parts.ledger.settle(1)
    expected = {
        "outcome": {"serve": 1, "compute": 2, "fail": 1},
        "status": {"2xx": 3, "5xx": 1},
        "route": {"ai/supervisor": 4},
        "provider": {"cloud-run": 3},
    }
    seen = await one.overview()
    for by, counts in expected.items():
        series = (await history(one, by=by))["series"]
        assert {each["name"]: each["counts"][-1] for each in series if each["counts"][-1]} == counts
        for name in ("hourBy", "dayBy") if by != "outcome" else ():
            assert {each["name"]: each["counts"][-1] for each in seen[name][by] if each["counts"][-1]} == counts


async def test_a_look_costs_a_command_for_each_month(world: World) -> None:
    """30 days lie in two months: 2 commands in one round trip, and none for a quarter of an hour."""
    one = world.instance()
    world.forget_counts()
    before = world.front.control.requests()
    await history(one, range="30d")
    await history(one, range="30d")
    assert world.billed() == {"bitfield_ro": 2}
    assert world.front.control.requests() - before == 1
    await history(one, range="7d", by="status")
    assert world.billed() == {"bitfield_ro": 3}
    world.time.ms += 900_000
    await history(one, range="30d")
    assert world.billed() == {"bitfield_ro": 5}


@pytest.mark.parametrize("params", [{"range": "1y"}, {"range": ""}, {"by": "caller"}, {"by": "é"}])
async def test_what_there_is_not(world: World, params: dict[str, str]) -> None:
    """A range or a breakdown that does not exist is named."""
    reply = await world.instance().http.get("/api/history", params=params, headers=ADMIN)
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_request")
    assert reply.json()["detail"].startswith(next(iter(params)))


async def test_while_redis_is_away(world: World) -> None:
    """It is an error, with a time to try again; where Redis is switched off there is no past."""
    off = world.instance(REDIS_ENABLED="false")
    assert (await off.http.get("/api/history", headers=ADMIN)).json()["code"] == "store_unavailable"
    world.redis_down()
    reply = await world.instance().http.get("/api/history", headers=ADMIN)
    assert (reply.status_code, reply.json()["code"]) == (503, "store_unavailable")
    assert reply.headers["retry-after"] == "5"


async def test_what_redis_said_last_is_shown(world: World) -> None:
    """While it is away an older reading is shown, with its time, and no cache on the way keeps it."""
    count(world, "serve", world.time.ms, 7)
    one = world.instance()
    before = await history(one)
    day = datetime.fromtimestamp(world.time.ms / 1000, UTC).strftime("%Y-%m-%d")
    view = {"view": tokens.view_of(Secret("admin-token-for-tests"), day)}
    assert "s-maxage" in (await one.http.get("/api/history", params=view)).headers["cache-control"]
    world.redis_down()
    world.time.ms += 3_600_000
    reply = await one.http.get("/api/history", params=view)
    assert (reply.status_code, reply.json()) == (200, before)
    assert "s-maxage" not in reply.headers.get("cache-control", "")
