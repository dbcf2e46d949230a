"""What a request may hold. What replies look like is in ``replies.py``; the OpenAPI description comes from both."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from lib.rules.answers import Message, Question

MAX_BODY_BYTES = 64 * 1024
MAX_QUERY_CHARS = 8_000

type Query = Annotated[str, StringConstraints(min_length=1, max_length=MAX_QUERY_CHARS)]
type SessionId = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class TextPart(_Strict):
    """A piece of text in a message."""

    type: Literal["text"]
    text: str


class ChatMessage(_Strict):
    """One turn of a conversation, as chat clients send it."""

    role: Literal["system", "user", "assistant"]
    content: str | list[TextPart]
    id: str | None = None

    @property
    def text(self) -> str:
        """The turn's text, its parts joined."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class Ask(_Strict):
    """A question: a ``query``, or ``messages`` that end with the user's, or both (the history, then the query)."""

    query: Query | None = None
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=200)] | None = None
    session_id: Annotated[SessionId | None, Field(alias="sessionId")] = None
    parameters: Annotated[
        dict[str, JsonValue], Field(description="Passed on to the backend; part of what makes two questions the same.")
    ] = {}

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if self.query is not None:
            last = self.query
        elif self.messages:
            if self.messages[-1].role != "user":
                raise PydanticCustomError("last_not_user", "messages: the last one must be the user's")
            last = self.messages[-1].text
            if len(last) > MAX_QUERY_CHARS:
                raise PydanticCustomError(
                    "too_long", f"messages: the last one is longer than {MAX_QUERY_CHARS} characters"
                )
        else:
            raise PydanticCustomError("missing", "query: missing; send query, or messages")
        if not last.strip():
            raise PydanticCustomError("blank", "query: there is nothing in it but white space")
        return self

    def question(self, default_session: str) -> Question:
        """What is asked, in the terms of the rules."""
        turns = [Message(turn.role, turn.text) for turn in self.messages or ()]
        if self.query is not None:
            turns.append(Message("user", self.query))
        return Question(self.session_id or default_session, tuple(turns), self.parameters)
