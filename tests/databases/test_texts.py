"""Texts of statements: read together, and without what stands in them."""

import asyncio

import pytest

from dev.postgres import Postgres
from lib.data.origins.port import OriginFailed
from lib.databases.watching import Databases
from tests.databases.conftest import Site, session, watching
from tests.databases.test_watching import VIEWS
from tests.rig.door import a_name
from tests.rig.guard import Rig

pytestmark = pytest.mark.anyio


async def test_texts_of_a_page(site: Site, counted: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are asked for at once, all texts of the server are read once; one that fails, fails for all."""
    with session(counted, autocommit=True) as connection:
        connection.execute("select pg_stat_statements_reset()")
        for n in range(5):
            connection.execute(f"select current_date{', 1' * n}")
    top = await site.read("/api/monitoring/sql-statistics?limit=10")
    ids = [each["id"] for each in top["statements"]]
    names = ",".join(f"sql-text:{each}:shop" for each in ids)
    reply = await site.get(f"/api/data?resources={names}", "")
    assert len(reply.json()["values"]) == len(ids) > 5
    watched, asked = Databases.of(site.instance.parts).get("shop"), list[str]()
    read = type(watched.reader).rows

    async def noted(self: object, statement: str, arguments: dict[str, str], left_s: float) -> object:
        asked.append(statement)
        if len(asked) == 2:
            raise OriginFailed("connection", "gone")
        return await read(watched.reader, statement, arguments, left_s)

    monkeypatch.setattr(type(watched.reader), "rows", noted)
    found = await asyncio.gather(*(watched.text(each, 9) for each in ids))
    assert (asked, sum("current_date" in str(each) for each in found)) == (["texts"], 5)
    failed = await asyncio.gather(*(watched.text(each, 9) for each in ids), return_exceptions=True)
    assert {type(each) for each in failed} == {OriginFailed}
    assert await watched.text(ids[0], 9) == found[0]


async def test_who_asks_first_may_leave(site: Site, counted: Postgres) -> None:
    """The others get their texts, and those that no statement can have fail nobody's."""
    top = await site.read("/api/monitoring/sql-statistics?limit=2")
    one, other = [each["id"] for each in top["statements"]]
    watched = Databases.of(site.instance.parts).get("shop")
    first, second = (asyncio.ensure_future(watched.text(each, 9)) for each in (one, other))
    await asyncio.sleep(0)
    first.cancel()
    assert await second
    with pytest.raises(asyncio.CancelledError):
        await first
    replies = await asyncio.gather(*(site.get(f"/api/monitoring/sql/{each}/text") for each in ("%00", "1%2C2", one)))
    assert [each.status_code for each in replies] == [404, 404, 200]


async def test_secrets_are_nowhere(rig: Rig, counted: Postgres) -> None:
    """Neither in a reply, a key, a stored value nor an event: not in sessions, not in statements, not the address."""
    made, secret = watching(rig, counted), "hunter2-plain"
    with session(counted, autocommit=True) as connection, session(counted) as other:
        connection.execute(f"create role {a_name().replace('-', '_')} password '{secret}'")
        other.execute(f"select '{secret}', 471147114711")
        replies = [await made.get(path) for path in VIEWS[:5]]
        top = (await made.read("/api/monitoring/sql-statistics?limit=100"))["statements"]
        replies += [await made.get(f"/api/monitoring/sql/{each['id']}/text") for each in top]
    texts = "".join(each.text for each in replies)
    assert "create role ..." in texts
    assert "select ?, ?" in texts
    stored = "".join(f"{key!r}{rig.server.get(key)!r}" for key in rig.server.keys("tms:*"))
    told = repr(made.instance.events)
    for each in (texts, stored, told):
        for hidden in (secret, "471147114711", counted.uri):
            assert hidden not in each


async def test_literals_are_shown_where_that_is_wanted(rig: Rig, counted: Postgres) -> None:
    """`DB_SHOW_LITERALS`: under keys of its own, so that what was stored then is never served once it is off."""
    with session(counted) as connection:
        connection.execute("select 'shown-literal'")
        for flag, shown in (("true", True), ("false", False)):
            made = watching(rig, counted, DB_SHOW_LITERALS=flag)
            assert ("shown-literal" in (await made.get("/api/monitoring/sessions")).text) == shown
