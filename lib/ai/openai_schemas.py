"""What a request in OpenAI's protocol may hold. Apart from ``schemas.py``: only one route needs it."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from .question import Question
from .schemas import Conversation, check_last, check_numbers


class StreamOptions(BaseModel):
    """OpenAI's ``stream_options``."""

    include_usage: bool = False


class ChatCompletion(BaseModel):
    """A request as OpenAI's SDKs send it. Parameters that are not named here are passed on to the provider."""

    model_config = ConfigDict(extra="allow", frozen=True, defer_build=True)

    model: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    messages: Conversation
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = None
    user: str | None = Field(None, max_length=512)

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if any(part.type not in ("text", "refusal") for turn in self.messages for part in turn.pieces):
            raise PydanticCustomError("unsupported", "messages: only text is supported")
        check_last(self.messages)
        for name in ("tools", "functions", "audio"):
            if (self.model_extra or {}).get(name):
                raise PydanticCustomError("unsupported", f"{name}: not supported")
        check_numbers("body", self.model_extra)
        return self

    def wants_stream(self, accept: str) -> bool:
        """Whether the answer is to be streamed."""
        return self.stream if self.stream is not None else "text/event-stream" in accept.lower()

    def question(self, session: str) -> Question:
        """The question, as the chain takes it."""
        turns = tuple(turn.message for turn in self.messages)
        parameters: dict[str, Any] = {"model": self.model, **(self.model_extra or {})}
        return Question(session, turns, parameters)
