"""POST /api/v1/chat/completions: the same guarded backend, for clients that speak OpenAI's protocol."""

from typing import TYPE_CHECKING

from lib.app.instance import instance
from lib.edge.app import endpoint
from lib.edge.limits import BY_GUARD
from lib.edge.request import Reply, Request

if TYPE_CHECKING:
    from lib.edge.replies import ProblemBody
    from lib.edge.request import ErrorReply
    from lib.parts import Parts

ROUTE = "/api/v1/chat/completions"
NAME = ROUTE.removeprefix("/api/")


async def complete(request: Request, parts: "Parts") -> Reply:
    """Parse, guard, respond."""
    parts.settings.require_ai()
    # With the first request, as the parts themselves (lib/app/instance.py).
    from lib.ai.chain import Chain
    from lib.ai.openai import ChatFormat, chat_request, directives_of
    from lib.ai.openai_schemas import MAX_BODY_BYTES, ChatCompletion, session_in
    from lib.ai.owners import owner_of, shelf
    from lib.ai.respond import guarded

    body = await request.json(ChatCompletion, MAX_BODY_BYTES)
    caller = await request.identify(parts)
    secret, named, scope = parts.settings.identity_key, session_in(request), parts.settings.cache_scope
    owner = owner_of(caller, request.header, secret, body.user or "")
    session, alone = named or f"s-{owner[:16]}", scope == "shared" and not named and body.stands_alone
    kept = shelf(scope, NAME, owner, session, secret, stands_alone=alone)
    question = chat_request(body.body_without(parts.settings.omitted), parts.settings.models, kept.told)
    return await guarded(
        request,
        parts,
        path=ROUTE,
        caller=caller,
        question=question,
        shelf=kept,
        directives=directives_of(question, request.header("cache-control")),
        form=ChatFormat(body.wants_usage),
        stream=body.wants_stream(request.header("accept")),
        failures=Chain.of(parts).failures,
    )


def errors(problem: "ProblemBody") -> "ErrorReply":
    """Errors as OpenAI words them."""
    from lib.ai.openai_errors import openai_error

    return openai_error(problem)


app = endpoint(instance, errors, limit=BY_GUARD, post=complete)
