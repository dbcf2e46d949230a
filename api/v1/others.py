"""GET /api/v1/models and /api/v1/models/{id}: what is configured; and every path under /api/v1 that nothing serves.

One function for all of them, by rewrites in ``vercel.json``; its own path, /api/v1/others, is no route.
"""

from typing import TYPE_CHECKING

from lib.app.instance import instance
from lib.edge.paths import paths, segments
from lib.edge.request import Reply, Request

if TYPE_CHECKING:
    from lib.edge.problems import Problem
    from lib.edge.replies import ProblemBody
    from lib.edge.request import ErrorReply
    from lib.parts import Parts

ROUTE = "/api/v1/models"


async def every(request: Request, parts: "Parts") -> Reply:
    """All models, the one first that is asked first."""
    from lib.ai.model_list import listed
    from lib.base.encode import to_json

    request.notes.decision, request.notes.reason = "report", "models"
    return Reply(200, to_json(listed(parts.settings.models)))


async def one(request: Request, parts: "Parts") -> Reply:
    """One model, by its id; an id may hold slashes."""
    from lib.ai.model_list import described
    from lib.base.encode import to_json

    name = "/".join(segments(request.http.scope)[3:])
    request.notes.decision, request.notes.reason = "report", "model"
    return Reply(200, to_json(described(parts.settings.models, name)))


def errors(problem: "ProblemBody") -> "ErrorReply":
    """Errors as OpenAI words them."""
    from lib.ai.openai_errors import openai_error

    return openai_error(problem)


def missing(request: Request) -> "Problem":
    """The error of any other path."""
    from lib.ai.openai_errors import unsupported_endpoint

    return unsupported_endpoint(segments(request.http.scope)[2:])


app = paths(instance, {ROUTE: {"get": every}, f"{ROUTE}/{{id*}}": {"get": one}}, errors, missing=missing)
