"""The edge that every route shares: limit, method, size, media type, identity, CORS, errors, headers, one log line.

An ASGI application for each route, so that a Vercel function is one line: ``app = endpoint(...)``.
"""

import os
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Protocol

import starlette.requests
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from ..base.log import log
from ..base.values import dataclass
from . import limits, sending
from .cors import allows, named, preflights, readable
from .current import serving
from .errors import as_problem, problem_json, reply_to
from .limits import BY_TABLE, RouteLimit
from .problems import Problem
from .request import Errors, Reply, Request

if TYPE_CHECKING:
    from ..parts import Parts

type Handler = Callable[[Request, Parts], Awaitable[Reply]]


class Instance(Protocol):
    """Where an application has its parts from."""

    async def __call__(self) -> "Parts":
        """The parts of this process, built with the first call. Raises BadSettings."""

    async def goodbye(self) -> None:
        """The process ends: flush what was counted."""

    async def aclose(self) -> None:
        """Flush what was counted and close all connections; what comes later makes new ones."""


ALL_METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")


def no_route(request: Request) -> Problem:
    """The error of a path at which nothing is served."""
    return Problem("not_found", "No route has this path; the README lists all routes.")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The ASGI application of one route. Without any handler it is a path at which nothing is served."""

    instance: Instance
    handlers: Mapping[str, Handler]
    """By method, in capitals."""
    limit: RouteLimit
    errors: Errors
    missing: Callable[[Request], Problem] = no_route
    """What is wrong where there is no handler at all."""

    @property
    def allow(self) -> str:
        """The value of an ``Allow`` header."""
        return ", ".join([*sorted(self.handlers), "OPTIONS"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the start and end of a process."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send, self.instance.goodbye)
            return
        if scope["type"] != "http":
            # A route that is mounted in another application can be sent a WebSocket.
            await send({"type": "websocket.close", "code": 1000})
            return
        request = Request(starlette.requests.Request(scope, receive), os.urandom(16).hex(), self.errors)
        try:
            parts = await self.instance()
        except Exception as e:  # noqa: BLE001 - answered and logged like every other failure
            reply = reply_to(request, as_problem(request, e, log))
            await sending.send(request, reply, log, scope, receive, send)
            return

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            await _serve(request, parts, self, scope, receive, send)

        app: ASGIApp = serve
        allowed = parts.settings.allowed_origins
        if allows(allowed, request.header("origin")):
            origin = named(allowed, request.header("origin"))
            if request.is_preflight:
                # Where there is no handler, a page may read so, whatever it has sent.
                methods = self.handlers or ALL_METHODS
                app = preflights(serve, origin, methods, request.header("access-control-request-headers"))
            request.readable = readable(origin)
        await app(scope, receive, send)


def endpoint(
    instance: Instance, errors: Errors = problem_json, *, limit: RouteLimit = BY_TABLE, **methods: Handler
) -> Endpoint:
    """The ASGI application of one route: a handler for each method, in lower case (``get=``, ``post=``)."""
    handlers = {name.upper(): handler for name, handler in methods.items()}
    if "GET" in handlers:
        handlers["HEAD"] = handlers["GET"]
    return Endpoint(instance, handlers, limit, errors)


async def _lifespan(receive: Receive, send: Send, goodbye: Callable[[], Awaitable[None]]) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.shutdown":
            await goodbye()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _serve(request: Request, parts: "Parts", route: Endpoint, scope: Scope, receive: Receive, send: Send) -> None:
    request.begin(parts)
    try:
        with serving(request):
            try:
                reply = await _reply(request, parts, route)
                await sending.send(request, reply, parts.emit, scope, receive, send)
            except ClientDisconnect:
                request.notes.decision = "client_left"
                sending.report(request, parts.emit, 499)
            finally:
                if request.later:
                    await sending.finish(request, parts.emit)
    finally:
        # A server, or an application around this one, may cancel it.
        await sending.settle(request, parts)


async def _reply(request: Request, parts: "Parts", route: Endpoint) -> Reply:
    """What to answer, whatever happens. Raises ClientDisconnect."""
    try:
        return await _handle(request, parts, route)
    except ClientDisconnect:
        raise
    except Exception as e:  # noqa: BLE001 - on Vercel what escapes here is logged without its request, or not at all
        problem = as_problem(request, e, parts.emit)
    try:
        await limits.count_failed(request, parts, route.limit, problem)
    except Exception as e:  # noqa: BLE001 - likewise
        problem = as_problem(request, e, parts.emit)
    try:
        return reply_to(request, problem)
    finally:
        # Its traceback leads to this frame: a circle, which would keep the request until the garbage collector comes.
        del problem


async def _handle(request: Request, parts: "Parts", route: Endpoint) -> Reply:
    method = request.http.method
    if not route.handlers:
        raise route.missing(request)
    if method == "OPTIONS":
        if request.is_preflight:
            # Allowed origins' preflights do not get here.
            raise Problem("origin_not_allowed", "Add this origin to ALLOWED_ORIGINS.")
        return Reply(204, b"", {"allow": route.allow})
    if not route.limit.by_guard:
        await limits.count(request, parts, route.limit)
    if method not in route.handlers:
        raise Problem("method_not_allowed", f"Use one of {route.allow}.", headers={"allow": route.allow})
    return await route.handlers[method](request, parts)
