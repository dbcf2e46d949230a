"""POST /api/ai/supervisor: a question to the AI backend, guarded."""

from dataclasses import replace
from typing import TYPE_CHECKING

from lib.app.instance import instance
from lib.edge.app import endpoint
from lib.edge.limits import BY_GUARD
from lib.edge.request import Reply, Request

if TYPE_CHECKING:
    from lib.parts import Parts

ROUTE = "/api/ai/supervisor"
NAME = ROUTE.removeprefix("/api/")


async def ask(request: Request, parts: "Parts") -> Reply:
    """Parse, guard, respond."""
    parts.settings.require_ai()
    # With the first request, as the parts themselves (lib/app/instance.py).
    from lib.ai.owners import owner_of, shelf
    from lib.ai.respond import ONLY, Supervisor, guarded
    from lib.ai.schemas import MAX_BODY_BYTES, Ask
    from lib.cache.freshness import directives

    body = await request.json(Ask, MAX_BODY_BYTES)
    only = request.header(ONLY.lower())
    if only:
        from lib.edge.tokens import require

        # For operators: whoever may choose could spend the dearest provider's budget, or keep calling a failing one.
        require(request, parts.settings.admin_token, "ADMIN_TOKEN")
    caller = request.identify_address(parts) if only else await request.identify(parts)
    secret, scope = parts.settings.identity_key, parts.settings.cache_scope
    owner = owner_of(caller, request.header, secret)
    # Without a session each owner has one that is made of its id: stable, and not to be guessed.
    session = body.session or f"s-{owner[:16]}"
    stands_alone = scope == "shared" and body.stands_alone and not only
    kept = shelf(scope, NAME, owner, session, secret, stands_alone=stands_alone)
    question, supplement = body.question(kept.told), None
    if body.is_about_servers:
        from lib.fleet.briefing import informed

        question, supplement = await informed(request, parts, question)
    wanted = directives(request.header("cache-control"))
    if body.trigger == "regenerate-message":
        wanted = replace(wanted, no_cache=True)
    return await guarded(
        request,
        parts,
        path=ROUTE,
        caller=caller,
        question=question,
        shelf=kept,
        directives=wanted,
        form=Supervisor(session),
        stream=body.wants_stream(request.header("accept")),
        only=only,
        supplement=supplement,
    )


app = endpoint(instance, limit=BY_GUARD, post=ask)
