"""One request at the edge: its headers, its body within bounds, its caller, whether its client is still connected."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import starlette.requests
from starlette.requests import ClientDisconnect
from starlette.types import Message

from ..afterwards import Afterwards
from ..base import caller as callers
from ..base.caller import Caller
from ..base.cost import Cost
from ..base.events import Mode, Spent
from ..base.leaving import never
from ..base.values import dataclass
from ..call import Finish
from .problems import Problem, invalid
from .signin import SignIn

if TYPE_CHECKING:
    from pydantic import BaseModel

    from ..parts import Parts
    from .replies import ProblemBody


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
    saved: Cost | None = None
    attempts: str | None = None
    spent: Spent = field(default_factory=Spent)


@dataclass(frozen=True, slots=True, eq=False)
class Reply:
    """A reply, whole or streamed. ``after`` runs when it has gone out; Vercel keeps the instance until it is done."""

    status: int
    body: bytes | AsyncGenerator[bytes]
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    after: Callable[[], Awaitable[None]] | None = None
    cookies: Sequence[str] = ()
    """Values of ``Set-Cookie``: the one header of which each value needs a line of its own (RFC 9110, section 5.3)."""
    for_all: bool = False
    """Caches on the way may give it to others: it says nothing of this caller's limit, and does not vary by origin."""


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """An error as a route words it. ``headers`` come on top of those that the problem has."""

    status: int
    body: bytes
    media: str
    headers: Mapping[str, str] = field(default_factory=dict)


type Errors = Callable[[ProblemBody], ErrorReply]
"""How a route words its errors."""


@dataclass(slots=True, eq=False)
class Request:
    """One request at the edge."""

    http: starlette.requests.Request
    id: str
    errors: Errors
    deadline: float = 0.0
    """On the monotonic clock, in seconds: when the platform stops the function, or the configured maximum."""
    notes: Notes = field(default_factory=Notes)
    after: Afterwards = field(default_factory=Afterwards)
    """What is sent to Redis when the reply is out."""
    limit_headers: Mapping[str, str] | None = None
    """What every reply says of the limit that counted this request; None while nothing has."""
    readable: Mapping[str, str] = field(default_factory=dict)
    """What the reply says to a page of another origin that may read it."""
    later: list[Finish] = field(default_factory=list)
    """What is left to do, before that is sent, for values that were cached on the way."""
    soon: asyncio.TimerHandle | None = None
    """When what the request has left so far is done all the same, because it goes on for long (`sending.early`)."""
    parts: "Parts | None" = None
    """What serves it; None before it begins."""
    left: "asyncio.Future[None] | None" = None
    """Done when whoever sends the reply has seen the client leave, where the head goes out before all is known."""
    _headers: dict[bytes, bytes] = field(init=False)

    def __post_init__(self) -> None:
        lines: list[tuple[bytes, bytes]] = list(self.http.scope["headers"])
        headers = dict(lines)
        if len(headers) < len(lines):
            headers.clear()
            for name, value in lines:
                headers[name] = headers[name] + b", " + value if name in headers else value
        self._headers = headers

    def begin(self, parts: "Parts") -> None:
        """Take the platform's name of the request and its deadline, where it says so."""
        self.parts = parts
        if parts.settings.on_vercel:
            self.id = self.header("x-vercel-id")[:200] or self.id
        self.deadline = parts.clock.monotonic() + _seconds_left(parts.settings.max_duration_ms / 1000)

    def header(self, name: str) -> str:
        """A header, by its name in lower case; a repeated one is one list (RFC 9110, section 5.3); empty for none."""
        return self._headers.get(name.encode(), b"").decode("latin-1")

    @property
    def is_preflight(self) -> bool:
        """Whether a browser asks what a page of another origin may send; the request itself follows."""
        return self.http.method == "OPTIONS" and bool(self.header("access-control-request-method"))

    async def identify(self, parts: "Parts") -> Caller:
        """The signed-in user where a valid token says so, else the client's network."""
        if self.notes.caller is None:
            authorization = self.header("authorization")
            user = await SignIn.of(parts).user(authorization) if authorization else None
            if user is None:
                return self.identify_address(parts)
            self.notes.caller = callers.identify("user", user, parts.settings.identity_key)
        return self.notes.caller

    def identify_address(self, parts: "Parts") -> Caller:
        """The client's network."""
        peer = self.http.client.host if self.http.client else None
        address = callers.client_address(self.header, peer, parts.settings.trust)
        self.notes.caller = callers.identify("address", address, parts.settings.identity_key)
        return self.notes.caller

    async def json[M: "BaseModel"](self, model: type[M], limit: int) -> M:
        """The body, read up to ``limit`` bytes and validated. Raises Problem."""
        return parsed(model, await self.json_body(limit))

    async def json_body(self, limit: int, unpacked: int = 0) -> bytes:
        """A body that is declared as JSON, read up to ``limit`` bytes. Raises Problem.

        With ``unpacked`` it may come as gzip, of so many bytes without.
        """
        media = self.header("content-type").partition(";")[0].strip().lower()
        if media != "application/json" and not (media.startswith("application/") and media.endswith("+json")):
            raise Problem("unsupported_media_type", "Send the header Content-Type: application/json.")
        encoding = self.header("content-encoding").lower()
        if encoding == "gzip" and unpacked:
            return _unpacked(await self.body(limit), unpacked)
        if encoding not in ("", "identity"):
            raise Problem("unsupported_media_type", "Send the body without Content-Encoding.")
        return await self.body(limit)

    async def body(self, limit: int) -> bytes:
        """The body, read up to ``limit`` bytes. Raises Problem."""
        return await self.bounded(limit).body()

    def bounded(self, limit: int) -> starlette.requests.Request:
        """The request with a body of at most ``limit`` bytes. Raises Problem, as reading more of it does."""
        too_large = Problem("body_too_large", f"Send at most {limit} bytes.")
        declared = self.header("content-length")
        if declared.isascii() and declared.isdigit() and int(declared[:20]) > limit:
            raise too_large
        read = 0

        async def receive() -> Message:
            nonlocal read
            message = await self.http.receive()
            read += len(message.get("body", b""))
            if read > limit:
                raise too_large
            return message

        return starlette.requests.Request(self.http.scope, receive)

    async def while_here[T](self, wait: Awaitable[T], /, wanted: Callable[[], bool] = never) -> T:
        """Await something long, but cancel it when the client leaves and no one else waits. Raises ClientDisconnect.

        Costs two tasks, so that what is short is not awaited here (base/leaving.py).
        """
        gone = asyncio.ensure_future(self._gone())
        task: asyncio.Future[T] | None = None
        try:
            # One turn of the loop shows whether the client has left already; then nothing is begun.
            await asyncio.sleep(0)
            task = asyncio.ensure_future(wait)
            if not gone.done():
                ends = (task, gone) if self.left is None else (task, gone, self.left)
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
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


def parsed[M: "BaseModel"](model: type[M], body: bytes) -> M:
    """A body, validated. Raises Problem."""
    from pydantic import ValidationError

    try:
        return model.model_validate_json(body)
    except ValidationError as e:
        raise invalid(e) from None


def _unpacked(body: bytes, limit: int) -> bytes:
    """A gzip body without its compression: never more than ``limit`` bytes of it. Raises Problem."""
    import zlib

    packed = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        found = packed.decompress(body, limit + 1)
    except zlib.error:
        raise Problem("invalid_request", "The body is declared as gzip, and is none.") from None
    if len(found) > limit:
        raise Problem("body_too_large", f"Send at most {limit} bytes, counted before compression.")
    if not packed.eof:
        raise Problem("invalid_request", "The gzip body is cut.")
    return found


def _seconds_left(configured_s: float) -> float:
    """Until the platform stops this invocation, where it says so; the configured maximum elsewhere."""
    try:
        # There only on Vercel, and in tests that run its runtime.
        from vercel_runtime import get_deadline
    except ImportError:
        return configured_s
    deadline = cast("datetime | None", get_deadline())
    return configured_s if deadline is None else min(configured_s, (deadline - datetime.now(UTC)).total_seconds())
