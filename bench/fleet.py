"""Servers: what a report and a read cost, and how large histories become: the part ``fleet`` of `make bench`.

`python -m bench.fleet [--rounds 50]` prints the figures of this part alone.

Side by side in one run, over a real Redis by TCP, at 10, 100, 1,000 and 5,000 servers:

    customers' scheme   a report is 3 HSETs a server, a read SMEMBERS and 3 HGETALLs a server in one pipeline
    breakwater          a report and a read over the routes, signature, limit and JSON included; 1,000 a reporter

"Read anew" is a read of a report that this instance has not seen. Sizes are those of a real PostgreSQL after a day of
rows; months are arithmetic (``fleet_figures.py``). Times are those of a busy machine: trust counts, bytes and CPU time.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import redis.asyncio
from starlette.types import ASGIApp, Message

from api.fleet import app as routes
from bench.fleet_figures import month, sizes
from bench.rig import Say
from dev.postgres import Postgres
from dev.redis_server import RedisServer
from lib.app.wiring import build
from lib.base.env import Secret
from lib.edge.tokens import view_of
from lib.fleet.fleet import Fleet
from lib.fleet.signature import header_of
from lib.parts import Parts
from lib.settings import Settings

COUNTS = (10, 100, 1_000, 5_000)
EACH = 1_000
SECRET = "a-secret-of-the-benchmark"  # noqa: S105 - nothing is behind it
TOKEN = "an-admin-token-of-the-benchmark"  # noqa: S105 - likewise


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


def servers(count: int, seed: int = 1) -> list[dict[str, Any]]:
    """So many servers with figures of one decimal; none of them is worth an alert, which would cost commands."""
    chance = random.Random(seed)  # noqa: S311 - the same for all
    return [
        {
            "id": f"server-{n:04}",
            "cpu": round(chance.uniform(0, 80), 1),
            "memory": round(chance.uniform(0, 80), 1),
            "disk": round(chance.uniform(0, 80), 1),
            "network": round(chance.uniform(0, 500), 2),
        }
        for n in range(count)
    ]


async def call(
    app: ASGIApp, method: str, path: str, headers: dict[str, str], body: bytes = b"", query: str = ""
) -> tuple[dict[str, str], bytes]:
    """One request in this process; the headers and body of its reply. Fails where it is not 200."""
    status, found, told = list[int](), bytearray(), dict[str, str]()
    waiting = [{"type": "http.request", "body": body}]

    async def receive() -> Message:
        if waiting:
            return waiting.pop()
        await asyncio.Event().wait()
        return {}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            status.append(message["status"])
            told.update((name.decode(), value.decode()) for name, value in message["headers"])
        found.extend(message.get("body", b""))

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("10.0.0.1", 1),
    }
    await app(scope, receive, send)
    if status != [200]:
        raise AssertionError(f"HTTP {status}: {bytes(found[:300])!r}")
    return told, bytes(found)


async def measured(server: redis.asyncio.Redis, rounds: int, do: Callable[[], Awaitable[Any]]) -> dict[str, float]:
    """Commands, bytes and milliseconds of one; ``cpu ms``: of this process alone."""
    took = list[float]()
    await do()
    before, worked = await _stats(server), time.process_time()
    for _ in range(rounds):
        began = time.perf_counter()
        await do()
        took.append((time.perf_counter() - began) * 1000)
    worked = time.process_time() - worked
    after = await _stats(server)
    # The second look itself is among them.
    commands, sent, received = ((b - a) / rounds for a, b in zip(before, after, strict=True))
    return {
        "commands": round(commands - 1 / rounds, 2),
        "bytes from redis": round(sent),
        "bytes to redis": round(received),
        "p50 ms": round(statistics.median(took), 2),
        "p95 ms": round(statistics.quantiles(took, n=20)[18], 2),
        "cpu ms": round(worked * 1000 / rounds, 2),
    }


async def _stats(server: redis.asyncio.Redis) -> tuple[int, int, int]:
    found: dict[str, int] = await server.info("stats")
    return found["total_commands_processed"], found["total_net_output_bytes"], found["total_net_input_bytes"]


async def scheme(server: redis.asyncio.Redis, count: int, rounds: int) -> dict[str, Any]:
    """As the customers' documents have it."""
    named = servers(count)

    async def report() -> None:
        pipeline = server.pipeline(transaction=False)
        for each in named:
            pipeline.hset(f"server:{each['id']}", mapping={"name": each["id"]})
            pipeline.hset(f"metrics:{each['id']}", mapping={name: each[name] for name in ("cpu", "memory", "disk")})
            pipeline.hset(f"status:{each['id']}", mapping={"status": "online"})
        await pipeline.execute()

    async def read() -> None:
        ids: set[Any] = await server.smembers("servers:active")
        pipeline = server.pipeline(transaction=False)
        for each in ids:
            for kind in ("server", "metrics", "status"):
                pipeline.hgetall(f"{kind}:{each}")
        json.dumps(await pipeline.execute())

    await server.sadd("servers:active", *(each["id"] for each in named))
    return {"report": await measured(server, rounds, report), "read": await measured(server, rounds, read)}


async def ours(server: redis.asyncio.Redis, parts: Parts, count: int, rounds: int) -> dict[str, Any]:
    """Over the routes."""
    app = routes.__class__(Built(parts), routes.rows, routes.limit)
    groups = [servers(count)[n : n + EACH] for n in range(0, count, EACH)]
    sequence = iter(range(time.time_ns() // 1_000_000, 2**53))

    async def report(number: int) -> None:
        Fleet.of(parts).accepted_ms.clear()
        body, at_s = json.dumps({"sequence": next(sequence), "servers": groups[number]}).encode(), int(time.time())
        headers = {"content-type": "application/json", "authorization": header_of(SECRET, f"r{number}", at_s, body)}
        await call(app, "POST", "/api/servers/report", headers, body)

    for number in range(len(groups)):
        await report(number)

    async def read() -> bytes:
        # A reader who finds nothing in memory.
        Fleet.of(parts).read_ms = None
        return (await call(app, "GET", "/api/dashboard", {"authorization": f"Bearer {TOKEN}"}))[1]

    async def read_anew() -> None:
        Fleet.of(parts).texts.clear()
        await read()

    body = await read()
    view = view_of(Secret(TOKEN), time.strftime("%Y-%m-%d", time.gmtime()))
    headers, _ = await call(app, "GET", "/api/dashboard", {}, query=f"view={view}")
    return {
        "report": await measured(server, rounds, lambda: report(0)),
        "read": await measured(server, rounds, read),
        "read anew": await measured(server, rounds, read_anew),
        "body bytes": len(body),
        "body bytes, gzip": len(gzip.compress(body)),
        "cache-control with a view key": headers["cache-control"],
    }


async def _all(redis_url: str, rounds: int) -> dict[str, Any]:
    found = dict[str, Any]()
    async with redis.asyncio.Redis.from_url(redis_url, decode_responses=True) as server:
        for count in COUNTS:
            await server.flushall()
            found[f"{count} servers"] = {"customers' scheme": await scheme(server, count, rounds)}
            await server.flushall()
            reporters = ",".join(f"r{n}={SECRET}" for n in range(max(COUNTS) // EACH))
            environ = {
                "REDIS_URL": redis_url,
                "REDIS_BILLED": "false",
                "REDIS_TIMEOUT_MS": "5000",
                "FLEET_TOKENS": reporters,
                "ADMIN_TOKEN": TOKEN,
                "RATELIMIT_SERVERS": "100000/minute",
            }
            parts = build(Settings.from_env(environ), listeners=())
            found[f"{count} servers"]["breakwater"] = await ours(server, parts, count, rounds)
            await parts.aclose()
    return found


def figures(rounds: int, say: Say) -> dict[str, Any]:
    """Everything, in one run."""
    say(f"servers: a report and a read of {', '.join(map(str, COUNTS))}")
    with RedisServer.start() as server:
        found = asyncio.run(_all(server.url, rounds))
    say("servers: how large histories become")
    with tempfile.TemporaryDirectory() as directory, Postgres.start(Path(directory)) as postgres:
        found["Supabase, 1,000 servers"] = sizes(postgres.uri, servers)
    found["a month"] = month(found[f"{EACH} servers"]["breakwater"]["cache-control with a view key"])
    return found


def measure(say: Say, *, quick: bool) -> dict[str, Any]:
    """The part of `make bench`."""
    return figures(20 if quick else 100, say)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.fleet", description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    print(json.dumps(figures(parser.parse_args().rounds, print), indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
