"""Several resources at once: counted once, read with one MGET, each with its own result."""

from typing import Any

import pytest

from lib.data.origins.function import Python
from lib.data.origins.port import OriginFailed
from lib.data.resource import Query, Resource
from lib.data.table import DataRoutes, data_routes
from lib.edge.limits import RouteLimit, route_limit
from lib.redis import keys
from tests.rig.callers import a_caller
from tests.rig.data import UNCOUNTED, menu, read
from tests.rig.door import Counted, a_name, an_instance, bill
from tests.rig.guard import Rig
from tests.rig.instance import Built, Instance

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["rest", "tcp"])
def transport(request: pytest.FixtureRequest) -> str:
    """Redis over both."""
    return str(request.param)


def batch(instance: Instance, *resources: Resource, limit: RouteLimit = UNCOUNTED) -> DataRoutes:
    """A table of resources, each at a path of its name, and the batch."""
    table = {f"/api/{each.name}/{{id}}": each for each in resources}
    return data_routes(Built(instance.parts), table, limit=limit, batch="/api/data")


def url(*wanted: str) -> str:
    """The address that reads all of these."""
    return f"/api/data?resources={','.join(wanted)}"


async def test_what_it_costs(rig: Rig) -> None:
    """CASE 44: as much as one read: one call of the limit, one MGET, one round trip."""
    wanted = [menu(Counted(n), strict=True) for n in range(5)]
    app = batch(an_instance(rig), *wanted, limit=route_limit("9/minute", a_name()))
    caller, path = a_caller(), url(*(f"{each.name}:1" for each in wanted))
    # Those that are missing with the first read of all create the epoch that all values share; one word stays.
    await read(app, path)
    first = await read(app, path, caller)
    async with bill(rig) as spent:
        second = await read(app, path, caller)
    assert spent == [2, 1]
    assert first.json() == second.json() == {"values": {f"{e.name}:1": n for n, e in enumerate(wanted)}, "errors": {}}
    assert [each.headers["x-ratelimit-remaining"] for each in (first, second)] == ["8", "7"]


async def test_what_it_costs_from_memory(rig: Rig) -> None:
    """CASE 44: the limit alone, where all of them are held here and the marks were read within a second."""
    wanted = [menu(Counted(n)) for n in range(5)]
    app = batch(an_instance(rig), *wanted, limit=route_limit("9/minute", a_name()))
    caller, path = a_caller(), url(*(f"{each.name}:1" for each in wanted))
    # The first read creates what all share, the second looks at what was computed here.
    for _ in range(3):
        await read(app, path, caller)
    async with bill(rig) as spent:
        body = (await read(app, path, caller)).json()
    assert spent == [1, 1]
    assert body["values"] == {f"{each.name}:1": n for n, each in enumerate(wanted)}


async def test_each_has_its_own_result(rig: Rig) -> None:
    """One that fails, or is not there, leaves the others as they are."""
    good, none, bad = menu(Counted({"a": 1})), menu(Counted(None)), menu(Counted(error=OriginFailed("server", "500")))
    app = batch(an_instance(rig), good, none, bad)
    body = (await read(app, url(f"{good.name}:1", f"{none.name}:2", f"{bad.name}:3"))).json()
    assert body["values"] == {f"{good.name}:1": {"a": 1}}
    assert {name: (each["status"], each["code"]) for name, each in body["errors"].items()} == {
        f"{none.name}:2": (404, "not_found"),
        f"{bad.name}:3": (503, "origin_unavailable"),
    }


async def test_an_older_value_is_named(rig: Rig) -> None:
    """Where an origin is down, its value of before is there, with its age and why; the others say nothing of theirs."""
    failing = Counted("old")
    one, other = menu(failing, strict=True), menu(Counted("v"), strict=True, tier="24h")
    app = batch(an_instance(rig), one, other)
    path = url(f"{one.name}:1", f"{other.name}:1")
    assert "stale" not in (await read(app, path)).json()
    failing.error = OriginFailed("server", "500")
    rig.time.ms += 150_000
    body = (await read(app, path)).json()
    assert body["values"] == {f"{one.name}:1": "old", f"{other.name}:1": "v"}
    assert (body["errors"], body["stale"]) == ({}, {f"{one.name}:1": {"ageS": 150, "why": "server"}})


async def test_more_than_a_reply_may_hold(rig: Rig) -> None:
    """What does not fit any more is told to be asked for by itself; the rest is there."""
    large = [menu(Counted(f"{n}" * 1_500_000)) for n in range(3)]
    small = menu(Counted("v"))
    names = [f"{each.name}:1" for each in (*large, small)]
    reply = await read(batch(an_instance(rig), *large, small), url(*names))
    assert len(reply.content) < keys.MOST_BYTES + 10_000
    body = reply.json()
    assert list(body["values"]) == [names[0], names[1], names[3]]
    assert {name: (each["status"], each["code"]) for name, each in body["errors"].items()} == {
        names[2]: (413, "body_too_large")
    }


async def test_it_shares_values_with_the_single_routes(rig: Rig) -> None:
    """What one has read, the other does not ask for again; a name that is sent twice is read once."""
    function = Counted("v")
    wanted = menu(function)
    app = batch(an_instance(rig), wanted)
    await read(app, f"/api/{wanted.name}/1")
    body = (await read(app, url(f"{wanted.name}:1", f"{wanted.name}:1"))).json()
    assert (body["values"], function.calls) == ({f"{wanted.name}:1": "v"}, 1)


async def test_an_etag_of_all(rig: Rig) -> None:
    """304 while nothing has changed."""
    wanted = menu(Counted("v"))
    app = batch(an_instance(rig), wanted)
    first = await read(app, url(f"{wanted.name}:1"))
    again = await read(app, url(f"{wanted.name}:1"), if_none_match=first.headers["etag"])
    assert (again.status_code, again.content) == (304, b"")


async def test_parameters(rig: Rig) -> None:
    """In the order of the key, those of the query last, which may be left out; encoded once more where need be."""
    given = list[Any]()

    def note(values: Any) -> str:
        given.append(values)
        return "v"

    name = a_name()
    wanted = Resource(
        name,
        key=f"cache:{name}:{{limit}}:{{id}}",
        tier="1m",
        origin=Python(note, name),
        query={"limit": Query("10", r"\d+")},
    )
    app = batch(an_instance(rig), wanted)
    await read(app, url(f"{name}:a%252Cb%253Ac"))
    await read(app, url(f"{name}:x:5"))
    assert given == [{"id": "a,b:c", "limit": "10"}, {"id": "x", "limit": "5"}]


@pytest.mark.parametrize(
    "query",
    [
        "",
        "resources=",
        "resources={0}",
        "resources={0}:1:2",
        "resources={0}:",
        "resources=other:1",
        "resources={0}:1&resources={0}:2",
        "resources={0}:1&x=1",
        "resources={0}:1&refresh=0",
        "resources={0}:1&view=1",
        "resources=" + ",".join(f"{{0}}:{n}" for n in range(21)),
    ],
)
async def test_what_is_refused_asks_nothing(rig: Rig, query: str) -> None:
    """400 before Redis is asked."""
    function = Counted()
    wanted = menu(function)
    app = batch(an_instance(rig), wanted, limit=route_limit("9/minute", a_name()))
    async with bill(rig) as spent:
        reply = await read(app, "/api/data?" + query.format(wanted.name))
    assert (reply.status_code, reply.json()["code"], spent, function.calls) == (400, "invalid_parameter", [0, 0], 0)


async def test_a_refused_batch(rig: Rig) -> None:
    """429 as a whole, and then without a command."""
    wanted = menu(Counted("v"))
    app = batch(an_instance(rig), wanted, limit=route_limit("1/minute", a_name()))
    caller = a_caller()
    assert [(await read(app, url(f"{wanted.name}:1"), caller)).status_code for _ in range(3)] == [200, 429, 429]


async def test_roles_hold_for_each(rig: Rig) -> None:
    """One resource for admins closes the whole batch to others."""
    token = "t" * 32
    made = an_instance(rig, ADMIN_TOKEN=token)
    public, closed = menu(Counted("v")), menu(Counted("secret"), roles=("admin",))
    app = batch(made, public, closed)
    path = url(f"{public.name}:1", f"{closed.name}:1")
    assert (await read(app, path)).status_code == 401
    assert (await read(app, path, authorization=f"Bearer {token}")).status_code == 200
