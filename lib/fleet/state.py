"""How a fleet looks now: which servers there are, how fresh each is by its own time, and who contradicts whom."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Literal

from ..base.values import dataclass
from .snapshot import METRICS, Measured, Snapshot

type Status = Literal["online", "late", "silent"]

STATUSES: tuple[Status, ...] = ("online", "late", "silent")
_LEAST_LATE_MS = 300_000


@dataclass(frozen=True, slots=True)
class Server:
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
    found, named = dict[str, Server](), dict[str, list[str]]()
    for snapshot in snapshots:
        for each in snapshot.servers:
            named.setdefault(each.id, []).append(snapshot.reporter)
            if each.id not in found or found[each.id].measured.at_ms < each.at_ms:
                status = status_of(each.at_ms, snapshot.interval_s, now_ms)
                found[each.id] = Server(each, status, snapshot.reporter)
    conflicts = [Conflict(name, tuple(sorted(by))) for name, by in sorted(named.items()) if len(by) > 1]
    return State(tuple(found[name] for name in sorted(found)), tuple(conflicts))


def body_of(server: Server) -> dict[str, object]:
    """One server as replies have it."""
    measured = server.measured
    return {
        "id": measured.id,
        "name": measured.name,
        "status": server.status,
        "metrics": dict(zip(METRICS, measured.metrics, strict=True)),
        "lastUpdated": iso(measured.at_ms),
        "reporter": server.reporter,
    }


def counts_of(servers: Sequence[Server]) -> dict[str, int]:
    """How many servers have each status."""
    return {status: sum(each.status == status for each in servers) for status in STATUSES}


def iso(at_ms: int) -> str:
    """A time as RFC 3339 has it, in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
