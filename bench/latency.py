"""Added latency, processor time and memory a request, side by side in one run, without and with a network."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from bench.calling import Connection
from bench.peers import litellm, node, portkey
from bench.processes import StartError
from bench.rig import Rig, Say, rig
from bench.subjects import Kind, Subject, floor, ours, stock

KINDS: tuple[Kind, ...] = ("hit", "miss", "refused", "blocked")
DELAYS_MS = (1, 10, 50)

_AT_LITELLM: dict[Kind, Kind] = {"hit": "hit", "miss": "miss", "blocked": "refused"}
"""What LiteLLM refuses it refuses from memory, as Breakwater does who was refused a moment ago."""

type Round = dict[str, float]
type Rounds = dict[tuple[str, Kind], list[Round]]


def everyone(parts: Rig, stack: ExitStack, say: Say, *, wired: bool = False) -> list[Subject]:
    """All who can be started here; those who cannot are named."""
    found: list[Subject] = [
        floor(parts, wired=wired),
        floor(parts, wired=wired, spared=True),
        ours(parts, wired=wired),
        stock(parts, pipelined=False, wired=wired),
        stock(parts, pipelined=True, wired=wired),
    ]
    peers: list[tuple[str, Callable[..., Subject]]] = [
        ("@upstash/ratelimit on Node", node.start),
        ("the same at once", partial(node.start, at_once=True)),
        ("LiteLLM", litellm.start),
        ("Portkey", portkey.start),
    ]
    for name, start in peers:
        try:
            found.append(start(parts, wired=wired))
        except StartError as error:
            say(f"{name} is left out: {error}")
    for subject in found:
        stack.callback(subject.child.stop)
    return found


def measure(say: Say, *, quick: bool) -> dict[str, Any]:
    """In front of one local backend, without a network in between."""
    rounds, count = (3, 36) if quick else (11, 100)
    with rig() as parts, ExitStack() as stack:
        subjects = everyone(parts, stack, say)
        _warm(subjects, 36 if quick else 200)
        found: Rounds = {}
        for number in range(rounds):
            say(f"latency, round {number + 1} of {rounds}")
            run_round(subjects, KINDS, count, number, found)
        memory = {subject.name: round(subject.child.memory_mb(), 1) for subject in subjects}
    return {"rounds": rounds, "requests_a_round": count, "figures": _figures(found), "memory_mb": memory}


def measure_network(say: Say, *, quick: bool) -> dict[str, Any]:
    """The same with 1, 10 and 50 ms added to every reply of Redis."""
    rounds, count = (1, 9) if quick else (3, 18)
    found: dict[str, Any] = {}
    with rig(wires=True) as parts, ExitStack() as stack:
        subjects = [each for each in everyone(parts, stack, say, wired=True) if each.name != "Portkey gateway"]
        _warm(subjects, 30)
        for delay_ms in DELAYS_MS:
            say(f"latency with {delay_ms} ms to Redis")
            parts.wire_ms(delay_ms)
            here: Rounds = {}
            for number in range(rounds):
                run_round(subjects, ("hit", "miss", "refused"), count, number, here)
            found[str(delay_ms)] = _figures(here)
        parts.wire_ms(0)
    return {"rounds": rounds, "requests_a_round": count, "by_delay_ms": found}


def _warm(subjects: Sequence[Subject], count: int) -> None:
    for subject in subjects:
        for kind in subject.kinds:
            _run(subject, kind, count)


def run_round(subjects: Sequence[Subject], kinds: Sequence[Kind], count: int, number: int, found: Rounds) -> None:
    """Everyone once, one directly after the other, each round in another order: who else is busy here hits all."""
    turn = number % len(subjects)
    for kind in kinds:
        for subject in [*subjects[turn:], *subjects[:turn]]:
            if kind in subject.kinds:
                found.setdefault((subject.name, kind), []).append(_run(subject, kind, count))


def _run(subject: Subject, kind: Kind, count: int) -> Round:
    requests = subject.requests(kind, count)
    connection = Connection(subject.child.port)
    time.sleep(0.05)  # the work that is left of the requests before
    gc.disable()
    try:
        before = subject.child.cpu_s()
        replies = [connection.send(request) for request in requests]
        time.sleep(0.05)  # what is done after the reply counts, too
        cpu_ms = (subject.child.cpu_s() - before) / count * 1000
    finally:
        gc.enable()
        connection.close()
    for got in replies:
        subject.check(kind, got)
    ms = sorted(got.seconds * 1000 for got in replies)
    return {"p50": statistics.median(ms), "p95": ms[int(len(ms) * 0.95)], "cpu": cpu_ms}


def _figures(found: Rounds) -> list[dict[str, Any]]:
    """Medians of the rounds, and the median of each round's own ratio to the floor and to LiteLLM."""
    floor = found["floor", "hit"]
    figures = []
    for (name, kind), rounds in found.items():
        about: dict[str, Any] = {"name": name, "kind": kind}
        for what in ("p50", "p95", "cpu"):
            values = [each[what] for each in rounds]
            about[what] = round(statistics.median(values), 3)
            about[f"{what}_spread"] = [round(min(values), 3), round(max(values), 3)]
            about[f"{what}_to_floor"] = _ratio(rounds, floor, what)
            same = _AT_LITELLM.get(kind)
            if same and (peer := found.get(("LiteLLM proxy", same))) is not None:
                about[f"{what}_to_litellm"] = _ratio(rounds, peer, what)
        figures.append(about)
    return figures


def _ratio(mine: Sequence[Round], other: Sequence[Round], what: str) -> float:
    return round(statistics.median(a[what] / b[what] for a, b in zip(mine, other, strict=True)), 3)
