"""From an error to a reply: RFC 9457's problem details, or a route's own wording."""

import asyncio
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

from starlette.requests import ClientDisconnect

from ..base.encode import to_json
from ..base.env import BadSettings
from ..base.events import ERROR, Crashed, Event, Listener
from ..base.leaving import is_cancelled
from ..base.values import dataclass
from .problems import TYPE_BASE, FunctionFailed, Problem, decided
from .request import ErrorReply, Reply, Request

if TYPE_CHECKING:
    from .replies import ProblemBody


@dataclass(frozen=True, slots=True)
class Misconfigured(Event):
    """Requests fail for what the environment lacks: logged once a process, however many do."""

    event: ClassVar[str] = "misconfigured"
    level: ClassVar[int] = ERROR
    faults: str
    """What to set or to install, without a value."""


_told = set[str]()
"""The faults of the settings that this process has logged: every request would log them again."""


def problem_json(problem: "ProblemBody") -> ErrorReply:
    """An error as RFC 9457 has it."""
    return ErrorReply(problem["status"], to_json(problem), "application/problem+json")


def as_problem(request: Request, error: Exception, emit: Listener) -> Problem:
    """An exception as an error for the caller. One that was not expected is logged, and its text stays in the log."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, BadSettings):
        faults = "; ".join(error.faults)
        if faults not in _told:
            _told.add(faults)
            emit(Misconfigured(faults))
        return Problem("misconfigured", "Set or install this, and deploy again: " + faults)
    emit(Crashed(request.id, "".join(traceback.format_exception(error))))
    if isinstance(error, FunctionFailed):
        detail = f"The application's {error.which} failed. Its log says why under {request.id}."
        return Problem("internal_error", detail, source="application")
    return Problem("internal_error", f"This is a bug in Breakwater. Report this with the id {request.id}.")


@contextmanager
def of_the_application(which: str) -> Iterator[None]:
    """What leaves the block is the application's failure, but for errors that say themselves what to reply."""
    try:
        yield
    except (Problem, BadSettings, ClientDisconnect):
        raise
    except Exception as e:
        raise FunctionFailed(which) from e
    except asyncio.CancelledError as e:
        if is_cancelled():
            raise
        raise FunctionFailed(which) from e


def reply_to(request: Request, problem: Problem) -> Reply:
    """The reply that reports a problem."""
    kind = problem.kind
    body: ProblemBody = {
        "type": TYPE_BASE + kind.code,
        "title": kind.title,
        "status": kind.status,
        "detail": problem.detail,
        "code": kind.code,
        "source": problem.source or kind.source,
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
