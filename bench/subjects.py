"""Who is measured, and how each of them is made to hit, to miss, to refuse."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from bench.calling import Connection, Got, post
from bench.processes import Child, function
from bench.rig import Rig

type Kind = Literal["hit", "miss", "refused", "blocked"]

CALLS_A_MINUTE = 10
_numbers = itertools.count(1)


def a_caller() -> str:
    """An address that nobody else in this run calls from."""
    number = next(_numbers)
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


class BadReply(RuntimeError):
    """A subject did not do what it was told to: its figures would mean nothing."""


class Subject(Protocol):
    """One who is measured."""

    name: str
    child: Child
    kinds: Sequence[Kind]

    def requests(self, kind: Kind, count: int) -> list[bytes]:
        """So many requests of a kind; whatever has to be requested before is requested here."""

    def check(self, kind: Kind, got: Got) -> None:
        """Raise BadReply unless this is a reply of that kind."""


def expect(name: str, kind: Kind, got: Got, *, good: bool) -> None:
    """Raise BadReply with what came instead."""
    if not good:
        raise BadReply(f"{name} was to show a {kind} and answered {got.status} {dict(got.headers)} {got.body[:300]!r}")


@dataclass
class Floor:
    """A bare function with one call."""

    child: Child
    name: str = "floor"
    kinds: Sequence[Kind] = ("hit",)

    def requests(self, kind: Kind, count: int) -> list[bytes]:
        """All the same."""
        return [ask("floor", "10.0.0.1")] * count

    def check(self, kind: Kind, got: Got) -> None:
        """It has one reply."""
        expect(self.name, kind, got, good=got.status == 200 and b"xxx" in got.body)


@dataclass
class Guarded:
    """Breakwater or the stock composition: the same requests for both, under the default limits.

    Limits stay at 10 a minute, as they decide how much is read; callers take turns instead. Each caller's first request
    is not measured: it puts the answer into the cache.
    """

    name: str
    child: Child
    rig: Rig
    kinds: Sequence[Kind] = ("hit", "miss", "refused")
    question: str = "which disk is fullest?"
    by_asking: bool = False
    """Whether a caller's minute is used up by requests, as with release 0.1, which has counters of its own."""
    has_fallback: bool = False
    """Whether it answers without Redis."""

    def requests(self, kind: Kind, count: int) -> list[bytes]:
        """Requests of callers who have been seen before."""
        connection, found = Connection(self.child.port), list[bytes]()
        each = 1 if kind in ("refused", "blocked") else CALLS_A_MINUTE - 1
        while len(found) < count:
            who = a_caller()
            self.check("miss", connection.send(ask(self.question, who)))
            if kind in ("refused", "blocked"):
                self._use_up(connection, who)
            if kind == "blocked":
                self.check("refused", connection.send(ask(self.question, who)))
            for number in range(each):
                question = f"question number {number} of all" if kind == "miss" else self.question
                found.append(ask(question, who))
        connection.close()
        return found[:count]

    def _use_up(self, connection: Connection, who: str) -> None:
        if not self.by_asking:
            self.rig.spend_all(who)
            return
        for _ in range(CALLS_A_MINUTE - 1):
            self.check("hit", connection.send(ask(self.question, who)))

    def check(self, kind: Kind, got: Got) -> None:
        """By the status, and by what the reply says of the cache."""
        if kind in ("refused", "blocked"):
            good = got.status == 429
        else:
            hit = b'"cached":true' in got.body
            good = got.status == 200 and hit == (kind == "hit")
        expect(self.name, kind, got, good=good)


def ask(query: str, address: str, **headers: str) -> bytes:
    """A question as the platform's edge would pass it on; ``cache_control=`` and the like are headers."""
    body = {"query": query, "sessionId": "bench"}
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    added = {"x-vercel-forwarded-for": address, "x-vercel-id": f"bench-{next(_numbers)}"}
    return post("/api/ai/supervisor", body, {**added, **given})


def ours(rig: Rig, *, wired: bool = False, environ: dict[str, str] | None = None) -> Guarded:
    """Breakwater as deployed."""
    made = {**rig.environ(wired=wired), "REDIS_TIMEOUT_MS": "2000", **(environ or {})}
    kinds: Sequence[Kind] = ("hit", "miss", "refused", "blocked")
    child = function("breakwater", "api/ai/supervisor.py", made)
    return Guarded("breakwater", child, rig, kinds, has_fallback=True)


def stock(rig: Rig, *, pipelined: bool, wired: bool = False) -> Guarded:
    """The stock libraries, as documented or in one pipeline."""
    name = "stock, one pipeline" if pipelined else "stock libraries"
    environ = {**rig.environ(wired=wired), **({"BENCH_PIPELINE": "1"} if pipelined else {})}
    return Guarded(name, function("stock", "bench/apps/stock.py", environ), rig)


def floor(rig: Rig, *, wired: bool = False, spared: bool = False) -> Floor:
    """The floor; with ``spared``, without what Breakwater avoids as well."""
    environ = {**rig.environ(wired=wired), **({"BENCH_SPARED": "1"} if spared else {})}
    name = "floor, spared" if spared else "floor"
    return Floor(function("floor", "bench/apps/floor.py", environ), name)
