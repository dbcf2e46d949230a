"""Oracle by its contract alone: a fake of the driver stands for it, as no Oracle can be started here."""

import asyncio
import sys
from types import ModuleType
from typing import Any

import pytest

from lib.base.env import Secret
from lib.data.origins.port import OriginFailed
from lib.databases import oracle
from lib.databases.postgres import STATEMENTS
from lib.databases.readers.oracle import Oracle
from tests.databases.conftest import ARGUMENTS

pytestmark = pytest.mark.anyio


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
