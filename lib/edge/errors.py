"""From an error to a reply: RFC 9457's problem details, or a route's own wording."""

import traceback
from typing import TYPE_CHECKING

from ..base.encode import to_json
from ..base.events import Crashed, Listener
from .problems import TYPE_BASE, BadSettings, Problem, decided
from .request import ErrorReply, Reply, Request

if TYPE_CHECKING:
    from .replies import ProblemBody


def problem_json(problem: "ProblemBody") -> ErrorReply:
    """An error as RFC 9457 has it."""
    return ErrorReply(problem["status"], to_json(problem), "application/problem+json")


def as_problem(request: Request, error: Exception, emit: Listener) -> Problem:
    """An exception as an error for the caller. One that was not expected is logged, and its text stays in the log."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, BadSettings):
        return Problem("misconfigured", "Set these variables and deploy again: " + "; ".join(error.faults))
    emit(Crashed(request.id, "".join(traceback.format_exception(error))))
    return Problem("internal_error", f"Report this with the id {request.id}.")


def reply_to(request: Request, problem: Problem) -> Reply:
    """The reply that reports a problem."""
    kind = problem.kind
    body: ProblemBody = {
        "type": TYPE_BASE + kind.code,
        "title": kind.title,
        "status": kind.status,
        "detail": problem.detail,
        "code": kind.code,
        "source": kind.source,
        "requestId": request.id,
    }
    headers = dict(problem.headers)
    if problem.retry_after_s is not None:
        body["retryAfter"] = problem.retry_after_s
        headers["retry-after"] = str(problem.retry_after_s)
    if problem.errors:
        body["errors"] = list(problem.errors)
    if problem.attempts:
        body["attempts"] = list(problem.attempts)
    if request.notes.decision == "none":
        request.notes.decision, request.notes.reason = decided(kind.code), kind.code
    worded = request.errors(body)
    return Reply(worded.status, worded.body, {**headers, **worded.headers}, worded.media, problem.after)
