"""Reports of agents that know nothing of us: OpenTelemetry's (OTLP/HTTP in JSON) and Telegraf's.

They cannot sign a body. The reporter's secret is their bearer token, and a report's time that of its newest figure.
What they have kept during an outage comes late: it is answered, so that they get on, and not stored.
"""

from collections.abc import Callable, Mapping
from dataclasses import field, replace
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from ..base.encode import to_json
from ..base.values import dataclass
from ..edge.problems import Problem, invalid
from ..edge.request import Reply, Request, parsed
from ..edge.tokens import named_by
from . import otlp, telegraf
from .fleet import Fleet
from .machine import Machine
from .replies import ExportedBody, PartialSuccessBody, ReportedBody
from .report import MOST_BYTES, MOST_OFF_S, Report, ReportedServer, interval_s, taken
from .snapshot import Snapshot

if TYPE_CHECKING:
    from ..parts import Parts

MOST_UNPACKED = 4 * 1024 * 1024
"""A body that comes as gzip is no larger than this without."""
_LONGEST_AGE_S = 2_592_000
_OLD = f"Older than {MOST_OFF_S} s, or than what is known already: not stored."
_NOTHING = "No figures of a host's system in it: nothing to store."


@dataclass(frozen=True, slots=True, eq=False)
class TakeExport:
    """``POST /api/servers/report/v1/metrics``: OTLP/HTTP in JSON, as its exporters send it to an endpoint."""

    path: Mapping[str, str] = field(default_factory=dict)

    async def __call__(self, request: Request, parts: "Parts") -> Reply:
        """Answer one request as the protocol has it: 200, and what was not stored as a partial success."""
        reporter, export = await _sent(request, parts, otlp.Export)
        found = _machines(otlp.machines, export)
        if not found:
            return Reply(200, _partly(export.count, _NOTHING) if export.count else b"{}")
        snapshot = _snapshot(parts, reporter, found)
        if _is_old(parts, snapshot):
            return Reply(200, _partly(export.count, _OLD))
        reply = await taken(request, parts, snapshot)
        body = b"{}" if reply.status == 200 else _partly(0, "Redis gives no reply: only this instance has it.")
        return replace(reply, status=200, body=body)


@dataclass(frozen=True, slots=True, eq=False)
class TakeBatch:
    """``POST /api/servers/report/telegraf``: a batch of Telegraf's ``outputs.http`` in JSON."""

    path: Mapping[str, str] = field(default_factory=dict)

    async def __call__(self, request: Request, parts: "Parts") -> Reply:
        """Answer one request. Raises Problem."""
        reporter, batch = await _sent(request, parts, telegraf.Batch)
        found = _machines(telegraf.machines, batch)
        if not found:
            raise Problem("invalid_request", "metrics: none of the inputs cpu, mem, disk and net.")
        snapshot = _snapshot(parts, reporter, found)
        if not _is_old(parts, snapshot):
            return await taken(request, parts, snapshot)
        reply: ReportedBody = {
            "stored": False,
            "servers": 0,
            "nextInS": snapshot.interval_s,
            "requestId": request.id,
            "detail": _OLD,
        }
        return Reply(202, to_json(reply))


async def _sent[M: BaseModel](request: Request, parts: "Parts", model: type[M]) -> tuple[str, M]:
    """The reporter, by its token, and what it sent. Raises Problem."""
    request.limit_headers = {}
    reporter = named_by(request, parts.settings.fleet_tokens, "FLEET_TOKENS")
    request.notes.decision, request.notes.reason = "report", "not_stored"
    return reporter, parsed(model, await request.json_body(MOST_BYTES, MOST_UNPACKED))


def _machines[M](read: Callable[[M], dict[str, Machine]], sent: M) -> dict[str, Machine]:
    try:
        return read(sent)
    except ValueError as e:
        raise Problem("invalid_request", f"{e}.") from e


def _snapshot(parts: "Parts", reporter: str, found: Mapping[str, Machine]) -> Snapshot:
    """What it says, at the time of its newest figure. Raises Problem."""
    at_ms, now_ms = max(each.at_ms for each in found.values()), parts.clock.now_ms()
    if at_ms > now_ms + MOST_OFF_S * 1000:
        detail = f"A figure of more than {MOST_OFF_S} s after {now_ms // 1000}: set the host's clock."
        raise Problem("report_expired", detail)
    try:
        servers = [_server(name, each, at_ms) for name, each in found.items()]
        return Report(sequence=at_ms, servers=servers).snapshot(reporter, at_ms, interval_s(parts))
    except ValidationError as e:
        raise invalid(e) from None


def _server(name: str, machine: Machine, at_ms: int) -> ReportedServer:
    age_s = min(_LONGEST_AGE_S, (at_ms - machine.at_ms) // 1000)
    return ReportedServer(
        id=name, cpu=machine.cpu, memory=machine.memory, disk=machine.disk, network=machine.network, age=age_s
    )


def _is_old(parts: "Parts", snapshot: Snapshot) -> bool:
    known = Fleet.of(parts).snapshots.get(snapshot.reporter)
    late = snapshot.at_ms < parts.clock.now_ms() - MOST_OFF_S * 1000
    return late or (known is not None and known.at_ms >= snapshot.at_ms)


def _partly(rejected: int, message: str) -> bytes:
    told: PartialSuccessBody = {"errorMessage": message}
    if rejected:
        told["rejectedDataPoints"] = str(rejected)
    body: ExportedBody = {"partialSuccess": told}
    return to_json(body)
