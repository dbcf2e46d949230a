"""POST /api/llm/analyze: a statement or a plan, explained once for all viewers.

Reached by a rewrite in ``vercel.json``; its own path is no route.
"""

from typing import TYPE_CHECKING

from lib.app.instance import instance
from lib.edge.limits import BY_GUARD
from lib.edge.paths import paths
from lib.edge.request import Reply, Request

if TYPE_CHECKING:
    from lib.parts import Parts


async def ask(request: Request, parts: "Parts") -> Reply:
    """Analyse it."""
    # With the first request, as the parts themselves (lib/app/instance.py).
    from lib.databases.analyzing import analyze

    return await analyze(request, parts)


app = paths(instance, {"/api/llm/analyze": {"post": ask}}, limit=BY_GUARD)
