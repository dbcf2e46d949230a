"""Those that are read from: instances of one application, and the requests that they take."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import psycopg

from bench.apps.monitoring import SCHEMA, TABLES
from bench.calling import get
from bench.processes import ROOT, Child, StartError, function
from bench.rig import Rig

CASHEWS = ROOT / "build" / "bench" / "cashews" / "bin" / "python"
EACH_MINUTE = 1_000
"""A limit that nobody here reaches."""

type Transport = Literal["tcp", "rest"]
type Start = Callable[[Rig, int], "Readers"]


@dataclass(frozen=True)
class Readers:
    """A context manager: ``children`` are instances of one application; they end with it."""

    name: str
    children: Sequence[Child]
    transport: Transport | None
    """How they reach Redis; None: not at all."""

    def __enter__(self) -> Readers:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self.children:
            child.stop()

    def cpu_s(self) -> float:
        """Processor seconds of all of them so far."""
        return sum(child.cpu_s() for child in self.children)


def prepare(rig: Rig, tables: int = TABLES) -> None:
    """The tables that are asked about, and the query."""
    with _database(rig) as connection:
        connection.execute(SCHEMA)
        for number in range(tables):
            connection.execute(f"create table bench_{number} as select generate_series(1, 20) as n")


def asked(rig: Rig) -> int:
    """How often the query was asked, by the database's own count."""
    with _database(rig) as connection:
        row = connection.execute("select case when is_called then last_value else 0 end from bench_asked").fetchone()
    return int(row[0]) if row else 0


@contextmanager
def _database(rig: Rig) -> Iterator[psycopg.Connection]:
    if rig.postgres is None:
        raise StartError("there is no PostgreSQL: rig(postgres=True)")
    with psycopg.connect(rig.postgres.uri, autocommit=True) as connection:
        yield connection


def read(path: str, user: int = 0, **headers: str) -> bytes:
    """A GET of a user; ``if_none_match=`` and the like are headers."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return get(path, {"x-vercel-forwarded-for": f"10.0.{user}.1", "x-vercel-item": "bench-1", **given})


def path_of(number: int, item: str) -> str:
    """The path of one of the eight."""
    return f"/api/read/q{number}/{item}"


def breakwater(
    rig: Rig, count: int, *, transport: Transport = "tcp", limit: int | None = EACH_MINUTE, strict: bool = False
) -> Readers:
    """Our own; ``strict``: every read looks into Redis."""
    where = {"REDIS_URL": _url(rig), "REDIS_BILLED": "false"} if transport == "tcp" else rig.environ()
    environ = {**where, "REDIS_TIMEOUT_MS": "2000", **({"BENCH_STRICT": "1"} if strict else {})}
    children = _children(rig, count, "bench/apps/resources.py", {**environ, **_limit(limit)})
    return Readers("breakwater", children, transport)


def cashews(rig: Rig, count: int, *, limit: int | None = None) -> Readers:
    """Raises StartError where it is not installed."""
    if not CASHEWS.exists():
        raise StartError("not installed (bench/setup installs it)")
    environ = {"REDIS_URL": _url(rig), **_limit(limit)}
    return Readers("cashews", _children(rig, count, "bench/peers/cashews_reads.py", environ, python=True), "tcp")


def scheme(rig: Rig, count: int) -> Readers:
    """GET, query, SETEX."""
    children = _children(rig, count, "bench/apps/queries.py", {"REDIS_URL": _url(rig)})
    return Readers("GET, query, SETEX", children, "tcp")


def origin(rig: Rig, count: int) -> Readers:
    """Each read is a query."""
    return Readers("origin alone", _children(rig, count, "bench/apps/queries.py", {}), None)


def _url(rig: Rig) -> str:
    return f"redis://127.0.0.1:{rig.redis_port()}"


def _limit(limit: int | None) -> dict[str, str]:
    return {} if limit is None else {"BENCH_LIMIT": str(limit)}


def _children(rig: Rig, count: int, file: str, environ: Mapping[str, str], *, python: bool = False) -> Sequence[Child]:
    database = rig.postgres.uri if rig.postgres is not None else ""
    program = CASHEWS if python else None
    return [function("reads", file, {"DATABASE_URL": database, **environ}, python=program) for _ in range(count)]
