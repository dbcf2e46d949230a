"""Data routes: `python -m bench.data [--seconds 60] [--rate 200]` prints what a read costs, side by side.

Readers ask for eight queries at random, on three instances in this process, over a real Redis by TCP and a real
PostgreSQL with some 300 tables:

    origin alone      each read is a query, on at most 10 connections
    GET, query, SETEX the customers' own scheme: one GET, and on a miss the query and a SETEX
    breakwater        resources, with a limit that is counted for each read

The first seconds, in which everything is filled, are measured apart. Generator and instances share a processor core, so
that times are those of a busy machine: trust counts and ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import redis.asyncio
from starlette.types import Message

from dev.postgres import Postgres
from dev.redis_server import RedisServer
from lib.app.settings import Settings
from lib.app.wiring import Parts, build
from lib.data.origins.postgres import Sql
from lib.data.resource import Resource, Tier
from lib.data.table import data_routes
from lib.edge.limits import route_limit

TIERS: tuple[Tier, ...] = ("15s", "30s", "30s", "1m", "1m", "5m", "5m", "30m")
QUERY = (
    "select c.relname as name, pg_total_relation_size(c.oid) as bytes from pg_class c "
    "where c.relkind in ('r', 'i') and length($1::text) > 0 order by bytes desc limit 50"
)
TABLES, USERS, INSTANCES, WARM_S = 300, 50, 3, 5.0

type Read = Callable[[int, int], Awaitable[None]]
"""Reads one of the eight, as one of the users."""


class Queries:
    """Counts what the origin is asked."""

    def __init__(self) -> None:
        self.asked = 0


async def measure(
    read: Read, queries: Queries, server: redis.asyncio.Redis, rate: float, seconds: float
) -> dict[str, Any]:
    """So many reads a second; figures of the time after the filling."""
    chance = random.Random(7)  # noqa: S311 - the same reads for all
    took, tasks = list[float](), set[asyncio.Task[None]]()

    async def one(number: int, user: int, noted: list[float]) -> None:
        began = time.perf_counter()
        await read(number, user)
        noted.append((time.perf_counter() - began) * 1000)

    async def run(length_s: float, noted: list[float]) -> int:
        began, sent = time.perf_counter(), 0
        while (passed := time.perf_counter() - began) < length_s:
            while sent < passed * rate:
                task = asyncio.ensure_future(one(chance.randrange(len(TIERS)), chance.randrange(USERS), noted))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                sent += 1
            await asyncio.sleep(0.002)
        while tasks:
            await asyncio.wait(tasks)
        return sent

    filling = list[float]()
    await run(WARM_S, filling)
    await server.config_resetstat()
    before, cpu, queries.asked = time.perf_counter(), time.process_time(), 0
    sent = await run(seconds, took)
    wall, used = time.perf_counter() - before, time.process_time() - cpu
    stats: dict[str, Any] = await server.info("commandstats")
    ours = {"cmdstat_config|resetstat", "cmdstat_info", "cmdstat_client|setname"}
    commands = sum(each["calls"] for name, each in stats.items() if name not in ours)
    cuts = statistics.quantiles(took, n=100)
    return {
        "reads a second": round(sent / wall, 1),
        "p50 ms": round(statistics.median(took), 2),
        "p95 ms": round(cuts[94], 2),
        "filling: longest ms": round(max(filling), 1),
        "queries": queries.asked,
        "queries a read": round(queries.asked / sent, 4),
        "hit ratio": round(1 - queries.asked / sent, 4),
        "commands a read": round(commands / sent, 2),
        "cpu ms a read": round(used * 1000 / sent, 2),
    }


class Counted(Sql):
    """Counts what reaches the database."""

    queries = Queries()

    async def fetch(self, parts: Parts, values: Any, left_s: float) -> Any:
        """Run the query."""
        self.queries.asked += 1
        return await super().fetch(parts, values, left_s)


class Built:
    """An instance whose parts are made."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    async def __call__(self) -> Parts:
        """The parts."""
        return self.parts

    async def goodbye(self) -> None:
        """Nothing."""

    async def aclose(self) -> None:
        """Nothing."""


def _ours(redis_url: str, database_url: str) -> tuple[Read, list[Parts]]:
    environ = {
        "REDIS_URL": redis_url,
        "REDIS_BILLED": "false",
        "DATABASE_URL": database_url,
        "REDIS_TIMEOUT_MS": "5000",
    }
    rows = {
        f"/api/cache/q{n}/{{id}}": Resource(
            f"q{n}", key=f"cache:q{n}:{{id}}", tier=tier, origin=Counted(QUERY, ("id",))
        )
        for n, tier in enumerate(TIERS)
    }
    made = [build(Settings.from_env(environ), listeners=()) for _ in range(INSTANCES)]
    apps = [data_routes(Built(parts), rows, limit=route_limit("1000/minute", "bench")) for parts in made]

    async def read(number: int, user: int) -> None:
        path, status = f"/api/cache/q{number}/x", list[int]()

        async def receive() -> Message:
            await asyncio.Event().wait()
            return {}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                status.append(message["status"])

        scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [],
            "client": (f"10.0.{user}.1", 1),
        }
        await apps[user % INSTANCES](scope, receive, send)
        if status != [200]:
            raise AssertionError(f"HTTP {status}")

    return read, made


async def _all(redis_url: str, database_url: str, rate: float, seconds: float) -> dict[str, Any]:
    server, found = redis.asyncio.Redis.from_url(redis_url), dict[str, Any]()
    pool = await asyncpg.create_pool(database_url, min_size=1, max_size=10)
    queries = Queries()

    async def ask() -> str:
        queries.asked += 1
        async with pool.acquire() as connection:
            return json.dumps([dict(row) for row in await connection.fetch(QUERY, "x")])

    async def alone(number: int, user: int) -> None:
        await ask()

    async def scheme(number: int, user: int) -> None:
        key = f"tms:bench:{number}"
        if await server.get(key) is None:
            seconds_of = {"15s": 15, "30s": 30, "1m": 60, "5m": 300, "30m": 1800}
            await server.set(key, await ask(), ex=seconds_of[TIERS[number]])

    async with pool:
        others: dict[str, Read] = {"origin alone": alone, "GET, query, SETEX": scheme}
        for name, read in others.items():
            await server.flushall()
            found[name] = await measure(read, queries, server, rate, seconds)
        await server.flushall()
        ours, made = _ours(redis_url, database_url)
        found["breakwater"] = await measure(ours, Counted.queries, server, rate, seconds)
        for parts in made:
            await parts.aclose()
    await server.aclose()
    return found


def main() -> int:
    """Start both servers, measure, print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.data", description="What a read of a data route costs.")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=float, default=200)
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as directory,
        RedisServer.start() as server,
        Postgres.start(Path(directory) / "postgres") as postgres,
    ):
        found = asyncio.run(_filled(server.url, postgres.uri, asked.rate, asked.seconds))
    names = list(found)
    print("| |", " | ".join(names), "|\n|---|" + "--:|" * len(names))
    for figure in found[names[0]]:
        print(f"| {figure} |", " | ".join(str(found[name][figure]) for name in names), "|")
    return 0


async def _filled(redis_url: str, database_url: str, rate: float, seconds: float) -> dict[str, Any]:
    connection = await asyncpg.connect(database_url)
    for number in range(TABLES):
        await connection.execute(f"create table bench_{number} as select generate_series(1, 20) as n")
    await connection.close()
    return await _all(redis_url, database_url, rate, seconds)


if __name__ == "__main__":
    raise SystemExit(main())
