"""Billed commands and round trips a request, by the servers' own account."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench.calling import Connection, Got
from bench.peers import node
from bench.processes import StartError
from bench.rig import Rig, Say, rig
from bench.subjects import Guarded, Kind, a_caller, ask, ours, stock

FREE_COMMANDS = 500_000
"""What Upstash's free tier allows a month."""
HIT_RATES = (0.0, 0.5, 0.8)
_REQUESTS = 8
_SETTLE_S = 0.15
"""What is written after the reply has been written by then."""


@dataclass(slots=True)
class Cost:
    """What one request of a kind costs, on average."""

    commands: float
    round_trips: float
    rpc_calls: float
    names: dict[str, float]
    status: int

    def as_json(self) -> dict[str, Any]:
        """For results.json."""
        return {
            "commands": self.commands,
            "round_trips": self.round_trips,
            "rpc_calls": self.rpc_calls,
            "by_command": self.names,
            "status": self.status,
        }


def measure(say: Say, *, quick: bool) -> dict[str, Any]:
    """Every kind of request, for Breakwater and for the stock libraries."""
    del quick  # counts are exact: few requests say as much as many
    found: dict[str, Any] = {}
    with rig(supabase=True) as parts:
        subjects = [ours(parts), stock(parts, pipelined=False), stock(parts, pipelined=True)]
        for at_once in (False, True):
            with suppress(StartError):
                subjects.append(node.start(parts, wired=False, at_once=at_once))
        for subject in subjects:
            say(f"counting for {subject.name}")
            with subject.child:
                found[subject.name] = {name: cost.as_json() for name, cost in _kinds(parts, subject)}
    return {"costs": found, "a_month": {name: _a_month(costs) for name, costs in found.items()}}


def _a_month(costs: dict[str, dict[str, Any]]) -> dict[str, int]:
    """Requests that the free tier's commands suffice for, by hit rate."""
    hit, miss = costs["hit"]["commands"], costs["miss"]["commands"]
    return {f"{rate:.0%}": int(FREE_COMMANDS / (rate * hit + (1 - rate) * miss)) for rate in HIT_RATES}


def _kinds(parts: Rig, subject: Guarded) -> Iterable[tuple[str, Cost]]:
    kinds: list[Kind] = ["refused", "hit", "miss"]
    if "blocked" in subject.kinds:
        yield "blocked", _count(parts, subject, subject.requests("blocked", _REQUESTS))
    for kind in kinds:
        yield kind, _count(parts, subject, subject.requests(kind, _REQUESTS), partial(subject.check, kind))
    news = [ask("which disk is fullest?", a_caller()) for _ in range(_REQUESTS)]
    yield "first sight", _count(parts, subject, news, partial(subject.check, "miss"))
    yield "fallback", _without_redis(parts, subject)


def _without_redis(parts: Rig, subject: Guarded) -> Cost:
    """Once it is known that Redis is out, here since the month's commands are used up."""
    parts.fault({"kind": "status", "status": 429})
    try:
        connection = Connection(subject.child.port)
        if subject.has_fallback:
            for _ in range(20):
                connection.send(ask("which disk is fullest?", a_caller()))
        return _count(parts, subject, [ask("which disk is fullest?", a_caller()) for _ in range(_REQUESTS)])
    finally:
        parts.fault(None)


def _count(
    parts: Rig, subject: Guarded, requests: list[bytes], check: Callable[[Got], None] = lambda got: None
) -> Cost:
    time.sleep(_SETTLE_S)
    parts.forget()
    status = 0
    for request in requests:
        # A connection each: a function that crashes takes its connection along.
        connection = Connection(subject.child.port)
        got = connection.send(request)
        connection.close()
        check(got)
        status = got.status
    time.sleep(_SETTLE_S)
    count, names = len(requests), parts.commands()
    return Cost(
        names.total() / count,
        parts.round_trips() / count,
        parts.rpc_calls() / count,
        {name: times / count for name, times in Counter(names).most_common()},
        status,
    )
