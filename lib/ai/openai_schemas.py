"""What a request in OpenAI's protocol may hold. Apart from ``schemas.py``: only one route needs it."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ..edge.accept import prefers_events
from ..edge.problems import Problem
from ..edge.replies import FieldError
from ..edge.request import Request

MAX_BODY_BYTES = 4 * 1024 * 1024
"""Images come in the body; Vercel itself takes 4.5 MB."""

_MAX_SESSION_CHARS = 128
_PERSONAL = (
    *("functions", "metadata", "plugins", "prompt_cache_key", "safety_identifier", "store", "tools"),
    *("user", "web_search_options"),
)
"""Fields that say something of one user, or make the answer depend on more than the question."""
_INSTRUCTIONS = {"system", "developer"}


class ChatCompletion(BaseModel):
    """A request as OpenAI's SDKs send it. What is not named here, and what messages hold, the provider judges."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, defer_build=True)

    model: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    messages: Annotated[list[dict[str, Any]], Field(min_length=1)]
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    user: str | None = Field(None, max_length=512)

    def wants_stream(self, accept: str) -> bool:
        """Whether the answer is to be streamed."""
        return self.stream if self.stream is not None else prefers_events(accept)

    @property
    def stands_alone(self) -> bool:
        """Whether its answer depends on nothing but what it says, and nothing in it belongs to one user."""
        given = {"user": self.user, **(self.model_extra or {})}
        if any(given.get(name) for name in _PERSONAL):
            return False
        if not all(each.keys() <= {"role", "content"} for each in self.messages):
            # A name, say, is somebody's.
            return False
        roles = [each.get("role") for each in self.messages]
        return _is_text(self.messages[-1].get("content")) and roles[-1] == "user" and set(roles[:-1]) <= _INSTRUCTIONS

    @property
    def wants_usage(self) -> bool:
        """Whether a stream is to end with its usage."""
        return bool((self.stream_options or {}).get("include_usage"))

    def body_without(self, omitted: Collection[str]) -> Mapping[str, Any]:
        """The request as it came, but for the fields that nobody is sent."""
        named = {name: value for name, value in self.__dict__.items() if name in self.model_fields_set}
        return {name: value for name, value in (named | (self.model_extra or {})).items() if name not in omitted}


def _is_text(content: object) -> bool:
    """Whether what a message holds is text: a picture may be one user's."""
    parts = content if isinstance(content, list) else []
    return isinstance(content, str) or (bool(parts) and all(_is_text_part(each) for each in parts))


def _is_text_part(part: object) -> bool:
    return isinstance(part, dict) and part.get("type") == "text"


def session_in(request: Request) -> str:
    """The session that the header ``X-Session-Id`` names; empty for none. Raises Problem."""
    session = request.header("x-session-id").strip()
    if len(session) > _MAX_SESSION_CHARS:
        message = f"send at most {_MAX_SESSION_CHARS} characters"
        error: FieldError = {"field": "X-Session-Id", "message": message, "type": "string_too_long"}
        raise Problem("invalid_request", f"X-Session-Id: {message}", errors=[error])
    return session
