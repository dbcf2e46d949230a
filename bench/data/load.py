"""Fifty users who read at a steady rate, on three instances; what happens while the cache is filled is kept apart."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from bench.apps.monitoring import TIERS
from bench.calling import Got, parse
from bench.data.readers import Readers, Start, asked, breakwater, cashews, origin, path_of, read, scheme
from bench.processes import StartError
from bench.rig import Rig, Say
from bench.subjects import BadReply

USERS, INSTANCES = 50, 3
WARM_S = 5.0
RATE = 200.0
REST_RATE = 100.0
"""What the stand-in for Upstash, which is written in Python, carries beside everything else on two cores."""

type Due = tuple[float, int]
"""When a read is due, in seconds from the start, and which of the eight it asks for."""


@dataclass
class Took:
    """What became of the reads."""

    ms: list[float] = field(default_factory=list)
    """From when a read was due to its reply, or to the end for one that had none by then."""
    answered: int = 0
    wall_s: float = 0.0


def measure(rig: Rig, say: Say, *, quick: bool) -> dict[str, Any]:
    """One after the other: the database alone and Breakwater, the others half as long, and Breakwater over REST."""
    seconds = 5.0 if quick else 60.0
    runs: list[tuple[str, Start, float, float]] = [
        ("origin alone", origin, RATE, seconds),
        ("breakwater", breakwater, RATE, seconds),
        ("cashews", cashews, RATE, seconds / 2),
        ("GET, query, SETEX", scheme, RATE, seconds / 2),
        ("breakwater, REST", partial(breakwater, transport="rest"), REST_RATE, seconds / 2),
    ]
    found = dict[str, dict[str, float]]()
    for name, start, rate, length_s in runs:
        say(f"data, {USERS} users, {rate:g} a second for {length_s:g} s: {name}")
        try:
            readers = start(rig, INSTANCES)
        except StartError as error:
            say(f"{name} is left out: {error}")
            continue
        with readers:
            found[name] = run(rig, readers, rate, length_s)
    return {"users": USERS, "instances": INSTANCES, "warm_s": WARM_S, "figures": found}


def run(rig: Rig, readers: Readers, rate: float, seconds: float, warm_s: float = WARM_S) -> dict[str, float]:
    """Figures of the time after the filling, and of the filling. Raises BadReply for a read that fails."""
    rig.redis.flushall()
    chance = random.Random(7)  # noqa: S311 - the same reads for all
    before = asked(rig)
    filling = asyncio.run(offer(readers, _plan(chance, rate, warm_s), warm_s))
    filled = asked(rig)
    rig.forget()
    cpu_s = readers.cpu_s()
    took = asyncio.run(offer(readers, _plan(chance, rate, seconds), seconds))
    used_s = readers.cpu_s() - cpu_s
    exchanges, commands = rig.exchanges(), rig.commands().total()
    if readers.transport == "rest":
        exchanges = rig.round_trips()
    queries, answered = asked(rig) - filled, took.answered
    return {
        "seconds": seconds,
        "rate": rate,
        "answered_share": round(answered / len(took.ms), 4),
        "p50": round(statistics.median(took.ms), 2),
        "p95": round(statistics.quantiles(took.ms, n=100)[94], 2),
        "longest": round(max(took.ms), 1),
        "queries": queries,
        "queries_a_read": round(queries / answered, 4),
        "hit_ratio": round(1 - queries / answered, 4),
        "commands_a_read": round(commands / answered, 3),
        "round_trips_a_read": round(exchanges / answered, 3) if readers.transport else 0.0,
        "cpu_ms": round(used_s * 1000 / answered, 3),
        "filling_p95": round(statistics.quantiles(filling.ms, n=100)[94], 2),
        "filling_longest": round(max(filling.ms), 1),
        "filling_queries": filled - before,
    }


def _plan(chance: random.Random, rate: float, seconds: float) -> list[list[Due]]:
    """For each user when to read what: a steady stream, shared among them at random."""
    plan: list[list[Due]] = [[] for _ in range(USERS)]
    for number in range(round(rate * seconds)):
        plan[chance.randrange(USERS)].append((number / rate, chance.randrange(len(TIERS))))
    return plan


async def offer(readers: Readers, plan: Sequence[Sequence[Due]], seconds: float) -> Took:
    """Send what is due when it is due, each user over a connection of its own.

    A user whose reply is late sends the next read late: its time counts from when it was due.
    """
    took, started = Took(), time.perf_counter()

    async def user(number: int, reads: Sequence[Due]) -> None:
        port = readers.children[number % len(readers.children)].port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for due_s, which in reads:
            await asyncio.sleep(max(0.0, started + due_s - time.perf_counter()))
            if time.perf_counter() < started + seconds:
                writer.write(read(path_of(which, "x"), number))
                got = await _reply(reader)
                if got.status != 200:
                    raise BadReply(f"{readers.name} answered {got.status} {got.body[:300]!r}")
                took.answered += 1
            took.ms.append((time.perf_counter() - started - due_s) * 1000)
        writer.close()

    async with asyncio.TaskGroup() as users:
        for number, reads in enumerate(plan):
            users.create_task(user(number, reads))
    took.wall_s = time.perf_counter() - started
    return took


async def _reply(reader: asyncio.StreamReader) -> Got:
    data = bytearray()
    while (got := parse(data)) is None:
        chunk = await reader.read(1 << 18)
        if not chunk:
            raise BadReply("the server closed the connection")
        data += chunk
    return got
