"""POST /api/v1/chat/completions: the same guarded backend, for clients that speak OpenAI's protocol."""

from lib.guard import Call
from lib.http import Reply, Request, endpoint
from lib.openai import ChatFormat, error_body
from lib.respond import respond
from lib.rules.answers import directives
from lib.wiring import Parts, parts

ROUTE = "/api/v1/chat/completions"


async def complete(request: Request, parts: Parts) -> Reply:
    """Parse, guard, respond."""
    # Pydantic is half of a cold start, and not needed before there is a body.
    from lib.schemas import MAX_BODY_BYTES, ChatCompletion

    body = await request.json(ChatCompletion, MAX_BODY_BYTES)
    caller = await request.identify(parts)
    stream = body.wants_stream(request.header("accept"))
    call = Call(
        route=ROUTE.removeprefix("/api/"),
        caller=caller,
        question=body.question(session=f"s-{caller.id[:16]}"),
        asked=directives(request.header("cache-control")),
        policy=parts.settings.policy_for(ROUTE),
        request_id=request.id,
        deadline=request.deadline,
        stream=stream,
    )
    outcome = await request.unless_gone(parts.guard.handle(call))
    usage = bool(body.stream_options and body.stream_options.include_usage)
    return respond(request, outcome, ChatFormat(body.model, usage), stream=stream)


app = endpoint(parts, errors=error_body, post=complete)
