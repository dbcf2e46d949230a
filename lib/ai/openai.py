"""Answers in the shapes of OpenAI's chat completions, so that its SDKs work unchanged."""

from collections.abc import AsyncGenerator, Mapping

from ..base.encode import to_json
from ..base.values import dataclass
from ..call import Answered
from ..edge.request import Request
from . import streams
from .question import Answer
from .respond import AnswerOutcome, provenance
from .streams import AnswerPiece


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """Answers as ``POST /api/v1/chat/completions`` gives them; what the guard adds is under ``x_breakwater``."""

    model: str
    usage: bool

    def whole(self, request: Request, outcome: AnswerOutcome, result: Answered[Answer]) -> bytes:
        """A chat completion."""
        answer = result.value
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": answer.text, "refusal": None},
            "finish_reason": "stop" if answer.whole else "length",
            "logprobs": None,
        }
        return to_json(
            {
                "id": f"chatcmpl-{request.id}",
                "object": "chat.completion",
                "created": result.stored_at_ms // 1000,
                "model": answer.model,
                "choices": [choice],
                "usage": streams.usage_of(answer.tokens),
                "x_breakwater": provenance(outcome),
            }
        )

    def stream(
        self, request: Request, outcome: AnswerOutcome, pieces: AsyncGenerator[AnswerPiece]
    ) -> tuple[AsyncGenerator[bytes], Mapping[str, str]]:
        """The same in chunks."""
        common = {
            "id": f"chatcmpl-{request.id}",
            "object": "chat.completion.chunk",
            "created": outcome.now_ms // 1000,
            "model": self.model,
        }
        return streams.chat_chunks(pieces, common, provenance(outcome), usage=self.usage), {}
