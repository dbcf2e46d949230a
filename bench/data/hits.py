"""Processor time and p50 of hits in paired rounds: all take turns, and a ratio is the median of each round's own."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from bench.calling import Connection, Got
from bench.data.load import USERS
from bench.data.readers import EACH_MINUTE, Readers, Start, breakwater, cashews, path_of, read, scheme
from bench.latency import Rounds, run_round
from bench.processes import Child, StartError
from bench.rig import Rig, Say
from bench.subjects import Kind, expect

PEER, LIMITED_PEER = "cashews", "cashews, with its limit"
_PATH = path_of(7, "hits")
"""Of the query that is kept longest."""


@dataclass
class Hitting:
    """Reads of one value that is there; users take turns."""

    name: str
    child: Child
    kinds: Sequence[Kind] = ("hit",)
    _users: itertools.cycle[int] = field(default_factory=lambda: itertools.cycle(range(USERS)))

    def requests(self, kind: Kind, count: int) -> list[bytes]:
        """Each of a user who has read before, once everybody has."""
        return [read(_PATH, next(self._users)) for _ in range(count)]

    def check(self, kind: Kind, got: Got) -> None:
        """Whether it came from the cache is counted elsewhere, by commands and by queries."""
        expect(self.name, kind, got, good=got.status == 200)


def measure(rig: Rig, say: Say, *, quick: bool) -> dict[str, Any]:
    """Everyone over TCP, one read after the other on a kept connection."""
    rounds, count = (3, 36) if quick else (15, 100)
    starts: dict[str, Start] = {
        PEER: cashews,
        LIMITED_PEER: partial(cashews, limit=EACH_MINUTE),
        "GET, query, SETEX": scheme,
        "breakwater, in Redis": partial(breakwater, limit=None, strict=True),
        "breakwater, in Redis, with a limit": partial(breakwater, strict=True),
        "breakwater, in memory": partial(breakwater, limit=None),
        "breakwater, in memory, with a limit": breakwater,
    }
    found: Rounds = {}
    rig.redis.flushall()
    with ExitStack() as stack:
        subjects = list[Hitting]()
        for name, start in starts.items():
            try:
                readers: Readers = stack.enter_context(start(rig, 1))
            except StartError as error:
                say(f"{name} is left out: {error}")
                continue
            subjects.append(Hitting(name, readers.children[0]))
            _warm(subjects[-1])
        for number in range(rounds):
            say(f"data, hits, round {number + 1} of {rounds}")
            run_round(subjects, ("hit",), count, number, found)
    return {"rounds": rounds, "requests_a_round": count, "figures": _figures(found)}


def _warm(subject: Hitting) -> None:
    connection = Connection(subject.child.port)
    for request in subject.requests("hit", 2 * USERS):
        subject.check("hit", connection.send(request))
    connection.close()


def _figures(found: Rounds) -> list[dict[str, Any]]:
    peers = {"peer": found.get((PEER, "hit")), "limited": found.get((LIMITED_PEER, "hit"))}
    figures = []
    for (name, _), rounds in found.items():
        about: dict[str, Any] = {"name": name}
        for what in ("cpu", "p50", "p95"):
            about[what] = round(statistics.median(each[what] for each in rounds), 3)
            for whom, theirs in peers.items():
                if theirs is not None:
                    ratios = [mine[what] / other[what] for mine, other in zip(rounds, theirs, strict=True)]
                    about[f"{what}_to_{whom}"] = round(statistics.median(ratios), 3)
                    about[f"{what}_to_{whom}_spread"] = [round(each, 3) for each in (min(ratios), max(ratios))]
        figures.append(about)
    return figures
