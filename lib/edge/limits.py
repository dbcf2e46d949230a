"""The limit of a route, enforced by the edge: a new file has one without doing anything for it.

A route is counted before its handler runs; or by the guard, in the round trip in which everything else is read
(``by_guard``). Where such a request fails before the guard has counted it (a body that is no JSON), the edge counts it,
so that malformed requests are no way around a limit. A wrong token counts against its sender's address.
"""

from typing import TYPE_CHECKING

from ..base import caller as callers
from ..base.caller import Caller
from ..base.events import WouldRefuse
from ..base.values import dataclass
from ..guard import Counted
from ..limits.admission import Subject
from ..limits.grammar import parse_limits
from ..limits.window import Layout
from ..policy import SIGN_INS, Policy, variable_of
from . import headers
from .outcomes import limit_detail
from .problems import Problem
from .request import Request

if TYPE_CHECKING:
    from ..parts import Parts
    from ..settings import Settings


@dataclass(frozen=True, slots=True)
class RouteLimit:
    """What a route's own file says of its limit; without a word, the table of limits by path holds."""

    limited: bool = True
    name: str = ""
    """The group that the route counts under, where it has a limit of its own: in its file, or in the environment."""
    layout: Layout | None = None
    """That limit."""
    by_guard: bool = False
    """The handler has the guard count the request."""
    dry_run: bool = False
    """Nothing is refused: what would have been is logged and counted."""

    def policy(self, settings: "Settings", path: str) -> Policy:
        """The limit of a request, the environment's word included."""
        if not self.limited:
            return Policy("", Layout(()))
        if self.layout is None and not (self.name and variable_of(self.name) in settings.limits_by_name):
            return settings.policy_for(path)
        return settings.policy_named(self.name, self.layout or Layout(()))


BY_TABLE = RouteLimit()
BY_GUARD = RouteLimit(by_guard=True)
UNLIMITED = RouteLimit(limited=False)


def route_limit(limit: str | None, name: str, *, dry_run: bool = False) -> RouteLimit:
    """A limit as a route's file writes it: ``"30/minute"``, or None for none. Raises ValueError.

    The environment may still give it one.
    """
    layout = Layout(()) if limit is None else parse_limits(limit)
    return RouteLimit(name=name, layout=layout, dry_run=dry_run)


def subject_of(caller: Caller, policy: Policy) -> Subject:
    """Whom a call counts for under a policy."""
    subject_id = callers.subject(caller, policy.group, policy.layout.tag)
    return Subject(subject_id, policy.layout, policy.group, caller.id)


async def count(request: Request, parts: "Parts", limit: RouteLimit) -> None:
    """Count a request before anything is done for it. Raises Problem where the limit refuses it."""
    policy = limit.policy(parts.settings, request.http.scope["path"])
    if policy.layout.windows:
        caller = await request.identify(parts)
        await _count(request, parts, caller, policy, dry_run=limit.dry_run)


async def count_failed(request: Request, parts: "Parts", limit: RouteLimit, problem: Problem) -> None:
    """Count a request that failed before it was counted. Raises Problem where the limit refuses it."""
    if problem.code == "unauthorized" and _gave_a_token(request):
        await _count(request, parts, request.identify_address(parts), SIGN_INS)
    elif limit.by_guard and request.limit_headers is None and problem.kind.source == "client":
        await count(request, parts, limit)


def _gave_a_token(request: Request) -> bool:
    """Whether a token or a view key was sent: one that is not there guesses nothing."""
    return bool(request.header("authorization") or request.http.query_params.get("view"))


async def _count(request: Request, parts: "Parts", caller: Caller, policy: Policy, *, dry_run: bool = False) -> None:
    counted = await parts.guard.count(subject_of(caller, policy), 1, request.deadline, request.after)
    note(request, counted)
    if counted.quota.allowed:
        return
    if dry_run:
        parts.emit(WouldRefuse(policy.group, counted.reason, caller.id))
        return
    raise refusal(request, counted)


def note(request: Request, counted: Counted) -> None:
    """Let the reply and the log line say what was counted."""
    quota, notes = counted.quota, request.notes
    request.limit_headers = {**headers.rate_limit(quota, counted.now_ms), "x-guard-mode": counted.mode}
    notes.mode, notes.spent = counted.mode, counted.spent
    notes.remaining = quota.tightest.remaining if quota.tightest else None


def refusal(request: Request, counted: Counted) -> Problem:
    """The error that a refused request gets."""
    retry_at_ms = counted.quota.retry_at_ms
    wait_s = None if retry_at_ms is None else headers.seconds_until(retry_at_ms, counted.now_ms)
    request.notes.decision, request.notes.reason = "refuse", f"rate_limited:{counted.reason}"
    return Problem("rate_limited", limit_detail(counted.reason, wait_s), wait_s)
