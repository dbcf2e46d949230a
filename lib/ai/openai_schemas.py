"""What a request in OpenAI's protocol may hold. Apart from ``schemas.py``: only one route needs it."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

MAX_BODY_BYTES = 4 * 1024 * 1024
"""Images come in the body; Vercel itself takes 4.5 MB."""


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
        return self.stream if self.stream is not None else "text/event-stream" in accept.lower()

    @property
    def wants_usage(self) -> bool:
        """Whether a stream is to end with its usage."""
        return bool((self.stream_options or {}).get("include_usage"))

    def body_without(self, omitted: Collection[str]) -> Mapping[str, Any]:
        """The request as it came, but for the fields that nobody is sent."""
        named = {name: value for name, value in self.__dict__.items() if name in self.model_fields_set}
        return {name: value for name, value in (named | (self.model_extra or {})).items() if name not in omitted}
