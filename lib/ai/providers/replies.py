"""What all adapters share: one HTTP call within its time and size.

An adapter brings a ``Reading``, which does no I/O.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import field
from typing import Any, Protocol

import httpx
from httpx_sse import ServerSentEvent
from pydantic_core import from_json

from ...base.connecting import why
from ...base.encode import to_json
from ...base.values import dataclass
from ...pieces import Delta
from ..completions import Chunk
from . import refusals, sse
from .port import MAX_REPLY_BYTES, MAX_STREAM_BYTES, End, Kind, Piece, ProviderFailed

_ERROR_BYTES = 65_536
_ERROR_S = 1.0
_LINGER_S = 0.1


@dataclass(frozen=True, slots=True)
class Request:
    """A POST with a JSON body. The headers may hold a secret."""

    url: str
    body: Mapping[str, object] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


class Reading(Protocol):
    """How a question is put to one provider, and how its reply is read. New for each question."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """What nobody is told, whoever quotes it."""

    def request(self, *, stream: bool) -> Request:
        """The question in the provider's terms. Raises ProviderFailed ``rejected`` if it cannot be put."""

    def refusal(self, response: httpx.Response, body: bytes) -> ProviderFailed:
        """What a status other than 2xx means; ``body`` may be cut off, empty or anything."""

    def chunks(self, value: dict[str, Any]) -> tuple[list[Chunk], bool]:
        """The next chunks of a stream, none for an event that carries nothing; and whether they show anything."""

    def ended(self, headers: httpx.Headers, *, done: bool) -> End:
        """The end of a stream; ``done``: it said ``[DONE]``. Raises ProviderFailed where it is not complete."""

    def whole(self, value: dict[str, Any], headers: httpx.Headers) -> End:
        """What a whole reply is. Raises ProviderFailed where it is not complete, or of no use."""


async def exchange(
    client: httpx.AsyncClient, reading: Reading, *, budget_s: float, connect_s: float, stream: bool
) -> AsyncGenerator[Piece]:
    """Call once, as ``Provider.ask`` promises. A server that does not stream may answer in JSON instead."""
    if budget_s <= 0:
        raise ProviderFailed("timeout", "no time is left before the function's deadline", went_out=False)
    ends_at = asyncio.get_running_loop().time() + budget_s
    waits = httpx.Timeout(budget_s, connect=min(connect_s, budget_s))
    try:
        async with aclosing(_pieces(client, reading, waits, stream=stream)) as pieces:
            while True:
                # The timeout spans each wait and no yield: who takes the next piece may be another task than who took
                # the last, and a timeout cancels the task that entered it (PEP 789).
                async with asyncio.timeout_at(ends_at):
                    piece = await anext(pieces, None)
                if piece is None:
                    return
                yield piece
    except httpx.PoolTimeout as e:
        # All of this instance's connections are in use: that says nothing of the provider.
        raise ProviderFailed("timeout", "no connection was free", went_out=False, fault="ours") from e
    except (httpx.ConnectError, httpx.ConnectTimeout) as e:
        kind: Kind = "connection" if isinstance(e, httpx.ConnectError) else "timeout"
        reason = why(e, e.request.url.host)
        raise ProviderFailed(kind, f"{reason}, with {budget_s:.1f} s to answer", went_out=False) from e
    except (TimeoutError, httpx.TimeoutException) as e:
        raise ProviderFailed("timeout", f"{type(e).__name__}, with {budget_s:.1f} s to answer") from e
    except (httpx.LocalProtocolError, UnicodeEncodeError):
        # A line break or a letter beyond ASCII in a header. The cause quotes it, and it may be the key: no chain.
        raise ProviderFailed(
            "unauthorized", "the key, or another header, cannot be sent over HTTP", went_out=False
        ) from None
    except httpx.DecodingError as e:
        raise ProviderFailed("protocol", "the reply's content encoding is broken") from e
    except httpx.HTTPError as e:
        raise ProviderFailed("connection", type(e).__name__) from e


async def _pieces(
    client: httpx.AsyncClient, reading: Reading, waits: httpx.Timeout, *, stream: bool
) -> AsyncGenerator[Piece]:
    asked = reading.request(stream=stream)
    headers = {"content-type": "application/json", **asked.headers}
    request = client.build_request("POST", asked.url, content=to_json(asked.body), headers=headers, timeout=waits)
    response = await client.send(request, stream=True)
    try:
        if not response.is_success:
            raise reading.refusal(response, await _error_body(response))
        if stream and response.headers.get("content-type", "").partition(";")[0].strip().lower() == "text/event-stream":
            source = _streamed(response, reading)
        else:
            source = _at_once(response, reading, stream=stream)
        async with aclosing(source):
            async for piece in source:
                yield piece
    finally:
        await response.aclose()


async def _at_once(response: httpx.Response, reading: Reading, *, stream: bool) -> AsyncGenerator[Piece]:
    value = _without_error(_json_in(await _read(response, MAX_REPLY_BYTES)), reading)
    if not isinstance(value, dict):
        raise ProviderFailed("protocol", "the reply is not a JSON object")
    end = reading.whole(value, response.headers)
    for chunk in end.answer.chunks() if stream else ():
        yield Delta(chunk)
    yield end


async def _streamed(response: httpx.Response, reading: Reading) -> AsyncGenerator[Piece]:
    held, shown, done = list[Chunk](), False, False
    try:
        async with aclosing(sse.events(_bounded(response, MAX_STREAM_BYTES))) as events:
            async for event in events:
                if event.data.strip() == "[DONE]":
                    done = True
                    await _finish(events)
                    break
                if (value := _carried(event, reading)) is None:
                    continue
                come, shows = reading.chunks(value)
                held += come
                # Until something is shown another provider can still be asked.
                if shown := shown or shows:
                    for each in held:
                        yield Delta(each)
                    held.clear()
    except (httpx.NetworkError, httpx.RemoteProtocolError) as e:
        raise ProviderFailed("cut", f"the stream broke off: {type(e).__name__}") from e
    end = reading.ended(response.headers, done=done)
    for each in held:
        yield Delta(each)
    yield end


async def _finish(events: AsyncGenerator[object]) -> None:
    """Read to the body's end, which mostly came along, so that the connection can be used again."""
    with suppress(TimeoutError, httpx.HTTPError):
        async with asyncio.timeout(_LINGER_S):
            async for _ in events:
                pass


async def _bounded(response: httpx.Response, limit: int) -> AsyncIterator[bytes]:
    size = 0
    async for chunk in response.aiter_bytes():
        size += len(chunk)
        if size > limit:
            raise ProviderFailed("too_large", f"a reply of more than {limit} bytes")
        yield chunk


async def _read(response: httpx.Response, limit: int) -> bytes:
    return b"".join([chunk async for chunk in _bounded(response, limit)])


async def _error_body(response: httpx.Response) -> bytes:
    """What an error says, if it is short and comes at once; if not, the status alone must do."""
    with suppress(TimeoutError, ProviderFailed, httpx.HTTPError):
        async with asyncio.timeout(_ERROR_S):
            return await _read(response, _ERROR_BYTES)
    return b""


_MAY_BE_BEYOND = re.compile(r"[eE]\+?\d{3}|\d{309}")
"""How a number begins that no float can hold; pydantic reads it as an infinity."""


def _carried(event: ServerSentEvent, reading: Reading) -> dict[str, Any] | None:
    """The object in an event; None where there is none: such events only keep a connection alive.

    Raises ProviderFailed for an error, and for what should be JSON and is not.
    """
    try:
        value = _json_in(event.data)
    except ProviderFailed:
        if event.event == "message":
            raise
        value = event.data
    if event.event == "error" and not (isinstance(value, dict) and value.get("error")):
        value = {"error": value or True}
    value = _without_error(value, reading)
    return value if isinstance(value, dict) else None


def _json_in(data: str | bytes) -> Any:
    try:
        text = data.decode() if isinstance(data, bytes) else data
        value = from_json(text, allow_inf_nan=False)
        if _MAY_BE_BEYOND.search(text):
            to_json(value)
    except ValueError as e:
        raise ProviderFailed("protocol", "the reply is not JSON") from e
    return value


def _without_error(value: Any, reading: Reading) -> Any:
    """The same value. Raises ProviderFailed where it is an error, which Google puts into a list."""
    found = value[0] if isinstance(value, list) and value else value
    if isinstance(found, dict) and found.get("error"):
        raise refusals.error_in_reply(found, *reading.secrets)
    return value
