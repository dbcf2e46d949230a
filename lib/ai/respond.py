"""From a question to the guard, and from its outcome to a reply.

Computes nothing: every number comes with the outcome.
"""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ..base.caller import Caller
from ..base.encode import to_json
from ..cache.freshness import Directives
from ..call import Answered, Call, Failed, Outcome, Refused, Streaming
from ..edge import headers
from ..edge.app import Reply, Request
from ..edge.problems import Problem
from ..edge.replies import AnswerBody, AttemptBody, Provenance
from . import streams
from .providers.port import Piece, ProviderFailed
from .question import Question

if TYPE_CHECKING:
    from ..app.wiring import Parts

EVENT_STREAM = "text/event-stream"


class Format(Protocol):
    """How a route words answers."""

    def whole(self, request: Request, outcome: Outcome, result: Answered) -> bytes:
        """The body of an answer."""

    def stream(
        self, request: Request, outcome: Outcome, pieces: AsyncGenerator[Piece]
    ) -> tuple[AsyncGenerator[bytes], Mapping[str, str]]:
        """The events of an answer that is being given, and headers of their own."""


@dataclass(frozen=True, slots=True)
class Supervisor:
    """Answers as ``POST /api/ai/supervisor`` gives them; streams as the AI SDK's ``useChat`` reads them."""

    session: str

    def whole(self, request: Request, outcome: Outcome, result: Answered) -> bytes:
        """The answer, where it came from, and what that cost or saved."""
        body: AnswerBody = {
            "answer": result.answer.text,
            "sessionId": self.session,
            "model": result.answer.model,
            "requestId": request.id,
            **provenance(outcome),
        }
        return to_json(body)

    def stream(
        self, request: Request, outcome: Outcome, pieces: AsyncGenerator[Piece]
    ) -> tuple[AsyncGenerator[bytes], Mapping[str, str]]:
        """The same as a UI message stream."""
        metadata = {"sessionId": self.session, "requestId": request.id, **provenance(outcome)}
        return streams.ui_messages(pieces, request.id, metadata), {"x-vercel-ai-ui-message-stream": "v1"}


def provenance(outcome: Outcome) -> Provenance:
    """Where an answer came from, and what that cost or saved."""
    result = outcome.result
    if not isinstance(result, Answered | Streaming):
        raise TypeError("only an answer comes from anywhere")
    provider = result.provider if isinstance(result, Streaming) else result.answer.provider
    cached = result.cache in ("hit", "stale")
    found: Provenance = {
        "cached": cached,
        "stale": result.cache == "stale",
        "mode": outcome.mode,
        "provider": provider,
    }
    if made := _attempts(outcome):
        found["attempts"] = made
    if isinstance(result, Answered) and (cached or result.cache == "collapsed"):
        found["saved"] = {"provider": provider, "ms": result.answer.took_ms}
        if result.answer.tokens is not None:
            found["saved"]["tokens"] = result.answer.tokens
    return found


async def guarded(
    request: Request,
    parts: "Parts",
    *,
    path: str,
    caller: Caller,
    question: Question,
    asked: Directives,
    form: Format,
    stream: bool,
) -> Reply:
    """Have the guard decide a question and carry it out while the client stays; the reply to it. Raises Problem."""
    call = Call(
        route=path.removeprefix("/api/"),
        caller=caller,
        question=question,
        asked=asked,
        policy=parts.settings.policy_for(path),
        request_id=request.id,
        deadline=request.deadline,
        stream=stream,
        while_here=request.while_here,
    )
    outcome = await parts.guard.handle(call)
    return respond(request, outcome, form, stream=stream)


def respond(request: Request, outcome: Outcome, form: Format, *, stream: bool) -> Reply:
    """The reply to one guarded request. Raises Problem for what is no answer, with the same headers."""
    spent, tightest = outcome.spent, outcome.quota.tightest
    timings = (
        ("guard", spent.guard),
        ("redis", spent.redis),
        ("fallback", spent.fallback),
        ("backend", spent.backend),
    )
    common = {
        **headers.rate_limit(outcome.quota, outcome.now_ms),
        **headers.server_timing(timings),
        **headers.attempts([(each.provider, each.outcome) for each in outcome.attempts]),
        "x-guard-mode": outcome.mode,
    }
    notes = request.notes
    notes.mode, notes.spent, notes.remaining = outcome.mode, spent, tightest.remaining if tightest else None
    match outcome.result:
        case Refused(code, reason, retry_at_ms):
            notes.decision, notes.reason = "refuse", f"{code}:{reason}"
            wait = None if retry_at_ms is None else headers.seconds_until(retry_at_ms, outcome.now_ms)
            common |= headers.cache("none", None, 0, stored=False, detail=code)
            made = _attempts(outcome)
            raise Problem(code, _why(code, reason, wait), wait, attempts=made, headers=common, after=outcome.after)
        case Failed(failure, retry_at_ms):
            notes.decision, notes.reason = "fail", str(failure)
            common |= headers.cache("miss", None, 0, stored=False)
            raise _failed(failure, retry_at_ms, common, outcome)
        case Answered() as answered:
            notes.decision = "serve" if answered.cache in ("hit", "stale", "collapsed") else "compute"
            notes.reason, notes.cache, notes.provider = answered.reason, answered.cache, answered.answer.provider
            common |= _cache_headers(answered, outcome)
            if not stream:
                return Reply(200, form.whole(request, outcome, answered), common, after=outcome.after)
            pieces = streams.replay(answered.answer)
        case Streaming() as streaming:
            notes.decision, notes.reason = "compute", streaming.reason
            notes.cache, notes.provider = streaming.cache, streaming.provider
            common |= headers.cache(streaming.cache, None, 0, stored=False, detail=streaming.reason)
            pieces = streaming.pieces
    body, own = form.stream(request, outcome, pieces)
    # Proxies that gather a reply before they pass it on are asked not to.
    return Reply(200, body, {**common, **own, "x-accel-buffering": "no"}, EVENT_STREAM, outcome.after)


def _cache_headers(result: Answered, outcome: Outcome) -> dict[str, str]:
    age_ms = max(0, outcome.now_ms - result.answer.stored_at_ms) if result.cache in ("hit", "stale") else None
    return headers.cache(result.cache, age_ms, outcome.fresh_ms, stored=result.stored, detail=result.reason)


def _attempts(outcome: Outcome) -> list[AttemptBody]:
    return [{"provider": each.provider, "outcome": each.outcome} for each in outcome.attempts]


def _why(code: str, reason: str, wait: int | None) -> str:
    if code == "not_cached":
        return "The request allows a cached answer only, and there is none. Leave out Cache-Control: only-if-cached."
    if code == "circuit_open":
        return f"The AI backend failed several times ({reason}) and is not asked for now. Try again in {wait} s."
    if code == "budget_spent":
        return f"The AI backend's free allowance is used up for now. Try again in {wait} s."
    if wait is None:
        return "The call costs more than its limit can ever hold."
    if reason == "blocked":
        return f"This caller is over its limit. Try again in {wait} s."
    return f"This caller has used up its calls for one {reason}. Try again in {wait} s."


_FAILURES = {
    "timeout": ("backend_timeout", "The AI backend gave no answer in time. Try again, or ask for less."),
    "rejected": ("backend_rejected", "The AI backend refused the question as it is. Change it."),
    "throttled": ("backend_throttled", "The AI backend has no capacity left. Try again later."),
    "quota": ("backend_throttled", "The AI backend has no capacity left. Try again later."),
    "unauthorized": ("backend_unauthorized", "Set the AI backend's secret or key to the one that it expects."),
}


def _failed(failure: ProviderFailed, retry_at_ms: int | None, common: dict[str, str], outcome: Outcome) -> Problem:
    default = ("backend_failed", "The AI backend failed or sent something unusable. Try again.")
    code, detail = _FAILURES.get(failure.kind, default)
    wait = None
    if code == "backend_throttled":
        # None: another provider may be asked at once, or this one, which did not say when it will be back.
        wait = 1 if retry_at_ms is None else headers.seconds_until(retry_at_ms, outcome.now_ms)
    return Problem(code, detail, wait, attempts=_attempts(outcome), headers=common, after=outcome.after)
