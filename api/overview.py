"""GET /api/overview: what is left and what happened, for the page; to whoever has the token, or the day's view key."""

from typing import TYPE_CHECKING

from pydantic_core import to_json

from lib.app.instance import parts
from lib.edge.app import Reply, Request, endpoint
from lib.edge.tokens import may_view, require
from lib.ops.overview import body

if TYPE_CHECKING:
    from lib.app.wiring import Parts


async def overview(request: Request, parts: "Parts") -> Reply:
    """The whole overview; with a view key in the address, the edge answers most polls."""
    secret = parts.settings.admin_token
    viewed = may_view(request.http.query_params.get("view", ""), secret, parts.clock.now_ms())
    if not viewed:
        require(request, secret, "ADMIN_TOKEN")
    snapshot = await parts.overview.snapshot()
    request.notes.decision, request.notes.reason = "report", snapshot.source
    headers = {}
    if viewed and snapshot.source == "redis":
        # Whoever has the whole address has the key; an edge keeps replies by the whole address.
        headers["cache-control"] = f"max-age=0, s-maxage={snapshot.fresh_s}, stale-while-revalidate={snapshot.fresh_s}"
    return Reply(200, to_json(body(snapshot)), headers)


app = endpoint(parts, get=overview)
