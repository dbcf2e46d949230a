"""POST /api/admin: invalidate answers, reset a caller, turn a circuit; to whoever has the token."""

from typing import TYPE_CHECKING

from pydantic_core import to_json

from lib.app.instance import parts
from lib.edge.app import Reply, Request, endpoint
from lib.edge.replies import AdminBody
from lib.edge.tokens import require
from lib.ops.admin import Action, act

if TYPE_CHECKING:
    from lib.app.wiring import Parts

_MAX_BODY_BYTES = 4 * 1024


async def admin(request: Request, parts: "Parts") -> Reply:
    """Do one thing by hand."""
    require(request, parts.settings.admin_token, "ADMIN_TOKEN")
    action = await request.json(Action, _MAX_BODY_BYTES)
    done = await act(parts, action, request.id)
    request.notes.decision, request.notes.reason = "report", action.root.action
    reply: AdminBody = {"action": action.root.action, "done": done, "requestId": request.id}
    return Reply(200, to_json(reply))


app = endpoint(parts, post=admin)
