"""What a request in OpenAI's protocol needs that not every provider can do. Pure."""

from collections.abc import Mapping
from typing import Any

LAST_IS_NOT_THE_USERS = "last_not_user"
FILES = "files"
"""Parts of a message that are no text: images, audio, documents."""
NAMES = "messages.name"

_TEXT_PARTS = frozenset({"text", "refusal", "thinking", "reasoning"})
_NO_TEXT = frozenset({"url", "data", "file_data", "image_url"})
_NEUTRAL: Mapping[str, object] = {"n": 1, "logprobs": False, "frequency_penalty": 0, "presence_penalty": 0}
"""Values that ask for nothing."""


def of(body: Mapping[str, Any]) -> dict[str, str]:
    """Each need with the field that says so: the fields that are set, and what the messages hold."""
    found = {name: name for name, value in body.items() if _asks(name, value)}
    messages = [each for each in _list(body.get("messages")) if isinstance(each, dict)]
    for message in messages:
        if message.get("role") in ("tool", "function") or message.get("tool_calls") or message.get("function_call"):
            found.setdefault("tools", "messages")
        parts = [part for part in _list(message.get("content")) if isinstance(part, dict)]
        if not all(_is_text(part) for part in parts):
            found[FILES] = "messages"
        if message.get("name") is not None and message.get("role") not in ("tool", "function"):
            found[NAMES] = "messages"
    if messages and messages[-1].get("role") != "user":
        found[LAST_IS_NOT_THE_USERS] = "messages"
    return found


def _is_text(part: Mapping[str, Any]) -> bool:
    kind = part.get("type")
    return isinstance(kind, str) and kind in _TEXT_PARTS


def _asks(name: str, value: Any) -> bool:
    if name == "web_search_options":
        # Without any option of its own it asks for a search all the same.
        return value is not None
    if value is None or value in ([], {}) or (name in _NEUTRAL and value == _NEUTRAL[name]):
        return False
    match name:
        case "response_format":
            return not (isinstance(value, dict) and value.get("type") == "text")
        case "modalities":
            return bool(value != ["text"])
    return True


def chars_in(value: object) -> int:
    """The characters of all texts in a value; what stands for a picture or a sound is not text."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(chars_in(each) for name, each in value.items() if not (name in _NO_TEXT and isinstance(each, str)))
    return sum(chars_in(each) for each in _list(value))


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
