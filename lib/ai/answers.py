"""An answer: the whole reply as it goes to clients, and what is known of it without reading it."""

import json
from collections.abc import Iterator, Mapping
from typing import Any
from zlib import crc32

from ..base.cost import Cost
from ..base.encode import to_json
from ..base.values import dataclass
from . import completions
from .completions import Chunk, Completion

_decode = json.JSONDecoder().raw_decode
"""The first JSON value of a text, and where it ends; ``json.loads`` does more, and here that counts."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole, successful answer."""

    body: str
    """The whole reply in JSON, ready to be sent; a list of its chunks where it is not ``joined``."""
    model: str
    provider: str = ""
    tokens: int | None = None
    """How many the provider says it used."""
    took_ms: int = 0
    """How long the provider took."""
    cost: Cost | None = None
    """What it cost, where the provider tells enough."""
    joined: bool = True
    """False: the chunks of the stream cannot be joined, and the answer can be had as a stream only."""

    def fits(self, most_bytes: int) -> bool:
        """Whether it can be had in one piece of so many bytes: a stream may be longer than what can be sent at once."""
        return self.joined and len(self.body.encode()) <= most_bytes

    @property
    def reply(self) -> Completion:
        """The whole reply; only of an answer that is ``joined``."""
        found: Completion = _decode(self.body)[0]
        return found

    @property
    def text(self) -> str:
        """The text of the first choice."""
        return completions.text_in(self.reply["choices"][0]["message"])

    def chunks(self) -> Iterator[Chunk]:
        """The answer as the chunks of a stream, with its usage in the last one where it has any."""
        return completions.explode(self.reply) if self.joined else iter(_decode(self.body)[0])


def whole(reply: Completion, asked: str) -> Answer:
    """The answer that a whole reply is. ``asked``: the model that was asked, which the reply may call otherwise."""
    tokens, cost = completions.total_tokens(reply), completions.cost_in(reply)
    return Answer(to_json(reply).decode(), _model_in(reply, asked), tokens=tokens, cost=cost)


def streamed(joining: completions.Joining, asked: str) -> Answer:
    """The answer that a stream was; ``asked`` as for a whole reply."""
    if (reply := joining.whole()) is not None:
        return whole(reply, asked)
    tokens, cost = completions.total_tokens(joining.top), completions.cost_in(joining.top)
    body, model = to_json(joining.chunks).decode(), _model_in(joining.top, asked)
    return Answer(body, model, tokens=tokens, cost=cost, joined=False)


def _model_in(reply: Mapping[str, Any], asked: str) -> str:
    model = reply.get("model")
    return model if isinstance(model, str) and model else asked


def text_of_stream(joining: completions.Joining) -> Completion:
    """What a stream's first choice says, as a whole reply: for a reader who wants nothing but its text."""
    deltas = [choice["delta"] for chunk in joining.chunks for choice in chunk["choices"] if choice["index"] == 0]
    message = {"role": "assistant", "content": "".join(completions.text_in(delta) for delta in deltas)}
    finish = joining.choices[0].get("finish_reason")
    return {**joining.top, "choices": [{"index": 0, "message": message, "finish_reason": finish}]}


@dataclass(frozen=True, slots=True)
class AnswerCodec:
    """How an answer is stored: a line with what is known of it, then the reply as it is sent, which nobody parses."""

    whole: bool = True
    """Whether the reply is wanted in one piece: what was kept for streams only is none then."""

    def dump(self, value: Answer) -> str:
        """The answer as text."""
        check = crc32(value.body.encode())
        cost = value.cost and [value.cost.tokens_in, value.cost.tokens_out, value.cost.tokens_cached, value.cost.micros]
        head = [value.model, value.provider, value.tokens, value.took_ms, cost, value.joined, check]
        return f"{json.dumps(head, separators=(',', ':'))}\n{value.body}"

    def load(self, text: str) -> Answer | None:
        """The answer that a text stores; None where it stores none, or none of the form that is wanted."""
        try:
            values, end = _decode(text)
            body = text[end + 1 :]
            # Half a surrogate pair is no character, and has no bytes: no reply could carry it.
            check = crc32(body.encode())
        except (ValueError, RecursionError):
            return None
        match values:
            case [str(model), str(provider), int() | None as tokens, int(took_ms), cost, bool(joined), int(said)] if (
                said == check and (joined or not self.whole) and _is_cost(cost)
            ):
                return Answer(body, model, provider, tokens, took_ms, cost and Cost(*cost), joined)
        return None


def _is_cost(stored: Any) -> bool:
    match stored:
        case None | [int(), int(), int(), int() | None]:
            return True
    return False
