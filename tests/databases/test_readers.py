"""The ways to a database: each runs the same statements, read-only and for a short time, and names its failures."""

import asyncio
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import psycopg
import pytest

from dev.postgres import Postgres
from lib.base.env import Secret
from lib.data.origins.port import OriginFailed
from lib.databases import oracle
from lib.databases.postgres import STATEMENTS, Statement
from lib.databases.readers.neon import Neon
from lib.databases.readers.oracle import Oracle
from lib.databases.readers.port import Reader
from lib.databases.readers.postgres import Direct
from lib.databases.readers.supabase import Functions
from tests.databases import migration
from tests.databases.conftest import NEON
from tests.rig.door import an_instance
from tests.rig.guard import Rig
from tests.rig.supabase import SupabaseStandIn

pytestmark = pytest.mark.anyio

ARGUMENTS = {
    "limit": "5",
    "id": "1",
    "ids": "1,2",
    "schema": "pg_catalog",
    "table": "pg_class",
    "page": "1",
    "sizes": "1",
}
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
        # It answers 400, as it does to any statement that fails.
        ("neon", "select nextval('writes')", "rejected", ""),
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


# ---------------------------------------------------------------- Oracle


class FakeOracle(ModuleType):
    """A fake of python-oracledb: connections and cursors as its documentation has them. No Oracle answers anything."""

    def __init__(self) -> None:
        super().__init__("oracledb")
        self.Error = type("Error", (Exception,), {})
        self.connected: list[dict[str, Any]] = []
        self.executed: list[tuple[str, Any]] = []
        self.closed = 0
        self.rows: list[tuple[Any, ...]] = [(1, "x")]
        self.columns = ("PID", "QUERY")
        self.error: Exception | None = None
        self.hangs = False

    def failing(self, code: str) -> Exception:
        """An error with Oracle's number, and a text that must not be told."""
        detail = type("Detail", (), {"full_code": code, "message": f"{code}: near secret"})()
        error: Exception = self.Error(detail)
        return error

    async def connect_async(self, **given: Any) -> Any:
        """A connection, noting what it was asked for with."""
        self.connected.append(given)
        fake = self

        class Cursor:
            description = tuple((each,) for each in fake.columns)

            def __enter__(self) -> "Cursor":
                return self

            def __exit__(self, *_: object) -> None:
                pass

            async def execute(self, statement: str, parameters: Any = None) -> None:
                fake.executed.append((statement, parameters))
                if fake.hangs:
                    await asyncio.Event().wait()
                if fake.error is not None and not statement.startswith("set transaction"):
                    raise fake.error

            async def fetchmany(self, most: int) -> list[tuple[Any, ...]]:
                return fake.rows[:most]

        class Connection:
            call_timeout = 0

            def cursor(self) -> Cursor:
                return Cursor()

            async def rollback(self) -> None:
                fake.executed.append(("rollback", None))

            async def close(self) -> None:
                fake.closed += 1

        return Connection()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeOracle:
    made = FakeOracle()
    monkeypatch.setitem(sys.modules, "oracledb", made)
    return made


ORACLE = Secret("oracle://watcher:p%40ss@db.example:1522/FREEPDB1")


async def test_oracle_by_contract(fake: FakeOracle) -> None:
    """Connects once, reads only, binds what is sent, and names columns in lower case."""
    made = Oracle(ORACLE)
    assert await made.rows("columns", {**ARGUMENTS, "table": "'; drop"}, 9) == [{"pid": 1, "query": "x"}]
    await made.rows("sessions", ARGUMENTS, 9)
    (connected,) = fake.connected
    assert connected == {
        "user": "watcher",
        "password": "p@ss",
        "dsn": "db.example:1522/FREEPDB1",
        "program": "breakwater",
    }
    statements = [statement for statement, _ in fake.executed]
    assert statements[::3] == ["set transaction read only"] * 2
    assert statements[2::3] == ["rollback"] * 2
    assert fake.executed[1][1] == {"p_schema": "pg_catalog", "p_table": "'; drop"}
    assert "drop" not in fake.executed[1][0]
    await made.aclose()
    assert fake.closed == 1


@pytest.mark.parametrize(
    ("code", "kind", "fault"),
    [
        ("ORA-00942", "missing", "ours"),
        ("ORA-01017", "unauthorized", "ours"),
        ("DPY-4024", "timeout", "theirs"),
        ("DPY-6005", "connection", "theirs"),
        ("ORA-00600", "server", "theirs"),
    ],
)
async def test_oracle_fails(fake: FakeOracle, code: str, kind: str, fault: str) -> None:
    """By its numbers, without its texts; what failed is not used again."""
    made, fake.error = Oracle(ORACLE), fake.failing(code)
    with pytest.raises(OriginFailed) as failed:
        await made.rows("sessions", ARGUMENTS, 9)
    assert (failed.value.kind, failed.value.fault, fake.closed) == (kind, fault, 1)
    assert "secret" not in str(failed.value)


async def test_oracle_takes_too_long(fake: FakeOracle) -> None:
    """A connection whose answer may still come is closed."""
    made, fake.hangs = Oracle(ORACLE), True
    with pytest.raises(OriginFailed) as failed:
        await made.rows("sessions", ARGUMENTS, 0.001)
    assert (failed.value.kind, fake.closed) == ("timeout", 1)


def test_oracle_has_every_statement() -> None:
    """With the same parameters, each bound by its name."""
    assert {name: tuple(each.parameters) for name, each in oracle.STATEMENTS.items()} == {
        name: tuple(each.parameters) for name, each in STATEMENTS.items()
    }
    for each in oracle.STATEMENTS.values():
        assert all(f":p_{name}" in each.text for name in each.parameters)
