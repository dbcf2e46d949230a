"""Requests, answers and errors in the shapes of OpenAI's chat completions, so that its SDKs work unchanged."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from typing import Any

from ..base.encode import to_json
from ..base.values import dataclass
from ..cache.freshness import Directives, directives
from ..call import Answered
from ..edge.problems import Problem
from ..edge.replies import ProblemBody
from ..edge.request import Request
from . import streams
from .answers import Answer
from .models import DEFAULT, Models
from .question import ChatRequest
from .respond import AnswerOutcome, provenance
from .streams import AnswerPiece


def chat_request(body: Mapping[str, Any], models: Models, session: str) -> ChatRequest:
    """A request as the chain takes it; ``body`` is as it came. Raises Problem."""
    name = str(body["model"])
    chosen = models.choose(name)
    if chosen is None:
        raise Problem("model_not_found", f"Use {DEFAULT}, or one of {', '.join(each for each, _ in models.names())}.")
    return ChatRequest(session, body, chosen, name if models.are_told else "")


def directives_of(question: ChatRequest, cache_control: str) -> Directives:
    """How the cache is to be used: a call of which the provider keeps a record is made, and not answered from it."""
    wanted = directives(cache_control)
    return replace(wanted, no_cache=True, no_store=True) if question.keeps_a_record else wanted


_SOON_S = 600
_PLANS = ("budget_spent", "backend_throttled")
_STATUSES = {"invalid_request": 400, "backend_rejected": 400, "content_filtered": 400, "backend_no_model": 404}
"""Where OpenAI's clients need another status than the problem's: of the same meaning, and not one that they repeat."""
_CODES = {"content_filtered": "content_filter", "backend_no_model": "model_not_found"}
_TYPES = {402: "insufficient_quota", 429: "rate_limit_error"}


def status_of(problem: ProblemBody) -> int:
    """The status: a plan that is used up is 429 where it is back soon; where not, 402, which no client repeats."""
    if problem["code"] in _PLANS:
        return 429 if problem.get("retryAfter", 0) <= _SOON_S else 402
    return _STATUSES.get(problem["code"], problem["status"])


def error_body(problem: ProblemBody) -> tuple[int, bytes, str]:
    """An error as OpenAI words it. The code is the provider's where it refused the request, else ours."""
    first, status = next(iter(problem.get("errors", ())), None), status_of(problem)
    code = _CODES.get(problem["code"], problem["code"])
    if first is not None and problem["code"] == "backend_rejected" and first["type"]:
        code = first["type"]
    error: dict[str, object] = {
        "message": problem["detail"],
        "type": _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error"),
        "param": first["field"] or None if first is not None else None,
        "code": code,
    }
    if "attempts" in problem:
        error["attempts"] = problem["attempts"]
    return status, to_json({"error": error}), "application/json"


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """Answers as ``POST /api/v1/chat/completions`` gives them; what the guard adds is under ``x_breakwater``."""

    usage: bool

    def whole(self, request: Request, outcome: AnswerOutcome, result: Answered[Answer]) -> bytes:
        """The provider's reply as it is, unparsed, with one member more."""
        return b'{"x_breakwater":' + to_json(provenance(outcome)) + b"," + result.value.body.encode()[1:]

    def stream(
        self, request: Request, outcome: AnswerOutcome, pieces: AsyncGenerator[AnswerPiece]
    ) -> tuple[AsyncGenerator[bytes], Mapping[str, str]]:
        """The same in chunks."""
        return streams.chat_chunks(pieces, provenance(outcome), usage=self.usage), {}
