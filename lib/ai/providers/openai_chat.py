"""OpenAI's chat completions, which Groq and many others speak as well.

Sources: OpenAI's "API reference, Chat Completions" and "Rate limits"; GroqDocs, "Rate Limits".
"""

import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import field
from typing import Any

import httpx

from ...base.values import dataclass
from ..question import Question
from .port import End, Kind, Piece, ProviderFailed
from .registry import ProviderSettings
from .replies import Request, Sampling, count_of, duration_s, error_in, exchange, refused, retry_after_s


@dataclass(frozen=True, slots=True)
class OpenAIChat:
    """Where and how to call it. A question may choose its model among ``allowed_models``; another model is ignored."""

    client: httpx.AsyncClient
    base_url: str
    api_key: str = field(repr=False)
    model: str
    timeout_s: float
    connect_timeout_s: float
    name: str = "openai"
    allowed_models: tuple[str, ...] = ()

    def ask(self, question: Question, *, request_id: str, left_s: float, stream: bool) -> AsyncGenerator[Piece]:
        """Call it once; see ``Provider``."""
        dialect = _Completion(self, question, request_id)
        budget_s = min(self.timeout_s, left_s)
        return exchange(self.client, dialect, budget_s=budget_s, connect_s=self.connect_timeout_s, stream=stream)


def build(settings: ProviderSettings, client: httpx.AsyncClient) -> OpenAIChat:
    """The API that the settings describe."""
    key, times = settings.key.value if settings.key else "", (settings.timeout_s, settings.connect_timeout_s)
    return OpenAIChat(client, settings.url, key, settings.model, *times, name=settings.name)


class _Completion:
    def __init__(self, api: OpenAIChat, question: Question, request_id: str) -> None:
        self._api = api
        self._question = question
        self._request_id = request_id
        wish = question.parameters.get("model")
        self._model = wish if isinstance(wish, str) and wish in api.allowed_models else api.model
        self._finish: str | None = None
        self._refused = False
        self._tokens: int | None = None
        self._may_silence = False

    def request(self, *, stream: bool) -> Request:
        given = Sampling.of(self._question)
        self._may_silence = given.may_silence
        body: dict[str, object] = {
            "model": self._model,
            "messages": [{"role": turn.role, "content": turn.content} for turn in self._question.messages],
            "temperature": given.temperature,
            "top_p": given.top_p,
            "max_completion_tokens": given.max_tokens,  # max_tokens is deprecated with OpenAI and with Groq
            "stop": given.stop or None,
        }
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        headers = {"authorization": f"Bearer {self._api.api_key}", "x-client-request-id": self._request_id}
        url = f"{self._api.base_url.rstrip('/')}/chat/completions"
        return Request(url, {name: value for name, value in body.items() if value is not None}, headers)

    def refusal(self, response: httpx.Response, body: bytes) -> ProviderFailed:
        if response.status_code != 429:
            return refused(response, error_in(body).get("code"))
        error = error_in(body)
        code, message = error.get("code"), str(error.get("message", ""))
        kind: Kind | None = None
        # Both name the limit in the message only: "... on tokens per day (TPD): Limit 100000, Used ..."
        if "insufficient_quota" in {str(code), str(error.get("type"))} or re.search(r"\bper (?:day|month)\b", message):
            kind = "quota"
        again = re.search(r"try again in ([0-9][0-9a-z.]*[a-z])", message)
        rests_s = next(
            (
                wait_s
                for wait_s in (
                    retry_after_s(response.headers),
                    duration_s(again[1]) if again else None,
                    _exhausted_for_s(response.headers),
                )
                if wait_s is not None
            ),
            None,
        )
        return refused(response, code, kind=kind, rests_s=rests_s)

    def text_of(self, value: Mapping[str, Any]) -> str:
        groq = value.get("x_groq")
        if isinstance(groq, dict) and groq.get("error"):  # "why a stream was stopped early", in Groq's client's types
            raise ProviderFailed("server", "the stream was stopped early")
        usage = value.get("usage") or (groq.get("usage") if isinstance(groq, dict) else None)
        if isinstance(usage, dict):
            self._tokens = count_of(usage.get("total_tokens"))
        if isinstance(value.get("model"), str):
            self._model = value["model"]
        choices = value.get("choices", ())
        if choices is None or choices == []:
            return ""  # the last chunk, with include_usage
        if not isinstance(choices, list) or not isinstance(choices[0], dict):
            raise ProviderFailed("protocol", "the reply has no choices")
        return self._choice(choices[0])

    def _choice(self, choice: Mapping[str, Any]) -> str:
        message = choice.get("delta", choice.get("message"))
        if not isinstance(message, dict) or not isinstance(message.get("content") or "", str):
            raise ProviderFailed("protocol", "the choice holds no message, or one whose content is no text")
        finish = choice.get("finish_reason")
        if finish in ("tool_calls", "function_call") or message.get("tool_calls") or message.get("function_call"):
            raise ProviderFailed("protocol", "the model called a tool that it was not offered")
        if isinstance(finish, str):
            self._finish = finish
        self._refused |= bool(message.get("refusal"))
        return message.get("content") or ""

    def end(self, headers: httpx.Headers, *, answered: bool) -> End | None:
        if not answered:
            self._explain_silence()
        if self._finish is None:
            return None
        rests_s = _exhausted_for_s(headers)
        return End(self._model, whole=self._finish == "stop", tokens=self._tokens, rests_s=rests_s)

    def _explain_silence(self) -> None:
        if self._finish == "content_filter" or self._refused:
            raise ProviderFailed("rejected", "the answer was withheld")
        if self._finish == "length":
            raise ProviderFailed("rejected", "too long before its first word")
        if self._finish == "stop" and self._may_silence:
            raise ProviderFailed("rejected", "the question's own parameters left no text")


def _exhausted_for_s(headers: httpx.Headers) -> float | None:
    """For how long the limits in ``x-ratelimit-*`` will refuse, if they say so.

    Groq counts requests by the day and tokens by the minute. ``reset`` is "the time until the rate limit resets to its
    initial state": both refill evenly (14,370 of 14,400 are left, and reset is 2m59.56s), so that the first request is
    back after a fraction of it. How many tokens the next call takes is not known: it waits for all.
    """
    waits = []
    left, limit, reset_s = _limit(headers, "requests")
    if left == 0 and reset_s is not None:
        waits.append(reset_s / limit if limit else reset_s)
    left, limit, reset_s = _limit(headers, "tokens")
    if left is not None and reset_s is not None and left <= (limit or 0) // 100:
        waits.append(reset_s)
    return max(waits, default=None)


def _limit(headers: httpx.Headers, unit: str) -> tuple[int | None, int | None, float | None]:
    """What is left, of how many, and the time to the full number."""
    left, limit = (headers.get(f"x-ratelimit-{name}-{unit}", "") for name in ("remaining", "limit"))
    reset_s = duration_s(headers.get(f"x-ratelimit-reset-{unit}"))
    return _count(left), _count(limit), reset_s


def _count(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,12}", text) else None
