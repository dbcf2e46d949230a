"""GET /api/ai/supervisor/{id}/stream: whether there is a stream to resume, as the AI SDK's ``useChat`` asks; never.

A complete answer is in the cache, and asking again brings it; another one belongs to the request that asked for it.
"""

from typing import TYPE_CHECKING

from lib.app.instance import instance
from lib.edge.limits import UNLIMITED
from lib.edge.paths import paths
from lib.edge.request import Reply, Request

if TYPE_CHECKING:
    from lib.parts import Parts

ROUTE = "/api/ai/supervisor/{id}/stream"


async def nothing(request: Request, parts: "Parts") -> Reply:
    """204: there is nothing to resume. Another status, and ``useChat`` shows an error."""
    request.notes.decision, request.notes.reason = "report", "nothing to resume"
    return Reply(204, b"")


# Every page that opens asks, and nothing is done for it.
app = paths(instance, {ROUTE: {"get": nothing}}, limit=UNLIMITED)
