"""What a cold start costs: from the start of a process to its readiness, and from there to its first answer.

Milliseconds depend on the machine, so the supervisor is compared with two functions of the same build: one that does
nothing, and one that imports httpx only. All three have the same bundle and the same entry, with bytecode as
`VERCEL_PYTHON_COMPILEALL=1` ships it, and without. Runs are interleaved, and the middle one of each counts.

The supervisor's first answer is one from the cache: it builds the settings and the clients and asks Redis once; no time
of a backend is in it.
"""

import asyncio
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dev.serve import HOST
from dev.stack import Stack
from dev.vercel.build import BUILD, ROOT, build, real_python, tools
from dev.vercel.instance import Instance, InstanceError, unpack
from dev.vercel.output import read_output
from dev.vercel.thread import InThread

TARGETS: Final = {True: 1.7, False: 2.9}
"""How many times as long as the empty function the supervisor may take to be ready, with bytecode and without."""

EMPTY: Final = "api/cold/empty"
HTTPX: Final = "api/cold/imports_httpx"
SUPERVISOR: Final = "api/ai/supervisor"

_APP = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": kind + ".complete"})
            if kind == "lifespan.shutdown":
                return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"{}"})
"""
_QUESTION = json.dumps({"query": "which disk is fullest?", "sessionId": "cold"}).encode()


@dataclass(slots=True)
class Timings:
    """The runs of one function, in seconds."""

    ready: list[float] = field(default_factory=list)
    extra: list[float] = field(default_factory=list)
    """From ready to the first answer."""

    @property
    def ready_s(self) -> float:
        """The middle one."""
        return statistics.median(self.ready)

    @property
    def extra_s(self) -> float:
        """The middle one."""
        return statistics.median(self.extra)

    @property
    def answer_s(self) -> float:
        """The middle one, from the start of the process to the first answer."""
        return statistics.median(map(sum, zip(self.ready, self.extra, strict=True)))


def measure(runs: int) -> int:
    """Build, measure and print; 0 when the targets are met, 1 when not. Raises BuildError, InstanceError."""
    tree = BUILD.with_name("vercel-cold")
    extra = {f"{EMPTY}.py": _APP.lstrip(), f"{HTTPX}.py": f"import httpx  # noqa\n\n{_APP}"}
    build(ROOT, tree, tools(), bytecode=True, extra=extra)
    bundles = Path(tempfile.mkdtemp(dir=tree / ".vercel", prefix="run-"))
    try:
        with tempfile.TemporaryDirectory() as data, InThread(lambda: Stack.start({}, Path(data))) as stack:
            # The day's limit would stop the measurement.
            environ = {**stack.environment, "RATELIMIT_AI_SUPERVISOR": "off"}
            timings = asyncio.run(_measure(tree, bundles, environ, runs))
    finally:
        shutil.rmtree(bundles)
    lines, met = _table(timings)
    print("\n".join(lines))
    return 0 if met else 1


async def _measure(tree: Path, bundles: Path, environ: Mapping[str, str], runs: int) -> dict[tuple[str, bool], Timings]:
    functions = {function.name: function for function in read_output(tree).functions}
    variants = [(name, bytecode) for bytecode in TARGETS for name in (EMPTY, HTTPX, SUPERVISOR)]
    for name, bytecode in variants:
        unpack(functions[name], _bundle(bundles, name, bytecode=bytecode), bytecode=bytecode)
    timings = {variant: Timings() for variant in variants}
    python = real_python()
    for run in range(runs + 1):
        for name, bytecode in variants:
            bundle = _bundle(bundles, name, bytecode=bytecode)
            async with Instance.start(functions[name], bundle, python, environ) as instance:
                reply = await _ask(instance, name)
                extra = time.perf_counter() - instance.begun_s - instance.ready_s
                if not reply.startswith(b"HTTP/1.1 200"):
                    raise InstanceError(f"{name} answered {reply[:500]!r}:\n{instance.printed()}")
                await instance.settled()
            if run:  # the first round fills the answer cache and the machine's own
                timings[name, bytecode].ready.append(instance.ready_s)
                timings[name, bytecode].extra.append(extra)
    return timings


def _bundle(bundles: Path, name: str, *, bytecode: bool) -> Path:
    return bundles / ("bytecode" if bytecode else "sources") / name


async def _ask(instance: Instance, name: str) -> bytes:
    """The whole reply to one request, over a plain socket: any client would take longer than the empty function."""
    method, body = ("POST", _QUESTION) if name == SUPERVISOR else ("GET", b"")
    with instance.invocation() as internal:
        headers = {
            "host": "localhost",
            "connection": "close",
            "content-type": "application/json",
            "content-length": str(len(body)),
            "x-vercel-forwarded-for": "192.0.2.1",
            **internal,
        }
        head = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
        reader, writer = await asyncio.open_connection(HOST, instance.port)
        try:
            writer.write(f"{method} /{name} HTTP/1.1\r\n{head}\r\n".encode() + body)
            return await reader.read()
        finally:
            writer.close()


def _table(timings: Mapping[tuple[str, bool], Timings]) -> tuple[list[str], bool]:
    runs = len(next(iter(timings.values())).ready)
    lines = ["", f"Medians of {runs} interleaved cold starts; x is relative to the empty function.", ""]
    lines.append(f"{'':28}{'ready':>10}{'x':>7}{'first answer':>16}{'both':>10}{'x':>7}")
    met = True
    for (name, bytecode), each in timings.items():
        empty = timings[EMPTY, bytecode]
        ratio, label = each.ready_s / empty.ready_s, f"{name.rpartition('/')[2]}, {_kind(bytecode=bytecode)}"
        lines.append(
            f"{label:28}{each.ready_s * 1e3:7.0f} ms{ratio:7.2f}{each.extra_s * 1e3:+13.0f} ms"
            f"{each.answer_s * 1e3:7.0f} ms{each.answer_s / empty.answer_s:7.2f}"
        )
        if name == SUPERVISOR and ratio > TARGETS[bytecode]:
            met = False
            lines.append(f"  over its target, {TARGETS[bytecode]}")
    return lines, met


def _kind(*, bytecode: bool) -> str:
    return "bytecode" if bytecode else "sources"
