"""The last hour of all servers: ``GET /api/dashboard/history``. That of simulated ones is computed, not recorded."""

from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING

from ..base.encode import to_json
from ..base.values import dataclass
from ..data.access import require_role
from ..data.reading import ReadRoute
from ..edge import limits
from ..edge.limits import BY_GUARD, BY_TABLE
from ..edge.request import Reply, Request
from .dashboard import SIMULATED, known_parameters
from .fleet import Fleet, read
from .history import HOUR
from .replies import HourBody
from .scenarios import STEP_MS, hour

if TYPE_CHECKING:
    from ..parts import Parts


@dataclass(frozen=True, slots=True, eq=False)
class ReadHour:
    """The handler."""

    path: Mapping[str, str] = field(default_factory=dict)

    async def __call__(self, request: Request, parts: "Parts") -> Reply:
        """Answer one request. Raises Problem."""
        if SIMULATED not in request.http.query_params:
            return await ReadRoute(HOUR, BY_GUARD, self.path)(request, parts)
        known_parameters(request, self.path)
        await require_role(request, parts, HOUR.roles)
        await limits.count(request, parts, BY_TABLE)
        await read(parts)
        now_ms = parts.clock.now_ms()
        _, simulation = Fleet.of(parts).state(now_ms, simulated=True)
        at_ms, cpu = (now_ms, {}) if simulation is None else hour(simulation, now_ms)
        request.notes.decision, request.notes.reason = "report", "simulated"
        body: HourBody = {"at": at_ms // 1000, "step": STEP_MS // 1000, "cpu": cpu}
        return Reply(200, to_json(body), {"cache-control": "private, no-cache"})
