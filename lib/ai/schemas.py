"""What a request may hold; OpenAI's own shape is in ``openai_schemas.py``.

What replies look like is in ``edge/replies.py``; the OpenAPI description comes from all three.
"""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from ..edge.accept import prefers_events
from .question import Message, Question

MAX_BODY_BYTES = 64 * 1024
MAX_QUERY_CHARS = 8_000

type Query = Annotated[str, StringConstraints(min_length=1, max_length=MAX_QUERY_CHARS)]
type SessionId = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class Part(BaseModel):
    """A piece of a message: a text, or a file as the AI SDK or OpenAI have it.

    Clients' own pieces (steps, reasoning, sources, data) are left out.
    """

    model_config = ConfigDict(strict=True, frozen=True, defer_build=True)

    type: str
    text: str | None = None
    media_type: Annotated[str | None, Field(alias="mediaType")] = None
    url: str | None = None
    filename: str | None = None
    image_url: dict[str, JsonValue] | None = None
    input_audio: dict[str, JsonValue] | None = None
    file: dict[str, JsonValue] | None = None

    @property
    def as_sent(self) -> dict[str, Any] | None:
        """The piece in OpenAI's form; None where it is left out."""
        match self.type:
            case "text" if self.text:
                return {"type": "text", "text": self.text}
            case "file" if self.url is not None and (self.media_type or "").startswith("image/"):
                return {"type": "image_url", "image_url": {"url": self.url}}
            case "file" if self.url is not None:
                named = {"filename": self.filename} if self.filename else {}
                return {"type": "file", "file": {**named, "file_data": self.url}}
            case "image_url" | "input_audio" | "file":
                return {"type": self.type, self.type: getattr(self, self.type)}
        return None


class ChatMessage(BaseModel):
    """One turn of a conversation, as chat clients send it; what else they send with it is left out."""

    model_config = ConfigDict(strict=True, frozen=True, defer_build=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part] | None = None
    parts: list[Part] | None = Field(None, description="In place of content, as the AI SDK sends it.")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.content is None and self.parts is None:
            raise PydanticCustomError("missing", "content: missing")
        return self

    @property
    def message(self) -> Message:
        """The turn, as the chain takes it; ``developer`` is OpenAI's newer name for ``system``."""
        role: Literal["system", "user", "assistant"] = "system" if self.role == "developer" else self.role
        if isinstance(self.content, str):
            return Message(role, self.content)
        pieces = self.content if isinstance(self.content, list) else self.parts or []
        sent = tuple(part for part in (each.as_sent for each in pieces) if part is not None)
        message = Message(role, sent)
        # Where all is text it is one.
        return message if any(part["type"] != "text" for part in sent) else Message(role, message.text)


type Conversation = Annotated[list[ChatMessage], Field(min_length=1, max_length=200)]


def check_last(messages: list[ChatMessage]) -> None:
    """Raise PydanticCustomError unless a conversation ends with something that the user says."""
    if messages[-1].role != "user":
        raise PydanticCustomError("last_not_user", "messages: the last one must be the user's")
    message = messages[-1].message
    last = message.text
    if len(last) > MAX_QUERY_CHARS:
        raise PydanticCustomError("too_long", f"messages: the last one is longer than {MAX_QUERY_CHARS} characters")
    if not last.strip() and isinstance(message.content, str):
        raise PydanticCustomError("blank", "messages: there is no text in the last one")


def check_numbers(name: str, values: object) -> None:
    """Raise PydanticCustomError where a number is none that JSON has; ``name`` is the field that the error names."""
    try:
        # The hash of a question is made of its canonical JSON, and NaN and Infinity have none.
        json.dumps(values, allow_nan=False)
    except ValueError:
        raise PydanticCustomError("finite_number", f"{name}: numbers must be finite") from None


class Ask(BaseModel):
    """A question: a ``query``, or ``messages`` that end with the user's, or both (the history, then the query).

    ``id``, ``trigger`` and ``messageId`` are what the AI SDK's ``useChat`` adds. It expects a stream, its chat is the
    session, and ``regenerate-message`` asks for an answer that is not from the cache. A request with a ``trigger`` may
    have any further fields: an application's own ``body`` of a chat, which is meant for its own server. They are
    ignored. Without a ``trigger`` an unknown field is a mistake, and said to be one.
    """

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, defer_build=True)

    query: Query | None = None
    messages: Conversation | None = None
    session_id: Annotated[SessionId | None, Field(alias="sessionId")] = None
    parameters: Annotated[
        dict[str, JsonValue],
        Field(
            description="Passed on to the backend; part of what makes two questions the same. fleet: true (or"
            ' "simulated") has it know how servers are, for those who may see them.'
        ),
    ] = {}
    stream: bool | None = Field(None, description="Answer as server-sent events; so does Accept: text/event-stream.")
    id: SessionId | None = None
    trigger: Literal["submit-message", "regenerate-message"] | None = None
    message_id: Annotated[str | None, Field(alias="messageId")] = None

    @model_validator(mode="before")
    @classmethod
    def _has_a_question(cls, given: object) -> object:
        # Before the fields are looked at: who sent "prompt" should learn of "query", not of a field too many.
        if isinstance(given, dict) and given.get("query") is None and given.get("messages") is None:
            raise PydanticCustomError("missing", "query: missing; send query, or messages")
        return given

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if self.trigger is None and self.model_extra:
            # As pydantic says it where a field is forbidden.
            name = next(iter(self.model_extra))
            raise PydanticCustomError("extra_forbidden", "{name}: not a field of this request", {"name": name})
        if self.query is not None:
            if not self.query.strip():
                raise PydanticCustomError("blank", "query: there is nothing in it but white space")
        elif self.messages:
            check_last(self.messages)
        check_numbers("parameters", self.parameters)
        about = self.parameters.get("fleet")
        if not (about is None or isinstance(about, bool) or about == "simulated"):
            raise PydanticCustomError("fleet", 'parameters.fleet: send true or "simulated", or leave it out')
        return self

    @property
    def is_about_servers(self) -> bool:
        """Whether it asks for the servers' figures to go along."""
        return bool(self.parameters.get("fleet"))

    @property
    def session(self) -> str:
        """The session as the client names it, if it does."""
        return self.session_id or self.id or ""

    @property
    def stands_alone(self) -> bool:
        """Whether its answer depends on nothing but what it says: no history, here or at the backend.

        A chat of ``useChat`` has a session and sends its whole history: its first question stands alone.
        """
        before = self.messages or () if self.query is not None else (self.messages or ())[:-1]
        return self.session_id is None and all(turn.role in ("system", "developer") for turn in before)

    def question(self, session: str) -> Question:
        """The question, as the chain takes it; ``session`` is what the backend is told of."""
        turns = [turn.message for turn in self.messages or ()]
        if self.query is not None:
            turns.append(Message("user", self.query))
        return Question(session, tuple(turns), self.parameters)

    def wants_stream(self, accept: str) -> bool:
        """Whether the answer is to be streamed."""
        if self.stream is not None:
            return self.stream
        return self.trigger is not None or prefers_events(accept)
