"""Watched databases: what looking costs those who look, and what it costs the database.

    python -m bench.databases [--minutes 5]

50 users ask for views at random, 200 requests a second in all, of three instances under `vercel_runtime`; Redis is
asked over TCP, the watched server is a PostgreSQL 18 with 300 tables and 400 statements under a load of its own. Beside
it, in the same run: the same requests to functions that ask the database each time. What reaches the database is
counted by itself (`pg_stat_statements`), for each side by its role.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from bench.apps.monitored import BATCH, VIEWS
from bench.calling import Connection, get
from bench.crowd import Ask, crowd, figures, rank
from bench.processes import Child, function
from bench.rig import Say
from dev import watched
from dev.busy import busy
from dev.postgres import Postgres
from dev.redis_server import RedisServer

TOKEN = "bench-admin-token-of-nobody"  # noqa: S105 - nobody but this machine sees it
USERS, RATE, INSTANCES, TABLES, STATEMENTS = 50, 200.0, 3, 300, 400
WATCHERS, POLL_S = (1, 10, 50), 5.0
TEXTS, TEXT_BYTES, TEXT_READS = 1_204, 53_800, 40
"""69 MB of texts."""
CONNECTIONS = ("load", *(f"watched-by-{count}" for count in WATCHERS), "texts")
"""All to the one server: what is measured next finds nothing that instances remember."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """For how many seconds the load lasts, and the looking of each number of watchers."""

    load_s: float
    watch_s: float


@dataclass(slots=True)
class Parts:
    """The watched server, and Redis."""

    postgres: Postgres
    redis_url: str

    @contextmanager
    def owner(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection that may do everything, under a name that is nobody's."""
        with psycopg.connect(self.postgres.uri, autocommit=True) as connection:
            yield connection

    def forget(self) -> None:
        """No statement counted so far."""
        with self.owner() as connection:
            connection.execute("select pg_stat_statements_reset()")

    def asked(self, role: str) -> tuple[int, float]:
        """How many views a role has asked the database for since then, and its milliseconds for all that it asked."""
        query = """
            select coalesce(sum(s.calls) filter (where s.query like '%%each_row%%'), 0)::int,
              coalesce(sum(s.total_exec_time), 0)::float8
            from pg_stat_statements s join pg_roles r on r.oid = s.userid where r.rolname = %s
        """
        with self.owner() as connection:
            ((calls, took_ms),) = connection.execute(query, (role,)).fetchall()
        return int(calls), float(took_ms)


@dataclass(slots=True)
class Side:
    """One way of watching: its instances, and the role as which they ask."""

    name: str
    instances: Sequence[Child]
    role: str

    @property
    def ports(self) -> list[int]:
        """Where they listen."""
        return [each.port for each in self.instances]

    def cpu_s(self) -> float:
        """Processor seconds so far."""
        return sum(each.cpu_s() for each in self.instances)


def _fill(parts: Parts) -> None:
    """Tables to list, statements to rank, and two roles that may see them."""
    with parts.owner() as connection:
        for number in range(TABLES):
            connection.execute(f"create table bench_{number} (id int, name text not null)".encode())
        for number in range(STATEMENTS):
            connection.execute(f"select {', '.join(['1'] * (number + 1))}".encode())
        for role in ("watcher", "direct"):
            connection.execute(f"create role {role} login; grant pg_monitor to {role}".encode())


@contextmanager
def _running() -> Iterator[Parts]:
    with ExitStack() as stack:
        server = stack.enter_context(RedisServer.start())
        home = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-watched-"))
        postgres = watched.start(Path(home) / "data")
        if postgres is None:
            raise RuntimeError("there is no PostgreSQL with pg_stat_statements here")
        stack.enter_context(postgres)
        parts = Parts(postgres, server.url)
        _fill(parts)
        stack.enter_context(busy(postgres.uri))
        yield parts


def _sides(parts: Parts, stack: ExitStack, instances: int) -> tuple[Side, Side]:
    found = []
    for name, file, role in (
        ("breakwater", "api/read.py", "watcher"),
        ("asked each time", "bench/apps/asked_each_time.py", "direct"),
    ):
        environ = {
            "REDIS_URL": parts.redis_url,
            "REDIS_BILLED": "false",
            "REDIS_TIMEOUT_MS": "2000",
            "DB_CONNECTIONS": ",".join(f"{name}=postgres:SHOP_URL" for name in CONNECTIONS),
            "SHOP_URL": parts.postgres.uri.replace("postgres:@", f"{role}@"),
            "ADMIN_TOKEN": TOKEN,
            # Each user asks 240 times a minute.
            "RATELIMIT_DATA": "1000/minute",
        }
        children = [function(role, file, environ) for _ in range(instances)]
        for child in children:
            stack.callback(child.stop)
        found.append(Side(name, children, role))
    return found[0], found[1]


def _request(path: str, user: int) -> bytes:
    return get(path, {"authorization": f"Bearer {TOKEN}", "x-vercel-forwarded-for": f"10.1.{user}.1"})


def views(rate: float, seconds: float, users: int) -> list[Ask]:
    """So many requests a second for views at random; the same for all who are measured."""
    chance = random.Random(15)  # noqa: S311 - no secret
    found = []
    for number in range(round(rate * seconds)):
        path, user = chance.choice(list(VIEWS)), chance.randrange(users)
        more = {"/api/tables": f"&page={chance.randint(1, 3)}", "/api/columns": f"&table=bench_{chance.randrange(20)}"}
        path += f"?connectionId=load{more.get(path, '')}"
        found.append(Ask(number / rate, user, _request(path, user)))
    return found


def polls(watchers: int, seconds: float) -> list[Ask]:
    """Each watcher has the page open, which asks for all that it shows every five seconds."""
    path = "/api/data?resources=" + ",".join(f"{name}:watched-by-{watchers}" for name in BATCH)
    found = []
    for user in range(watchers):
        times = int(seconds / POLL_S)
        found += [Ask(POLL_S * (n + user / watchers), user, _request(path, user)) for n in range(times)]
    return found


def _measured(parts: Parts, side: Side, asks: Sequence[Ask], seconds: float) -> dict[str, Any]:
    parts.forget()
    began, cpu = time.perf_counter(), side.cpu_s()
    replies = crowd(side.ports, asks)
    wall, used = time.perf_counter() - began, side.cpu_s() - cpu
    queries, took_ms = parts.asked(side.role)
    return {
        **figures(replies),
        "a_second": round(len(replies) / wall, 1),
        "cpu_ms": round(used * 1000 / len(replies), 2),
        "queries": queries,
        "queries_a_minute": round(queries * 60 / seconds, 1),
        "database_ms_a_minute": round(took_ms * 60 / seconds, 1),
    }


def _texts(parts: Parts, side: Side, reads: int, count: int) -> dict[str, Any]:
    """Top SQL where the server keeps so many megabytes of texts; each read has a key of its own, and is none's hit."""
    filler = f"/* {'x' * TEXT_BYTES} */"
    parts.forget()
    with parts.owner() as connection:
        for number in range(count):
            connection.execute(f"select {', '.join(['1'] * (number + 1))} {filler}".encode())
        ((size,),) = connection.execute("select sum(length(query)) from pg_stat_statements").fetchall()
        megabytes = round(int(size) / 1e6, 1)
        with_texts = []
        for _ in range(5):
            began = time.perf_counter()
            connection.execute("select * from pg_stat_statements order by total_exec_time desc limit 100").fetchall()
            with_texts.append((time.perf_counter() - began) * 1000)
    connected, took = Connection(side.ports[0]), []
    for number in range(reads):
        got = connected.send(_request(f"/api/monitoring/sql-statistics?connectionId=texts&limit={100 - number}", 0))
        if got.status != 200 or got.header("x-cache") != "MISS":
            raise RuntimeError(f"not read from the database: {got.status} {got.header('x-cache')}")
        took.append(got.seconds * 1000)
    connected.close()
    return {
        "megabytes": megabytes,
        "reads": reads,
        "p50": round(statistics.median(took), 1),
        "p95": round(rank(took, 0.95), 1),
        "longest": round(max(took), 1),
        "with_texts_p50": round(statistics.median(with_texts), 1),
    }


def measured(say: Say, lengths: Lengths, *, instances: int = INSTANCES, texts: int = TEXTS) -> dict[str, Any]:
    """All of it."""
    with _running() as parts, ExitStack() as stack:
        ours, direct = _sides(parts, stack, instances)
        load, watching = {}, []
        for side in (ours, direct):
            say(f"databases: {USERS} users for {lengths.load_s:.0f} s, {side.name}")
            load[side.name] = _measured(parts, side, views(RATE, lengths.load_s, USERS), lengths.load_s)
            say(f"databases: p95 {load[side.name]['p95']:g} ms, {load[side.name]['queries']:,} queries")
        for watchers in WATCHERS:
            say(f"databases: {watchers} watchers for {lengths.watch_s:.0f} s, and again as it is usually written")
            asks = polls(watchers, lengths.watch_s)
            sides = {side.name: _measured(parts, side, asks, lengths.watch_s) for side in (ours, direct)}
            watching.append({"watchers": watchers, **sides})
        say(f"databases: {texts} statements with {TEXT_BYTES} bytes each")
        found = {
            "users": USERS,
            "rate": RATE,
            "load_s": lengths.load_s,
            "watch_s": lengths.watch_s,
            "poll_s": POLL_S,
            "load": load,
            "watching": watching,
            "texts": _texts(parts, ours, TEXT_READS, texts),
        }
        return {**found, "targets": targets(found)}


def targets(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What was to be reached, and what was."""
    ours, direct = found["load"].values()
    kept, missed = ours["by_x_cache"], ours["by_x_cache"].get("MISS", 0)
    ratio, share = 1 - missed / sum(kept.values()), ours["queries"] / direct["queries"]
    asked = [each["breakwater"]["queries"] for each in found["watching"]]
    top_ms = found["texts"]["p95"]
    rows: list[tuple[str, str, str, bool]] = [
        ("p95 of all requests", "below 100 ms", f"{ours['p95']:g} ms", ours["p95"] < 100),
        ("views asked of the database, to asking each time", "at most 7 %", f"{share:.2%}", share <= 0.07),
        ("hit ratio", "at least 80 %", f"{ratio:.2%}", ratio >= 0.8),
        ("views asked with 50 watchers, to one", "constant", f"{asked[-1]} to {asked[0]}", asked[-1] <= 2 * asked[0]),
        ("top SQL, p95", "below 50 ms", f"{top_ms:g} ms", top_ms < 50),
    ]
    return [dict(zip(("what", "target", "found", "met"), row, strict=True)) for row in rows]


def measure(say: Say, *, quick: bool) -> dict[str, Any]:
    """As a part of `make bench`: a minute of load, or ten seconds."""
    return measured(say, Lengths(10, 10) if quick else Lengths(60, 30))


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.databases", description="What watching a database costs.")
    parser.add_argument("--minutes", type=float, default=1)
    asked = parser.parse_args()
    found = measured(lambda line: print(f"- {line}", file=sys.stderr, flush=True), Lengths(asked.minutes * 60, 60))
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
