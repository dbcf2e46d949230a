"""POST /api/v1/chat/completions: the same guarded backend, for clients that speak OpenAI's protocol."""

from typing import TYPE_CHECKING

from lib.app.instance import instance
from lib.edge.app import endpoint
from lib.edge.limits import BY_GUARD
from lib.edge.request import Reply, Request

if TYPE_CHECKING:
    from lib.app.wiring import Parts
    from lib.edge.replies import ProblemBody

ROUTE = "/api/v1/chat/completions"


async def complete(request: Request, parts: "Parts") -> Reply:
    """Parse, guard, respond."""
    parts.settings.require_ai()
    # With the first request, as the parts themselves (lib/app/instance.py).
    from lib.ai.openai import ChatFormat, chat_request, directives_of
    from lib.ai.openai_schemas import MAX_BODY_BYTES, ChatCompletion
    from lib.ai.respond import guarded

    body = await request.json(ChatCompletion, MAX_BODY_BYTES)
    caller = await request.identify(parts)
    question = chat_request(body.body_without(parts.settings.omitted), parts.settings.models, f"s-{caller.id[:16]}")
    return await guarded(
        request,
        parts,
        path=ROUTE,
        caller=caller,
        question=question,
        directives=directives_of(question, request.header("cache-control")),
        form=ChatFormat(body.wants_usage),
        stream=body.wants_stream(request.header("accept")),
    )


def errors(problem: "ProblemBody") -> tuple[int, bytes, str]:
    """Errors as OpenAI words them."""
    from lib.ai.openai import error_body

    return error_body(problem)


app = endpoint(instance, errors, limit=BY_GUARD, post=complete)
