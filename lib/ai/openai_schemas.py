"""What a request in OpenAI's protocol may hold. Apart from ``schemas.py``: only one route needs it."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from ..edge.accept import prefers_events
from ..edge.problems import Problem
from ..edge.replies import FieldError
from ..edge.request import Request
from .question import Question
from .schemas import Conversation, check_last, check_numbers

_MAX_SESSION_CHARS = 128
_PERSONAL = ("functions", "metadata", "prompt_cache_key", "safety_identifier", "store", "tools")
"""Fields that say something of one user, or make the answer depend on more than the question."""


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
        return self.stream if self.stream is not None else prefers_events(accept)

    @property
    def stands_alone(self) -> bool:
        """Whether its answer depends on nothing but what it says, and nothing in it belongs to one user."""
        personal = any((self.model_extra or {}).get(name) for name in _PERSONAL)
        before = self.messages[:-1]
        return not (self.user or personal) and all(turn.role in ("system", "developer") for turn in before)

    def question(self, session: str) -> Question:
        """The question, as the chain takes it."""
        turns = tuple(turn.message for turn in self.messages)
        parameters: dict[str, Any] = {"model": self.model, **(self.model_extra or {})}
        return Question(session, turns, parameters)


def session_in(request: Request) -> str:
    """The session that the header ``X-Session-Id`` names; empty for none. Raises Problem."""
    session = request.header("x-session-id").strip()
    if len(session) > _MAX_SESSION_CHARS:
        message = f"send at most {_MAX_SESSION_CHARS} characters"
        error: FieldError = {"field": "X-Session-Id", "message": message, "type": "string_too_long"}
        raise Problem("invalid_request", f"X-Session-Id: {message}", errors=[error])
    return session
