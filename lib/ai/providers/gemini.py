"""Google's Gemini API: ``generateContent`` and ``streamGenerateContent``, as "Gemini API reference" describes them."""

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import field
from itertools import groupby
from typing import Any
from urllib.parse import quote

import httpx

from ...base.values import dataclass
from ..question import Message, Question
from .port import End, Kind, Piece, ProviderFailed
from .registry import ProviderSettings
from .replies import Request, Sampling, count_of, duration_s, error_in, exchange, refused

# FinishReason values that report a fault of the service. Without text, every other one but STOP is about the question:
# "SAFETY", "RECITATION", "PROHIBITED_CONTENT" and the like, and "MAX_TOKENS" that were used before the first word.
_MISHAPS = frozenset(
    {
        "MALFORMED_FUNCTION_CALL",
        "MALFORMED_RESPONSE",
        "MISSING_THOUGHT_SIGNATURE",
        "TOO_MANY_TOOL_CALLS",
        "UNEXPECTED_TOOL_CALL",
    }
)


@dataclass(frozen=True, slots=True)
class Gemini:
    """Where and how to call it. ``api_key`` is sent in a header, never in the URL, which proxies and logs keep."""

    client: httpx.AsyncClient
    api_key: str = field(repr=False)
    model: str
    timeout_s: float
    connect_timeout_s: float
    base_url: str
    name: str = "gemini"

    def ask(self, question: Question, *, request_id: str, left_s: float, stream: bool) -> AsyncGenerator[Piece]:
        """Call it once; see ``Provider``. The API has no place for a request id."""
        budget_s = min(self.timeout_s, left_s)
        return exchange(
            self.client, _Content(self, question), budget_s=budget_s, connect_s=self.connect_timeout_s, stream=stream
        )


def build(settings: ProviderSettings, client: httpx.AsyncClient) -> Gemini:
    """The API that the settings describe."""
    key, times = settings.key.value if settings.key else "", (settings.timeout_s, settings.connect_timeout_s)
    return Gemini(client, key, settings.model, *times, settings.url, settings.name)


class _Content:
    def __init__(self, api: Gemini, question: Question) -> None:
        self._api = api
        self._question = question
        self._model = api.model
        self._finish: str | None = None
        self._blocked: str | None = None
        self._tokens: int | None = None
        self._may_silence = False

    def request(self, *, stream: bool) -> Request:
        given = Sampling.of(self._question)
        self._may_silence = given.may_silence
        config = {
            "temperature": given.temperature,
            "topP": given.top_p,
            "maxOutputTokens": given.max_tokens,
            "stopSequences": given.stop or None,
        }
        config = {name: value for name, value in config.items() if value is not None}
        turns = self._question.messages
        body: dict[str, object] = {"contents": _contents([turn for turn in turns if turn.role != "system"])}
        if instructions := [{"text": turn.content} for turn in turns if turn.role == "system" and turn.content.strip()]:
            body["systemInstruction"] = {"parts": instructions}
        if config:
            body["generationConfig"] = config
        method = "streamGenerateContent?alt=sse" if stream else "generateContent"
        url = f"{self._api.base_url.rstrip('/')}/v1beta/models/{quote(self._api.model, safe='')}:{method}"
        return Request(url, body, {"x-goog-api-key": self._api.api_key})

    def refusal(self, response: httpx.Response, body: bytes) -> ProviderFailed:
        error = error_in(body)
        status, details = error.get("status"), list(_details(error))
        kind: Kind | None = None
        if response.status_code == 400 and (
            # An invalid key is no 401 here, and a project in a country without the free tier no 403.
            status == "FAILED_PRECONDITION" or any(detail.get("reason") == "API_KEY_INVALID" for detail in details)
        ):
            kind = "unauthorized"
        if response.status_code == 429 and any("PerDay" in quota for quota in _quotas(details)):
            kind = "quota"
        # For a daily quota, too, Google names a delay of seconds; the quota is back at midnight in California.
        delays = [duration_s(detail.get("retryDelay")) for detail in details]
        rests_s = max((delay for delay in delays if delay is not None), default=None)
        return refused(response, status, kind=kind, rests_s=rests_s)

    def text_of(self, value: Mapping[str, Any]) -> str:
        feedback, candidates = value.get("promptFeedback"), value.get("candidates")
        if isinstance(feedback, dict) and isinstance(feedback.get("blockReason"), str):
            self._blocked = feedback["blockReason"]
        usage = value.get("usageMetadata")
        if isinstance(usage, dict):  # on every chunk, and growing
            self._tokens = count_of(usage.get("totalTokenCount")) or self._tokens
        if isinstance(value.get("modelVersion"), str):
            self._model = value["modelVersion"]
        if candidates is None or candidates == []:
            return ""
        if not isinstance(candidates, list) or not isinstance(candidates[0], dict):
            raise ProviderFailed("protocol", "the candidates are not a list of objects")
        candidate = candidates[0]
        if isinstance(candidate.get("finishReason"), str):
            self._finish = candidate["finishReason"]
        return "".join(_texts(candidate.get("content")))

    def end(self, headers: httpx.Headers, *, answered: bool) -> End | None:
        if not answered:
            self._explain_silence()
        if self._finish is None:
            return None
        return End(self._model, whole=self._finish == "STOP", tokens=self._tokens)

    def _explain_silence(self) -> None:
        if self._blocked:
            raise ProviderFailed("rejected", "the prompt was blocked")
        if self._finish in _MISHAPS:
            raise ProviderFailed("protocol", "the model called a tool that it was not offered, or in a broken way")
        if self._finish not in {None, "STOP"}:
            raise ProviderFailed("rejected", "the answer was withheld, or too long before its first word")
        if self._finish == "STOP" and self._may_silence:
            raise ProviderFailed("rejected", "the question's own parameters left no text")


def _contents(turns: Sequence[Message]) -> list[dict[str, object]]:
    """The conversation as Gemini takes it: ``user`` and ``model`` in turn, no empty text."""
    spoken = [turn for turn in turns if turn.content.strip()]
    return [
        {
            "role": "model" if role == "assistant" else "user",
            "parts": [{"text": "\n\n".join(turn.content for turn in same)}],
        }
        for role, same in groupby(spoken, key=lambda turn: turn.role)
    ]


def _texts(content: object) -> Iterator[str]:
    """The texts of a candidate's content, which is missing when a filter took it, without the model's thoughts."""
    parts = content.get("parts", []) if isinstance(content, dict) else content or []
    if not isinstance(parts, list):
        raise ProviderFailed("protocol", "the content has no list of parts")
    for part in parts:
        if not isinstance(part, dict) or not isinstance(part.get("text", ""), str):
            raise ProviderFailed("protocol", "a part of the content is no object, or its text no text")
        if "functionCall" in part:
            raise ProviderFailed("protocol", "the model called a tool that it was not offered")
        if part.get("thought") is not True:
            yield part.get("text", "")


def _details(error: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """google.rpc.Status's ``details``: ErrorInfo, QuotaFailure, RetryInfo and others, each an object."""
    details = error.get("details")
    yield from (detail for detail in (details if isinstance(details, list) else ()) if isinstance(detail, dict))


def _quotas(details: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The quotas that google.rpc.QuotaFailure names, as ``GenerateRequestsPerDayPerProjectPerModel-FreeTier``."""
    for detail in details:
        violations = detail.get("violations")
        for violation in violations if isinstance(violations, list) else ():
            if isinstance(violation, dict):
                yield str(violation.get("quotaId", ""))
