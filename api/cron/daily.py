"""GET /api/cron/daily: called once a day by the platform, with its secret."""

from typing import TYPE_CHECKING

from pydantic_core import to_json

from lib.app.instance import instance
from lib.edge.app import endpoint
from lib.edge.limits import UNLIMITED
from lib.edge.problems import Problem
from lib.edge.request import Reply, Request
from lib.edge.tokens import require
from lib.ops import daily
from lib.redis.errors import RedisDown

if TYPE_CHECKING:
    from lib.parts import Parts


async def run(request: Request, parts: "Parts") -> Reply:
    """Correct the ledger by the vendor's figures and send what alerts are due."""
    require(request, parts.settings.cron_secret, "CRON_SECRET")
    try:
        report = await daily.run(parts, request.id)
    except RedisDown as e:
        raise Problem("store_unavailable", f"The ledger cannot be read ({e.kind}). The next run will try again.") from e
    request.notes.decision, request.notes.reason = "report", report["vendor"]
    return Reply(200, to_json(report))


# A request with the secret is never refused; a wrong secret counts against its sender.
app = endpoint(instance, limit=UNLIMITED, get=run)
