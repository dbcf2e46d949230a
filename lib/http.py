"""The edge that every route shares: method, size, media type, identity, CORS, errors, headers, one log line.

An ASGI application for each route, so that a Vercel function is one line: ``app = endpoint(...)``.
"""

import asyncio
import traceback
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from lib.events import Crashed, Mode, RequestDone, Spent, log
from lib.problems import TYPE_BASE, Problem
from lib.replies import FieldError, ProblemBody
from lib.rules import caller
from lib.rules.caller import Caller
from lib.settings import BadSettings
from lib.wiring import Parts

type Scope = MutableMapping[str, Any]
type Message = MutableMapping[str, Any]
type Receive = Callable[[], Awaitable[Message]]
type Send = Callable[[Message], Awaitable[None]]
type App = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(slots=True)
class Notes:
    """What the log line of a request says beyond its status."""

    decision: str = "none"
    reason: str = ""
    caller: Caller | None = None
    cache: str | None = None
    mode: Mode | None = None
    remaining: int | None = None
    spent: Spent = field(default_factory=Spent)


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply. ``after`` runs when it has gone out; Vercel keeps the instance until it is done."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    after: Callable[[], Awaitable[None]] | None = None


@dataclass(slots=True)
class Request:
    """One request at the edge."""

    method: str
    path: str
    headers: Mapping[str, str]
    peer: str | None
    id: str
    deadline: float
    """On the monotonic clock, in seconds: when the platform stops the function, or the configured maximum."""
    receive: Receive
    notes: Notes = field(default_factory=Notes)

    async def identify(self, parts: Parts) -> Caller:
        """The signed-in user where a valid token says so, else the client's network."""
        settings = parts.settings
        user = await parts.signin.user(self.headers.get("authorization"))
        if user is not None:
            found = caller.identify("user", user, settings.identity_key)
        else:
            address = caller.client_address(self.headers, self.peer, settings.trust)
            found = caller.identify("address", address, settings.identity_key)
        self.notes.caller = found
        return found

    async def json[M: BaseModel](self, model: type[M], limit: int) -> M:
        """The body, read up to ``limit`` bytes and validated. Raises Problem."""
        media = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media != "application/json" and not (media.startswith("application/") and media.endswith("+json")):
            raise Problem("unsupported_media_type", "Send the header Content-Type: application/json.")
        if self.headers.get("content-encoding", "identity").lower() != "identity":
            raise Problem("unsupported_media_type", "Send the body without Content-Encoding.")
        body = await self._body(limit)
        try:
            return model.model_validate_json(body)
        except ValidationError as e:
            raise _invalid(e) from None

    async def _body(self, limit: int) -> bytes:
        too_large = Problem("body_too_large", f"Send at most {limit} bytes.")
        declared = self.headers.get("content-length", "")
        if declared.isascii() and declared.isdigit() and int(declared[:20]) > limit:
            raise too_large
        body = bytearray()
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            body += message.get("body", b"")
            if len(body) > limit:
                raise too_large
            if not message.get("more_body", False):
                return bytes(body)

    async def unless_gone[T](self, work: Awaitable[T]) -> T:
        """Await ``work``, but cancel it as soon as the client leaves. Raises ClientLeft."""
        task = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(self._gone())
        try:
            await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise ClientLeft
        finally:
            gone.cancel()
            if not task.done():
                task.cancel()
                # Its own cleaning up (handing a probe back, writing what it owes) is waited for.
                await asyncio.gather(task, return_exceptions=True)

    async def _gone(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass


class ClientLeft(Exception):
    """The client closed the connection before it had its answer; nobody is there to be told anything."""


type Handler = Callable[[Request, Parts], Awaitable[Reply]]
type PartsOf = Callable[[], Awaitable[Parts]]


def endpoint(parts_of: PartsOf, **methods: Handler) -> App:
    """The ASGI application of one route: a handler for each method, in lower case (``get=``, ``post=``)."""
    handlers = {name.upper(): handler for name, handler in methods.items()}
    if "GET" in handlers:
        handlers["HEAD"] = handlers["GET"]
    allow = ", ".join([*sorted(handlers), "OPTIONS"])

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            await _serve(scope, receive, send, parts_of, handlers, allow)
        else:
            raise ValueError(f"no {scope['type']} here")

    return app


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _serve(
    scope: Scope, receive: Receive, send: Send, parts_of: PartsOf, handlers: Mapping[str, Handler], allow: str
) -> None:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name = raw_name.decode("latin-1").lower()
        # A repeated field is one list (RFC 9110, section 5.3).
        value = raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    client = scope.get("client")
    request = Request(
        method=scope["method"],
        path=scope["path"],
        headers=headers,
        peer=client[0] if client else None,
        id=uuid.uuid4().hex,
        deadline=0.0,
        receive=receive,
    )
    parts: Parts | None = None
    try:
        parts = await parts_of()
        if parts.settings.on_vercel:
            request.id = headers.get("x-vercel-id", request.id)[:200]
        request.deadline = parts.clock.monotonic() + _seconds_left(parts.settings.max_duration_ms / 1000)
        reply = await _dispatch(request, parts, handlers, allow)
    except ClientLeft:
        request.notes.decision = "client_left"
        _log(request, parts, 499)
        return
    except Problem as problem:
        reply = _problem_reply(request, problem)
    except BadSettings as e:
        detail = "Set these variables and deploy again: " + "; ".join(e.faults)
        reply = _problem_reply(request, Problem("misconfigured", detail))
    except Exception:  # noqa: BLE001 - on Vercel what escapes here is logged without its request, or not at all
        _crashed(request, parts)
        reply = _problem_reply(request, Problem("internal_error", f"Report this with the id {request.id}."))
    await _send(request, parts, reply, send)
    _log(request, parts, reply.status)
    if reply.after is not None:
        try:
            await reply.after()
        except Exception:  # noqa: BLE001 - the reply is out; a bug here must not be taken for a failed request
            _crashed(request, parts)


def _seconds_left(configured_s: float) -> float:
    """Until the platform stops this invocation, where it says so; the configured maximum elsewhere."""
    try:
        # There only on Vercel, and in tests that run its runtime.
        from vercel_runtime import get_deadline
    except ImportError:
        return configured_s
    deadline = cast("datetime | None", get_deadline())
    return configured_s if deadline is None else min(configured_s, (deadline - datetime.now(UTC)).total_seconds())


async def _dispatch(request: Request, parts: Parts, handlers: Mapping[str, Handler], allow: str) -> Reply:
    if request.method == "OPTIONS":
        return Reply(204, b"", {"allow": allow, **_preflight(request, parts, allow)})
    handler = handlers.get(request.method)
    if handler is None:
        raise Problem("method_not_allowed", f"Use one of {allow}.", headers={"allow": allow})
    return await handler(request, parts)


# CORS (Fetch standard, section 3.2)

_EXPOSED = (
    "Age, Cache-Status, RateLimit, RateLimit-Policy, Retry-After, Server-Timing, X-Cache, X-Guard-Mode, "
    "X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, X-Request-Id"
)


def _cors(request: Request, parts: Parts) -> dict[str, str]:
    allowed = parts.settings.allowed_origins
    if not allowed:
        return {}
    headers = {"vary": "Origin"}
    origin = request.headers.get("origin")
    if origin is not None and (origin in allowed or "*" in allowed):
        headers |= {
            "access-control-allow-origin": "*" if "*" in allowed else origin,
            "access-control-expose-headers": _EXPOSED,
        }
    return headers


def _preflight(request: Request, parts: Parts, allow: str) -> dict[str, str]:
    if "access-control-allow-origin" not in _cors(request, parts):
        return {}
    return {
        "access-control-allow-methods": allow,
        "access-control-allow-headers": "Authorization, Cache-Control, Content-Type",
        "access-control-max-age": "86400",
    }


# Replies

_BASE_HEADERS = {
    # Answers belong to one caller: no cache between us and that caller may keep them.
    "cache-control": "private, no-store",
    "x-content-type-options": "nosniff",
}


def _problem_reply(request: Request, problem: Problem) -> Reply:
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
    if request.notes.decision == "none":
        request.notes.decision, request.notes.reason = "refuse", kind.code
    return Reply(kind.status, to_json(body), headers, "application/problem+json", problem.after)


def _invalid(error: ValidationError) -> Problem:
    items = error.errors(include_url=False, include_input=False, include_context=False)
    if items[0]["type"] == "json_invalid":
        return Problem("invalid_json", f"Send valid JSON: {items[0]['msg']}.")
    errors = [_field_error(item["loc"], item["msg"], item["type"]) for item in items[:20]]
    detail = "; ".join(f"{each['field']}: {each['message']}" for each in errors[:3])
    return Problem("invalid_request", detail, errors=errors)


def _field_error(loc: tuple[int | str, ...], message: str, kind: str) -> FieldError:
    # Errors of the model as a whole name their field in front of the message.
    field_name, _, rest = message.partition(": ")
    if not loc and rest:
        return {"field": field_name, "message": rest, "type": kind}
    # A client may name a field anything; it is shown, not trusted.
    return {"field": ".".join(str(part) for part in loc)[:200] or "body", "message": message, "type": kind}


async def _send(request: Request, parts: Parts | None, reply: Reply, send: Send) -> None:
    headers = {
        **_BASE_HEADERS,
        **({} if parts is None else _cors(request, parts)),
        **reply.headers,
        "x-request-id": request.id,
    }
    if reply.status != 204:
        headers |= {"content-type": reply.content_type, "content-length": str(len(reply.body))}
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": raw})
    await send({"type": "http.response.body", "body": b"" if request.method == "HEAD" else reply.body})


def _crashed(request: Request, parts: Parts | None) -> None:
    request.notes.decision, request.notes.reason = "crash", "internal_error"
    (parts.emit if parts else log)(Crashed(request.id, traceback.format_exc()))


def _log(request: Request, parts: Parts | None, status: int) -> None:
    notes = request.notes
    (parts.emit if parts else log)(
        RequestDone(
            request_id=request.id,
            method=request.method[:16],
            route=request.path[:200],
            status=status,
            decision=notes.decision,
            reason=notes.reason,
            caller=notes.caller.id if notes.caller else None,
            caller_kind=notes.caller.kind if notes.caller else None,
            cache=notes.cache,
            mode=notes.mode,
            remaining=notes.remaining,
            spent_ms=notes.spent,
        )
    )
