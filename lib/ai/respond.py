"""From a question to the guard, and from the guard's outcome to a reply, whole or streamed."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from ..base.caller import Caller
from ..base.encode import to_json
from ..base.values import dataclass
from ..cache.freshness import Directives, shortened
from ..call import Answered, Call, Failed, Outcome, Progress, Refused, Streaming
from ..edge import outcomes
from ..edge.accept import EVENT_STREAM
from ..edge.limits import subject_of
from ..edge.outcomes import Wording
from ..edge.problems import Problem
from ..edge.replies import AnswerBody, FieldError, Provenance, UsageBody
from ..edge.request import Reply, Request
from ..pieces import SourceFailed
from ..redis import keys
from . import completions, streams
from .answers import Answer, AnswerCodec
from .attached import Supplement
from .chain import Chain
from .completions import Chunk
from .keep_alive import UNBUFFERED, kept_alive
from .owners import Shelf
from .providers.port import MAX_REPLY_BYTES
from .question import AnyQuestion, hash_of
from .streams import AnswerPiece
from .tries import Asking

if TYPE_CHECKING:
    from ..parts import Parts
    from .failures import Failures

ONLY = "X-Guard-Provider"
"""The header with which an operator names the one provider that may be called."""

type AnswerOutcome = Outcome[Chunk, Answer]


@dataclass(frozen=True, slots=True)
class _AIWording(Wording):
    """A provider's own words come before ours, where it has refused what the caller asked for."""

    def failure(self, failure: SourceFailed) -> tuple[str, str]:
        """The code and the text for a failure."""
        code, text = self.failures.get(failure.kind, self.other)
        told = getattr(failure, "told", None)
        return code, told.message if told is not None and told.message and failure.fault != "theirs" else text

    def errors(self, failure: SourceFailed) -> "list[FieldError]":
        """What was wrong with the request, in the provider's words."""
        told = getattr(failure, "told", None)
        if told is None or failure.fault == "theirs":
            return []
        return [{"field": told.param or "", "message": told.message, "type": told.code or ""}]


WORDING = _AIWording(
    "The AI backend",
    {
        "timeout": ("backend_timeout", "The AI backend gave no answer in time. Try again, or ask for less."),
        "rejected": ("backend_rejected", "The AI backend refused the question as it is. Change it."),
        "unsupported": ("unsupported_parameter", "No configured AI provider takes a parameter of the request."),
        "blocked": ("content_filtered", "The AI backend withheld its answer for its content. Ask something else."),
        "no_model": ("backend_no_model", "The AI backend does not have the model that is configured. Set another."),
        "throttled": ("backend_throttled", "The AI backend has no capacity left. Try again later."),
        "quota": ("backend_throttled", "The AI backend has no capacity left. Try again later."),
        "unauthorized": ("backend_unauthorized", "Set the AI backend's secret or key to the one that it expects."),
    },
    ("backend_failed", "The AI backend failed or sent something unusable. Try again."),
)


class Format(Protocol):
    """How a route words answers."""

    def whole(self, request: Request, outcome: AnswerOutcome, result: Answered[Answer]) -> bytes:
        """The body of an answer."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers that a stream has of its own."""

    def stream(
        self, request: Request, outcome: AnswerOutcome, pieces: AsyncGenerator[AnswerPiece]
    ) -> AsyncGenerator[bytes]:
        """The events of an answer that is streamed."""

    def broken(self, request: Request, problem: Problem) -> bytes:
        """The event of an error that has come after the head."""

    def refused(self, problem: Problem, refused: Refused | Failed) -> Problem:
        """A refusal or a failure, as the route names it."""


@dataclass(frozen=True, slots=True)
class Supervisor:
    """Answers as ``POST /api/ai/supervisor`` gives them; streams as the AI SDK's ``useChat`` reads them."""

    session: str

    def whole(self, request: Request, outcome: AnswerOutcome, result: Answered[Answer]) -> bytes:
        """The answer, why it ended, where it came from, and what that cost or saved."""
        reply = result.value.reply
        choice, used = reply["choices"][0], UsageBody()
        if usage := reply.get("usage"):
            used["usage"] = usage
        body: AnswerBody = {
            "answer": completions.text_in(choice["message"]),
            "finishReason": str(choice["finish_reason"]),
            "sessionId": self.session,
            "model": result.value.model,
            "requestId": request.id,
            **provenance(outcome),
            **used,
        }
        return to_json(body)

    @property
    def headers(self) -> Mapping[str, str]:
        """The protocol's version."""
        return {"x-vercel-ai-ui-message-stream": "v1"}

    def stream(
        self, request: Request, outcome: AnswerOutcome, pieces: AsyncGenerator[AnswerPiece]
    ) -> AsyncGenerator[bytes]:
        """The same as a UI message stream."""
        metadata = {"sessionId": self.session, "requestId": request.id, **provenance(outcome)}
        return streams.ui_messages(pieces, request.id, metadata)

    def broken(self, request: Request, problem: Problem) -> bytes:
        """The protocol's error part."""
        return streams.event({"type": "error", "errorText": problem.detail})

    def refused(self, problem: Problem, refused: Refused | Failed) -> Problem:
        """As the guard names it."""
        return problem


def provenance(outcome: AnswerOutcome) -> Provenance:
    """Where an answer came from, and what that cost or saved."""
    result = outcome.result
    if not isinstance(result, Answered | Streaming):
        raise TypeError("only an answer comes from anywhere")
    provider = result.name if isinstance(result, Streaming) else result.value.provider
    cached = result.cache in ("hit", "stale")
    found: Provenance = {
        "cached": cached,
        "stale": result.cache == "stale",
        "mode": outcome.mode,
        "provider": provider,
    }
    if made := outcomes.attempts_of(outcome):
        found["attempts"] = made
    if isinstance(result, Answered) and (cached or result.cache == "collapsed"):
        found["saved"] = {"provider": provider, "ms": result.value.took_ms}
        if result.value.tokens is not None:
            found["saved"]["tokens"] = result.value.tokens
        if result.value.cost is not None:
            found["saved"]["cost"] = streams.cost_body(result.value.cost)
    elif isinstance(result, Answered) and result.value.cost is not None:
        found["cost"] = streams.cost_body(result.value.cost)
    return found


async def guarded(
    request: Request,
    parts: "Parts",
    *,
    path: str,
    caller: Caller,
    question: AnyQuestion,
    shelf: Shelf,
    directives: Directives,
    form: Format,
    stream: bool,
    failures: "Failures | None" = None,
    only: str = "",
    supplement: Supplement | None = None,
) -> Reply:
    """Have the guard decide a question and carry it out while the client stays; the reply to it. Raises Problem.

    ``question`` names the session that the backend is told of, ``shelf`` the one that the answer is kept under.
    ``failures``: where failures are remembered, and found again without asking anybody. ``only``: the one provider that
    may be called; what it answers is stored apart from the chain's answers. ``supplement``: data that goes along; what
    answers are found by is the question without it.
    """
    whole = Chain.of(parts)
    chain = whole.only(only) if only else whole
    if chain is None:
        names = ", ".join(link.name for link in whole.links)
        raise Problem("invalid_request", f"{ONLY}: there is no provider of this name; use one of {names}.")
    route, policy = path.removeprefix("/api/"), parts.settings.policy_for(path)
    subject = subject_of(caller, policy)
    if (refused := await parts.guard.refusal(subject, request.deadline)) is not None:
        return respond(request, refused, form, stream=stream)
    unable = chain.unable(question, caller.id)
    if unable and all(unable):
        raise _nobody_can([each for each in unable if each is not None])
    try:
        hashed = hash_of(f"{route}#{only}" if only else route, shelf.owner, question, shelf.session)
    except ValueError:
        detail = "numbers must be finite"
        error: FieldError = {"field": "body", "message": detail, "type": "finite_number"}
        raise Problem("invalid_request", f"body: {detail}", errors=[error]) from None
    call = Call(
        route=route,
        subject=subject,
        key=keys.answer(route, shelf.session, hashed),
        epochs=shelf.epochs,
        request_id=request.id,
        deadline=request.deadline,
        directives=directives,
        cache=shortened(policy.cache, supplement.fresh_ms) if supplement is not None else policy.cache,
        stream=stream,
        while_here=request.while_here,
        after=request.after,
        finish_abandoned=parts.settings.ai_finish_abandoned,
        takes=lambda answer: stream or answer.fits(MAX_REPLY_BYTES),
    )
    if failures is not None and not directives.only_if_cached:
        failures.check(call.key, parts.clock.now_ms())
    source = Asking(chain, question, caller.id, unable, supplement)

    async def reply(call: Call) -> Reply:
        outcome = await parts.guard.handle(call, source, AnswerCodec(whole=not stream))
        try:
            return respond(request, outcome, form, stream=stream)
        except Problem as problem:
            # What is refused without asking anybody costs as little when it is repeated.
            if failures is not None and (isinstance(outcome.result, Failed) or outcome.attempts):
                failures.note(call.key, problem, parts.clock.now_ms())
            raise

    if not (stream and parts.settings.ai_keep_alive):
        return await reply(call)
    progress = Progress()
    return await kept_alive(request, progress, reply(replace(call, progress=progress)), form)


def _nobody_can(fields: Sequence[str]) -> Problem:
    """The error where every provider lacks one of these: each may be able to do what another one cannot."""
    first, *others = dict.fromkeys(fields)
    what = f"all that {first}, {', '.join(others)} ask for together" if others else f"what {first} asks for"
    detail = f"No configured AI provider can do {what}."
    errors: list[FieldError] = [{"field": each, "message": detail, "type": "unsupported"} for each in (first, *others)]
    return Problem("unsupported_parameter", detail, errors=errors)


def respond(request: Request, outcome: AnswerOutcome, form: Format, *, stream: bool) -> Reply:
    """The reply to one guarded request. Raises Problem for what is no answer, with the same headers."""
    common = outcomes.common(request, outcome)
    match outcome.result:
        case Refused() | Failed() as refused:
            raise form.refused(outcomes.problem(request, outcome, refused, WORDING, common), refused)
        case Answered() as answered:
            common |= outcomes.answered(request, outcome, answered, answered.value.provider)
            if answered.cache in ("hit", "stale", "collapsed"):
                request.notes.saved = answered.value.cost
            if not stream:
                return Reply(200, form.whole(request, outcome, answered), common, after=outcome.after)
            pieces = streams.replay(answered.value)
        case Streaming() as streaming:
            common |= outcomes.streaming(request, streaming)
            pieces = _noted(request, streaming.pieces)
    body = form.stream(request, outcome, pieces)
    return Reply(200, body, {**common, **form.headers, **UNBUFFERED}, EVENT_STREAM, outcome.after)


async def _noted(request: Request, pieces: AsyncGenerator[AnswerPiece]) -> AsyncGenerator[AnswerPiece]:
    """The same pieces; what breaks them off is what became of the request."""
    async with aclosing(pieces):
        try:
            async for each in pieces:
                yield each
        except SourceFailed as e:
            outcomes.broke(request, e, WORDING)
            raise
