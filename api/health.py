"""GET /api/health: what works, what does not, and who counts."""

from typing import TYPE_CHECKING

from lib.app.instance import parts
from lib.base.encode import to_json
from lib.edge.app import Reply, Request, endpoint

if TYPE_CHECKING:
    from lib.app.wiring import Parts


async def health(request: Request, parts: "Parts") -> Reply:
    """200 when the main job can be served, in whatever mode; 503 when not."""
    report = await parts.health.report(request.id)
    request.notes.decision, request.notes.reason = "report", report["status"]
    return Reply(503 if report["status"] == "down" else 200, to_json(report), {"x-guard-mode": report["mode"]})


app = endpoint(parts, get=health)
