"""From the guard's outcome to headers, notes for the log line, and errors: the same for every guarded route.

Computes nothing: every number comes with the outcome.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING

from ..base.events import Mode
from ..base.values import dataclass
from ..call import Answered, Failed, Outcome, Refused, Streaming
from ..limits.judge import Quota
from ..pieces import SourceFailed
from . import headers
from .problems import KINDS, Problem, decided
from .request import Request

if TYPE_CHECKING:
    from .replies import AttemptBody, FieldError


THROTTLED = frozenset({"throttled", "quota", "used_up"})
"""Why a circuit rests, where the source itself has said that its limit or quota is spent."""


@dataclass(frozen=True, slots=True)
class Wording:
    """How a route words what its source does: the source's name, and a code and a text for each kind of failure."""

    source: str
    failures: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    other: tuple[str, str] = ("backend_failed", "It failed or sent something unusable. Try again.")

    def failure(self, failure: SourceFailed) -> tuple[str, str]:
        """The code and the text for a failure."""
        return self.failures.get(failure.kind, self.other)

    def errors(self, failure: SourceFailed) -> "Sequence[FieldError]":
        """What was wrong with the request, where the source has said so."""
        return ()


def common(request: Request, outcome: Outcome[object, object]) -> dict[str, str]:
    """The headers of every reply to a guarded request: timing and attempts; those of its limit are the edge's.

    Where the guard has counted nothing, the headers of what the edge has counted before (in a dry run) stay.
    """
    spent = outcome.spent
    timings = (
        ("guard", spent.guard),
        ("redis", spent.redis),
        ("fallback", spent.fallback),
        ("backend", spent.backend),
    )
    notes = request.notes
    notes.spent = spent
    limited(request, outcome.mode, outcome.quota, outcome.now_ms)
    if not outcome.attempts:
        return {**headers.server_timing(timings)}
    made = headers.attempts([(each.name, each.outcome) for each in outcome.attempts])
    if len(outcome.attempts) > 1:
        notes.attempts = made["x-attempts"]
    return {**headers.server_timing(timings), **made}


def limited(request: Request, mode: Mode, quota: Quota, now_ms: int) -> None:
    """The headers and notes of what the caller's limit has said."""
    notes, tightest = request.notes, quota.tightest
    if tightest is not None or request.limit_headers is None:
        notes.mode, notes.remaining = mode, tightest.remaining if tightest else None
        request.limit_headers = {**headers.rate_limit(quota, now_ms), "x-guard-mode": mode}


def answered(request: Request, outcome: Outcome[object, object], result: Answered[object], name: str) -> dict[str, str]:
    """The headers that say where a value came from; ``name``: what has computed it."""
    notes = request.notes
    notes.decision = "serve" if result.cache in ("hit", "stale", "collapsed") else "compute"
    notes.reason, notes.cache, notes.provider = result.reason, result.cache, name
    age_ms = max(0, outcome.now_ms - result.stored_at_ms) if result.cache in ("hit", "stale") else None
    return headers.cache(result.cache, age_ms, outcome.fresh_ms, stored=result.stored, detail=result.reason)


def streaming(request: Request, result: Streaming[object, object]) -> dict[str, str]:
    """The headers of a value that is streamed."""
    notes = request.notes
    notes.decision, notes.reason = "compute", result.reason
    notes.cache, notes.provider = result.cache, result.name
    return headers.cache(result.cache, None, 0, stored=False, detail=result.reason)


def broke(request: Request, failure: SourceFailed, wording: Wording) -> None:
    """Note that a value broke off while it was streamed: its head is out, and it counts as failed all the same."""
    code = wording.failures.get(failure.kind, wording.other)[0]
    request.notes.decision, request.notes.reason = decided(code), str(failure)


def problem(
    request: Request,
    outcome: Outcome[object, object],
    result: Refused | Failed,
    wording: Wording,
    given: Mapping[str, str],
) -> Problem:
    """A refusal or a failure, as an error with the same headers."""
    notes, attempts = request.notes, attempts_of(outcome)
    match result:
        case Refused(code, reason, retry_at_ms):
            notes.decision, notes.reason = decided(code), f"{code}:{reason}"
            wait_s = None if retry_at_ms is None else headers.seconds_until(retry_at_ms, outcome.now_ms)
            given = {**given, **headers.cache("none", None, 0, stored=False, detail=code)}
            detail = _why(code, reason, wait_s, wording)
            return Problem(code, detail, wait_s, attempts=attempts, headers=given, after=outcome.after)
        case Failed(failure, retry_at_ms):
            notes.decision, notes.reason = decided(wording.failures.get(failure.kind, wording.other)[0]), str(failure)
            given = {**given, **headers.cache("miss", None, 0, stored=False)}
            return _failed(failure, retry_at_ms, wording, given, outcome)


def attempts_of(outcome: Outcome[object, object]) -> "list[AttemptBody]":
    """The parts of the source that were considered, as JSON has them."""
    return [{"provider": each.name, "outcome": each.outcome} for each in outcome.attempts]


def _why(code: str, reason: str, wait_s: int | None, wording: Wording) -> str:
    if code == "not_cached":
        return "The request allows a cached answer only, and there is none. Leave out Cache-Control: only-if-cached."
    if code == "circuit_open" and reason == "caller":
        return f"{wording.source} failed at this caller's last calls. Try again in {wait_s} s."
    if code == "circuit_open" and reason in THROTTLED:
        return f"{wording.source} has no capacity left. Try again in {wait_s} s."
    if code == "circuit_open":
        return f"{wording.source} failed several times ({reason}) and is not called for now. Try again in {wait_s} s."
    if code == "budget_spent":
        return f"{wording.source}'s budget is used up for now. Try again in {wait_s} s."
    return limit_detail(reason, wait_s)


def limit_detail(reason: str, wait_s: int | None) -> str:
    """Why a limit refuses a call."""
    if wait_s is None:
        return "The call costs more than its limit can ever hold."
    if reason == "blocked":
        return f"This caller is over its limit. Try again in {wait_s} s."
    return f"This caller has used up its calls for one {reason}. Try again in {wait_s} s."


def _failed(
    failure: SourceFailed,
    retry_at_ms: int | None,
    wording: Wording,
    given: Mapping[str, str],
    outcome: Outcome[object, object],
) -> Problem:
    code, detail = wording.failure(failure)
    wait_s = None
    if KINDS[code].status == 503:
        # Without a time, another part may be called at once, or this one, which did not say when.
        wait_s = 1 if retry_at_ms is None else headers.seconds_until(retry_at_ms, outcome.now_ms)
    errors = wording.errors(failure)
    return Problem(code, detail, wait_s, errors, attempts_of(outcome), headers=given, after=outcome.after)
