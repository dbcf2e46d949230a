"""The supervisor's own backend behind ``CLOUD_RUN_AI_URL``.

POST ``{query, sessionId, messages, parameters}``, answered as ``{answer, model, ...}``. With ``"stream": true`` it may
answer in server-sent events instead: ``{delta}`` for each piece, then the whole ``{answer, model, "done": true}``, then
``[DONE]``.
"""

import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import field
from typing import Any

import httpx

from ...base.values import dataclass
from .. import answers, completions
from ..completions import Chunk, Completion
from ..question import BESIDE_THE_ANSWER, AnyQuestion, Question
from . import refusals
from .port import End, Piece, ProviderFailed
from .registry import ProviderSettings
from .replies import Request, exchange

# Names under which supervisors in use return their text, the documented one first.
_TEXT_FIELDS = ("answer", "response", "text")
_ITS_OWN = {"delta", "done", *_TEXT_FIELDS}
_COUNTS = {"prompt_tokens": "promptTokens", "completion_tokens": "completionTokens", "total_tokens": "totalTokens"}


@dataclass(frozen=True, slots=True)
class CloudRun:
    """Where and how to call it. ``secret`` is sent as a bearer token."""

    client: httpx.AsyncClient
    url: str
    secret: str | None = field(repr=False)
    timeout_s: float
    connect_timeout_s: float
    name: str = "cloud-run"

    def ask(self, question: AnyQuestion, *, request_id: str, left_s: float, stream: bool) -> AsyncGenerator[Piece]:
        """Call it once; see ``Provider``."""
        reading = _Supervisor(self, question, request_id)
        budget_s = min(self.timeout_s, left_s)
        return exchange(self.client, reading, budget_s=budget_s, connect_s=self.connect_timeout_s, stream=stream)


def build(settings: ProviderSettings, client: httpx.AsyncClient) -> CloudRun:
    """The backend that the settings describe."""
    secret = settings.key.value if settings.key else None
    return CloudRun(client, settings.url, secret, settings.timeout_s, settings.connect_timeout_s, settings.name)


class _Supervisor:
    def __init__(self, backend: CloudRun, question: AnyQuestion, request_id: str) -> None:
        self._backend = backend
        self._question = question
        self._request_id = request_id
        self._deltas: list[str] = []
        self._last: Mapping[str, Any] | None = None
        self._top = {"id": f"chatcmpl-{request_id}", "created": int(time.time())}

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self._backend.secret or "",)

    def request(self, *, stream: bool) -> Request:
        body, secret = body_for(self._question), self._backend.secret
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
        return refusals.refused(response, body, self._backend.secret or "")

    def chunks(self, value: dict[str, Any]) -> tuple[list[Chunk], bool]:
        if not value.keys() & _ITS_OWN:
            # A ping, or whatever else a server puts between the pieces.
            return [], False
        delta = value.get("delta")
        if isinstance(delta, str):
            self._deltas.append(delta)
            return [self._piece({"content": delta})], bool(delta.strip())
        text = _text_in(value)
        if text is None and not (self._deltas and value.get("done") is True):
            raise ProviderFailed("protocol", f"the reply has none of {', '.join(_TEXT_FIELDS)}")
        self._last, come = value, list[Chunk]()
        if not self._deltas and text is not None:
            # The answer comes in one piece after all.
            self._deltas.append(text)
            come = [self._piece({"content": text})]
        come.append(self._piece({}, _finish_in(value)))
        if usage := _usage_in(value):
            come.append({**self._piece({}), "choices": [], **usage})
        return come, bool("".join(self._deltas).strip())

    def _piece(self, delta: dict[str, Any], finish: str | None = None) -> Chunk:
        # What model answers is known with the last event only.
        model = self._backend.name if self._last is None else _model_in(self._last)
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return {**self._top, "object": "chat.completion.chunk", "model": model, "choices": [choice]}

    def ended(self, headers: httpx.Headers, *, done: bool) -> End:
        if self._last is None:
            raise ProviderFailed("cut", "the stream ended without the whole answer")
        said, text = "".join(self._deltas), _text_in(self._last)
        # The last event repeats the answer, which the reader has by now. An answer that differs from it is not stored.
        return self._end(self._last, said, keeps=text is None or text.strip() == said.strip())

    def whole(self, value: dict[str, Any], headers: httpx.Headers) -> End:
        text = _text_in(value)
        if text is None:
            raise ProviderFailed("protocol", f"the reply has none of {', '.join(_TEXT_FIELDS)}")
        return self._end(value, text, keeps=True)

    def _end(self, value: Mapping[str, Any], text: str, *, keeps: bool) -> End:
        if not text.strip():
            raise ProviderFailed("empty", "the answer is empty")
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "finish_reason": _finish_in(value),
            "logprobs": None,
        }
        reply: Completion = {
            **self._top,
            "object": "chat.completion",
            "model": _model_in(value),
            "choices": [choice],
            **_usage_in(value),
        }
        # Marked as a fallback by the backend itself, an answer is served once, and not stored.
        keeps = keeps and value.get("fallback") is not True
        limited = self._question.max_tokens is not None
        return End(answers.whole(reply, "unknown"), keeps and completions.may_be_kept(choice, limited=limited))


def body_for(question: AnyQuestion) -> dict[str, object]:
    """What the backend is sent."""
    if isinstance(question, Question):
        turns = [(turn.role, turn.content) for turn in question.messages]
        parameters = {**question.parameters, **(question.attached or {})}
    else:
        # Only what is made of texts comes here (`dialects.CLOUD_RUN`); ``developer`` is the newer name for ``system``.
        turns = [
            ("system" if each.get("role") == "developer" else each.get("role"), _words_in(each))
            for each in question.body["messages"]
        ]
        # What makes no key is OpenAI's own: a backend that read it would answer one caller's request for another's.
        left_out = ("messages", *BESIDE_THE_ANSWER)
        parameters = {name: value for name, value in question.forwarded.items() if name not in left_out}
        if question.named:
            parameters = {"model": question.named, **parameters}
    return {
        "query": turns[-1][1],
        "sessionId": question.session,
        "messages": [{"role": role, "content": content} for role, content in turns],
        "parameters": parameters,
    }


def _words_in(message: Mapping[str, Any]) -> str:
    """What a turn says: an answer that was refused says its refusal."""
    content, refusal = message.get("content"), message.get("refusal")
    parts = content if isinstance(content, list) else []
    refused = [part["refusal"] for part in parts if isinstance(part, dict) and isinstance(part.get("refusal"), str)]
    return completions.text_in(message) + "".join([*refused, refusal] if isinstance(refusal, str) else refused)


def _text_in(value: Mapping[str, Any]) -> str | None:
    return next((value[name] for name in _TEXT_FIELDS if isinstance(value.get(name), str)), None)


def _model_in(value: Mapping[str, Any]) -> str:
    model = value.get("model")
    return model if isinstance(model, str) else "unknown"


def _finish_in(value: Mapping[str, Any]) -> str:
    """Why an answer ended; a backend that does not say so has come to its end."""
    finish = value.get("finishReason") or value.get("finish_reason")
    return finish if isinstance(finish, str) else "stop"


def _usage_in(value: Mapping[str, Any]) -> dict[str, Any]:
    """The usage that a reply names, in OpenAI's words; nothing where it names none."""
    usage = value.get("usage")
    if isinstance(usage, dict):
        found = {name: usage.get(camel, usage.get(name)) for name, camel in _COUNTS.items()}
    else:
        found = {"total_tokens": value.get("tokens")}
    counts = {name: count for name, count in found.items() if completions.count_of(count) is not None}
    return {"usage": counts} if counts else {}
