"""A guard in front of any ASGI application: one line in FastAPI, Starlette or anything else that speaks ASGI."""

import asyncio
import inspect
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import starlette.requests
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..base import caller as callers
from ..base.leaving import is_cancelled
from ..base.log import log
from ..edge import limits, sending
from ..edge.current import serving
from ..edge.errors import as_problem, of_the_application, problem_json, reply_to
from ..edge.limits import route_limit
from ..edge.request import Reply, Request

if TYPE_CHECKING:
    from ..door import Breakwater
    from ..parts import Parts

type WhoCalls = Callable[[Scope], str | Awaitable[str | None] | None]


class GuardMiddleware:
    """Limits the callers of the paths that match. What lies behind may use the same Breakwater.

    ``app.add_middleware(GuardMiddleware, breakwater=bw, limit="10/minute", paths="/api/*")``

    ``limit``: as in ``bw.route``; None counts nothing. ``paths``: one pattern or several, as a shell has them.
    ``name``: two middlewares of one name share their counts; without it the paths name it. ``caller``: names who calls,
    from the ASGI scope, and may be async; where it is not given, or yields None, that is the signed-in user or the
    network address. ``dry_run``: nothing is refused, what would have been is logged and counted. CORS preflights and
    WebSockets pass uncounted.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        breakwater: "Breakwater",
        limit: str | None,
        paths: str | Sequence[str] = "*",
        name: str = "",
        caller: WhoCalls | None = None,
        dry_run: bool = False,
    ) -> None:
        """Raises ValueError for what is no limit."""
        self._app = app
        self._instance = breakwater.instance
        self._paths = (paths,) if isinstance(paths, str) else tuple(paths)
        self._limit = route_limit(limit, name or "/".join(("middleware", *self._paths)), dry_run=dry_run)
        self._caller = caller

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the start and end of the process."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, self._until_the_end(send))
        elif scope["type"] == "http" and self._covers(scope):
            await self._guard(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _covers(self, scope: Scope) -> bool:
        """Whether a pattern has the path: the whole one, or as the application's own routes have it (``root_path``)."""
        whole: str = scope["path"]
        below = whole.removeprefix(scope.get("root_path", ""))
        return any(fnmatchcase(whole, each) or fnmatchcase(below, each) for each in self._paths)

    def _until_the_end(self, send: Send) -> Send:
        async def sent(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown"):
                await self._instance.goodbye()
            await send(message)

        return sent

    async def _guard(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(starlette.requests.Request(scope, receive), os.urandom(16).hex(), problem_json)
        if request.is_preflight:
            await self._app(scope, receive, send)
            return
        try:
            parts = await self._instance()
        except Exception as e:  # noqa: BLE001 - answered and logged like every other failure
            await sending.send(request, reply_to(request, as_problem(request, e, log)), log, scope, receive, send)
            return
        request.begin(parts)
        try:
            with serving(request):
                try:
                    if (refused := await self._refusal(request, parts)) is None:
                        await self._pass_on(request, parts, scope, receive, send)
                    else:
                        await sending.send(request, refused, parts.emit, scope, receive, send)
                finally:
                    await sending.finish(request, parts.emit)
        finally:
            await sending.settle(request, parts)

    async def _who_calls(self, scope: Scope) -> str | None:
        """Whom the application names, if it does."""
        if self._caller is None:
            return None
        with of_the_application(f"function `caller` of the middleware {self._limit.name!r}"):
            who = self._caller(scope)
            return await who if inspect.isawaitable(who) else who

    async def _refusal(self, request: Request, parts: "Parts") -> Reply | None:
        """Count the request; the reply where it is refused, or cannot be counted."""
        try:
            if who := await self._who_calls(request.http.scope):
                request.notes.caller = callers.identify("key", who, parts.settings.identity_key)
            await limits.count(request, parts, self._limit)
        except Exception as e:  # noqa: BLE001 - answered and logged like every other failure
            return reply_to(request, as_problem(request, e, parts.emit))
        return None

    async def _pass_on(self, request: Request, parts: "Parts", scope: Scope, receive: Receive, send: Send) -> None:
        """Have the application answer, and report how that went."""
        notes, outgoing, started = request.notes, _Outgoing(request, send), parts.clock.monotonic()
        notes.reason = "passed"
        try:
            await self._app(scope, receive, outgoing)
        except Exception as e:
            notes.reason = f"raised {type(e).__name__}"
            if not outgoing.status and not _words_failures(scope):
                # As the server, or Starlette, would say it: but the headers of the limit belong to failures, too.
                await PlainTextResponse("Internal Server Error", 500)(scope, receive, outgoing)
            raise
        except asyncio.CancelledError:
            if is_cancelled():
                notes.decision = "client_left"
            else:
                notes.reason = "raised CancelledError"
            raise
        finally:
            notes.spent = replace(notes.spent, backend=(parts.clock.monotonic() - started) * 1000)
            sending.report(request, parts.emit, outgoing.status or (499 if notes.decision == "client_left" else 500))


class _Outgoing:
    """Sends an application's messages, with the headers of the limit, but not over what the application says itself."""

    def __init__(self, request: Request, send: Send) -> None:
        self.status = 0
        """That of the reply; 0 before there is one."""
        self._request = request
        self._send = send

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = {**(self._request.limit_headers or {}), "x-request-id": self._request.id}
            given = {name.lower() for name, _ in message.get("headers", ())}
            ours = [(name.encode(), value.encode()) for name, value in headers.items()]
            own = [pair for pair in ours if pair[0] not in given]
            message = {**message, "headers": [*message.get("headers", ()), *own]}
        await self._send(message)


def _words_failures(scope: Scope) -> bool:
    """Whether the Starlette application around us has its own reply to uncaught exceptions."""
    app = scope.get("app")
    handlers = getattr(app, "exception_handlers", {})
    return bool(getattr(app, "debug", False) or 500 in handlers or Exception in handlers)
