"""GET /api/metrics: the ledger for Prometheus, to whoever has the token."""

from typing import TYPE_CHECKING

from lib.app.instance import parts
from lib.edge.app import Reply, Request, endpoint
from lib.edge.tokens import require
from lib.ops.metrics import CONTENT_TYPE, render

if TYPE_CHECKING:
    from lib.app.wiring import Parts


async def metrics(request: Request, parts: "Parts") -> Reply:
    """All counts in the text format; costs 2 commands at most, and none while the last reading is fresh."""
    require(request, parts.settings.admin_token, "ADMIN_TOKEN")
    snapshot = await parts.overview.snapshot()
    request.notes.decision, request.notes.reason = "report", snapshot.source
    return Reply(200, render(snapshot), content_type=CONTENT_TYPE)


app = endpoint(parts, get=metrics)
