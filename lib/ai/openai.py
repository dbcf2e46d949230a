"""Requests and answers in the shapes of OpenAI's chat completions, so that its SDKs work unchanged."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from typing import Any, cast

from ..base.encode import to_json
from ..base.values import dataclass
from ..cache.freshness import Directives, directives
from ..call import Answered, Failed, Refused
from ..edge.errors import reply_to
from ..edge.outcomes import THROTTLED
from ..edge.problems import Problem
from ..edge.request import Request
from . import streams
from .answers import Answer
from .models import DEFAULT, Models
from .openai_errors import model_not_found
from .question import ChatRequest
from .respond import AnswerOutcome, provenance
from .streams import AnswerPiece


def chat_request(body: Mapping[str, Any], models: Models, session: str) -> ChatRequest:
    """A request as the chain takes it: ``body`` as it came, ``session`` as a backend is told of it. Raises Problem."""
    name = str(body["model"])
    chosen = models.choose(name)
    if chosen is None:
        raise model_not_found(name, [DEFAULT, *(each for each, _ in models.names())])
    return ChatRequest(session, body, chosen, name if models.are_told else "")


def directives_of(question: ChatRequest, cache_control: str) -> Directives:
    """How the cache is to be used: a call of which the provider keeps a record is made, and not answered from it."""
    wanted = directives(cache_control)
    return replace(wanted, no_cache=True, no_store=True) if question.keeps_a_record else wanted


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """Answers as ``POST /api/v1/chat/completions`` gives them; what the guard adds is under ``x_breakwater``."""

    usage: bool

    def whole(self, request: Request, outcome: AnswerOutcome, result: Answered[Answer]) -> bytes:
        """The provider's reply as it is, unparsed, with one member more."""
        return b'{"x_breakwater":' + to_json(provenance(outcome)) + b"," + result.value.body.encode()[1:]

    @property
    def headers(self) -> Mapping[str, str]:
        """None of its own."""
        return {}

    def stream(
        self, request: Request, outcome: AnswerOutcome, pieces: AsyncGenerator[AnswerPiece]
    ) -> AsyncGenerator[bytes]:
        """The same in chunks."""
        return streams.chat_chunks(pieces, provenance(outcome), usage=self.usage)

    def broken(self, request: Request, problem: Problem) -> bytes:
        """OpenAI's error, as it would have been the body of a reply."""
        return b"data: " + cast("bytes", reply_to(request, problem).body) + b"\n\n"

    def refused(self, problem: Problem, refused: Refused | Failed) -> Problem:
        """A circuit that rests after a provider's own 429 stands for a quota that is spent."""
        if isinstance(refused, Refused) and refused.code == "circuit_open" and refused.reason in THROTTLED:
            problem.code = "backend_throttled"
        return problem
