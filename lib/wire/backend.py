"""The AI backend behind ``CLOUD_RUN_AI_URL``: one POST, one JSON reply, every failure classified."""

import asyncio
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Literal

import httpx
from pydantic_core import from_json, to_json

from lib.rules.answers import Answer, Question

type Kind = Literal[
    "timeout", "connection", "unauthorized", "throttled", "rejected", "server", "protocol", "too_large", "empty"
]
type Fault = Literal["ours", "caller", "theirs"]

# Whose fault a failure is decides what the breaker and the reply make of it: only theirs counts against the backend.
_FAULT: dict[str, Fault] = {"rejected": "caller", "unauthorized": "ours"}

MAX_REPLY_BYTES = 1_048_576


class BackendFailed(Exception):
    """The backend gave no usable answer.

    ``retry_after_s`` is what a 429 or 503 asked for. The message holds no secret, no query and no answer.
    """

    def __init__(self, kind: Kind, detail: str, status: int | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind: Kind = kind
        self.status = status
        self.retry_after_s = retry_after_s

    @property
    def fault(self) -> Fault:
        """Whose fault it is."""
        return _FAULT.get(self.kind, "theirs")


@dataclass(frozen=True, slots=True)
class Reply:
    """What the backend answered, and whether it is whole enough to be kept."""

    answer: Answer
    whole: bool


@dataclass(frozen=True, slots=True)
class Backend:
    """Where and how to ask. ``secret`` goes out as a bearer token."""

    client: httpx.AsyncClient
    url: str
    secret: str | None
    timeout_s: float
    connect_timeout_s: float
    name: str = "cloud-run"

    async def ask(self, question: Question, request_id: str, left_s: float) -> Reply:
        """Ask once, within the timeout and the ``left_s`` seconds the function still has. Raises BackendFailed."""
        budget = min(self.timeout_s, left_s)
        if budget <= 0:
            raise BackendFailed("timeout", "no time is left before the function's deadline")
        try:
            async with asyncio.timeout(budget):
                return await self._ask(question, request_id, budget)
        except (TimeoutError, httpx.TimeoutException) as e:
            raise BackendFailed("timeout", f"no answer within {budget:.1f} s") from e
        except httpx.HTTPError as e:
            raise BackendFailed("connection", type(e).__name__) from e

    async def _ask(self, question: Question, request_id: str, budget: float) -> Reply:
        headers = {"content-type": "application/json", "accept": "application/json", "x-request-id": request_id}
        if self.secret:
            headers["authorization"] = f"Bearer {self.secret}"
        content = to_json(
            {
                "query": question.query,
                "sessionId": question.session,
                "messages": [{"role": turn.role, "content": turn.content} for turn in question.messages],
                "parameters": question.parameters,
            }
        )
        timeout = httpx.Timeout(budget, connect=min(self.connect_timeout_s, budget))
        async with self.client.stream("POST", self.url, content=content, headers=headers, timeout=timeout) as response:
            if response.status_code != 200:
                raise _refused(response)
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_REPLY_BYTES:
                    raise BackendFailed("too_large", f"a reply of more than {MAX_REPLY_BYTES} bytes")
        return _read(bytes(body))


def _refused(response: httpx.Response) -> BackendFailed:
    status = response.status_code
    kind: Kind = "server"
    if status in (401, 403):
        kind = "unauthorized"
    elif status == 429:
        kind = "throttled"
    elif status in (400, 413, 422):
        kind = "rejected"
    return BackendFailed(kind, f"HTTP {status}", status, _retry_after_s(response))


def _retry_after_s(response: httpx.Response) -> float | None:
    """``Retry-After`` in seconds or as a date (RFC 9110, section 10.2.3), measured against the reply's own clock."""
    value = response.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit() and len(value) <= 7:
        return float(value)
    try:
        at, now = parsedate_to_datetime(value), parsedate_to_datetime(response.headers.get("date", ""))
        return max(0.0, (at - now).total_seconds())
    except (ValueError, TypeError):
        return None


# Names under which supervisors in use return their text, the documented one first.
_TEXT_FIELDS = ("answer", "response", "text")


def _read(body: bytes) -> Reply:
    try:
        value = from_json(body, allow_inf_nan=False)
    except ValueError as e:
        raise BackendFailed("protocol", "the reply is not JSON") from e
    if not isinstance(value, dict):
        raise BackendFailed("protocol", "the reply is not a JSON object")
    if value.get("error"):
        raise BackendFailed("server", "the reply carries an error")
    text = next((value[name] for name in _TEXT_FIELDS if isinstance(value.get(name), str)), None)
    if text is None:
        raise BackendFailed("protocol", f"the reply has none of {', '.join(_TEXT_FIELDS)}")
    if not text.strip():
        raise BackendFailed("empty", "the answer is empty")
    model = value.get("model")
    # Cut short by a token limit, or marked as a fallback by the backend itself: good enough once, not for an hour.
    finish = value.get("finishReason", value.get("finish_reason", "stop"))
    whole = finish == "stop" and value.get("fallback") is not True
    return Reply(Answer(text, model if isinstance(model, str) else "unknown"), whole)
