"""Answers as streams of server-sent events, in the protocols of the clients people use."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from ..base.cost import Cost
from ..base.encode import to_json
from ..edge.replies import CostBody
from ..pieces import Delta, Done, Piece, SourceFailed
from . import completions
from .answers import Answer
from .completions import Chunk

type AnswerPiece = Piece[Chunk, Answer]

DONE = b"data: [DONE]\n\n"

_UI_FINISH = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content-filter",
    "tool_calls": "tool-calls",
    "function_call": "tool-calls",
    "error": "error",
}
"""The AI SDK's words for why an answer ended; any other word but "other" would fail the whole message there."""


def event(data: object) -> bytes:
    """One event with a JSON value."""
    return b"data: " + to_json(data) + b"\n\n"


async def replay(answer: Answer) -> AsyncGenerator[AnswerPiece]:
    """A cached answer, in pieces."""
    for chunk in answer.chunks():
        yield Delta(chunk)
    yield Done(answer)


async def ui_messages(
    pieces: AsyncGenerator[AnswerPiece], message_id: str, metadata: Mapping[str, object]
) -> AsyncGenerator[bytes]:
    """The UI message stream of Vercel's AI SDK (version 1 of the protocol), which ``useChat`` reads.

    A stream that breaks ends with an ``error`` event, without ``finish`` and ``[DONE]``.
    """
    async with aclosing(pieces):
        yield event({"type": "start", "messageId": message_id, "messageMetadata": metadata})
        yield event({"type": "text-start", "id": message_id})
        try:
            async for piece in pieces:
                if isinstance(piece, Delta):
                    if text := _text_of(piece.part):
                        yield event({"type": "text-delta", "id": message_id, "delta": text})
                    continue
                yield event({"type": "text-end", "id": message_id})
                ended = {"model": piece.value.model, **usage_of(piece.value)}
                if piece.value.cost is not None and "saved" not in metadata:
                    ended["cost"] = cost_body(piece.value.cost)
                finish = _UI_FINISH.get(finish_of(piece.value), "other")
                yield event({"type": "finish", "finishReason": finish, "messageMetadata": ended})
                yield DONE
        except SourceFailed as e:
            yield event({"type": "error", "errorText": _words(e)})


def _text_of(chunk: Chunk) -> str:
    """What a chunk adds to the first choice's text."""
    return "".join(completions.text_in(each["delta"]) for each in chunk["choices"] if each["index"] == 0)


def finish_of(answer: Answer) -> str:
    """Why an answer ended, in the provider's word."""
    return str(answer.reply["choices"][0]["finish_reason"])


def cost_body(cost: Cost) -> CostBody:
    """What an answer cost, as JSON has it."""
    body: CostBody = {"tokensIn": cost.tokens_in, "tokensOut": cost.tokens_out, "tokensCached": cost.tokens_cached}
    if cost.micros is not None:
        body["amount"] = cost.micros / 1_000_000
    return body


def usage_of(answer: Answer) -> dict[str, Any]:
    """The usage of an answer, as the provider tells it; nothing where it tells none."""
    return {name: value for name, value in answer.reply.items() if name == "usage" and value}


async def chat_chunks(
    pieces: AsyncGenerator[AnswerPiece], provenance: Mapping[str, object], *, usage: bool
) -> AsyncGenerator[bytes]:
    """The chunks of OpenAI's chat completions. A stream that breaks ends with an error and without ``[DONE]``.

    ``provenance`` is in the first chunk, and in the last one what the answer cost, where it was computed and has a
    price; ``usage``: whether the client has asked for a chunk with the usage.
    """
    first, last = True, None
    async with aclosing(pieces):
        try:
            async for piece in pieces:
                if isinstance(piece, Done):
                    if last is not None:
                        yield event(_with_cost(last, piece.value, provenance))
                    yield DONE
                    continue
                chunk = piece.part
                if not usage and not chunk["choices"] and chunk.get("usage"):
                    # We have asked for it, and clients that have not read the first choice of each chunk.
                    continue
                if last is not None:
                    yield event(last)
                last = None
                chunk = {**chunk, "x_breakwater": provenance} if first else chunk
                first = False
                if _may_be_last(chunk):
                    # What the answer cost is known at its end only.
                    last = chunk
                else:
                    yield event(chunk)
        except SourceFailed as e:
            if last is not None:
                yield event(last)
            told = getattr(e, "told", None)
            error = {
                "message": _words(e),
                "type": "invalid_request_error" if e.fault == "caller" else "server_error",
                "param": told.param if told is not None else None,
                "code": told.code if told is not None and told.code else "backend_failed",
            }
            yield event({"error": error})


def _may_be_last(chunk: Chunk) -> bool:
    return not chunk["choices"] or any(choice.get("finish_reason") for choice in chunk["choices"])


def _with_cost(chunk: Chunk, answer: Answer, provenance: Mapping[str, object]) -> Chunk:
    if answer.cost is None or answer.cost.micros is None or "saved" in provenance:
        return chunk
    return {**chunk, "x_breakwater": {**chunk.get("x_breakwater", {}), "cost": cost_body(answer.cost)}}


def _words(error: SourceFailed) -> str:
    """What is said of an answer that broke off: the provider's words, where it has any."""
    told = getattr(error, "told", None)
    return told.message if told is not None and told.message else f"The answer broke off ({error.kind}). Ask again."
