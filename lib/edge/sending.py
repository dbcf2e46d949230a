"""The last steps of a request at the edge: its reply is sent, its log line written, and its remaining work done."""

import asyncio
import traceback
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from ..afterwards import Afterwards
from ..base.events import Crashed, Listener, RequestDone
from .problems import decided
from .request import Reply, Request

if TYPE_CHECKING:
    from ..parts import Parts

_BASE_HEADERS = {
    # Answers belong to one caller: no cache between us and that caller may keep them.
    "cache-control": "private, no-store",
    "x-content-type-options": "nosniff",
}


async def send(request: Request, reply: Reply, emit: Listener, scope: Scope, receive: Receive, send: Send) -> None:
    """Send a reply, report it, and do the work that it leaves."""
    headers = {**_BASE_HEADERS, **(request.limit_headers or {}), **reply.headers, "x-request-id": request.id}
    if reply.for_all:
        headers = {**_BASE_HEADERS, **reply.headers, "x-request-id": request.id}
    else:
        vary = reply.headers.get("vary")
        headers["vary"] = "Origin" if vary is None else f"{vary}, Origin"
    headers |= request.readable
    response: Response
    if isinstance(reply.body, bytes):
        response = Response(reply.body, reply.status, headers, reply.content_type if reply.body else None)
    else:
        response = StreamingResponse(reply.body, reply.status, headers, reply.content_type)
    for cookie in reply.cookies:
        response.headers.append("set-cookie", cookie)
    try:
        await response(scope, receive, send)
    except ClientDisconnect:
        request.notes.decision = "client_left"
    except Exception:  # noqa: BLE001 - the head is out: the server breaks the connection off, and the work is tidied up
        request.notes.decision, request.notes.reason = decided("internal_error"), "internal_error"
        emit(Crashed(request.id, traceback.format_exc()))
    finally:
        if not isinstance(reply.body, bytes):
            # However it ended: whether an abandoned value is still wanted is for the guard to say.
            await reply.body.aclose()
    report(request, emit, reply.status)
    if reply.after is not None:
        try:
            await reply.after()
        except Exception:  # noqa: BLE001 - the reply is out; a bug here must not be taken for a failed request
            emit(Crashed(request.id, traceback.format_exc()))


async def finish(request: Request, emit: Listener) -> None:
    """Finish the values that were cached on the way; what they leave to be sent joins the request's own."""
    while request.later:
        finish = request.later.pop(0)
        try:
            await finish(send=False)
        except Exception:  # noqa: BLE001 - as in `send`
            emit(Crashed(request.id, traceback.format_exc()))


def early(request: Request, parts: "Parts", in_s: float) -> None:
    """Have done what a request has left so far, unless it ends in so many seconds: others wait for its values."""
    if request.soon is None:
        request.soon = asyncio.get_running_loop().call_later(in_s, _begin, request, parts)


def _begin(request: Request, parts: "Parts") -> None:
    request.soon = None
    request.after.waits.append(asyncio.ensure_future(_so_far(request, parts)))


async def _so_far(request: Request, parts: "Parts") -> None:
    try:
        await finish(request, parts.emit)
        left = Afterwards(request.after.take(), request.after.take_jobs())
        await parts.guard.outbox.try_send(left, parts.clock.left_s(request.deadline))
    except Exception:  # noqa: BLE001 - as in `send`
        parts.emit(Crashed(request.id, traceback.format_exc()))


async def settle(request: Request, parts: "Parts") -> None:
    """The reply is out: send what the request leaves to be sent, and do what belongs to no request. Nothing escapes."""
    if request.soon is not None:
        request.soon.cancel()
    try:
        if not request.after.is_empty:
            await parts.guard.outbox.try_send(request.after, parts.clock.left_s(request.deadline))
        await parts.settle()
    except Exception:  # noqa: BLE001 - on Vercel what escapes here is logged without its request, or not at all
        parts.emit(Crashed(request.id, traceback.format_exc()))


def report(request: Request, emit: Listener, status: int) -> None:
    """Emit the event of a request that is done."""
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
            saved=notes.saved,
            attempts=notes.attempts,
            spent_ms=notes.spent,
        )
    )
