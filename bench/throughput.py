"""What one core serves, and how cost grows with callers and with the size of answers."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from contextlib import ExitStack, suppress
from typing import Any

import psutil  # type: ignore[import-untyped]  # it ships no types

from bench.calling import Connection, flood
from bench.peers import litellm
from bench.processes import StartError
from bench.rig import Rig, Say, rig
from bench.subjects import Guarded, Subject, a_caller, ask, floor, ours, stock
from lib.limits import bitfield
from lib.limits.grammar import parse_limits
from lib.limits.window import DAY_MS
from lib.policy import defaults

CONCURRENT = (1, 16, 64)
CALLERS = (10, 1_000, 10_000, 100_000)
SIZES = (100, 1_000, 10_000, 100_000)


def measure(say: Say, *, quick: bool) -> dict[str, Any]:
    """Throughput, callers, sizes, memory in Redis."""
    with rig() as parts:
        return {
            "concurrency": _concurrency(parts, say, quick=quick),
            **_callers(parts, say, CALLERS[:2] if quick else CALLERS),
            "answer_size": _sizes(parts, say, quick=quick),
            "redis_bytes": _redis_bytes(parts),
        }


def _concurrency(parts: Rig, say: Say, *, quick: bool) -> list[dict[str, Any]]:
    rounds, count = (1, 90) if quick else (5, 360)
    found: dict[tuple[str, int], list[tuple[float, float, float]]] = {}
    with ExitStack() as stack:
        subjects: list[Subject] = [floor(parts), ours(parts), stock(parts, pipelined=False)]
        with suppress(StartError):
            subjects.append(litellm.start(parts, wired=False))
        for subject in subjects:
            stack.callback(subject.child.stop)
            subject.requests("hit", 9)
        with _cores(parts, subjects):
            for number in range(rounds + 1):
                say(f"throughput, round {number} of {rounds}" if number else "throughput, warming up")
                for callers in CONCURRENT:
                    for subject in subjects:
                        figures = _flood(subject, callers, count)
                        if number:
                            found.setdefault((subject.name, callers), []).append(figures)
    rows = []
    for (name, callers), each in found.items():
        rate, cpu, p95 = (statistics.median(values) for values in zip(*each, strict=True))
        row = {"name": name, "callers": callers, "a_second": round(rate), "cpu_ms": round(cpu, 3), "p95": round(p95, 2)}
        rows.append({**row, "a_core": round(1000 / cpu)})
    return rows


def _flood(subject: Subject, callers: int, count: int) -> tuple[float, float, float]:
    requests = subject.requests("hit", count)
    time.sleep(0.1)
    before = subject.child.cpu_s()
    seconds, replies = asyncio.run(flood(subject.child.port, requests, callers))
    time.sleep(0.05)
    cpu_ms = (subject.child.cpu_s() - before) / count * 1000
    for got in replies:
        subject.check("hit", got)
    ms = sorted(got.seconds * 1000 for got in replies)
    return count / seconds, cpu_ms, ms[int(len(ms) * 0.95)]


class _cores:  # noqa: N801 - used like a function
    """The measured ones on one core, everything else on the others, where the system lets one choose."""

    def __init__(self, parts: Rig, subjects: list[Subject]) -> None:
        self._measured = [each.child.process.pid for each in subjects]
        self._others = [os.getpid(), parts.upstash.process.pid, parts.backend.process.pid, parts.redis_server.pid or 0]
        self._all: list[int] = []

    def __enter__(self) -> None:
        if not hasattr(os, "sched_setaffinity"):
            return
        self._all = sorted(os.sched_getaffinity(0))
        if len(self._all) < 2:
            return
        for pid in self._measured:
            _pin(pid, self._all[:1])
        for pid in self._others:
            _pin(pid, self._all[1:])

    def __exit__(self, *_: object) -> None:
        for pid in [*self._measured, *self._others] if self._all else []:
            _pin(pid, self._all)


def _pin(pid: int, cores: list[int]) -> None:
    with suppress(psutil.Error):
        everyone = psutil.Process(pid)
        for each in [everyone, *everyone.children(recursive=True)]:
            for thread in each.threads():
                with suppress(OSError):
                    os.sched_setaffinity(thread.id, cores)


def _hit_cost(subject: Guarded, count: int) -> tuple[float, float]:
    """Processor time and p50 of hits, in milliseconds: medians of five."""
    found = []
    for _ in range(5):
        requests, connection = subject.requests("hit", count), Connection(subject.child.port)
        time.sleep(0.05)
        before = subject.child.cpu_s()
        replies = [connection.send(request) for request in requests]
        time.sleep(0.02)
        found.append(
            ((subject.child.cpu_s() - before) / count * 1000, statistics.median(g.seconds for g in replies) * 1000)
        )
        connection.close()
    return statistics.median(cpu for cpu, _ in found), statistics.median(p50 for _, p50 in found)


def _callers(parts: Rig, say: Say, steps: tuple[int, ...]) -> dict[str, Any]:
    """One instance that has seen more and more callers; each has a key of its own in Redis."""
    subject, rows, seen = ours(parts), list[dict[str, Any]](), list[str]()
    with subject.child:
        _hit_cost(subject, 45)
        for step in steps:
            say(f"cost of a hit after {step} callers")
            new = [a_caller() for _ in range(max(0, step - len(seen)))]
            # Counted and remembered like any caller, without an answer to compute.
            requests = [ask("anything", who, cache_control="only-if-cached") for who in new]
            # One at a time: a burst would leave connections to Redis behind, and what they cost is not the callers'.
            asyncio.run(flood(subject.child.port, requests, 1))
            seen += new
            cpu, p50 = _hit_cost(subject, 90)
            rows.append(_about(step, cpu, p50, subject.child.memory_mb()))
    say("cost of a call of a caller whom the instance has forgotten")
    other = ours(parts)
    with other.child:
        connection = Connection(other.child.port)
        for who in seen[:50]:
            connection.send(ask("anything", who, cache_control="only-if-cached"))
        known, unknown = seen[:50], seen[50:100] if len(seen) >= 100 else []
        costs = []
        for group in (known, unknown):
            parts.forget()
            before = other.child.cpu_s()
            for who in group:
                connection.send(ask("anything", who, cache_control="only-if-cached"))
            time.sleep(0.1)
            count = max(1, len(group))
            costs.append(((other.child.cpu_s() - before) / count * 1000, parts.commands().total() / count))
    (known_cpu, known_commands), (unknown_cpu, unknown_commands) = costs
    forgotten = {
        "cpu_to_known": round(unknown_cpu / known_cpu, 2),
        "commands_more": round(unknown_commands - known_commands, 2),
    }
    return {"callers": rows, "forgotten": forgotten}


def _about(callers: int, cpu: float, p50: float, memory_mb: float) -> dict[str, Any]:
    return {"callers": callers, "cpu_ms": round(cpu, 3), "p50": round(p50, 3), "memory_mb": round(memory_mb, 1)}


def _sizes(parts: Rig, say: Say, *, quick: bool) -> list[dict[str, Any]]:
    say("cost of a hit by the size of its answer")
    rows = []
    subject = ours(parts)
    with subject.child:
        _hit_cost(subject, 45)
        for size in SIZES:
            # The backend answers with as many characters as the question's last word says.
            subject.question = f"an answer of {size}"
            cpu, p50 = _hit_cost(subject, 27 if quick else 54)
            rows.append({"characters": size, "cpu_ms": round(cpu, 3), "p50": round(p50, 3)})
    for row in rows:
        row["cpu_to_smallest"] = round(row["cpu_ms"] / rows[0]["cpu_ms"], 2)
    return rows


def _redis_bytes(parts: Rig) -> list[dict[str, Any]]:
    """What one caller occupies, by `MEMORY USAGE`, at three times of a day: a key grows towards the day's end."""
    layout, rows = parse_limits(defaults()["RATELIMIT_AI_SUPERVISOR"]), []
    day_ms = DAY_MS * 20_400
    for name, at_ms in (("00:05", 300_000), ("12:00", DAY_MS // 2), ("23:55", DAY_MS - 300_000)):
        subject, now_ms = f"bytes-{name}", day_ms + at_ms
        parts.run(bitfield.spend(subject, layout, 1, now_ms))
        key = f"rl:{{{subject}}}:{now_ms // DAY_MS}"
        stock_keys = [f"stock:minute:{subject}:{now_ms // 60_000}", f"stock:day:{subject}:{now_ms // DAY_MS}"]
        for each in stock_keys:
            parts.redis.incr(each)
        usage = [parts.redis.memory_usage(each, samples=0) or 0 for each in (key, *stock_keys)]
        rows.append({"time": name, "breakwater": usage[0], "stock": sum(usage[1:])})
    return rows
