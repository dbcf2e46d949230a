"""OpenAI's chat completions, which most providers speak: what came goes on as it came, mended where clients break.

Sources: OpenAI's "API reference, Chat Completions" and "Rate limits"; GroqDocs, "Rate Limits"; Google's "OpenAI
compatibility". How the providers differ is in ``dialects.py``.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import field
from typing import Any

import httpx

from ...base.values import dataclass
from .. import answers, completions
from ..completions import Chunk
from ..mending import Mending, NoReply, carries, mend, one_call_each
from ..question import AnyQuestion, Question
from . import dialects, refusals
from .dialects import PLAIN, Dialect
from .port import End, Piece, ProviderFailed, Told
from .registry import ProviderSettings
from .replies import Request, exchange
from .requests import Sampling, body_of


@dataclass(frozen=True, slots=True)
class OpenAIChat:
    """Where and how to call it. ``omit``: fields that are not sent."""

    client: httpx.AsyncClient
    base_url: str
    api_key: str = field(repr=False)
    model: str
    timeout_s: float
    connect_timeout_s: float
    name: str = "openai"
    dialect: Dialect = PLAIN
    omit: Sequence[str] = ()
    safety_failover: bool = False
    """Whether another provider is asked where an answer was withheld for its content."""
    says_done: set[str] = field(default_factory=set, repr=False)
    """Holds ``[DONE]`` once a stream has ended with it: from then on a stream without it was cut."""

    def ask(self, question: AnyQuestion, *, request_id: str, left_s: float, stream: bool) -> AsyncGenerator[Piece]:
        """Call it once; see ``Provider``."""
        reading = _Completion(self, question, request_id)
        budget_s = min(self.timeout_s, left_s)
        return exchange(self.client, reading, budget_s=budget_s, connect_s=self.connect_timeout_s, stream=stream)


def build(settings: ProviderSettings, client: httpx.AsyncClient) -> OpenAIChat:
    """The API that the settings describe."""
    return OpenAIChat(
        client,
        settings.url,
        settings.key.value if settings.key else "",
        settings.model,
        settings.timeout_s,
        settings.connect_timeout_s,
        settings.name,
        dialects.of(settings.dialect, settings.url),
        settings.omit,
        settings.safety_failover,
    )


class _Completion:
    def __init__(self, api: OpenAIChat, question: AnyQuestion, request_id: str) -> None:
        self._api = api
        self._question = question
        self._request_id = request_id
        self._needs_text = isinstance(question, Question)
        self._mending = Mending(api.dialect.calls_stop)
        self._joining = completions.Joining()
        self._model = question.models.get(api.name, api.model)

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self._api.api_key,)

    def request(self, *, stream: bool) -> Request:
        question, api = self._question, self._api
        body = body_of(question, self._model, api.dialect, api.omit, stream=stream)
        headers = {"authorization": f"Bearer {api.api_key}", "x-client-request-id": self._request_id}
        return Request(f"{api.base_url.rstrip('/')}/chat/completions", body, headers)

    def refusal(self, response: httpx.Response, body: bytes) -> ProviderFailed:
        return refusals.refused(response, body, self._api.api_key)

    def chunks(self, value: dict[str, Any]) -> tuple[list[Chunk], bool]:
        _check_groq(value)
        try:
            chunk = self._mending.chunk(value)
        except NoReply as e:
            raise ProviderFailed("protocol", f"a chunk: {e}") from e
        if chunk is None:
            return [], False
        come = list(one_call_each(chunk))
        for each in come:
            self._joining.add(each)
        return come, any(self._shows(choice["delta"]) for choice in chunk["choices"])

    def _shows(self, delta: Mapping[str, Any]) -> bool:
        if self._needs_text:
            # White space alone is no answer yet: it waits for the first word.
            return bool(completions.text_in(delta).strip())
        # Where another provider is asked after a refusal, none is shown before it is known to be all that comes.
        return carries({**delta, "refusal": None} if self._api.safety_failover else delta)

    def ended(self, headers: httpx.Headers, *, done: bool) -> End:
        if not done and self._api.says_done:
            raise ProviderFailed("cut", "the stream ended without [DONE]")
        if done:
            self._api.says_done.add("[DONE]")
        choices = self._joining.choices
        if not choices or not all(choice.get("finish_reason") for choice in choices):
            raise ProviderFailed("cut", "the stream ended without a finish reason")
        answer = answers.streamed(self._joining, self._model)
        if self._needs_text and not answer.joined:
            answer = answers.whole(answers.text_of_stream(self._joining), self._model)
        return self._end(choices, answer, headers, speaks=self._joining.speaks)

    def whole(self, value: dict[str, Any], headers: httpx.Headers) -> End:
        _check_groq(value)
        try:
            reply = mend(value, calls_stop=self._api.dialect.calls_stop)
        except NoReply as e:
            raise ProviderFailed("protocol", str(e)) from e
        choices = reply["choices"]
        if self._needs_text and not all(choice.get("finish_reason") for choice in choices):
            raise ProviderFailed("protocol", "the reply does not say that it is complete")
        speaks = all(completions.speaks(choice["message"]) for choice in choices)
        return self._end(choices, answers.whole(reply, self._model), headers, speaks=speaks)

    def _end(
        self, choices: Sequence[Mapping[str, Any]], answer: answers.Answer, headers: httpx.Headers, *, speaks: bool
    ) -> End:
        first = choices[0]
        # Where choices are missing they were asked of somebody who does not know `n`: it is no answer to keep.
        speaks = speaks and len(choices) >= self._question.choices
        if self._needs_text:
            if not answer.text.strip():
                raise self._silence(first)
        elif self._api.safety_failover and not speaks and _is_withheld(first):
            raise _withheld()
        limited = self._question.max_tokens is not None
        keeps = speaks and all(completions.may_be_kept(choice, limited=limited) for choice in choices)
        return End(answer, keeps, refusals.exhausted_for_s(headers))

    def _silence(self, choice: Mapping[str, Any]) -> ProviderFailed:
        """Why there is no text, where one is needed."""
        finish, question = str(choice["finish_reason"]), self._question
        if finish in ("length", "MAX_TOKENS"):
            told = Told(
                "The model used up its tokens before its first word: allow more of them.", "maxTokens", "length"
            )
            return ProviderFailed("rejected", "too long before its first word", told=told)
        if _is_withheld(choice):
            return _withheld()
        if finish == "stop" and isinstance(question, Question) and Sampling.of(question).may_silence:
            told = Told("The question's own parameters left no text.", "parameters")
            return ProviderFailed("rejected", "the question's own parameters left no text", told=told)
        if completions.calls_in(choice["message"]):
            return ProviderFailed("protocol", "the model called a tool that it was not offered")
        return ProviderFailed("empty", "the answer is empty")


def _is_withheld(choice: Mapping[str, Any]) -> bool:
    """Whether a choice was filtered or refused; Gemini names its reasons in capitals (``SAFETY``, ``RECITATION``)."""
    finish = str(choice.get("finish_reason"))
    named = finish.isupper() and finish not in ("STOP", "MAX_TOKENS")
    return finish == "content_filter" or named or bool(choice["message"].get("refusal"))


def _withheld() -> ProviderFailed:
    told = Told("The provider withheld its answer for its content.", None, "content_filter")
    return ProviderFailed("blocked", "the answer was withheld", told=told)


def _check_groq(value: Mapping[str, Any]) -> None:
    groq = value.get("x_groq")
    if isinstance(groq, dict) and groq.get("error"):  # "why a stream was stopped early", in Groq's client's types
        raise ProviderFailed("server", "the stream was stopped early")
