"""A guard in front of any ASGI application: one line in FastAPI, Starlette or anything else that speaks ASGI."""

import os
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import starlette.requests
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..base import caller as callers
from ..edge import limits
from ..edge.current import serving
from ..edge.errors import problem_json, reply_to
from ..edge.limits import route_limit
from ..edge.problems import Problem
from ..edge.request import Request

if TYPE_CHECKING:
    from ..door import Breakwater


class GuardMiddleware:
    """Limits the callers of the paths that match. What lies behind may use the same Breakwater.

    ``app.add_middleware(GuardMiddleware, breakwater=bw, limit="10/minute", paths="/api/*")``. ``paths``: one pattern or
    several, as a shell has them. ``caller``: names who calls, from the ASGI scope; without it the signed-in user, or
    the network address. ``dry_run``: nothing is refused, what would have been is logged and counted.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        breakwater: "Breakwater",
        limit: str | None = None,
        paths: str | Sequence[str] = "*",
        name: str = "middleware",
        caller: Callable[[Scope], str | None] | None = None,
        dry_run: bool = False,
    ) -> None:
        """Raises ValueError for what is no limit."""
        self._app = app
        self._instance = breakwater.instance
        self._limit = route_limit(limit, name, dry_run=dry_run)
        self._paths = (paths,) if isinstance(paths, str) else tuple(paths)
        self._caller = caller

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the start and end of the process."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, self._until_the_end(send))
        elif scope["type"] == "http" and any(fnmatchcase(scope["path"], pattern) for pattern in self._paths):
            await self._guard(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _until_the_end(self, send: Send) -> Send:
        async def sent(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown"):
                await self._instance.goodbye()
            await send(message)

        return sent

    async def _guard(self, scope: Scope, receive: Receive, send: Send) -> None:
        parts = await self._instance()
        request = Request(starlette.requests.Request(scope, receive), os.urandom(16).hex(), problem_json)
        request.deadline = parts.clock.monotonic() + parts.settings.max_duration_ms / 1000
        if self._caller is not None and (who := self._caller(scope)):
            request.notes.caller = callers.identify("key", who, parts.settings.identity_key)
        refused = None
        try:
            await limits.count(request, parts, self._limit)
        except Problem as e:
            refused = reply_to(request, e)
        try:
            if refused is None:
                with serving(request):
                    await self._app(scope, receive, _with(request, send))
            else:
                body = refused.body if isinstance(refused.body, bytes) else b""
                given = {**(request.limit_headers or {}), **refused.headers}
                await Response(body, refused.status, given, refused.content_type)(scope, receive, send)
        finally:
            await parts.guard.outbox.try_send(request.after, parts.guard.limits.left_s(request.deadline))
            await parts.settle()


def _with(request: Request, send: Send) -> Send:
    """Add the headers of the limit to a reply, but not over what the application says itself."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = {name.lower() for name, _ in message.get("headers", ())}
            ours = [(name.encode(), value.encode()) for name, value in (request.limit_headers or {}).items()]
            own = [pair for pair in ours if pair[0] not in given]
            message = {**message, "headers": [*message.get("headers", ()), *own]}
        await send(message)

    return sent
