"""How a fleet looks now: which servers there are, how fresh each is by its own time, and who contradicts whom."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal, NamedTuple

from ..base.values import dataclass
from .snapshot import Measured, Snapshot

type Status = Literal["online", "late", "silent"]

STATUSES: tuple[Status, ...] = ("online", "late", "silent")
_LEAST_LATE_MS = 300_000


class Server(NamedTuple):
    """One server now."""

    measured: Measured
    status: Status
    reporter: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """Several reporters name one server; the newest measurement is shown."""

    id: str
    reporters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class State:
    """All servers, by id."""

    servers: tuple[Server, ...]
    conflicts: tuple[Conflict, ...]


def status_of(at_ms: int, interval_s: int, now_ms: int) -> Status:
    """By the time of the measurement alone: that somebody reads it makes no server alive.

    Online for less than 3 of the intervals that its reporter was told, late until 5 of them and 5 minutes are over.
    """
    age_ms, interval_ms = now_ms - at_ms, interval_s * 1000
    if age_ms < 3 * interval_ms:
        return "online"
    return "late" if age_ms < max(_LEAST_LATE_MS, 5 * interval_ms) else "silent"


def state_of(snapshots: Iterable[Snapshot], now_ms: int) -> State:
    """The state that these snapshots make."""
    found, named = dict[str, Server](), dict[str, set[str]]()
    for snapshot in snapshots:
        # Most servers of a report were measured at one time.
        statuses = dict[int, Status]()
        for each in snapshot.servers:
            if (known := found.get(each.id)) is not None:
                named.setdefault(each.id, {known.reporter}).add(snapshot.reporter)
                if known.measured.at_ms >= each.at_ms:
                    continue
            if (status := statuses.get(each.at_ms)) is None:
                status = statuses[each.at_ms] = status_of(each.at_ms, snapshot.interval_s, now_ms)
            found[each.id] = Server(each, status, snapshot.reporter)
    conflicts = [Conflict(name, tuple(sorted(by))) for name, by in sorted(named.items())]
    return State(tuple(found[name] for name in sorted(found)), tuple(conflicts))


def text_of(server: Server) -> str:
    """One server as replies have it (``ServerBody``), as JSON: of a thousand objects to be written, each costs."""
    (name, label, at_ms, cpu, memory, disk, network), status, reporter = server
    return (
        f'{{"id":{_text(name)},"name":{_text(label)},"status":"{status}","metrics":{{"cpu":{_figure(cpu)},'
        f'"memory":{_figure(memory)},"disk":{_figure(disk)},"network":{_figure(network)}}},'
        f'"lastUpdated":"{iso(at_ms)}","reporter":{_text(reporter)}}}'
    )


_text = json.JSONEncoder(ensure_ascii=False).encode


def _figure(value: float | None) -> str:
    return "null" if value is None else repr(value)


def counts_of(servers: Sequence[Server]) -> dict[str, int]:
    """How many servers have each status."""
    return {status: sum(each.status == status for each in servers) for status in STATUSES}


@lru_cache(maxsize=1024)
def iso(at_ms: int) -> str:
    """A time as RFC 3339 has it, in UTC. Most servers of a report were measured at one time."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
