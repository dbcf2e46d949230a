"""Answers and errors in the shapes of OpenAI's chat completions, so that its SDKs work unchanged."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass

from lib import streams
from lib.encode import to_json
from lib.guard import Answered, Outcome
from lib.http import Request
from lib.replies import ProblemBody
from lib.wire.providers.port import Piece

_TYPES = {400: "invalid_request_error", 413: "invalid_request_error", 415: "invalid_request_error"}
_TYPES |= {422: "invalid_request_error", 405: "invalid_request_error", 429: "rate_limit_error"}


def error_body(problem: ProblemBody) -> tuple[bytes, str]:
    """An error as OpenAI words it; the code is ours."""
    errors = problem.get("errors")
    error = {
        "message": problem["detail"],
        "type": _TYPES.get(problem["status"], "server_error"),
        "param": errors[0]["field"] if errors else None,
        "code": problem["code"],
    }
    return to_json({"error": error}), "application/json"


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """Answers as ``POST /api/v1/chat/completions`` gives them."""

    model: str
    usage: bool

    def whole(self, request: Request, outcome: Outcome, result: Answered) -> bytes:
        """A chat completion."""
        answer = result.answer
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
                "created": answer.stored_at_ms // 1000,
                "model": answer.model,
                "choices": [choice],
                "usage": streams.usage_of(answer.tokens),
            }
        )

    def stream(
        self, request: Request, outcome: Outcome, pieces: AsyncGenerator[Piece]
    ) -> tuple[AsyncGenerator[bytes], Mapping[str, str]]:
        """The same in chunks."""
        created_s, name = outcome.now_ms // 1000, f"chatcmpl-{request.id}"
        return streams.chat_chunks(pieces, name, created_s, self.model, usage=self.usage), {}
