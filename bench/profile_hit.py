"""Where a hit spends its time: `python -m bench.profile_hit [--plain | --instructions] [--sort KEY] [--lines N]`.

The route runs in this process, called as a server would call it, against the stand-ins in processes of their own. Only
Python frames are seen; what the operating system does on the way is in none of them. `--instructions` counts the
bytecode that a hit executes: the same number each time, whatever else the machine does.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import logging
import os
import pstats
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import CodeType
from typing import Any

from bench.rig import rig
from bench.subjects import a_caller

type App = Callable[[Any, Any, Any], Awaitable[None]]

BODY = json.dumps({"query": "which disk is fullest?", "sessionId": "bench"}).encode()


async def ask(app: App, address: str, body: bytes = BODY) -> tuple[int, bytes]:
    """One request to an ASGI app, as uvicorn would hand it over; status and body of the reply."""
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])
    status, parts = 0, list[bytes]()
    leaves = asyncio.Event()

    async def receive() -> Any:
        if (message := next(messages, None)) is not None:
            return message
        await leaves.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)
        parts.append(message.get("body", b""))

    # As many as the platform's edge adds (https://vercel.com/docs/headers/request-headers).
    headers = {"host": "bench", "content-type": "application/json", "x-vercel-forwarded-for": address}
    headers |= {f"x-vercel-other-{number}": "v" * 20 for number in range(16)}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "https",
        "path": "/api/ai/supervisor",
        "raw_path": b"/api/ai/supervisor",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
    }
    await app(scope, receive, send)
    return status, b"".join(parts)


async def _hits(app: App, count: int, profile: cProfile.Profile | None) -> float:
    """Ask ``count`` questions that hit; the processor time a hit in milliseconds."""
    spent, done = 0.0, 0
    while done < count:
        who = a_caller()
        await ask(app, who)
        for _ in range(min(9, count - done)):
            started = time.thread_time()
            if profile:
                profile.enable()
            status, body = await ask(app, who)
            if profile:
                profile.disable()
            spent += time.thread_time() - started
            if status != 200 or b'"cached":true' not in body:
                raise RuntimeError(f"no hit: {status} {body[:200]!r}")
            done += 1
    return spent / done * 1000


@contextmanager
def instructions() -> Iterator[Counter[CodeType]]:
    """How many bytecode instructions this thread executes, by the code they belong to."""
    count, me = Counter[CodeType](), threading.get_ident()

    def executed(code: CodeType, offset: int) -> None:
        count[code] += threading.get_ident() == me

    with watching(sys.monitoring.events.INSTRUCTION, executed):
        yield count


@contextmanager
def watching(event: int, happened: Callable[[CodeType, int], Any]) -> Iterator[None]:
    """Call ``happened`` for each event of a kind (``sys.monitoring.events``), whatever code it is of."""
    watch, tool = sys.monitoring, sys.monitoring.PROFILER_ID
    watch.use_tool_id(tool, "bench")
    watch.register_callback(tool, event, happened)
    watch.set_events(tool, event)
    try:
        yield
    finally:
        watch.set_events(tool, 0)
        watch.register_callback(tool, event, None)
        watch.free_tool_id(tool)


async def _instructions(app: App, lines: int) -> None:
    who, found = a_caller(), list[Counter[CodeType]]()
    for _ in range(7):
        with instructions() as count:
            _, body = await ask(app, who)
        if b'"cached":true' in body:
            found.append(count)
    # The number of turns of the event loop depends on when the reply's bytes come.
    least = min(found, key=Counter.total)
    by_package: Counter[str] = Counter()
    for code, number in least.items():
        by_package[_package(code.co_filename)] += number
    for code, number in least.most_common(lines):
        print(f"{number:7,}  {_package(code.co_filename)}: {code.co_qualname}")
    print("by package:")
    for package, number in by_package.most_common(14):
        print(f"{number:7,}  {number / least.total():5.1%}  {package}")
    print(f"{least.total():,} instructions a hit")


def _by_package(stats: Any) -> list[tuple[str, float]]:
    """What runs in which package; what is written in C counts for whoever calls it."""
    found: Counter[str] = Counter()
    for (file, _, _), (_, _, own, _, callers) in stats.stats.items():
        if file == "~":
            for (caller, _, _), (_, _, its_own, _) in callers.items():
                found[_package(caller)] += its_own
        else:
            found[_package(file)] += own
    found.pop("selectors", None)  # waiting is not work
    total = sum(found.values()) or 1.0
    return [(package, own / total) for package, own in found.most_common(14)]


def _package(file: str) -> str:
    parts = file.replace("<frozen ", "").rstrip(">").split("/")
    for mark in ("site-packages", "python3.12"):
        if mark in parts:
            return parts[parts.index(mark) + 1].removesuffix(".py")
    return next((name for name in ("lib", "api", "bench") if name in parts), parts[0])


def main() -> None:
    """Print the profile."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sort", default="tottime")
    parser.add_argument("--lines", type=int, default=45)
    parser.add_argument("--count", type=int, default=900)
    parser.add_argument("--plain", action="store_true", help="only the time, without a profiler")
    parser.add_argument("--instructions", action="store_true", help="count what is executed instead")
    asked = parser.parse_args()
    logging.getLogger().addHandler(logging.NullHandler())
    logging.getLogger().setLevel(logging.INFO)
    with rig() as parts:
        os.environ.update({**parts.environ(), "VERCEL": "1", "REDIS_TIMEOUT_MS": "2000"})
        from api.ai.supervisor import app

        if asked.instructions:
            asyncio.run(_instructions(app, asked.lines))
            return
        profile = cProfile.Profile()

        async def run() -> tuple[float, float]:
            await _hits(app, 300, None)
            # The median of blocks: others use this machine, too.
            plain = statistics.median([await _hits(app, asked.count // 9, None) for _ in range(9)])
            return plain, 0.0 if asked.plain else await _hits(app, asked.count, profile)

        plain, profiled = asyncio.run(run())
        if asked.plain:
            print(f"{plain:.4f}")
            return
        stats = pstats.Stats(profile)
        stats.sort_stats(asked.sort).print_stats(asked.lines)
        print("own time by package, in per cent:")
        for package, share in _by_package(stats):
            print(f"{share:6.1%}  {package}")
        print(f"{plain:.3f} ms of processor time a hit, {profiled:.3f} ms under the profiler")


if __name__ == "__main__":
    main()
