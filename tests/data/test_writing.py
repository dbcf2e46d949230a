"""Write-through: what is read after a write, whoever else writes or reads at the same time (CASES 42)."""

import asyncio
from typing import Any

import pytest

from lib.cache import epochs
from lib.data.resource import Resource
from lib.edge.problems import Problem
from lib.redis import keys
from tests.rig.data import menu, read, site
from tests.rig.door import Counted, Gate, an_instance, bill, door
from tests.rig.guard import Rig

pytestmark = pytest.mark.anyio

ONE = {"id": "1"}


@pytest.fixture(params=["rest", "tcp"])
def transport(request: pytest.FixtureRequest) -> str:
    """Redis over both."""
    return str(request.param)


class Rows:
    """A database of one row: what is committed is what a resource's origin reads."""

    def __init__(self, rig: Rig, **options: Any) -> None:
        self.origin = Counted("old")
        self.menu: Resource = menu(self.origin, **options)
        self.instances = [an_instance(rig) for _ in range(2)]
        self.apps = [site(each, self.menu) for each in self.instances]

    async def write(self, value: Any, at: int = 0, committed: Gate | None = None) -> Any:
        """Commit a value at one of the instances; with ``committed`` the writer is then held until that is opened."""

        async def commit() -> Any:
            self.origin.value = value
            if committed is not None:
                await committed()
            return value

        return await door(self.instances[at]).write(self.menu, ONE, commit)

    async def read(self) -> list[Any]:
        """What each instance serves."""
        return [(await read(app)).json() for app in self.apps]


async def test_a_written_value_is_read_without_asking(rig: Rig) -> None:
    """At once and everywhere, for the MGET before, the epoch and the value after: the origin is not asked again."""
    rows = Rows(rig)
    assert await rows.read() == ["old", "old"]
    async with bill(rig) as spent:
        assert await rows.write("new") == "new"
    assert spent == [3, 3]
    assert await Rows.read(rows) == ["new", "old"]  # the other instance's memory, for 5 s at most
    rig.time.later(6)
    assert await rows.read() == ["new", "new"]
    assert rows.origin.calls == 1
    assert rig.without_ttl() == []


@pytest.mark.parametrize("last", [0, 1])
async def test_of_two_writers_the_older_value_does_not_stay(rig: Rig, last: int) -> None:
    """Both have committed before either tells the cache; whichever of them is the later to tell it."""
    rows, gates = Rows(rig, strict=True), [Gate(), Gate()]
    await rows.read()
    writers = []
    for number, gate in enumerate(gates):
        writers.append(asyncio.ensure_future(rows.write(f"value {number}", number, gate)))
        await gate.reached.wait()
    for number in (1 - last, last):
        gates[number].open()
        await writers[number]
    assert await rows.read() == ["value 1", "value 1"]


async def test_a_value_that_is_stored_late_is_not_served(rig: Rig) -> None:
    """A writer's value arrives after the next writer's: it names an epoch that is over."""
    rows = Rows(rig, strict=True)
    await rows.read()
    await rows.write("first")
    key = rows.menu.filled(ONE)
    late: Any = rig.server.get(key)
    await rows.write("second")
    rig.server.set(key, late, ex=60)
    assert await rows.read() == ["second", "second"]


async def test_a_reader_on_its_way_does_not_bring_the_old_value_back(rig: Rig) -> None:
    """It has read the old row before the commit, and stores it after the write."""
    rows, gate = Rows(rig, strict=True), Gate()
    await rows.read()
    rig.server.delete(rows.menu.filled(ONE), keys.lock(rows.menu.filled(ONE)))
    rows.origin.gate = gate
    reading = asyncio.ensure_future(read(rows.apps[1]))
    await gate.reached.wait()
    rows.origin.gate = None
    held = rows.origin.value
    await rows.write("new")
    gate.open()
    await reading
    assert held == "old"
    assert await rows.read() == ["new", "new"]


async def test_a_write_that_fails_may_stand(rig: Rig) -> None:
    """Its error is raised; what it may have changed is read anew."""
    rows = Rows(rig, strict=True)
    await rows.read()

    async def lost() -> None:
        rows.origin.value = "new"
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await door(rows.instances[0]).write(rows.menu, ONE, lost)
    assert await rows.read() == ["new", "new"]


async def test_a_write_that_fails_without_redis(rig: Rig) -> None:
    """Its own error is raised, and a writer that is cancelled ends."""
    rows = Rows(rig)
    await rows.read()
    rig.upstash.fault("refuse")

    async def refused() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await door(rows.instances[0]).write(rows.menu, ONE, refused)
    gate = Gate()
    writing = asyncio.ensure_future(rows.write("new", committed=gate))
    await gate.reached.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing


async def test_what_no_origin_could_give(rig: Rig) -> None:
    """The writer is told with the first write already, and nothing older is served."""
    rows = Rows(rig, strict=True)
    with pytest.raises(TypeError, match="JSON cannot hold"):
        await rows.write(object())
    rows.origin.value = "old"
    await rows.read()
    with pytest.raises(TypeError, match="JSON cannot hold"):
        await rows.write(object())
    rows.origin.value = "new"
    assert await rows.read() == ["new", "new"]


async def test_tags_are_invalidated_with_it(rig: Rig) -> None:
    """A list of the tag is read anew; the value itself is kept under the tag's new epoch."""
    rows, dishes = Rows(rig, tags=("dishes",), strict=True), Counted(["old"])
    listed = menu(dishes, tags=("dishes",), strict=True)
    app = site(rows.instances[0], listed)
    await rows.read()
    await read(app)
    await rows.write("new")
    dishes.value = ["new"]
    assert (await read(app)).json() == ["new"]
    assert (await rows.read(), rows.origin.calls) == (["new", "new"], 1)


@pytest.mark.parametrize("lost", range(4))
async def test_an_epoch_that_is_lost(rig: Rig, lost: int) -> None:
    """Nobody can tell what was written meanwhile: the value is not stored, and the older one not served."""
    rows = Rows(rig, strict=True)
    await rows.read()
    rig.server.delete(epochs.of_tags(rows.menu.route, rows.menu.tags_of(ONE))[lost])
    await rows.write("new")
    assert (await rows.read(), rows.origin.calls) == (["new", "new"], 2)


async def test_what_is_too_large_is_not_kept(rig: Rig) -> None:
    """As where a reader reads it."""
    rows = Rows(rig, max_bytes=8, strict=True)
    await rows.read()
    await rows.write("x" * 9)
    assert (await rows.read())[0] == "x" * 9
    assert rows.origin.calls > 1


async def test_without_redis_the_write_stands(rig: Rig) -> None:
    """The caller hears that older values may still be served."""
    rows = Rows(rig)
    await rows.read()
    rig.upstash.fault("refuse")
    with pytest.raises(Problem) as refused:
        await rows.write("new")
    assert (refused.value.code, rows.origin.value) == ("store_unavailable", "new")


async def test_each_callers_own_value_is_nobodys_to_write(rig: Rig) -> None:
    """Refused before anything is committed."""
    rows = Rows(rig, scope="caller")
    with pytest.raises(ValueError, match="each caller has a value of its own"):
        await rows.write("new")
    assert rows.origin.value == "old"
