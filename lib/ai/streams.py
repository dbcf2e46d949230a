"""Answers as streams of server-sent events, in the protocols of the clients people use."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from ..base.encode import to_json
from ..pieces import Delta, Done, Piece, SourceFailed
from .question import Answer

_REPLAY_CHARS = 256
"""A cached answer is sent in pieces of this size, so that clients which show pieces as they come see it grow."""

type AnswerPiece = Piece[str, Answer]

DONE = b"data: [DONE]\n\n"


def event(data: object) -> bytes:
    """One event with a JSON value."""
    return b"data: " + to_json(data) + b"\n\n"


async def replay(answer: Answer) -> AsyncGenerator[AnswerPiece]:
    """A cached answer, in pieces."""
    for at in range(0, len(answer.text), _REPLAY_CHARS):
        yield Delta(answer.text[at : at + _REPLAY_CHARS])
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
                    yield event({"type": "text-delta", "id": message_id, "delta": piece.part})
                else:
                    yield event({"type": "text-end", "id": message_id})
                    yield event({"type": "finish", "messageMetadata": {"model": piece.value.model}})
                    yield DONE
        except SourceFailed as e:
            yield event({"type": "error", "errorText": f"The answer broke off ({e.kind}). Ask again."})


async def chat_chunks(
    pieces: AsyncGenerator[AnswerPiece], common: Mapping[str, object], provenance: Mapping[str, object], *, usage: bool
) -> AsyncGenerator[bytes]:
    """The chunks of OpenAI's chat completions. A stream that breaks ends with an error and without ``[DONE]``.

    ``common`` is in every chunk, ``provenance`` in the first.
    """

    def chunk(delta: Mapping[str, str], finish: str | None = None) -> dict[str, object]:
        return {**common, "choices": [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}]}

    async with aclosing(pieces):
        yield event({**chunk({"role": "assistant", "content": ""}), "x_breakwater": provenance})
        try:
            async for piece in pieces:
                if isinstance(piece, Delta):
                    yield event(chunk({"content": piece.part}))
                    continue
                yield event(chunk({}, "stop" if piece.value.whole else "length"))
                if usage:
                    yield event({**common, "choices": [], "usage": usage_of(piece.value.tokens)})
                yield DONE
        except SourceFailed as e:
            message = f"The answer broke off ({e.kind}). Ask again."
            error = {"message": message, "type": "server_error", "code": "backend_failed", "param": None}
            yield event({"error": error})


def usage_of(tokens: int | None) -> dict[str, int]:
    """Usage in OpenAI's shape. All that providers have in common is the total, so it is shown as completion tokens."""
    return {"prompt_tokens": 0, "completion_tokens": tokens or 0, "total_tokens": tokens or 0}
