"""The first answer after a cold start: `python -m bench.first_answer ../before [--rounds 15]`.

Each round starts one process for the AI route of the other checkout, one for the AI route of this one, and one for a
data route of this one (`bench/apps/data.py`), in changing order, and measures from the start of the process to the last
byte of its first reply. Every first reply is a hit: what it serves was put into Redis by a process that had been
running for a while, so that no time of a backend is in it. A ratio is the median of the rounds' own.

All of them run under `vercel_runtime` before the same stand-ins. Bytecode is kept outside of the checkouts, and the
first round, which compiles it, is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench.calling import Connection, get
from bench.processes import ROOT, Child, function
from bench.rig import Rig, rig
from bench.subjects import a_caller, ask, expect

AI, DATA = "api/ai/supervisor.py", "bench/apps/data.py"
TARGETS = {"this, AI route": 0.92, "this, data route": 0.75}
"""How much of the time of the other checkout's AI route each may take."""


@dataclass(frozen=True)
class Cost:
    """From the start of a process to the end of its first reply."""

    wall_s: float
    cpu_s: float
    """Processor time of the process: it moves less with what else the machine does."""


@dataclass
class Subject:
    """One function whose cold starts are measured, and the process that fills the cache for it."""

    name: str
    file: str
    root: Path
    environ: Mapping[str, str]
    warm: Child
    rounds: list[Cost] = field(default_factory=list)

    def request(self, caller: str) -> bytes:
        """One request of a caller, always the same."""
        if self.file == DATA:
            return get("/api/data", {"x-vercel-forwarded-for": caller})
        return ask("which disk is fullest?", caller)

    def first_answer(self) -> Cost:
        """Start a process, send it one request, and end it. Raises StartError, BadReply."""
        request = self.request(a_caller())
        kept = Connection(self.warm.port)
        expect(self.name, "miss", first := kept.send(request), good=first.status == 200)
        kept.close()
        started = time.perf_counter()
        with function("first-answer", self.file, self.environ, self.root) as child:
            connection = Connection(child.port)
            got = connection.send(request)
            cost = Cost(time.perf_counter() - started, child.cpu_s())
            expect(self.name, "hit", got, good=got.status == 200 and b'"cached":true' in got.body)
            connection.close()
        return cost


def main() -> int:
    """Print the medians and the ratios; 0 when the targets are met, 1 when not."""
    parser = argparse.ArgumentParser()
    parser.add_argument("other", type=Path, help="another checkout of this repository")
    parser.add_argument("--rounds", type=int, default=15)
    asked = parser.parse_args()
    with rig() as parts, ExitStack() as stack, tempfile.TemporaryDirectory() as bytecode:
        environ = _environ(parts, bytecode)
        subjects = []
        for name, file, root in (
            ("other, AI route", AI, asked.other.resolve()),
            ("this, AI route", AI, ROOT),
            ("this, data route", DATA, ROOT),
        ):
            warm = stack.enter_context(function("first-answer", file, environ, root))
            subjects.append(Subject(name, file, root, environ, warm))
        for number in range(asked.rounds + 1):
            for subject in subjects[number % 3 :] + subjects[: number % 3]:
                cost = subject.first_answer()
                if number:
                    subject.rounds.append(cost)
    return _report(subjects)


def _environ(parts: Rig, bytecode: str) -> dict[str, str]:
    return {**parts.environ(), "REDIS_TIMEOUT_MS": "5000", "PYTHONPYCACHEPREFIX": bytecode}


def _report(subjects: list[Subject]) -> int:
    other, *_ = subjects
    met = True
    for subject in subjects:
        wall, cpu = (_compare(subject.rounds, other.rounds, what) for what in ("wall_s", "cpu_s"))
        target = TARGETS.get(subject.name)
        met = met and (target is None or wall.ratio <= target)
        verdict = "" if target is None else f"; target x {target:.2f}"
        print(f"{subject.name:17} {wall.text}, processor {cpu.text}{verdict}")
    return 0 if met else 1


@dataclass(frozen=True)
class _Compared:
    ratio: float
    text: str


def _compare(mine: list[Cost], theirs: list[Cost], what: str) -> _Compared:
    ratio = statistics.median(getattr(a, what) / getattr(b, what) for a, b in zip(mine, theirs, strict=True))
    median_ms = statistics.median(getattr(each, what) for each in mine) * 1000
    return _Compared(ratio, f"{median_ms:4.0f} ms (x {ratio:.3f})")


if __name__ == "__main__":
    raise SystemExit(main())
