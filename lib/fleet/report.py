"""``POST /api/servers/report``: what a reporter says of its servers. It costs 1 command."""

from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from ..base.encode import to_json
from ..base.values import dataclass
from ..edge.problems import Problem
from ..edge.request import Reply, Request, parsed
from . import cold, pace
from .fleet import Fleet, store, tell
from .replies import ReportedBody
from .signature import SCHEME, claim_of, proves
from .snapshot import MOST_SERVERS, Measured, Snapshot

if TYPE_CHECKING:
    from ..parts import Parts

MOST_BYTES = 512 * 1024
MOST_OFF_S = 60
"""How far a reporter's clock may be from ours, either way."""
LEAST_GAP_MS = 10_000
"""An instance takes a reporter's next report so much later."""
RESERVED = "report"
"""No server is called like this: its path is the reports'."""

type Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class ReportedServer(BaseModel):
    """One server. A metric that could not be measured is null or left out; ``age``: seconds since it was measured."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    id: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    name: Annotated[str, StringConstraints(min_length=1, max_length=100)] | None = None
    cpu: Percent | None = None
    memory: Percent | None = None
    disk: Percent | None = None
    network: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] | None = None
    age: Annotated[int, Field(ge=0, le=2_592_000)] = 0


class Report(BaseModel):
    """All servers of a reporter. ``sequence`` grows with each report."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    sequence: Annotated[int, Field(ge=0, le=2**53 - 1)]
    servers: Annotated[list[ReportedServer], Field(max_length=MOST_SERVERS)]

    @model_validator(mode="after")
    def _each_once(self) -> "Report":
        seen = set[str]()
        for each in self.servers:
            if each.id in seen or each.id == RESERVED:
                raise ValueError(f"servers: {each.id!r} is {'named twice' if each.id in seen else 'reserved'}")
            seen.add(each.id)
        return self

    def snapshot(self, reporter: str, at_ms: int, interval_s: int) -> Snapshot:
        """What it says, at the time that was signed."""
        servers = (
            Measured(
                id=each.id,
                name=each.name or each.id,
                at_ms=at_ms - each.age * 1000,
                cpu=_rounded(each.cpu, 1),
                memory=_rounded(each.memory, 1),
                disk=_rounded(each.disk, 1),
                network=_rounded(each.network, 2),
            )
            for each in self.servers
        )
        return Snapshot(reporter, at_ms, self.sequence, interval_s, tuple(servers))


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


@dataclass(frozen=True, slots=True, eq=False)
class TakeReport:
    """The handler. The secret names the sender, so that nothing is counted for it."""

    path: Mapping[str, str] = field(default_factory=dict)

    async def __call__(self, request: Request, parts: "Parts") -> Reply:
        """Answer one request. Raises Problem."""
        request.limit_headers = {}
        reporter, at_s, body = await _proved(request, parts)
        report = parsed(Report, body)
        snapshot = report.snapshot(reporter, at_s * 1000, interval_s(parts))
        _in_order(parts, snapshot)
        return await taken(request, parts, snapshot)


def interval_s(parts: "Parts") -> int:
    """When a reporter is to report again."""
    now_ms, looked_ms = parts.clock.now_ms(), Fleet.of(parts).looked_ms
    since_ms = None if looked_ms is None else now_ms - looked_ms
    return pace.interval_s(since_ms, parts.guard.limits.thrift.number(now_ms))


async def taken(request: Request, parts: "Parts", snapshot: Snapshot) -> Reply:
    """Take a report that is in order: 1 command. Raises Problem where it comes too soon."""
    not_too_often(parts, snapshot.reporter)
    now_ms, fleet = parts.clock.now_ms(), Fleet.of(parts)
    new = snapshot.reporter not in fleet.snapshots
    fleet.accepted_ms[snapshot.reporter] = now_ms
    stored = await store(parts, snapshot)
    tell(parts, snapshot.reporter, fleet.watch(snapshot.reporter).reported(snapshot, now_ms))
    request.notes.decision, request.notes.reason = "report", "stored" if stored else "not_stored"
    reply: ReportedBody = {
        "stored": stored,
        "servers": len(snapshot.servers),
        "nextInS": snapshot.interval_s,
        "requestId": request.id,
    }
    return Reply(200 if stored else 202, to_json(reply), after=lambda: cold.record(parts, snapshot, new=new))


async def _proved(request: Request, parts: "Parts") -> tuple[str, int, bytes]:
    """The reporter, the time it signed, and the body. Raises Problem."""
    tokens = parts.settings.fleet_tokens
    if not tokens:
        raise Problem("closed", "Set FLEET_TOKENS and deploy again to open this route.")
    claim = claim_of(request.header("authorization"))
    if claim is None:
        raise _unproved()
    now_ms = parts.clock.now_ms()
    if abs(now_ms - claim.at_s * 1000) > MOST_OFF_S * 1000:
        detail = f"The report's time is more than {MOST_OFF_S} s from {now_ms // 1000}: set the reporter's clock."
        raise Problem("report_expired", detail, headers={"www-authenticate": SCHEME})
    body = await request.json_body(MOST_BYTES)
    # A reporter that nobody knows takes as long as one with a wrong secret.
    secret = tokens.get(claim.reporter)
    if not proves(claim, secret.value if secret else "", body) or secret is None:
        raise _unproved()
    return claim.reporter, claim.at_s, body


def _unproved() -> Problem:
    detail = f"Send Authorization: {SCHEME} <reporter>:<unix seconds>:<HMAC-SHA256> with a secret of FLEET_TOKENS."
    return Problem("unauthorized", detail, headers={"www-authenticate": SCHEME})


def _in_order(parts: "Parts", snapshot: Snapshot) -> None:
    """Raise Problem for what this instance knows to be old."""
    now_ms = parts.clock.now_ms()
    known = Fleet.of(parts).snapshots.get(snapshot.reporter)
    # Of one that was signed so long ago no copy passes any more: a reporter may then begin its numbers anew.
    fresh = known is not None and now_ms - known.at_ms <= 2 * MOST_OFF_S * 1000
    if known is not None and fresh and snapshot.sequence <= known.sequence:
        raise Problem("report_replayed", f"Report {known.sequence} is known already: sequence has to grow.")


def not_too_often(parts: "Parts", reporter: str) -> None:
    """Raise Problem where this instance has taken a report of it a moment ago."""
    now_ms, accepted_ms = parts.clock.now_ms(), Fleet.of(parts).accepted_ms.get(reporter)
    if accepted_ms is not None and now_ms - accepted_ms < LEAST_GAP_MS:
        wait_s = -((now_ms - accepted_ms - LEAST_GAP_MS) // 1000)
        raise Problem("rate_limited", f"Report at most every {LEAST_GAP_MS // 1000} s.", wait_s)
