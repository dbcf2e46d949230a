"""POST /api/v1/chat/completions: the same guarded backend, for clients that speak OpenAI's protocol."""

from typing import TYPE_CHECKING

from lib.http import Reply, Request, endpoint
from lib.instance import parts

if TYPE_CHECKING:
    from lib.replies import ProblemBody
    from lib.wiring import Parts

ROUTE = "/api/v1/chat/completions"


async def complete(request: Request, parts: "Parts") -> Reply:
    """Parse, guard, respond."""
    # With the first request, as the parts themselves (lib/instance.py).
    from lib.openai import ChatFormat
    from lib.respond import guarded
    from lib.rules.answers import directives
    from lib.schemas import MAX_BODY_BYTES, ChatCompletion

    body = await request.json(ChatCompletion, MAX_BODY_BYTES)
    caller = await request.identify(parts)
    usage = bool(body.stream_options and body.stream_options.include_usage)
    return await guarded(
        request,
        parts,
        path=ROUTE,
        caller=caller,
        question=body.question(session=f"s-{caller.id[:16]}"),
        asked=directives(request.header("cache-control")),
        form=ChatFormat(body.model, usage),
        stream=body.wants_stream(request.header("accept")),
    )


def errors(problem: "ProblemBody") -> tuple[bytes, str]:
    """Errors as OpenAI words them."""
    from lib.openai import error_body

    return error_body(problem)


app = endpoint(parts, errors=errors, post=complete)
