"""What all adapters share: one HTTP call within its time and size, and the kind of each failure.

An adapter brings a ``Dialect``, which does no I/O.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import field
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, Protocol, Self

import httpx
from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import from_json, to_json

from ...base.connecting import why
from ...base.values import dataclass
from ..question import Question
from . import sse
from .port import MAX_REPLY_BYTES, Delta, End, Kind, Piece, ProviderFailed

_ERROR_BYTES = 65_536
_ERROR_S = 1.0
_LINGER_S = 0.1


@dataclass(frozen=True, slots=True)
class Request:
    """A POST with a JSON body. The headers may hold a secret."""

    url: str
    body: Mapping[str, object] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


class Dialect(Protocol):
    """How a question is put to one provider, and how its reply is read. New for each question."""

    def request(self, *, stream: bool) -> Request:
        """The question in the provider's terms. Raises ProviderFailed ``rejected`` if it cannot be put."""

    def refusal(self, response: httpx.Response, body: bytes) -> ProviderFailed:
        """What a reply other than 200 means; ``body`` may be cut off, empty or anything."""

    def text_of(self, value: Mapping[str, Any]) -> str:
        """The text in a whole reply or in the next event, which may be empty. The rest is remembered for ``end``."""

    def end(self, headers: httpx.Headers, *, answered: bool) -> End | None:
        """The end, or None if the reply did not say that it is complete. Raises if there is a reason for no text."""


async def exchange(
    client: httpx.AsyncClient, dialect: Dialect, *, budget_s: float, connect_s: float, stream: bool
) -> AsyncGenerator[Piece]:
    """Call once, as ``Provider.ask`` promises. A server that does not stream may answer in JSON instead."""
    if budget_s <= 0:
        raise ProviderFailed("timeout", "no time is left before the function's deadline", went_out=False)
    ends_at = asyncio.get_running_loop().time() + budget_s
    waits = httpx.Timeout(budget_s, connect=min(connect_s, budget_s))
    try:
        async with aclosing(_pieces(client, dialect, waits, stream=stream)) as pieces:
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
    client: httpx.AsyncClient, dialect: Dialect, waits: httpx.Timeout, *, stream: bool
) -> AsyncGenerator[Piece]:
    asked = dialect.request(stream=stream)
    headers = {"content-type": "application/json", **asked.headers}
    request = client.build_request("POST", asked.url, content=to_json(asked.body), headers=headers, timeout=waits)
    response = await client.send(request, stream=True)
    try:
        if response.status_code != 200:
            raise dialect.refusal(response, await _error_body(response))
        if stream and response.headers.get("content-type", "").partition(";")[0].strip().lower() == "text/event-stream":
            source = _streamed(response, dialect)
        else:
            source = _at_once(response, dialect)
        async with aclosing(source):
            async for piece in source:
                yield piece
    finally:
        await response.aclose()


async def _at_once(response: httpx.Response, dialect: Dialect) -> AsyncGenerator[Piece]:
    text = dialect.text_of(_object(await _read(response, MAX_REPLY_BYTES)))
    end = _end(response, dialect, "protocol", answered=bool(text.strip()))
    yield Delta(text)
    yield end


async def _streamed(response: httpx.Response, dialect: Dialect) -> AsyncGenerator[Piece]:
    answered, text = False, ""
    try:
        async with aclosing(sse.events(_bounded(response, MAX_REPLY_BYTES))) as events:
            async for event in events:
                if event.data == "[DONE]":
                    await _finish(events)
                    break
                if event.event == "error":
                    raise ProviderFailed("server", "the stream carries an error event")
                # White space alone is no answer yet: it waits for the first word.
                text += dialect.text_of(_object(event.data))
                if text and (answered or text.strip()):
                    answered = True
                    yield Delta(text)
                    text = ""
    except (httpx.NetworkError, httpx.RemoteProtocolError) as e:
        raise ProviderFailed("cut", f"the stream broke off: {type(e).__name__}") from e
    yield _end(response, dialect, "cut", answered=answered)


def _end(response: httpx.Response, dialect: Dialect, unless: Kind, *, answered: bool) -> End:
    end = dialect.end(response.headers, answered=answered)
    if end is None:
        raise ProviderFailed(unless, "the reply does not say that it is complete")
    if not answered:
        raise ProviderFailed("empty", "the answer is empty")
    return end


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


def _object(data: str | bytes) -> dict[str, Any]:
    try:
        value = from_json(data, allow_inf_nan=False)
    except ValueError as e:
        raise ProviderFailed("protocol", "the reply is not JSON") from e
    if not isinstance(value, dict):
        raise ProviderFailed("protocol", "the reply is not a JSON object")
    if value.get("error"):
        raise ProviderFailed("server", "the reply carries an error")
    return value


_KINDS: dict[int, Kind] = {
    400: "rejected",
    401: "unauthorized",
    403: "unauthorized",
    413: "rejected",
    422: "rejected",
    429: "throttled",
}


def refused(
    response: httpx.Response, reason: object = None, *, kind: Kind | None = None, rests_s: float | None = None
) -> ProviderFailed:
    """The failure that a status other than 200 means, unless the body says more.

    ``reason`` is shown only if it looks like an error code, which no key, question or answer does.
    """
    status = response.status_code
    shown = f" {reason}" if isinstance(reason, str) and re.fullmatch(r"[A-Za-z]+(?:_[A-Za-z]+)*", reason) else ""
    return ProviderFailed(
        kind or _KINDS.get(status, "server"),
        f"HTTP {status}{shown[:60]}",
        status=status,
        rests_s=retry_after_s(response.headers) if rests_s is None else rests_s,
    )


def error_in(body: bytes) -> Mapping[str, Any]:
    """The object under ``error`` in an error's body, as Google and OpenAI send it; empty if there is none."""
    try:
        value = from_json(body)
    except ValueError:
        return {}
    if isinstance(value, list) and value:
        value = value[0]  # Google answers a stream's request with a list
    error = value.get("error") if isinstance(value, dict) else None
    return error if isinstance(error, dict) else {}


def retry_after_s(headers: httpx.Headers) -> float | None:
    """``Retry-After`` in seconds or as a date (RFC 9110, section 10.2.3), measured against the reply's own clock."""
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,7}(?:\.[0-9]{1,9})?", value):
        return float(value)
    try:
        at, now = parsedate_to_datetime(value), parsedate_to_datetime(headers.get("date", ""))
        return max(0.0, (at - now).total_seconds())
    except (ValueError, TypeError):
        return None


_UNITS_S = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DURATION_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,12})?)(ms|us|µs|ns|[dhms])")


def duration_s(text: object) -> float | None:
    """Seconds in a duration as Go prints them (``2m59.56s``) or protobuf's JSON does (``38.2s``); else None."""
    if not isinstance(text, str) or not re.fullmatch(rf"(?:{_DURATION_PART.pattern})+", text):
        return None
    return sum(float(number) * _UNITS_S[unit] for number, unit in _DURATION_PART.findall(text))


def count_of(value: object) -> int | None:
    """A count in a reply: an integer that is not negative; else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, str) else value


class Sampling(BaseModel):
    """The caller's parameters that every chat model knows, under their usual names; others are left out."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", allow_inf_nan=False)

    temperature: float | None = None
    top_p: float | None = Field(None, validation_alias=AliasChoices("topP", "top_p"))
    max_tokens: Annotated[int, Field(gt=0)] | None = Field(
        None, validation_alias=AliasChoices("maxTokens", "max_tokens", "max_completion_tokens")
    )
    stop: Annotated[list[Annotated[str, Field(min_length=1)]] | None, BeforeValidator(_one_or_more)] = None

    @classmethod
    def of(cls, question: Question) -> Self:
        """The parameters of a question. Raises ProviderFailed ``rejected`` before anything is sent or spent."""
        try:
            return cls.model_validate(question.parameters)
        except ValidationError as e:
            fields = sorted({str(fault["loc"][0]) for fault in e.errors(include_input=False)})
            raise ProviderFailed(
                "rejected", f"parameters: {', '.join(fields)} cannot be used", went_out=False
            ) from None

    @property
    def may_silence(self) -> bool:
        """Whether these parameters can be why there is no text."""
        return self.max_tokens is not None or bool(self.stop)
