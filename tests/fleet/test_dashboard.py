"""Reading the fleet: what a read costs, who may, what it says while Redis is away, and what an edge may keep."""

from datetime import UTC, datetime
from typing import Any

import pytest

from lib.base.env import Secret
from lib.edge.tokens import view_of
from lib.fleet.fleet import Fleet
from tests.rig.callers import a_caller
from tests.rig.clock import NOON_MS
from tests.rig.fleet import a_fleet, look, report, server, servers
from tests.rig.guard import Rig
from tests.rig.instance import ADMIN, Instance, together

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["rest", "tcp"])
def transport(request: pytest.FixtureRequest) -> Any:
    """Redis over both."""
    return request.param


@pytest.fixture
def instance(rig: Rig) -> Instance:
    return a_fleet(rig, SUPABASE_URL=None, SUPABASE_SERVICE_ROLE_KEY=None)


VIEW = view_of(Secret(ADMIN["authorization"].removeprefix("Bearer ")), "2025-11-19")


@pytest.mark.parametrize("reporters", [1, 2])
async def test_a_read_is_one_command_however_many_servers(rig: Rig, reporters: int) -> None:
    """10, 100 or 1,000 servers, of one reporter or two: what is read is one command, the caller's limit is the rest."""
    spent = dict[int, list[int]]()
    for count in (10, 100, 1_000):
        rig.time.ms += 30_000
        half = servers(count)
        for name in ("seoul", "busan")[:reporters]:
            own = half if reporters == 1 else half[name == "busan" :: 2]
            await report(a_fleet(rig), rig, own, reporter=name)
        reader = a_fleet(rig)
        rig.forget_counts()
        shown = (await look(reader)).json()
        executed = rig.commands()
        assert shown["total"] == len(shown["servers"]) == count
        assert executed.pop("hgetall") == 1
        spent[count] = sorted(executed.values())
    assert spent[10] == spent[100] == spent[1_000]


async def test_a_read_again_costs_its_limit_alone(instance: Instance, rig: Rig) -> None:
    """For five seconds; readers at once share one read."""
    await report(instance, rig, servers(10))
    rig.forget_counts()
    await together([look(instance) for _ in range(5)])
    assert rig.commands()["hgetall"] == 1
    rig.time.ms += 4_999
    shown = (await look(instance)).json()
    assert (shown["source"], shown["cached"], rig.commands()["hgetall"]) == ("memory", True, 1)
    rig.time.ms += 1
    shown = (await look(instance)).json()
    assert (shown["source"], shown["cached"], rig.commands()["hgetall"]) == ("redis", False, 2)


async def test_what_a_reply_says(instance: Instance, rig: Rig) -> None:
    """The customer's shape, with the time of the measurement and not that of the read."""
    await report(instance, rig, [server("web", name="Web", age=10), server("db", age=200)])
    rig.time.ms += 100_000
    shown = (await look(instance)).json()
    at = datetime.fromtimestamp((NOON_MS - 10_000) / 1000, UTC).isoformat(timespec="milliseconds")
    web = {
        "id": "web",
        "name": "Web",
        "status": "online",
        "metrics": {"cpu": 12.5, "memory": 40.0, "disk": 61.2, "network": 3.25},
        "lastUpdated": at.replace("+00:00", "Z"),
        "reporter": "seoul",
    }
    assert shown["servers"][1] == web
    assert shown["servers"][0]["status"] == "online"
    assert (shown["total"], shown["counts"]) == (2, {"online": 2, "late": 0, "silent": 0})
    assert (await look(instance, "/api/servers/web")).json()["server"] == web
    again = (await look(instance, "/api/servers")).json()
    # What the read before this one took, and this one's limit.
    assert again.pop("redis").pop("roundTripMs") >= 0
    del shown["redis"]
    assert again == shown | {"source": "memory", "cached": True}


async def test_a_reporter_that_stops(instance: Instance, rig: Rig) -> None:
    """Late, then silent, by its own time, however often it is read."""
    await report(instance, rig, [server("web")])
    found = list[str]()
    for _ in range(12):
        rig.time.ms += 60_000
        found.append((await look(instance)).json()["servers"][0]["status"])
    assert found == ["online"] * 5 + ["late"] * 4 + ["silent"] * 3


async def test_two_reporters_of_one_server(instance: Instance, rig: Rig) -> None:
    """The newest measurement is shown, and the conflict is told."""
    await report(instance, rig, [server("web", cpu=1)], reporter="busan")
    await report(instance, rig, [server("web", cpu=2, age=5)])
    shown = (await look(instance)).json()
    assert [each["metrics"]["cpu"] for each in shown["servers"]] == [1]
    assert shown["conflicts"] == [{"id": "web", "reporters": ["busan", "seoul"]}]


async def test_what_has_not_changed_is_not_unpacked_again(instance: Instance, rig: Rig) -> None:
    """Between two reports a read costs no more than it must; the next report is seen at once."""
    await report(a_fleet(rig), rig, [server("web", cpu=1)])
    await look(instance)
    before = Fleet.of(instance.parts).snapshots["seoul"]
    rig.time.ms += 30_000
    await look(instance)
    assert Fleet.of(instance.parts).snapshots["seoul"] is before
    await report(a_fleet(rig), rig, [server("web", cpu=2)])
    rig.time.ms += 5_000
    assert (await look(instance)).json()["servers"][0]["metrics"]["cpu"] == 2


async def test_what_redis_holds_of_others_is_not_shown(instance: Instance, rig: Rig) -> None:
    """A reporter that is configured no more, a field of something else, a value that is no snapshot."""
    await report(a_fleet(rig), rig, [server("web")])
    value: Any = rig.server.hget("servers", "r:seoul")
    rig.server.hset("servers", mapping={"r:gone": value, "seoul": value, "r:busan": "nonsense"})
    assert [each["reporter"] for each in (await look(instance)).json()["servers"]] == ["seoul"]


async def test_redis_goes_away(rig: Rig) -> None:
    """What was read last is shown with its time; who has never read anything says that Redis cannot be reached."""
    environ = {"REDIS_TIMEOUT_MS": "300", "REDIS_CONNECT_TIMEOUT_MS": "300"}
    new = a_fleet(rig, **rig.nowhere, **environ)
    assert (await look(new)).status_code == 503
    instance = a_fleet(rig)
    await report(instance, rig, [server("web")])
    before = (await look(instance)).json()
    rig.server.rename("servers", "kept")
    rig.server.set("servers", "of another type")
    rig.time.ms += 20_000
    reply = await look(instance)
    after = reply.json()
    assert (after["source"], after["timestamp"]) == ("last", before["timestamp"])
    assert after["servers"] == before["servers"]
    assert reply.headers["cache-control"] == "private, no-cache"


async def test_how_redis_answers(rig: Rig) -> None:
    """Its state and since when, the last round trip, the last error with its time; without a command of its own."""
    instance = a_fleet(rig)
    began = rig.time.ms // 1000
    await report(instance, rig, [server("web")])
    rig.forget_counts()
    shown = (await look(instance)).json()
    assert shown["redis"].pop("roundTripMs") >= 0
    assert (shown["redis"], shown["highPercent"]) == ({"state": "up", "since": began}, 90)
    assert "ping" not in rig.commands()

    rig.time.ms += 20_000
    rig.upstash.fault(kind="refuse")
    shown = (await look(instance)).json()
    kind = shown["redis"]["lastError"]["kind"]
    assert shown["source"] == "last"
    down_s = rig.time.ms // 1000
    error = {"kind": kind, "at": down_s}
    assert shown["redis"] == {"state": "down", "since": down_s, "reason": kind, "lastError": error}

    rig.upstash.clear()
    rig.time.ms += 20_000
    shown = (await look(instance)).json()
    del shown["redis"]["roundTripMs"]
    assert shown["redis"] == {"state": "up", "since": rig.time.ms // 1000, "lastError": error}


async def test_redis_is_switched_off(rig: Rig) -> None:
    """One process alone, as in a container: it shows what was reported to it."""
    instance = a_fleet(rig, REDIS_ENABLED="false", SUPABASE_URL=None, SUPABASE_SERVICE_ROLE_KEY=None)
    assert (await report(instance, rig, [server("web")])).status_code == 202
    shown = (await look(instance)).json()
    assert ([each["id"] for each in shown["servers"]], shown["source"]) == (["web"], "memory")
    assert shown["redis"] == {"state": "disabled"}


async def test_an_edge_may_keep_what_a_view_key_opens(instance: Instance, rig: Rig) -> None:
    """For 30 s, and 60 s longer while it asks again; not what was read with a token, nor for some origins only."""
    await report(instance, rig, [server("web")])
    headers = {"x-forwarded-for": a_caller()}
    for path in ("/api/dashboard", "/api/servers", "/api/servers/web"):
        reply = await instance.http.get(path, params={"view": VIEW}, headers=headers)
        assert reply.status_code == 200
        assert reply.headers["cache-control"] == "public, max-age=0, s-maxage=30, stale-while-revalidate=60"
        assert "vary" not in reply.headers
        assert not [name for name in reply.headers if "ratelimit" in name]
    assert (await look(instance)).headers["cache-control"] == "private, no-cache"
    some = a_fleet(rig, ALLOWED_ORIGINS="https://app.example.com")
    reply = await some.http.get("/api/dashboard", params={"view": VIEW}, headers=headers)
    assert reply.headers["cache-control"] == "private, no-cache"


async def test_who_may_read(instance: Instance) -> None:
    """Nobody without a token or a view key of the day."""
    for given in ({}, {"view": "2025-11-19.00"}, {"view": VIEW.replace("19", "25")}):
        reply = await instance.http.get("/api/dashboard", params=given, headers={"x-forwarded-for": a_caller()})
        assert (reply.status_code, reply.json()["code"]) == (401, "unauthorized")


@pytest.mark.parametrize("query", ["x=1", "view=a&view=b", "refresh=1"])
async def test_unknown_parameters(instance: Instance, rig: Rig, query: str) -> None:
    """Are refused before anything is read: each would be an edge's own entry."""
    rig.forget_counts()
    reply = await look(instance, f"/api/dashboard?{query}")
    assert (reply.status_code, reply.json()["code"]) == (400, "invalid_parameter")
    assert "hgetall" not in rig.commands()


async def test_thirty_a_minute(instance: Instance) -> None:
    """As the customer's documents say, for all these paths together."""
    caller = a_caller()
    paths = ("/api/dashboard", "/api/servers")
    found = [(await look(instance, paths[n % 2], **{"x-forwarded-for": caller})).status_code for n in range(31)]
    assert found == [200] * 30 + [429]


@pytest.mark.parametrize("path", ["/api/servers/nobody", "/api/servers/", "/api/servers/%2A", "/api/servers/a%2Fb"])
async def test_a_server_that_nobody_names(instance: Instance, rig: Rig, path: str) -> None:
    """Is not found, whatever it is called."""
    await report(instance, rig, [server("web")])
    assert (await look(instance, path)).status_code == 404


async def test_a_server_of_any_name(instance: Instance, rig: Rig) -> None:
    """An id is what the path says, decoded once."""
    await report(instance, rig, [server("a/b"), server("%2F"), server("서버")])
    for path, name in (("a%2Fb", "a/b"), ("%252F", "%2F"), ("%EC%84%9C%EB%B2%84", "서버")):
        assert (await look(instance, f"/api/servers/{path}")).json()["server"]["id"] == name


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/api/servers/a%2Fb?id=a%2Fb", 200),
        ("/api/servers/a%2Fb?id=a", 400),
        ("/api/servers/a%2Fb?id=a%2Fb&id=a%2Fb", 400),
        ("/api/servers/a%2Fb/history?range=1h&id=a%2Fb", 200),
        ("/api/servers/a%2Fb/history?range=1h&id=x", 400),
        ("/api/servers?id=a%2Fb", 400),
    ],
)
async def test_what_a_rewrite_adds(rig: Rig, path: str, expected: int) -> None:
    """The platform puts the parts of a path into the query: nobody asked for that, and nothing else passes as it."""
    instance = a_fleet(rig)
    await report(instance, rig, [server("a/b")])
    assert (await look(instance, path)).status_code == expected
