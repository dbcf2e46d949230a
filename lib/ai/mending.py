"""What breaks mainstream clients is mended on the way, and nothing else is touched (decision 30 has the list)."""

from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any

from ..base.values import dataclass
from .completions import Chunk, Completion, calls_in


class NoReply(ValueError):
    """A reply, or a chunk, has not the form that the protocol promises."""


@dataclass(slots=True, eq=False)
class Mending:
    """Mends the chunks of one stream. ``calls_stop``: the provider says ``stop`` where it calls a tool."""

    calls_stop: bool = False
    _calls: dict[int, dict[int, object]] = field(default_factory=dict)
    """The ids of each choice's tool calls, by the call's index."""
    _moved: dict[tuple[int, int], int] = field(default_factory=dict)
    """The index that a choice's call has here, where its own belongs to another call already."""

    def chunk(self, value: Chunk) -> Chunk | None:
        """A chunk that clients can read; None where it carries nothing. Raises NoReply."""
        if not value.keys() & {"choices", "usage"}:
            return None
        if value.get("choices") is None:
            value["choices"] = []
        for place, choice in enumerate(_objects(value["choices"])):
            message = choice.pop("message", None)
            if choice.get("delta") is None:
                choice["delta"] = message or {}
            _number(choice, place)
            self._mend_calls(choice["index"], _object(choice["delta"]))
            if self.calls_stop and choice.get("finish_reason") == "stop" and self._calls.get(choice["index"]):
                choice["finish_reason"] = "tool_calls"
        value.pop("x_breakwater", None)
        return value

    def _mend_calls(self, index: int, delta: dict[str, Any]) -> None:
        if not delta.get("tool_calls"):
            return
        known = self._calls.setdefault(index, {})
        for call in _objects(delta["tool_calls"]):
            call["index"] = self._index(index, known, call)
            if call["index"] not in known:
                known[call["index"]] = call.get("id")
                call["type"] = call.get("type") or "function"

    def _index(self, choice: int, known: Mapping[int, object], call: Mapping[str, Any]) -> int:
        """A call's index: its own, unless it has none, or the one of a call that came before it."""
        own = call.get("index")
        if not isinstance(own, int):
            return _place(known, call)
        index = self._moved.get((choice, own), own)
        if _is_another(known.get(index), call):
            index = self._moved[choice, own] = max(known) + 1
        return index


def one_call_each(chunk: Chunk) -> Iterator[Chunk]:
    """A chunk; where several tools are called in it, a chunk for each call.

    There are clients that read no more than the first call of a delta. Why an answer ended, and its usage, come last.
    """
    parts = [_parts(choice) for choice in chunk["choices"]]
    count = max(map(len, parts), default=1)
    if count == 1:
        yield chunk
        return
    top = {name: value for name, value in chunk.items() if name not in ("choices", "usage")}
    for number in range(count):
        yield {**top, "choices": [each[number] for each in parts if number < len(each)]}
        if number == count - 2 and "usage" in chunk:
            top["usage"] = chunk["usage"]


def _parts(choice: dict[str, Any]) -> list[dict[str, Any]]:
    calls = choice["delta"].get("tool_calls") or ()
    if len(calls) < 2:
        return [choice]
    finish = choice.get("finish_reason")
    found: list[dict[str, Any]] = [
        {"index": choice["index"], "delta": {"tool_calls": [call]}, "finish_reason": None} for call in calls
    ]
    found[0] = {**choice, **found[0], "delta": {**choice["delta"], **found[0]["delta"]}}
    found[-1]["finish_reason"] = finish
    return found


def _place(known: Mapping[int, object], call: Mapping[str, Any]) -> int:
    """The same id is the same call. Without one, a function's name begins another, and a fragment goes on."""
    last, name = max(known, default=-1), call.get("id")
    if name not in (None, ""):
        return next((place for place, each in known.items() if each == name), last + 1)
    return last + 1 if _names_a_function(call) else max(0, last)


def _is_another(known: object, call: Mapping[str, Any]) -> bool:
    """Whether a call is another one than that which has its index. There are servers that number all calls 0.

    Others give each fragment of one call a new id: what begins a call names its function as well.
    """
    name = call.get("id")
    return known not in (None, "") and name not in (None, "", known) and _names_a_function(call)


def _names_a_function(call: Mapping[str, Any]) -> bool:
    function = call.get("function")
    return isinstance(function, dict) and bool(function.get("name"))


def mend(value: Completion, *, calls_stop: bool = False) -> Completion:
    """A whole reply that clients can read. Raises NoReply where it has no choice with a message."""
    choices = _objects(value.get("choices") or [])
    if not choices:
        raise NoReply("the reply has no choices")
    for place, choice in enumerate(choices):
        _number(choice, place)
        message = _object(choice.get("message"))
        for call in _objects(message.get("tool_calls") or []):
            call["type"] = call.get("type") or "function"
        if calls_stop and calls_in(message) and choice.get("finish_reason") == "stop":
            choice["finish_reason"] = "tool_calls"
    value.pop("x_breakwater", None)
    return value


def _number(choice: dict[str, Any], place: int) -> None:
    if not isinstance(choice.get("index"), int):
        choice["index"] = place


def _objects(value: object) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise NoReply("no list of objects")
    return [_object(each) for each in value]


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise NoReply("no object")
    return value


def carries(delta: Mapping[str, Any]) -> bool:
    """Whether a delta shows a client anything, white space included: more than whose turn it is."""
    return any(value for name, value in delta.items() if name not in ("role", "obfuscation", "p"))
