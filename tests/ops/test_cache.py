"""Invalidation by name, and what the cache of the data routes saves."""

from typing import Any

import pytest

from lib.base.events import AdminActed, DataRead
from lib.cache import epochs
from lib.data.resource import Query
from lib.ledger.places import AlertKind
from lib.ops import alert_rules
from lib.ops.alert_rules import Thresholds
from lib.ops.overview import Overview
from lib.redis import keys
from tests.rig.data import menu, read, site
from tests.rig.door import Counted, an_instance, bill, door
from tests.rig.guard import Rig
from tests.rig.instance import ADMIN, Instance

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["rest", "tcp"])
def transport(request: pytest.FixtureRequest) -> str:
    """Redis over both."""
    return str(request.param)


TOKEN = ADMIN["authorization"].removeprefix("Bearer ")


@pytest.fixture
def instance(rig: Rig) -> Instance:
    return an_instance(rig, ADMIN_TOKEN=TOKEN)


async def invalidate(instance: Instance, **wanted: Any) -> Any:
    """POST it; the reply."""
    return await instance.http.post("/api/cache/invalidate", json=wanted, headers=ADMIN)


@pytest.mark.parametrize(
    ("key", "wanted", "goes"),
    [
        ("cache:dish:{id}", {"entity": "dish", "id": "1"}, True),
        ("cache:dish:{id}", {"entity": "dish"}, True),
        ("cache:dish:{id}", {"entity": "dish", "id": "2"}, False),
        ("cache:dish:{id}", {"entity": "dis"}, False),
        ("tms:{id}:top-sql:{limit}", {"connectionId": "1", "resource": "top-sql"}, True),
        ("tms:{id}:top-sql:{limit}", {"connectionId": "1", "all": True}, True),
        ("tms:{id}:top-sql:{limit}", {"connectionId": "2", "all": True}, False),
        ("tms:{id}:top-sql:{limit}", {"connectionId": "1", "resource": "locks"}, False),
        ("tms:{id}:top-sql:{limit}", {"connectionId": "*", "all": True}, False),
        ("cache:dish:{id}", {"tag": "dishes"}, True),
        ("cache:dish:{id}", {"all": True}, True),
    ],
)
async def test_what_goes(instance: Instance, rig: Rig, key: str, wanted: dict[str, Any], goes: bool) -> None:
    """Here at once, also from memory; 1 command; a resource without naming its parameters."""
    function = Counted("old")
    query = {"limit": Query("10")} if "limit" in key else {}
    resource = menu(function, key=key, query=query, tags=("dishes",))
    app = site(instance, resource)
    for _ in range(3):
        await read(app)
    function.value = "new"
    async with bill(rig) as spent:
        reply = await invalidate(instance, **wanted)
    assert (reply.status_code, spent) == (200, [1, 1])
    assert (reply.json()["everywhereWithinS"], reply.json()["invalidated"]) == (5, wanted)
    assert (await read(app)).json() == ("new" if goes else "old")
    # What another instance reads from Redis agrees.
    assert (await read(site(an_instance(rig), resource))).json() == ("new" if goes else "old")
    assert instance.seen(AdminActed)[-1].action == "invalidate"


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"id": "1"},
        {"resource": "x"},
        {"connectionId": "1"},
        {"entity": "a", "tag": "b"},
        {"all": True, "tag": "b"},
        {"all": False},
        {"entity": ""},
        {"entity": "a", "id": 1},
        {"tag": "x" * 201},
        {"other": 1},
    ],
)
async def test_what_is_not_clear_is_refused(instance: Instance, rig: Rig, wanted: dict[str, Any]) -> None:
    """422, and nothing is invalidated."""
    async with bill(rig) as spent:
        assert (await invalidate(instance, **wanted)).status_code == 422
    assert spent == [0, 0]


async def test_it_is_the_admins(instance: Instance) -> None:
    """401 for others, for statistics as well."""
    assert (await instance.http.post("/api/cache/invalidate", json={"all": True})).status_code == 401
    assert (await instance.http.get("/api/cache/stats")).status_code == 401


async def test_another_instance_forgets_within_five_seconds(rig: Rig, instance: Instance) -> None:
    """It serves from memory what it read before, not longer than it may."""
    function = Counted("old")
    wanted = menu(function)
    other = an_instance(rig)
    app = site(other, wanted)
    for _ in range(3):
        await read(app)
    function.value = "new"
    await invalidate(instance, all=True)
    assert (await read(app)).json() == "old"
    memory = other.parts.guard.recent.memory
    (kept,) = memory._kept.values()
    assert kept.until_s - other.parts.clock.monotonic() <= 5
    memory.drop(frozenset(epochs.of_tags(wanted.route, ())))
    assert (await read(app)).json() == "new"


async def test_redis_is_down(rig: Rig) -> None:
    """It is said that others may still serve what is invalidated."""
    made = an_instance(rig, ADMIN_TOKEN=TOKEN, **rig.nowhere)
    reply = await invalidate(made, all=True)
    assert (reply.status_code, reply.json()["code"]) == (503, "store_unavailable")


async def test_the_doors_own_invalidation_reaches_memory(rig: Rig, instance: Instance) -> None:
    """`bw.invalidate` and the admin action drop what this instance holds."""
    for how in ("door", "admin"):
        function = Counted("old")
        app = site(instance, menu(function, tags=("mine",)))
        for _ in range(3):
            await read(app)
        function.value = "new"
        if how == "door":
            await door(instance).invalidate("mine")
        else:
            await instance.act(action="invalidate", scope="tag", tag="mine")
        assert (await read(app)).json() == "new"


async def test_statistics(instance: Instance) -> None:
    """By family and tier, what is saved, and the ratio; families that are not listed count as others."""
    for family, tier, size in (
        ("menu", "origin", 100),
        ("menu", "redis", 100),
        ("menu", "memory", 100),
        ("menu", "failed", 0),
        ("no-such", "stale", 7),
    ):
        instance.parts.emit(DataRead(family, tier, size))
    body = (await instance.http.get("/api/cache/stats", headers=ADMIN)).json()
    assert body["families"]["menu"] == {
        "reads": {"memory": 1, "redis": 1, "stale": 0, "collapsed": 0, "origin": 1, "failed": 1},
        "hitRatio": 0.5,
        "originCallsSaved": 2,
        "bytesSaved": 200,
    }
    assert body["families"]["other"]["bytesSaved"] == 7
    assert (body["total"]["hitRatio"], body["total"]["originCallsSaved"]) == (0.6, 3)


@pytest.mark.parametrize(
    ("hits", "misses", "alerts"), [(59, 41, True), (60, 40, False), (10, 89, False), (0, 100, True)]
)
async def test_few_hits_are_an_alert(rig: Rig, instance: Instance, hits: int, misses: int, alerts: bool) -> None:
    """Fewer than 60 % of at least 100 reads of the last whole hour."""
    for tier, number in (("redis", hits), ("origin", misses)):
        for _ in range(number):
            instance.parts.emit(DataRead("menu", tier, 1))
    rig.time.ms += 3_600_000
    reading = (await Overview.of(instance.parts).snapshot(with_own=True)).reading
    allowances = Overview.of(instance.parts).ledger(reading)
    found = alert_rules.of_reading(reading, allowances, Thresholds((80, 90, 95), 1, 100))
    assert ([each.kind for each in found if each.kind is AlertKind.HIT_RATIO] != []) is alerts


def test_all_has_one_epoch() -> None:
    """Everything shares one."""
    assert keys.EPOCH_ALL in epochs.of_tags("data/x", ())
