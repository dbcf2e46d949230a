"""GET /api/health: what works, what does not, and where limits are counted."""

from typing import TYPE_CHECKING

from lib.app.instance import instance
from lib.base.encode import to_json
from lib.edge.app import endpoint
from lib.edge.limits import UNLIMITED
from lib.edge.request import Reply, Request

if TYPE_CHECKING:
    from lib.parts import Parts


async def health(request: Request, parts: "Parts") -> Reply:
    """200 when the main job can be served, in whatever mode; 503 when not."""
    # With the first request, as the parts themselves (lib/app/instance.py).
    from lib.ops.health import Health

    report = await Health.of(parts).report(request.id)
    request.notes.decision, request.notes.reason = "report", report["status"]
    return Reply(503 if report["status"] == "down" else 200, to_json(report), {"x-guard-mode": report["mode"]})


# Monitors poll it, and all requests within a second share its checks.
app = endpoint(instance, limit=UNLIMITED, get=health)
