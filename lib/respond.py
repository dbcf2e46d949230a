"""From a guard's outcome to a reply. Computes nothing: every number comes with the outcome."""

from pydantic_core import to_json

from lib.guard import Answered, Failed, Outcome, Refused
from lib.http import Reply, Request
from lib.problems import Problem
from lib.replies import AnswerBody
from lib.rules import headers
from lib.wire.backend import BackendFailed


def respond(request: Request, outcome: Outcome, session: str) -> Reply:
    """The reply to one guarded request. Raises Problem for what is no answer, with the same headers."""
    spent = outcome.spent
    common = {
        **headers.rate_limit(outcome.quota, outcome.now_ms),
        **headers.server_timing(
            (
                ("guard", spent.guard),
                ("redis", spent.redis),
                ("fallback", spent.fallback),
                ("backend", spent.backend),
            )
        ),
        "x-guard-mode": outcome.mode,
    }
    notes = request.notes
    notes.mode, notes.spent = outcome.mode, spent
    notes.remaining = outcome.quota.tightest.remaining if outcome.quota.tightest else None
    match outcome.result:
        case Answered() as answered:
            return _answer(request, outcome, answered, session, common)
        case Refused(code, reason, retry_at_ms):
            notes.decision, notes.reason = "refuse", f"{code}:{reason}"
            wait = None if retry_at_ms is None else headers.seconds_until(retry_at_ms, outcome.now_ms)
            common |= headers.cache("none", None, 0, stored=False, detail=code)
            raise Problem(code, _why(code, reason, wait), wait, headers=common, after=outcome.after)
        case Failed(failure):
            notes.decision, notes.reason = "fail", str(failure)
            common |= headers.cache("miss", None, 0, stored=False)
            raise _failed(failure, common, outcome)


def _answer(request: Request, outcome: Outcome, result: Answered, session: str, common: dict[str, str]) -> Reply:
    answer, cached = result.answer, result.cache in ("hit", "stale")
    age_ms = max(0, outcome.now_ms - answer.stored_at_ms) if cached else None
    common |= headers.cache(result.cache, age_ms, outcome.fresh_ms, stored=result.stored, detail=result.reason)
    request.notes.decision, request.notes.reason = "serve" if cached else "compute", result.reason
    request.notes.cache = result.cache
    body: AnswerBody = {
        "answer": answer.text,
        "sessionId": session,
        "cached": cached,
        "stale": result.cache == "stale",
        "model": answer.model,
        "requestId": request.id,
        "mode": outcome.mode,
    }
    return Reply(200, to_json(body), common, after=outcome.after)


def _why(code: str, reason: str, wait: int | None) -> str:
    if code == "not_cached":
        return "The request allows a cached answer only, and there is none. Leave out Cache-Control: only-if-cached."
    if code == "circuit_open":
        return f"The AI backend failed several times ({reason}) and is not asked for now. Try again in {wait} s."
    if wait is None:
        return "The call costs more than its limit can ever hold."
    if reason == "blocked":
        return f"This caller is over its limit. Try again in {wait} s."
    return f"This caller has used up its calls for one {reason}. Try again in {wait} s."


_FAILURES = {
    "timeout": ("backend_timeout", "The AI backend gave no answer in time. Try again, or ask for less."),
    "rejected": ("backend_rejected", "The AI backend refused the question as it is. Change it."),
    "throttled": ("backend_throttled", "The AI backend has no capacity left. Try again later."),
    "unauthorized": ("backend_unauthorized", "Set CLOUD_RUN_API_SECRET to the secret that the AI backend expects."),
}


def _failed(failure: BackendFailed, common: dict[str, str], outcome: Outcome) -> Problem:
    default = ("backend_failed", "The AI backend failed or sent something unusable. Try again.")
    code, detail = _FAILURES.get(failure.kind, default)
    wait = None
    if code == "backend_throttled":
        wait = max(1, round(failure.retry_after_s or 1))
    return Problem(code, detail, wait, headers=common, after=outcome.after)
