"""Faults on demand, for every stand-in of the local stack: late, lost, cut and nonsensical replies.

A `Fault` is a value, `Faults` holds the one that is set, `with_faults(app, ...)` applies it to the requests of an ASGI
app. Control routes, without a token because the stand-ins listen on loopback only:

    PUT    /_control/faults   a Fault as JSON; 422 with the reasons when it is not one
    DELETE /_control/faults   no fault any more
    GET    /_control/stats    {"http_requests": n, ...what the stand-in counts}
    DELETE /_control/stats    all counters to zero

Closing a connection without a reply is nothing that ASGI can ask for, so these faults need a server that offers it in
the scope's extensions under `CLOSE`; `dev.serve` does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Final, Literal, Self

import anyio
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import to_json
from starlette.types import ASGIApp, Message, Receive, Scope, Send

type Kind = Literal[
    "none", "delay", "hang", "drop", "refuse", "status", "html", "cut", "not_json", "one_failed"
]  # fmt: skip

CLOSE: Final = "breakwater.close"
"""The scope extension with a function that closes the client's connection."""
FAULT: Final = "breakwater.fault"
"""The scope extension with the kind of a fault that the stand-in itself must act out: `one_failed`."""
HANG_S: Final = 120.0
"""How long `hang` holds a client that does not give up."""

_HTML: Final = "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center></body></html>\n"
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})


class Fault(BaseModel):
    """What goes wrong with the next requests.

    none        nothing; setting it clears
    delay       takes effect at once, the reply comes `delay_ms` later
    hang        takes no effect and never answers; ends when the client leaves, after `HANG_S` at the latest
    drop        takes effect, then the connection closes without a reply
    refuse      takes no effect, the connection closes without a reply
    status      takes no effect, answers `status` (503) with an error in the stand-in's own shape
    html        takes no effect, answers `status` (502) with an HTML page, as proxies do
    cut         takes effect, announces the whole body, sends half of it and closes
    not_json    takes no effect, answers 200 with text
    one_failed  a pipeline's first command fails and takes no effect, the others run; other requests are untouched
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    delay_ms: int = Field(default=0, ge=0, le=600_000)
    status: int | None = Field(default=None, ge=400, le=599)
    times: int | None = Field(default=None, ge=1)
    """How many requests it applies to; None: until changed."""
    match: str = ""
    """Applies only to requests with this text in their path or body."""

    @model_validator(mode="after")
    def _fields_belong_to_the_kind(self) -> Self:
        if (self.kind == "delay") != (self.delay_ms > 0):
            raise ValueError("delay_ms belongs to kind delay, and to no other")
        if self.status is not None and self.kind not in {"status", "html"}:
            raise ValueError("status belongs to the kinds status and html")
        return self

    def applies(self, path: str, body: bytes) -> bool:
        """Whether this fault concerns a request."""
        if self.kind == "one_failed" and not path.rstrip("/").endswith("/pipeline"):
            return False
        return self.match in path or self.match.encode() in body


class Faults:
    """The fault that is set, if any, and how often it still applies. Safe to set from another thread.

    ``waits`` is called when a request begins to be kept waiting, by `hang` or `delay`: tests that set the time by hand
    move it on then.
    """

    def __init__(self, waits: Callable[[], None] = lambda: None) -> None:
        self.waits = waits
        self._lock = threading.Lock()
        self._fault: Fault | None = None
        self._left: int | None = None

    @property
    def armed(self) -> bool:
        """Whether any fault is set; while not, requests need not be looked at."""
        return self._fault is not None

    def set(self, fault: Fault) -> None:
        """Replace whatever was set."""
        with self._lock:
            self._fault = None if fault.kind == "none" else fault
            self._left = fault.times

    def clear(self) -> None:
        """No fault any more."""
        self.set(Fault(kind="none"))

    def next(self, path: str, body: bytes) -> Fault | None:
        """The fault for this request, which uses up one of its `times`; None when it is to be served properly."""
        with self._lock:
            fault = self._fault
            if fault is None or not fault.applies(path, body):
                return None
            if self._left is not None:
                self._left -= 1
                if self._left == 0:
                    self._fault = None
            return fault


def with_faults(
    app: ASGIApp,
    faults: Faults,
    error_body: Callable[[int], object],
    *,
    stats: Callable[[], Mapping[str, object]] | None = None,
    reset_stats: Callable[[], None] | None = None,
) -> ASGIApp:
    """`app` with `faults` applied to its requests, and the control routes.

    `error_body(status)` is the JSON that the imitated service would send with that status. `stats()` are the stand-in's
    own counters, shown beside `http_requests`, which counts every request but the control routes', spoilt ones too.
    """
    return _Faulty(app, faults, error_body, stats or dict, reset_stats or (lambda: None))


class _Faulty:
    def __init__(
        self,
        app: ASGIApp,
        faults: Faults,
        error_body: Callable[[int], object],
        stats: Callable[[], Mapping[str, object]],
        reset_stats: Callable[[], None],
    ) -> None:
        self._app = app
        self._faults = faults
        self._error_body = error_body
        self._stats = stats
        self._reset_stats = reset_stats
        self._http_requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"].startswith("/_control/"):
            await self._control(scope, receive, send)
        else:
            self._http_requests += 1
            if self._faults.armed:
                await self._spoil(scope, receive, send)
            else:
                await self._app(scope, receive, send)

    async def _spoil(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(receive)
        if body is None:
            return
        fault = self._faults.next(scope["path"], body)
        again = _replay(body, receive)
        if fault is None:
            await self._app(scope, again, send)
            return
        match fault.kind:
            case "delay":
                self._faults.waits()
                await self._app(scope, again, _late(send, fault.delay_ms))
            case "one_failed":
                scope["extensions"] = {**scope.get("extensions", {}), FAULT: "one_failed"}
                await self._app(scope, again, send)
            case "hang":
                self._faults.waits()
                with anyio.move_on_after(HANG_S):
                    await _left(receive)
                await _close(scope, receive)
            case "refuse":
                await _close(scope, receive)
            case "drop":
                await _collect(self._app, scope, again)
                await _close(scope, receive)
            case "cut":
                await _cut(await _collect(self._app, scope, again), scope, receive, send)
            case _:
                await self._answer(fault, send)

    async def _answer(self, fault: Fault, send: Send) -> None:
        if fault.kind == "status":
            status = fault.status or 503
            await respond(send, status, to_json(self._error_body(status)))
        elif fault.kind == "html":
            status = fault.status or 502
            await respond(
                send,
                status,
                _HTML.format(f"Error {status}").encode(),
                b"text/html; charset=utf-8",
            )
        else:
            await respond(send, 200, b"The service is starting, please wait.\n", b"text/plain; charset=utf-8")

    async def _control(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["path"], scope["method"]:
            case "/_control/faults", "PUT":
                try:
                    fault = Fault.model_validate_json(await read_body(receive) or b"")
                except ValidationError as error:
                    await respond(send, 422, error.json(include_url=False).encode())
                else:
                    self._faults.set(fault)
                    await respond(send, 200, fault.model_dump_json().encode())
            case "/_control/faults", "DELETE":
                self._faults.clear()
                await respond(send, 204, b"")
            case "/_control/stats", "GET":
                await respond(send, 200, to_json({"http_requests": self._http_requests, **self._stats()}))
            case "/_control/stats", "DELETE":
                self._http_requests = 0
                self._reset_stats()
                await respond(send, 204, b"")
            case "/_control/faults" | "/_control/stats", method:
                await respond(send, 405, to_json({"error": f"{method} is not for this route"}))
            case path, _:
                await respond(send, 404, to_json({"error": f"no control route {path}"}))


async def read_body(receive: Receive) -> bytes | None:
    """The whole body of a request, None when the client left before it was complete."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        return bytes(message.get("body", b""))
    body = bytearray()
    while message["type"] == "http.request":
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(body)
        message = await receive()
    return None


async def respond(
    send: Send,
    status: int,
    body: bytes,
    content_type: bytes = b"application/json",
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> None:
    """Send a whole response."""
    about = [*headers, (b"content-length", b"%d" % len(body))] if status != 204 else [*headers]
    if body:
        about.append((b"content-type", content_type))
    await send({"type": "http.response.start", "status": status, "headers": about})
    await send({"type": "http.response.body", "body": body})


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that returns a body that was read before, then goes on with the real one."""
    pending = True

    async def again() -> Message:
        nonlocal pending
        if pending:
            pending = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return again


def _late(send: Send, delay_ms: int) -> Send:
    """A `send` that holds back the beginning of the reply."""

    async def late(message: Message) -> None:
        if message["type"] == "http.response.start":
            await anyio.sleep(delay_ms / 1000)
        await send(message)

    return late


async def _collect(app: ASGIApp, scope: Scope, receive: Receive) -> list[Message]:
    """Run the app to its end, and keep what it would have sent."""
    sent: list[Message] = []

    async def keep(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, keep)
    return sent


async def _cut(sent: list[Message], scope: Scope, receive: Receive, send: Send) -> None:
    """Send the beginning of a response that announces all of it, and close the connection."""
    start = next(message for message in sent if message["type"] == "http.response.start")
    body = b"".join(message.get("body", b"") for message in sent if message["type"] == "http.response.body")
    headers = [(name, value) for name, value in start.get("headers", []) if name.lower() not in _FRAMING]
    await send({**start, "headers": [*headers, (b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
    await _close(scope, receive)


async def _close(scope: Scope, receive: Receive) -> None:
    """Close the connection, then wait until the server has noticed: it must not answer in our place."""
    close = scope.get("extensions", {}).get(CLOSE)
    if close is None:
        raise RuntimeError("this fault closes connections, which only an app served by dev.serve can")
    close()
    await _left(receive)


async def _left(receive: Receive) -> None:
    """Wait until the connection is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
