"""Chat completions as values: a stream's chunks joined into a whole reply, a whole reply taken apart into chunks.

A reply of any provider has this one form inside. It is passed on as it came: whoever reads it finds what the provider
sent, and nothing that it did not send.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from ..base.cost import Cost

type Chunk = dict[str, Any]
"""A ``chat.completion.chunk``, as JSON has it."""
type Completion = dict[str, Any]
"""A whole ``chat.completion``, as JSON has it."""

PIECE_CHARS = 256
"""A kept reply is sent in pieces of this size, so that clients which show pieces as they come see it grow."""

_TEXTS = frozenset({"content", "refusal", "reasoning_content", "reasoning", "arguments"})
"""Texts that come in fragments."""
_ONCE = frozenset({"role", "id", "type", "name", "index"})
"""What is said once, or said again as it was."""
_SERIES = frozenset({"token_ids"})
"""Lists that come in fragments, beside those of ``logprobs``."""
_PADDING = frozenset({"obfuscation", "p"})
"""Says nothing: it hides from onlookers how long a piece is."""


class Joining:
    """The chunks of one stream, and the whole reply that they make."""

    def __init__(self) -> None:
        self._top: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}
        self._chunks: list[Chunk] = []
        self._speaks: set[int] = set()
        self._joins = True

    def add(self, chunk: Chunk) -> None:
        """The next chunk, mended."""
        self._chunks.append(chunk)
        for name, value in chunk.items():
            if name not in ("choices", "object") and name not in _PADDING and not _is_empty(value):
                self._top[name] = value
        for choice in chunk.get("choices", ()):
            joined = self._choices.setdefault(choice["index"], {"index": choice["index"], "message": {}})
            self._add(joined, choice)
            if speaks(choice["delta"]):
                self._speaks.add(choice["index"])

    def _add(self, joined: dict[str, Any], choice: Mapping[str, Any]) -> None:
        for name, value in choice.items():
            if name == "delta":
                self._joins &= _merge(joined["message"], value)
            elif name == "logprobs" and isinstance(value, dict):
                self._joins &= _extend(joined, name, value)
            elif name in _SERIES and isinstance(value, list) and isinstance(joined.get(name, []), list):
                joined.setdefault(name, []).extend(value)
            elif not _is_empty(value) or name not in joined:
                joined[name] = value

    @property
    def choices(self) -> list[dict[str, Any]]:
        """The choices so far, in order."""
        return [self._choices[index] for index in sorted(self._choices)]

    @property
    def speaks(self) -> bool:
        """Whether each choice has said something, or calls a tool."""
        return self._speaks == self._choices.keys()

    def whole(self) -> Completion | None:
        """The whole reply; None where its chunks cannot be joined."""
        if not self._joins:
            return None
        choices = []
        for choice in self.choices:
            message = {"role": "assistant", "content": None, **choice["message"]}
            if isinstance(calls := message.get("tool_calls"), list):
                message["tool_calls"] = [_without(call, "index") for call in sorted(calls, key=lambda c: c["index"])]
            choices.append({**choice, "message": message})
        return {**_without(self._top, "usage"), "object": "chat.completion", "choices": choices, **self._usage()}

    def _usage(self) -> dict[str, Any]:
        return {"usage": self._top["usage"]} if "usage" in self._top else {}

    @property
    def chunks(self) -> list[Chunk]:
        """All chunks, as they came."""
        return self._chunks

    @property
    def top(self) -> Mapping[str, Any]:
        """What was said beside the choices."""
        return self._top


def _is_empty(value: object) -> bool:
    return value is None or value in ("", [], {})


def _without(value: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {each: held for each, held in value.items() if each != name}


def _extend(joined: dict[str, Any], name: str, value: Mapping[str, Any]) -> bool:
    """``logprobs``: its lists go on. Whether it is known how all of it does."""
    before = joined.get(name)
    if not isinstance(before, dict):
        joined[name] = {each: [*more] if isinstance(more, list) else more for each, more in value.items()}
        return True
    known = True
    for each, more in value.items():
        held = before.get(each)
        if isinstance(held, list) and isinstance(more, list):
            held.extend(more)
        elif held is None:
            before[each] = [*more] if isinstance(more, list) else more
        else:
            known &= more is None or held == more
    return known


def _merge(joined: dict[str, Any], delta: Mapping[str, Any]) -> bool:
    """Add a delta to what came before it; whether it is known how all of it goes on."""
    known = True
    for name, value in delta.items():
        before = joined.get(name)
        if name in _PADDING or (before is not None and value is None):
            continue
        if before is None or before == []:
            joined[name], known_here = _first(value)
        elif isinstance(before, dict) and isinstance(value, dict):
            known_here = _merge(before, value)
        elif isinstance(before, list) and isinstance(value, list):
            known_here = _merge_lists(before, value)
        elif name in _TEXTS and isinstance(before, str) and isinstance(value, str):
            # It grows by thousands of pieces: where nobody else holds it, Python adds to a text in its place.
            text, before, joined[name] = before, None, ""
            text += value
            joined[name], known_here = text, True
        else:
            known_here = before == value or (name in _ONCE and value == "")
        known &= known_here
    return known


def _first(value: Any) -> tuple[Any, bool]:
    """The first of a field, to be added to, while what was sent stays as it is; whether it is known how it goes on."""
    if isinstance(value, dict):
        found: dict[str, Any] = {}
        return found, _merge(found, value)
    if isinstance(value, list) and _are_numbered(value):
        items: list[Any] = []
        return items, _merge_lists(items, value)
    return value, True


def _merge_lists(joined: list[Any], more: list[Any]) -> bool:
    """Items with an index are joined by it and by their type; of other lists it is not known whether they go on."""
    if not (_are_numbered(joined) and _are_numbered(more)):
        return joined == more
    known = True
    for item in more:
        for before in joined:
            if before.get("index") == item["index"] and _may_be_same(before.get("type"), item.get("type")):
                known &= _merge(before, item)
                break
        else:
            first, known_here = _first(item)
            joined.append(first)
            known &= known_here
    return known


def _are_numbered(items: list[Any]) -> bool:
    return all(isinstance(each, dict) and "index" in each for each in items)


def _may_be_same(one: object, other: object) -> bool:
    return not one or not other or one == other


def explode(reply: Completion) -> Iterator[Chunk]:
    """A whole reply as the chunks of a stream, the usage in a last one of its own."""
    top = {**_without(_without(reply, "choices"), "usage"), "object": "chat.completion.chunk"}
    for choice in reply["choices"]:
        index, message = choice["index"], choice["message"]
        for delta in _deltas(message):
            yield {**top, "choices": [{"index": index, "delta": delta, "finish_reason": None}]}
        yield {**top, "choices": [{"finish_reason": None, **_without(choice, "message"), "delta": {}}]}
    if "usage" in reply:
        yield {**top, "choices": [], "usage": reply["usage"]}


def _deltas(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A message in pieces: what is no text first, then reasoning, content, a refusal, and the tool calls last."""
    texts = {name: text for name, text in message.items() if name in _TEXTS and isinstance(text, str)}
    yield {
        name: "" if name == "content" and name in texts else value
        for name, value in message.items()
        if name != "tool_calls" and (name not in texts or name == "content")
    }
    reasoning = [name for name in ("reasoning_content", "reasoning") if name in texts]
    # The same words under two names travel together: clients that know both would show them twice.
    together = len({texts[name] for name in reasoning}) == 1
    for names in [reasoning] if together and reasoning else [[name] for name in reasoning]:
        for piece in _pieces(texts[names[0]]):
            yield dict.fromkeys(names, piece)
    for name in ("content", "refusal"):
        for piece in _pieces(texts.get(name, "")):
            yield {name: piece}
    calls = message.get("tool_calls")
    if calls and isinstance(calls, list):
        # A call at a time, as OpenAI sends them: there are clients that read no more than the first of a delta.
        for number, call in enumerate(calls):
            yield {"tool_calls": [{"index": number, **call}]}
    elif "tool_calls" in message:
        yield {"tool_calls": calls}


def _pieces(text: str) -> Iterator[str]:
    for at in range(0, len(text), PIECE_CHARS):
        yield text[at : at + PIECE_CHARS]


def text_in(message: Mapping[str, Any]) -> str:
    """The text that a message, or a delta, says; of a content in parts, that of its text parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text")
        return "".join(part for part in parts if isinstance(part, str))
    return ""


def calls_in(message: Mapping[str, Any]) -> bool:
    """Whether a message, or a delta, calls a tool."""
    return bool(message.get("tool_calls") or message.get("function_call"))


def speaks(message: Mapping[str, Any]) -> bool:
    """Whether a message, or a delta, says something or calls a tool."""
    return bool(text_in(message).strip()) or calls_in(message)


_KEPT = frozenset({"stop", "tool_calls", "function_call"})


def may_be_kept(choice: Mapping[str, Any], *, limited: bool) -> bool:
    """Whether another request may get this choice. ``limited``: the request itself has bounded the answer's length.

    Not kept: what was filtered, refused, or cut by a length that nobody set.
    """
    finish = str(choice.get("finish_reason"))
    return (finish in _KEPT or (finish == "length" and limited)) and not choice["message"].get("refusal")


def usage_in(reply: Mapping[str, Any]) -> dict[str, Any] | None:
    """The usage that a reply tells, Groq's streams under a name of their own; None where it tells none."""
    groq = reply.get("x_groq")
    usage = reply.get("usage") or (groq.get("usage") if isinstance(groq, dict) else None)
    return usage if isinstance(usage, dict) else None


def cost_in(reply: Mapping[str, Any]) -> Cost | None:
    """What a reply cost in tokens; None where it does not tell what went in and what came out.

    Some providers count thinking in the total alone. It is billed as output, and so it is counted here.
    """
    usage = usage_in(reply) or {}
    given, came, total = (count_of(usage.get(f"{name}_tokens")) for name in ("prompt", "completion", "total"))
    if given is None or came is None:
        return None
    details = usage.get("prompt_tokens_details")
    cached = count_of(details.get("cached_tokens")) if isinstance(details, dict) else None
    if cached is None:
        # DeepSeek's own name.
        cached = count_of(usage.get("prompt_cache_hit_tokens"))
    return Cost(given, max(came, (total or 0) - given), min(cached or 0, given))


def total_tokens(reply: Mapping[str, Any]) -> int | None:
    """The tokens that a reply names in all; None where it names none."""
    usage = usage_in(reply)
    if usage is None:
        return None
    total = count_of(usage.get("total_tokens"))
    if total is not None:
        return total
    parts = [count_of(usage.get(name)) for name in ("prompt_tokens", "completion_tokens")]
    return None if None in parts else sum(part or 0 for part in parts)


def count_of(value: object) -> int | None:
    """A count in a reply: an integer that is not negative; else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
