"""The fleet as it is now: ``GET /api/dashboard``, ``/api/servers`` and ``/api/servers/{id}``. A read is 1 command."""

from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING

from ..base.encode import to_json
from ..base.values import dataclass
from ..data.access import VIEW, require_role
from ..edge import limits
from ..edge.cors import for_all
from ..edge.limits import BY_TABLE
from ..edge.paths import asked
from ..edge.problems import Problem
from ..edge.redis_health import redis_health
from ..edge.request import Reply, Request
from .fleet import Fleet, Origin, read
from .replies import AboutFleetBody, ScenarioBody, ShownBody
from .scenarios import Simulation
from .state import State, counts_of, iso, text_of

if TYPE_CHECKING:
    from ..parts import Parts

SIMULATED = "simulated"
"""``simulated=1`` shows the servers of the scenario that runs, in place of the real ones."""
EDGE_S, EDGE_STALE_S = 30, 60
"""For how long caches on the way give it to others, and how much longer while they ask again."""


@dataclass(frozen=True, slots=True, eq=False)
class ReadFleet:
    """All servers, or the one that the path names."""

    path: Mapping[str, str] = field(default_factory=dict)

    async def __call__(self, request: Request, parts: "Parts") -> Reply:
        """Answer one request. Raises Problem."""
        known_parameters(request, self.path)
        viewed = await require_role(request, parts, ("viewer", "admin"))
        await limits.count(request, parts, BY_TABLE)
        source, fleet = await read(parts), Fleet.of(parts)
        now_ms = fleet.looked_ms = parts.clock.now_ms()
        simulated = SIMULATED in request.http.query_params
        state, simulation = fleet.state(now_ms, simulated=simulated)
        shown = _shown(parts, source, simulated=simulated)
        request.notes.decision, request.notes.reason = "report", source
        body = _one(state, self.path["id"], shown) if "id" in self.path else _all(parts, state, simulation, shown)
        return Reply(
            200, body, _headers(request, parts, source, viewed=viewed), for_all=_for_all(request, parts, viewed)
        )


def known_parameters(request: Request, path: Mapping[str, str]) -> None:
    """Raise Problem for any parameter but these two: each other address would be another entry at the edge."""
    for name, value in asked(request.http.query_params, path):
        if name not in (SIMULATED, VIEW):
            raise Problem("invalid_parameter", f"{name[:60]!r}: this route knows {SIMULATED}, {VIEW}.")
        if len(request.http.query_params.getlist(name)) > 1:
            raise Problem("invalid_parameter", f"{name}: send it once.")
        if name == SIMULATED and value != "1":
            raise Problem("invalid_parameter", f"{SIMULATED}: send 1, or leave it out.")


def _shown(parts: "Parts", source: Origin, *, simulated: bool) -> ShownBody:
    read_ms = Fleet.of(parts).read_ms
    return {
        "timestamp": iso(parts.clock.now_ms() if read_ms is None else read_ms),
        "cached": source != "redis",
        "source": source,
        "simulated": simulated,
    }


def _all(parts: "Parts", state: State, simulation: Simulation | None, shown: ShownBody) -> bytes:
    """The body of all servers (``FleetBody``)."""
    scenario: ScenarioBody | None = None
    if simulation is not None:
        times = iso(simulation.started_ms), iso(simulation.ends_ms)
        scenario = {"name": simulation.scenario, "startedAt": times[0], "endsAt": times[1]}
    about: AboutFleetBody = {
        "total": len(state.servers),
        "counts": counts_of(state.servers),
        "conflicts": [{"id": each.id, "reporters": list(each.reporters)} for each in state.conflicts],
        "highPercent": Fleet.of(parts).alert_percent,
        "redis": redis_health(parts.guard.limits.redis),
        "scenario": scenario,
        **shown,
    }
    return _joined("servers", f"[{','.join(map(text_of, state.servers))}]", about)


def _one(state: State, name: str, shown: ShownBody) -> bytes:
    """The body of one server (``OneServerBody``)."""
    for each in state.servers:
        if each.measured.id == name:
            return _joined("server", text_of(each), shown)
    raise Problem("not_found", f"No reporter names a server {name[:64]!r}.")


def _joined(name: str, text: str, others: Mapping[str, object]) -> bytes:
    """An object whose first member is written already."""
    return f'{{"{name}":{text},'.encode(errors="replace") + to_json(others)[1:]


def _for_all(request: Request, parts: "Parts", viewed: bool) -> bool:
    """Whether caches on the way may keep it: whoever knows the whole address knows the view key in it."""
    origins = parts.settings.allowed_origins
    return viewed and not request.header("authorization") and (not origins or "*" in origins)


def _headers(request: Request, parts: "Parts", source: Origin, *, viewed: bool) -> dict[str, str]:
    if not _for_all(request, parts, viewed) or source == "last":
        return {"cache-control": "private, no-cache"}
    return {
        "cache-control": f"public, max-age=0, s-maxage={EDGE_S}, stale-while-revalidate={EDGE_STALE_S}",
        **for_all(parts.settings.allowed_origins),
    }
