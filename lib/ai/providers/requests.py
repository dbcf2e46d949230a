"""The body of a request to a provider of OpenAI's protocol: what the client sent, in the provider's dialect."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ..attached import messages_of
from ..question import AnyQuestion, Question
from .dialects import EXTRA_CONTENT, Dialect
from .port import ProviderFailed, Told


def body_of(
    question: AnyQuestion, model: str, dialect: Dialect, omit: Sequence[str], *, stream: bool
) -> dict[str, Any]:
    """The request. ``omit``: fields that this provider is not sent. Raises ProviderFailed."""
    options: object = None
    if isinstance(question, Question):
        given = Sampling.of(question).fields(dialect)
        given["messages"] = [
            {"role": turn.role, "content": turn.content}
            for turn in messages_of(question)
            if dialect.blank_turns or not isinstance(turn.content, str) or turn.content.strip()
        ]
    else:
        # Where it asked for what cannot be done here, this provider was passed over.
        given = {name: value for name, value in question.forwarded.items() if name not in dialect.cannot}
        options = question.body.get("stream_options")
        for name, own in dialect.renamed.items():
            if name in given:
                value = given.pop(name)
                given.setdefault(own, value)
        if dialect.foreign and isinstance(given.get("messages"), list):
            given["messages"] = [_without_foreign(each, dialect.foreign) for each in given["messages"]]
    body = {"model": model, **{name: value for name, value in given.items() if name not in omit}}
    if stream:
        body["stream"] = True
        if dialect.stream_options and "stream_options" not in omit:
            body["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
    return body


def _without_foreign(message: object, foreign: frozenset[str]) -> object:
    if not isinstance(message, dict):
        return message
    kept = {name: value for name, value in message.items() if name not in foreign}
    if EXTRA_CONTENT in foreign and isinstance(calls := kept.get("tool_calls"), list):
        kept["tool_calls"] = [
            {name: value for name, value in call.items() if name != EXTRA_CONTENT} if isinstance(call, dict) else call
            for call in calls
        ]
    return kept


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, str) else value


class Sampling(BaseModel):
    """The parameters of a supervisor's question that every chat model knows, under their usual names.

    Others are left out: the parameters are the supervisor's own.
    """

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
            detail = f"parameters: {', '.join(fields)} cannot be used"
            told = Told(detail, f"parameters.{fields[0]}")
            raise ProviderFailed("rejected", detail, went_out=False, told=told) from None

    def fields(self, dialect: Dialect) -> dict[str, Any]:
        """What is set, under OpenAI's names."""
        found: Mapping[str, Any] = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            dialect.limit: self.max_tokens,
            "stop": self.stop or None,
        }
        return {name: value for name, value in found.items() if value is not None}

    @property
    def may_silence(self) -> bool:
        """Whether these parameters can be why there is no text."""
        return self.max_tokens is not None or bool(self.stop)
