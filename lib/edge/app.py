"""The edge that every route shares: method, size, media type, identity, CORS, errors, headers, one log line.

An ASGI application for each route, so that a Vercel function is one line: ``app = endpoint(...)``.
"""

import asyncio
import os
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import starlette.requests
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ..app.instance import goodbye
from ..base import caller
from ..base.caller import Caller
from ..base.encode import to_json
from ..base.events import Crashed, Listener, Mode, RequestDone, Spent
from ..base.leaving import never
from ..base.log import log
from .problems import TYPE_BASE, BadSettings, Problem

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

    from ..app.wiring import Parts
    from .replies import FieldError, ProblemBody


@dataclass(slots=True, eq=False)
class Notes:
    """What the log line of a request says beyond its status."""

    decision: str = "none"
    reason: str = ""
    caller: Caller | None = None
    cache: str | None = None
    provider: str | None = None
    mode: Mode | None = None
    remaining: int | None = None
    spent: Spent = field(default_factory=Spent)


@dataclass(frozen=True, slots=True, eq=False)
class Reply:
    """A reply, whole or streamed. ``after`` runs when it has gone out; Vercel keeps the instance until it is done."""

    status: int
    body: bytes | AsyncGenerator[bytes]
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    after: Callable[[], Awaitable[None]] | None = None


type ErrorBody = Callable[[ProblemBody], tuple[bytes, str]]
"""How a route words its errors: the body and its media type."""


@dataclass(slots=True, eq=False)
class Request:
    """One request at the edge."""

    http: starlette.requests.Request
    id: str
    errors: ErrorBody
    deadline: float = 0.0
    """On the monotonic clock, in seconds: when the platform stops the function, or the configured maximum."""
    notes: Notes = field(default_factory=Notes)
    _headers: dict[bytes, bytes] = field(init=False)

    def __post_init__(self) -> None:
        headers: dict[bytes, bytes] = {}
        self._headers = headers
        for name, value in self.http.scope["headers"]:
            headers[name] = headers[name] + b", " + value if name in headers else value

    def header(self, name: str) -> str:
        """A header, by its name in lower case; a repeated one is one list (RFC 9110, section 5.3); empty for none."""
        return self._headers.get(name.encode(), b"").decode("latin-1")

    async def identify(self, parts: "Parts") -> Caller:
        """The signed-in user where a valid token says so, else the client's network."""
        settings = parts.settings
        user = await parts.signin.user(self.header("authorization"))
        if user is not None:
            found = caller.identify("user", user, settings.identity_key)
        else:
            peer = self.http.client.host if self.http.client else None
            address = caller.client_address(self.header, peer, settings.trust)
            found = caller.identify("address", address, settings.identity_key)
        self.notes.caller = found
        return found

    async def json[M: "BaseModel"](self, model: type[M], limit: int) -> M:
        """The body, read up to ``limit`` bytes and validated. Raises Problem."""
        media = self.header("content-type").partition(";")[0].strip().lower()
        if media != "application/json" and not (media.startswith("application/") and media.endswith("+json")):
            raise Problem("unsupported_media_type", "Send the header Content-Type: application/json.")
        if self.header("content-encoding").lower() not in ("", "identity"):
            raise Problem("unsupported_media_type", "Send the body without Content-Encoding.")
        body = await self._body(limit)
        from pydantic import ValidationError

        try:
            return model.model_validate_json(body)
        except ValidationError as e:
            raise _invalid(e) from None

    async def _body(self, limit: int) -> bytes:
        too_large = Problem("body_too_large", f"Send at most {limit} bytes.")
        declared = self.header("content-length")
        if declared.isascii() and declared.isdigit() and int(declared[:20]) > limit:
            raise too_large
        body = bytearray()
        async for chunk in self.http.stream():
            body += chunk
            if len(body) > limit:
                raise too_large
        return bytes(body)

    async def while_here[T](self, wait: Awaitable[T], /, wanted: Callable[[], bool] = never) -> T:
        """Await something long, but cancel it when the client leaves and nobody else wants it. Raises ClientDisconnect.

        Costs two tasks, so that what is short is not awaited here (base/leaving.py).
        """
        gone = asyncio.ensure_future(self._gone())
        task: asyncio.Future[T] | None = None
        try:
            # One turn of the loop shows who left before; nothing is begun for them.
            await asyncio.sleep(0)
            task = asyncio.ensure_future(wait)
            if not gone.done():
                await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
            if task.done() or wanted():
                return await task
            raise ClientDisconnect
        finally:
            gone.cancel()
            if task is not None and not task.done():
                task.cancel()
                # What it has begun to clean up is waited for.
                await asyncio.gather(task, return_exceptions=True)

    async def _gone(self) -> None:
        while (await self.http.receive())["type"] != "http.disconnect":
            pass


type Handler = Callable[[Request, Parts], Awaitable[Reply]]
type PartsOf = Callable[[], Awaitable[Parts]]


def problem_json(problem: "ProblemBody") -> tuple[bytes, str]:
    """An error as RFC 9457 has it."""
    return to_json(problem), "application/problem+json"


def endpoint(parts_of: PartsOf, errors: ErrorBody = problem_json, **methods: Handler) -> ASGIApp:
    """The ASGI application of one route: a handler for each method, in lower case (``get=``, ``post=``).

    Without any handler it is a path at which nothing is served, whatever the method.
    """
    handlers = {name.upper(): handler for name, handler in methods.items()}
    if "GET" in handlers:
        handlers["HEAD"] = handlers["GET"]
    allow = ", ".join([*sorted(handlers), "OPTIONS"])

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send, goodbye)
            return
        request = Request(starlette.requests.Request(scope, receive), os.urandom(16).hex(), errors)
        try:
            parts = await parts_of()
        except Exception as e:  # noqa: BLE001 - answered and logged like every other failure
            reply = _failure(request, e, log)
            await _send(request, reply, log, scope, receive, send)
            return

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            await _serve(request, parts, handlers, allow, scope, receive, send)

        origins = parts.settings.allowed_origins
        allowed = "*" in origins or request.header("origin") in origins
        await (_cors(serve, origins, handlers) if allowed else serve)(scope, receive, send)

    return app


async def _lifespan(receive: Receive, send: Send, goodbye: Callable[[], Awaitable[None]]) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.shutdown":
            await goodbye()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _serve(
    request: Request,
    parts: "Parts",
    handlers: Mapping[str, Handler],
    allow: str,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    if parts.settings.on_vercel:
        request.id = request.header("x-vercel-id")[:200] or request.id
    request.deadline = parts.clock.monotonic() + _seconds_left(parts.settings.max_duration_ms / 1000)
    method = request.http.method
    try:
        if not handlers:
            reply = _problem(request, Problem("not_found", "No route has this path; the README lists all routes."))
        elif method == "OPTIONS" and request.header("access-control-request-method"):
            # Allowed origins' preflights do not get here.
            reply = _problem(request, Problem("origin_not_allowed", "Add this origin to ALLOWED_ORIGINS."))
        elif method == "OPTIONS":
            reply = Reply(204, b"", {"allow": allow})
        elif method in handlers:
            reply = await handlers[method](request, parts)
        else:
            reply = _problem(request, Problem("method_not_allowed", f"Use one of {allow}.", headers={"allow": allow}))
    except ClientDisconnect:
        request.notes.decision = "client_left"
        _report(request, parts.emit, 499)
        return
    except Exception as e:  # noqa: BLE001 - on Vercel what escapes here is logged without its request, or not at all
        reply = _failure(request, e, parts.emit)
    await _send(request, reply, parts.emit, scope, receive, send)
    try:
        await parts.settle()
    except Exception:  # noqa: BLE001 - likewise
        parts.emit(Crashed(request.id, traceback.format_exc()))


async def _send(request: Request, reply: Reply, emit: Listener, scope: Scope, receive: Receive, send: Send) -> None:
    headers = {**_BASE_HEADERS, **reply.headers, "vary": "Origin", "x-request-id": request.id}
    response: Response
    if isinstance(reply.body, bytes):
        response = Response(reply.body, reply.status, headers, reply.content_type if reply.body else None)
    else:
        response = StreamingResponse(reply.body, reply.status, headers, reply.content_type)
    try:
        await response(scope, receive, send)
    except ClientDisconnect:
        request.notes.decision = "client_left"
    except Exception:  # noqa: BLE001 - the head is out: the server breaks the connection off, and the work is tidied up
        emit(Crashed(request.id, traceback.format_exc()))
    finally:
        if not isinstance(reply.body, bytes):
            # However it ended: an abandoned answer must not go on being computed.
            await reply.body.aclose()
    _report(request, emit, reply.status)
    if reply.after is not None:
        try:
            await reply.after()
        except Exception:  # noqa: BLE001 - the reply is out; a bug here must not be taken for a failed request
            emit(Crashed(request.id, traceback.format_exc()))


def _failure(request: Request, error: Exception, emit: Listener) -> Reply:
    if isinstance(error, Problem):
        return _problem(request, error)
    if isinstance(error, BadSettings):
        detail = "Set these variables and deploy again: " + "; ".join(error.faults)
        return _problem(request, Problem("misconfigured", detail))
    emit(Crashed(request.id, "".join(traceback.format_exception(error))))
    return _problem(request, Problem("internal_error", f"Report this with the id {request.id}."))


def _seconds_left(configured_s: float) -> float:
    """Until the platform stops this invocation, where it says so; the configured maximum elsewhere."""
    try:
        # There only on Vercel, and in tests that run its runtime.
        from vercel_runtime import get_deadline
    except ImportError:
        return configured_s
    deadline = cast("datetime | None", get_deadline())
    return configured_s if deadline is None else min(configured_s, (deadline - datetime.now(UTC)).total_seconds())


_EXPOSED = (
    *(
        "Age",
        "Cache-Status",
        "RateLimit",
        "RateLimit-Policy",
        "Retry-After",
        "Server-Timing",
        "X-Cache",
        "X-Attempts",
        "X-Guard-Mode",
    ),
    *("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-Request-Id"),
)


def _cors(app: ASGIApp, origins: tuple[str, ...], methods: Iterable[str]) -> ASGIApp:
    from starlette.middleware.cors import CORSMiddleware

    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=sorted(methods),
        allow_headers=("Authorization", "Cache-Control", "Content-Type"),
        expose_headers=_EXPOSED,
        max_age=86_400,
    )


_BASE_HEADERS = {
    # Answers belong to one caller: no cache between us and that caller may keep them.
    "cache-control": "private, no-store",
    "x-content-type-options": "nosniff",
}


def _problem(request: Request, problem: Problem) -> Reply:
    kind = problem.kind
    body: ProblemBody = {
        "type": TYPE_BASE + kind.code,
        "title": kind.title,
        "status": kind.status,
        "detail": problem.detail,
        "code": kind.code,
        "source": kind.source,
        "requestId": request.id,
    }
    headers = dict(problem.headers)
    if problem.retry_after_s is not None:
        body["retryAfter"] = problem.retry_after_s
        headers["retry-after"] = str(problem.retry_after_s)
    if problem.errors:
        body["errors"] = list(problem.errors)
    if problem.attempts:
        body["attempts"] = list(problem.attempts)
    if request.notes.decision == "none":
        request.notes.decision, request.notes.reason = "refuse", kind.code
    content, media = request.errors(body)
    return Reply(kind.status, content, headers, media, problem.after)


def _invalid(error: "ValidationError") -> Problem:
    items = error.errors(include_url=False, include_input=False, include_context=False)
    if items[0]["type"] == "json_invalid":
        return Problem("invalid_json", f"Send valid JSON: {items[0]['msg']}.")
    errors = [_field_error(item["loc"], item["msg"], item["type"]) for item in items[:20]]
    detail = "; ".join(f"{each['field']}: {each['message']}" for each in errors[:3])
    return Problem("invalid_request", detail, errors=errors)


def _field_error(loc: tuple[int | str, ...], message: str, kind: str) -> "FieldError":
    # Errors of the model as a whole name their field in front of the message.
    field_name, _, rest = message.partition(": ")
    if not loc and rest:
        return {"field": field_name, "message": rest, "type": kind}
    # A client may name a field anything; it is shown, not trusted.
    return {"field": ".".join(str(part) for part in loc)[:200] or "body", "message": message, "type": kind}


def _report(request: Request, emit: Listener, status: int) -> None:
    notes = request.notes
    emit(
        RequestDone(
            request_id=request.id,
            method=request.http.method[:16],
            route=request.http.scope["path"][:200],
            status=status,
            decision=notes.decision,
            reason=notes.reason,
            caller=notes.caller.id if notes.caller else None,
            caller_kind=notes.caller.kind if notes.caller else None,
            cache=notes.cache,
            provider=notes.provider,
            mode=notes.mode,
            remaining=notes.remaining,
            spent_ms=notes.spent,
        )
    )
