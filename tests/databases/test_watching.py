"""Watched databases over their routes: what is shown, of what, to whom, and what is not."""

import asyncio
import re

import asyncpg
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dev.postgres import Postgres
from lib.data.resource import Resource
from lib.databases.readers.postgres import Direct
from lib.databases.resources import TABLE
from lib.databases.shapes import EXTENSION
from lib.databases.watching import Databases
from tests.databases.conftest import AS_ADMIN, Site, blocked, session, watching
from tests.rig.clock import until
from tests.rig.door import bill, client
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
    "/api/oracle/tables",
    "/api/oracle/columns?schema=pg_catalog&table=pg_class",
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
    listed = "a=supabase,b=postgres:SHOP_URL,c=postgres:GONE,d=postgres:NAMELESS"
    made = watching(rig, counted, DB_CONNECTIONS=listed, GONE=gone, NAMELESS=f"postgresql://{'x' * 64}.test/x")
    reply = await made.get("/api/connections", "")
    found = {each["id"]: each for each in reply.json()["connections"]}
    assert {name: (each["kind"], each["health"]) for name, each in found.items()} == {
        "a": ("supabase", "limited"),
        "b": ("postgres", "up"),
        "c": ("postgres", "down"),
        "d": ("postgres", "down"),
    }
    assert [found[each]["reason"] for each in "cd"] == ["connection", "missing"]
    for secret in ("127.0.0.1", "hunter2", counted.uri):
        assert secret not in reply.text


@pytest.mark.parametrize("hostile", ["nobody", "*", "prod:sessions", "%252F", "%00", "x" * 190])
async def test_an_unknown_connection(site: Site, rig: Rig, hostile: str) -> None:
    """404, and no key is made of it."""
    before = set(rig.server.keys("*tms*"))
    assert (await site.get("/api/monitoring/sessions", hostile)).status_code == 404
    assert set(rig.server.keys("*tms*")) == before


async def test_an_unknown_connection_in_a_batch(site: Site, rig: Rig) -> None:
    """404 as well, and what was asked for beside it is neither read nor kept."""
    before = set(rig.server.keys("*tms*"))
    assert (await site.get("/api/data?resources=realtime:shop,locks:nobody", "")).status_code == 404
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


async def test_a_session_that_was_ended(site: Site, counted: Postgres, rig: Rig) -> None:
    """Is gone half a minute later: who reads then has it read anew, and is served at once with what was kept."""
    path = "/api/monitoring/sessions"
    with session(counted, "doomed"), session(counted, autocommit=True) as killer:
        assert "doomed" in {each["application"] for each in (await site.read(path))["sessions"]}
        killer.execute("select pg_terminate_backend(pid, 9000) from pg_stat_activity where application_name = 'doomed'")
        assert "doomed" in {each["application"] for each in (await site.read(path))["sessions"]}
        rig.time.later(34)
        assert (await site.get(path)).headers["x-cache"] == "STALE"
        assert "doomed" not in {each["application"] for each in (await site.read(path))["sessions"]}


async def test_a_table_that_is_locked(site: Site, counted: Postgres) -> None:
    """Its size is waited for a moment alone; all that needs no lock is shown, and the circuit stays closed."""
    with session(counted) as changing:
        changing.execute("create table locked_here (id int)")
        changing.commit()
        changing.execute("alter table locked_here add column b int")
        for _ in range(4):
            reply = await site.get("/api/tables?sizes=1")
            assert (reply.status_code, int(reply.headers["retry-after"]) >= 1) == (503, True)
        for path in ("/api/tables", "/api/columns?table=locked_here", "/api/monitoring/locks"):
            assert (await site.get(path)).status_code == 200, path
        changing.rollback()
        changing.execute("drop table locked_here")


async def test_a_lock_in_another_database(site: Site, counted: Postgres) -> None:
    """Its table has no name in this one, where its number may be another table's."""
    address = counted.uri.replace("/postgres?", "/elsewhere?")
    with session(counted, autocommit=True) as connection:
        connection.execute("create database elsewhere")
        with psycopg.connect(address) as holds:
            holds.execute("create table t (id int)")
            holds.commit()
            holds.execute("lock table t")
            waits = await asyncpg.connect(address)
            waiting = asyncio.create_task(waits.execute("table t"))
            query = "select 1 from pg_stat_activity where pid = %s and wait_event_type = 'Lock'"
            await until(lambda: connection.execute(query, (waits.get_server_pid(),)).fetchone() is not None)
            (tree,) = (await site.read("/api/monitoring/locks"))["blockers"]
            holds.rollback()
            await waiting
            await waits.close()
        connection.execute("drop database elsewhere")
    assert [(each["kind"], each["relation"]) for each in tree["blocks"]] == [("relation", None)]


async def test_idle_sessions_come_last(site: Site, counted: Postgres) -> None:
    """Where a list is cut, a forgotten transaction is not what it lacks."""
    with session(counted, autocommit=True), session(counted) as forgotten, session(counted, autocommit=True):
        forgotten.execute("select 1")
        states = [each["state"] for each in (await site.read("/api/monitoring/sessions"))["sessions"]]
    assert states.index("idle in transaction") < states.index("idle")
    assert set(states[states.index("idle") :]) == {"idle"}


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


async def test_a_server_that_counts_no_statements(rig: Rig, postgres: Postgres) -> None:
    """Says what to install, whatever is asked of statements; all else works."""
    made = watching(rig, postgres)
    for path in ("sql-statistics", "sql/1", "sql/1/text"):
        assert (await made.read(f"/api/monitoring/{path}"))["missing"] == [EXTENSION], path
    found = (await made.read("/api/connections", ""))["connections"]
    assert {each["id"]: each["missing"] for each in found}["shop"] == [EXTENSION]


async def test_another_address_has_other_values(rig: Rig, counted: Postgres, postgres: Postgres) -> None:
    """A connection whose address changes serves nothing of the server before."""
    first = await watching(rig, counted).read("/api/dashboard/metrics")
    second = await watching(rig, counted, SHOP_URL=postgres.uri).read("/api/dashboard/metrics")
    assert first["version"] != second["version"] or first["upS"] != second["upS"]


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
    assert (await site.get(f"/api/tables?schema=pg_catalog&page={first['pages'] + 1}")).status_code == 404
    assert (await site.read("/api/tables?schema=no_such"))["tables"] == []


async def test_the_database_stops(rig: Rig, tmp_path_factory: pytest.TempPathFactory, site: Site) -> None:
    """What is kept is served with its age and the reason; without anything kept it is 503 with Retry-After."""
    made = site
    path = "/api/monitoring/realtime"
    assert (await made.get(path)).status_code == 200
    reader = Databases.of(made.instance.parts).get("shop").reader
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
