"""Watched databases over their routes: what is shown, of what, to whom, and what is not."""

import asyncio
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dev.postgres import Postgres
from lib.data.origins.port import OriginFailed
from lib.data.resource import Resource
from lib.databases.readers.postgres import Direct
from lib.databases.resources import TABLE
from tests.databases.conftest import AS_ADMIN, Site, blocked, session, watching
from tests.rig.door import a_name, bill, client
from tests.rig.guard import Rig

pytestmark = pytest.mark.anyio

VIEWS = (
    "/api/monitoring/sessions",
    "/api/monitoring/locks",
    "/api/monitoring/wait-events",
    "/api/monitoring/realtime",
    "/api/monitoring/sql-statistics",
    "/api/monitoring/trend",
    "/api/dashboard/metrics",
    "/api/schemas",
    "/api/tables",
    "/api/tables?schema=pg_catalog&page=2&sizes=1",
    "/api/columns?schema=pg_catalog&table=pg_class",
    "/api/oracle/schemas",
)


@pytest.mark.parametrize("connection", ["shop", "prod"])
@pytest.mark.parametrize("path", VIEWS)
async def test_every_view_of_every_way(site: Site, path: str, connection: str) -> None:
    """Directly and by Supabase's functions; each says whose it is, and what is missing there."""
    found = await site.read(path, connection)
    assert found["connectionId"] == connection
    # Supabase's stand-in counts no statements.
    uncounted = connection == "prod" and "sql-statistics" in path
    assert any("pg_stat_statements" in each for each in found["missing"]) == uncounted


async def test_connections(rig: Rig, counted: Postgres) -> None:
    """Id, kind, label and health; never an address. One that is down says so, and the others are shown."""
    gone = "postgresql://me:hunter2@127.0.0.1:9/x"
    made = watching(rig, counted, DB_CONNECTIONS="a=supabase,b=postgres:SHOP_URL,c=postgres:GONE", GONE=gone)
    reply = await made.get("/api/connections", "")
    found = {each["id"]: each for each in reply.json()["connections"]}
    assert {name: (each["kind"], each["health"]) for name, each in found.items()} == {
        "a": ("supabase", "limited"),
        "b": ("postgres", "up"),
        "c": ("postgres", "down"),
    }
    assert found["c"]["reason"] == "connection"
    for secret in ("127.0.0.1", "hunter2", counted.uri):
        assert secret not in reply.text


@pytest.mark.parametrize("hostile", ["nobody", "*", "prod:sessions", "%252F", "%00", "x" * 190])
async def test_an_unknown_connection(site: Site, rig: Rig, hostile: str) -> None:
    """404, and no key is made of it."""
    before = set(rig.server.keys("*tms*"))
    assert (await site.get("/api/monitoring/sessions", hostile)).status_code == 404
    assert set(rig.server.keys("*tms*")) == before


async def test_a_connection_has_to_be_named(site: Site) -> None:
    """400 without one."""
    reply = await site.get("/api/monitoring/sessions", "")
    assert (reply.status_code, reply.json()["detail"]) == (400, "connectionId: send it.")


@pytest.mark.parametrize("path", [*VIEWS, "/api/monitoring/sql/1", "/api/monitoring/sql/1/text", "/api/connections"])
async def test_nobody_without_a_role(site: Site, path: str) -> None:
    """All of it is for viewers and admins."""
    joined = "&" if "?" in path else "?"
    address = path if path == "/api/connections" else f"{path}{joined}connectionId=shop"
    assert (await site.get(address, "", **{"x-none": "1"})).status_code == 401


async def test_who_blocks_whom(site: Site, counted: Postgres) -> None:
    """A session that really waits is below its blocker, which is not listed as waiting."""
    async with blocked(counted, "blocked_here") as (blocker, waiter):
        found = await site.read("/api/monitoring/locks")
        (tree,) = found["blockers"]
        assert (tree["pid"], [each["pid"] for each in tree["blocks"]], found["waiting"]) == (blocker, [waiter], 1)
        assert tree["blocks"][0]["waitingS"] >= 0
        listed = {each["pid"]: each for each in (await site.read("/api/monitoring/sessions"))["sessions"]}
        assert (listed[waiter]["blockedBy"], listed[blocker]["blockedBy"]) == ([blocker], [])


async def test_our_own_sessions_are_hidden(site: Site, counted: Postgres) -> None:
    """Those of other instances as well."""
    with session(counted, "breakwater"), session(counted, "somebody"):
        found = await site.read("/api/monitoring/sessions")
    assert {"somebody"} <= {each["application"] for each in found["sessions"]}
    assert "breakwater" not in {each["application"] for each in found["sessions"]}


async def test_a_slow_statement_comes_first(site: Site, counted: Postgres) -> None:
    """By its share of all time; its text is asked for by its id, which JavaScript can hold."""
    with session(counted, autocommit=True) as connection:
        connection.execute("select pg_stat_statements_reset()")
        connection.execute("select pg_sleep(0.3), 'slow' as speed")
        connection.execute("select 1 as fast")
    found = await site.read("/api/monitoring/sql-statistics?limit=5")
    first = found["statements"][0]
    assert (first["share"] > 0.5, first["totalMs"] >= 300, type(first["id"])) == (True, True, str)
    assert not {"text", "query"} & set(first)
    text = await site.read(f"/api/monitoring/sql/{first['id']}/text")
    assert "pg_sleep" in text["text"]
    assert (await site.read(f"/api/monitoring/sql/{first['id']}"))["calls"] == 1


async def test_an_unknown_statement(site: Site) -> None:
    """404, as a value that is kept for a while."""
    for path in ("/api/monitoring/sql/12345", "/api/monitoring/sql/12345/text", "/api/monitoring/sql/x/text"):
        assert (await site.get(path)).status_code == 404


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
    watched, asked = site.instance.parts.databases.get().get("shop"), list[str]()
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


async def test_one_batch_call_for_a_page(site: Site, rig: Rig) -> None:
    """Everything at once, and a page that is warm costs two commands."""
    path = "/api/data?resources=realtime:shop,sessions:shop,locks:shop,sql-statistics:shop:10,realtime:prod"
    values = (await site.get(path, "")).json()["values"]
    assert [values[name]["connectionId"] for name in ("realtime:shop", "realtime:prod")] == ["shop", "prod"]
    async with bill(rig) as spent:
        await site.get(path, "")
    assert spent[1] <= 2


async def test_fifty_watchers_burden_it_like_one(rig: Rig, counted: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """On three instances at once: the database answers each question once."""
    made, asked, rows = [watching(rig, counted) for _ in range(3)], list[str](), Direct.rows

    async def noted(self: Direct, statement: str, arguments: dict[str, str], left_s: float) -> object:
        asked.append(statement)
        return await rows(self, statement, arguments, left_s)

    monkeypatch.setattr(Direct, "rows", noted)
    paths = ("/api/monitoring/realtime", "/api/monitoring/locks", "/api/monitoring/sessions")
    replies = await asyncio.gather(*(made[n % 3].get(paths[n % 2]) for n in range(50)), made[0].get(paths[2]))
    assert {each.status_code for each in replies} == {200}
    assert sorted(asked) == ["catalogue", "locks", "realtime", "sessions"]


async def test_secrets_are_nowhere(rig: Rig, counted: Postgres) -> None:
    """Neither in a reply, a key, a stored value nor an event: not in sessions, not in statements, not the address."""
    made, secret = watching(rig, counted), "hunter2-plain"
    with session(counted, autocommit=True) as connection, session(counted) as other:
        connection.execute(f"create role {a_name().replace('-', '_')} password '{secret}'")
        other.execute(f"select '{secret}', 4711")
        replies = [await made.get(path) for path in VIEWS[:5]]
        top = (await made.read("/api/monitoring/sql-statistics?limit=100"))["statements"]
        replies += [await made.get(f"/api/monitoring/sql/{each['id']}/text") for each in top]
    texts = "".join(each.text for each in replies)
    assert "create role ..." in texts
    assert "select ?, ?" in texts
    stored = "".join(f"{key!r}{rig.server.get(key)!r}" for key in rig.server.keys("tms:*"))
    told = repr(made.instance.events)
    for each in (texts, stored, told):
        for hidden in (secret, "4711", counted.uri):
            assert hidden not in each


async def test_literals_are_shown_where_that_is_wanted(rig: Rig, counted: Postgres) -> None:
    """`DB_SHOW_LITERALS`: under keys of its own, so that what was stored then is never served once it is off."""
    with session(counted) as connection:
        connection.execute("select 'shown-literal'")
        for flag, shown in (("true", True), ("false", False)):
            made = watching(rig, counted, DB_SHOW_LITERALS=flag)
            assert ("shown-literal" in (await made.get("/api/monitoring/sessions")).text) == shown


async def test_another_address_has_other_values(rig: Rig, counted: Postgres, postgres: Postgres) -> None:
    """A connection whose address changes serves nothing of the server before."""
    first = await watching(rig, counted).read("/api/dashboard/metrics")
    second = await watching(rig, counted, SHOP_URL=postgres.uri).read("/api/dashboard/metrics")
    assert first["version"] != second["version"] or first["upS"] != second["upS"]


async def test_a_role_that_may_see_nothing(rig: Rig, counted: Postgres) -> None:
    """It is told what to grant, instead of an empty table."""
    role = a_name().replace("-", "_")
    with session(counted, autocommit=True) as connection, session(counted) as other:
        connection.execute(f"create role {role} login")
        other.execute("select 'private'")
        made = watching(rig, counted, SHOP_URL=counted.uri.replace("postgres:@", f"{role}@"))
        for path in ("/api/monitoring/sessions", "/api/monitoring/sql-statistics", "/api/monitoring/realtime"):
            assert any("pg_monitor" in each for each in (await made.read(path))["missing"]), path
        (shop,) = [each for each in (await made.read("/api/connections", ""))["connections"] if each["id"] == "shop"]
        assert (shop["health"], shop["missing"]) == ("limited", [f"grant pg_monitor to {role}"])


async def test_tables_come_by_the_page(site: Site) -> None:
    """Fifty at a time; sizes only where they are asked for."""
    first = await site.read("/api/tables?schema=pg_catalog")
    assert (len(first["tables"]), first["page"]) == (50, 1)
    assert first["pages"] == -(-first["found"] // 50) > 1
    assert "bytes" not in first["tables"][0]
    last = await site.read(f"/api/tables?schema=pg_catalog&page={first['pages']}&sizes=1")
    assert not {each["name"] for each in first["tables"]} & {each["name"] for each in last["tables"]}
    assert all(each["bytes"] >= 0 for each in last["tables"])
    assert (await site.get("/api/columns?table=no_such")).status_code == 404


async def test_the_database_stops(rig: Rig, tmp_path_factory: pytest.TempPathFactory, site: Site) -> None:
    """What is kept is served with its age and the reason; without anything kept it is 503 with Retry-After."""
    made = site
    path = "/api/monitoring/realtime"
    assert (await made.get(path)).status_code == 200
    reader = made.instance.parts.databases.get().get("shop").reader
    await reader.aclose()
    reader.database.url = type(reader.database.url)("postgresql://x@127.0.0.1:9/x")  # type: ignore[attr-defined]
    rig.time.later(60)
    kept = await made.get(path)
    assert (kept.status_code, kept.headers["x-cache"]) == (200, "STALE")
    none = await made.get("/api/monitoring/locks")
    assert (none.status_code, int(none.headers["retry-after"]) >= 1) == (503, True)


async def test_keys_are_the_customers(site: Site, rig: Rig) -> None:
    """`tms:{connection}:{resource}`, each ended by what the connection is; all can be invalidated by those names."""
    await site.read("/api/monitoring/sql-statistics?limit=7")
    (found,) = rig.server.keys("tms:shop:top-sql:7:*")
    assert re.fullmatch(r"tms:shop:top-sql:7:@[0-9a-f]{12}", str(found))
    for wanted in ({"connectionId": "shop", "resource": "top-sql"}, {"connectionId": "shop", "all": True}):
        async with client(site.instance.app) as http:
            await http.post("/api/cache/invalidate", json=wanted, headers=AS_ADMIN)
        assert (await site.get("/api/monitoring/sql-statistics?limit=7")).headers["x-cache"] == "MISS"


PARTS = st.text(st.sampled_from("ab:%@*/. \0é"), min_size=1, max_size=6)


@given(st.lists(st.tuples(PARTS, PARTS, PARTS), min_size=2, max_size=2), st.sampled_from(list(TABLE.values())))
def test_two_connections_never_mix(reads: list[tuple[str, str, str]], resource: Resource) -> None:
    """Whatever ids and parameters are: two reads have one key only if they are the same."""
    filled = [{name: each[n % 3] for n, name in enumerate(resource.parameters)} for each in reads]
    keys = {resource.filled(values) for values in filled}
    assert len(keys) == len({tuple(values.items()) for values in filled})
