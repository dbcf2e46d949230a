"""The supervisor's own backend behind ``CLOUD_RUN_AI_URL``.

POST ``{query, sessionId, messages, parameters}``, answered as ``{answer, model, ...}``. With ``"stream": true`` it may
answer in server-sent events instead: ``{delta}`` for each piece, then the whole ``{answer, model, "done": true}``, then
``[DONE]``.
"""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import field
from typing import Any

import httpx

from ...base.values import dataclass
from ..question import Question
from .port import End, Piece, ProviderFailed
from .registry import ProviderSettings
from .replies import Request, count_of, exchange, refused

# Names under which supervisors in use return their text, the documented one first.
_TEXT_FIELDS = ("answer", "response", "text")


@dataclass(frozen=True, slots=True)
class CloudRun:
    """Where and how to call it. ``secret`` is sent as a bearer token."""

    client: httpx.AsyncClient
    url: str
    secret: str | None = field(repr=False)
    timeout_s: float
    connect_timeout_s: float
    name: str = "cloud-run"

    def ask(self, question: Question, *, request_id: str, left_s: float, stream: bool) -> AsyncGenerator[Piece]:
        """Call it once; see ``Provider``."""
        dialect = _Supervisor(self, question, request_id)
        budget_s = min(self.timeout_s, left_s)
        return exchange(self.client, dialect, budget_s=budget_s, connect_s=self.connect_timeout_s, stream=stream)


def build(settings: ProviderSettings, client: httpx.AsyncClient) -> CloudRun:
    """The backend that the settings describe."""
    secret = settings.key.value if settings.key else None
    return CloudRun(client, settings.url, secret, settings.timeout_s, settings.connect_timeout_s, settings.name)


class _Supervisor:
    def __init__(self, backend: CloudRun, question: Question, request_id: str) -> None:
        self._backend = backend
        self._question = question
        self._request_id = request_id
        self._deltas: list[str] = []
        self._last: Mapping[str, Any] | None = None
        self._consistent = True

    def request(self, *, stream: bool) -> Request:
        question, secret = self._question, self._backend.secret
        body: dict[str, object] = {
            "query": question.query,
            "sessionId": question.session,
            "messages": [{"role": turn.role, "content": turn.content} for turn in question.messages],
            "parameters": question.parameters,
        }
        if stream:
            body["stream"] = True
        headers = {
            "accept": "text/event-stream" if stream else "application/json",
            "x-request-id": self._request_id,
        }
        if secret:
            headers["authorization"] = f"Bearer {secret}"
        return Request(self._backend.url, body, headers)

    def refusal(self, response: httpx.Response, body: bytes) -> ProviderFailed:
        return refused(response)

    def text_of(self, value: Mapping[str, Any]) -> str:
        delta = value.get("delta")
        if isinstance(delta, str):
            self._deltas.append(delta)
            return delta
        text = next((value[name] for name in _TEXT_FIELDS if isinstance(value.get(name), str)), None)
        if text is None and not (self._deltas and value.get("done") is True):
            raise ProviderFailed("protocol", f"the reply has none of {', '.join(_TEXT_FIELDS)}")
        self._last = value
        if not self._deltas:
            return text or ""
        # The last event repeats the answer, which the reader has by now. An answer that differs from it is not stored.
        self._consistent = text is None or text.strip() == "".join(self._deltas).strip()
        return ""

    def end(self, headers: httpx.Headers, *, answered: bool) -> End | None:
        last = self._last
        if last is None:
            return None
        # Cut short by a token limit, or marked as a fallback by the backend itself: it is served once, and not stored.
        finish = last.get("finishReason") or last.get("finish_reason") or "stop"
        whole = finish == "stop" and last.get("fallback") is not True and self._consistent
        model = last.get("model")
        return End(model if isinstance(model, str) else "unknown", whole, _tokens(last))


def _tokens(reply: Mapping[str, Any]) -> int | None:
    usage = reply.get("usage")
    if isinstance(usage, dict):
        return count_of(usage.get("totalTokens", usage.get("total_tokens")))
    return count_of(reply.get("tokens"))
