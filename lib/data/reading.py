"""Reading a resource: from this instance's memory, from Redis, or from its origin; and the reply to it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from ..base.events import DataRead
from ..base.values import dataclass
from ..cache import epochs
from ..call import Answered, Call, Failed, Outcome, Refused, Streaming
from ..edge import outcomes
from ..edge.cors import for_all
from ..edge.limits import RouteLimit, subject_of
from ..edge.outcomes import Wording
from ..edge.problems import Problem
from ..edge.request import Reply, Request
from ..limits.admission import Subject
from ..limits.window import Layout
from ..looking import Wish
from .access import require_role
from .asked import REFRESH, parameters, wishes
from .body import Body, BodyCodec
from .fetching import Fetching
from .origins.port import Choice
from .resource import ABSENT_MS, Resource

if TYPE_CHECKING:
    from ..parts import Parts

EDGE_MOST_S = 60
"""A cache on the way does not learn of an invalidation: so long it may go on at most."""
CODEC = BodyCodec()
NOBODY = Subject("", Layout(()))
WORDING = Wording(
    "What this route reads from",
    {
        "rejected": ("backend_rejected", "What this route reads from refuses these parameters."),
        "throttled": ("backend_throttled", "What this route reads from has no capacity left. Try again later."),
        "unauthorized": ("backend_unauthorized", "What this route reads from does not accept our secret."),
        "missing": ("misconfigured", "What this route reads from has no such function, table or address."),
    },
    ("origin_unavailable", "The data cannot be read now, and none are kept. Try again."),
)


@dataclass(frozen=True, slots=True, eq=False)
class ReadRoute:
    """The handler of a resource's path."""

    resource: Resource
    limit: RouteLimit
    path: Mapping[str, str]
    """The parameters that the path holds."""

    async def __call__(self, request: Request, parts: "Parts") -> Reply:
        """Answer one request. Raises Problem."""
        # What is refused here costs no command: the limit is counted together with the read.
        request.limit_headers = {}
        values = parameters(self.resource, self.path, request.http.query_params)
        viewed = await require_role(request, parts, self.resource.roles)
        request.limit_headers = None
        subject = await subject_for(request, parts, self.limit)
        outcome = await parts.guard.refusal(subject, request.deadline, self.resource.cost)
        if outcome is None:
            wish = await wish_for(self.resource, values, subject, request, parts)
            outcome = await parts.guard.handle(wish.call, wish.source, wish.codec)
        note(parts, self.resource, outcome)
        return _reply(self.resource, values, request, parts, outcome, viewed=viewed)


async def subject_for(request: Request, parts: "Parts", limit: RouteLimit) -> Subject:
    """Whom a read counts for."""
    policy = limit.policy(parts.settings, request.http.scope["path"])
    return subject_of(await request.identify(parts), policy) if policy.layout.windows else NOBODY


async def wish_for(
    resource: Resource, values: Mapping[str, str], subject: Subject, request: Request, parts: "Parts"
) -> "Wish[object, Body]":
    """A read, as the guard takes it."""
    who = await request.identify(parts)
    owner = who.id if resource.scope == "caller" else ""
    origin, key = resource.origin, resource.filled(values, owner)
    if isinstance(origin, Choice):
        chosen = origin.choose(parts, values)
        origin, key = chosen.origin, f"{key}:@{chosen.variant}"
    call = Call(
        route=resource.route,
        subject=subject,
        key=key,
        epochs=epochs.of_tags(resource.route, resource.tags_of(values)),
        request_id=request.id,
        deadline=request.deadline,
        directives=wishes(request),
        cache=resource.rules(key),
        cost=resource.cost,
        while_here=request.while_here,
        after=request.after,
    )
    return Wish(call, Fetching(origin, values, resource.max_bytes, parts, who.id), CODEC)


def note(parts: "Parts", resource: Resource, outcome: Outcome[object, Body]) -> None:
    """Count where the value came from."""
    match outcome.result:
        case Answered(body, cache, reason):
            # One of this instance's own that is on its way to Redis was waited for by nobody.
            tier = {"hit": "memory" if reason == "memory" else "redis", "miss": "origin", "bypass": "origin"}
            found, size = "collapsed" if reason == "in flight" else tier.get(cache, cache), len(body.content)
        case Failed():
            found, size = "failed", 0
        case Refused("rate_limited" | "not_cached"):
            # The caller's own wish: nothing was to be read.
            return
        case _:
            found, size = "failed", 0
    parts.emit(DataRead(resource.name, found, size))


def problem_of(
    request: Request, outcome: Outcome[object, Body], result: Refused | Failed, common: Mapping[str, str]
) -> Problem:
    """A refusal or a failure as an error."""
    problem = outcomes.problem(request, outcome, result, WORDING, common)
    if isinstance(result, Failed) and result.failure.kind == "timeout" and problem.retry_after_s is None:
        problem.retry_after_s = 1
    return problem


def _reply(
    resource: Resource,
    values: Mapping[str, str],
    request: Request,
    parts: "Parts",
    outcome: Outcome[object, Body],
    *,
    viewed: bool,
) -> Reply:
    if isinstance(outcome.result, Answered) and outcome.result.value.kind != "value":
        outcome = replace(outcome, fresh_ms=min(outcome.fresh_ms, ABSENT_MS))
    common = outcomes.common(request, outcome)
    match outcome.result:
        case Refused() | Failed() as refused:
            raise problem_of(request, outcome, refused, common)
        case Streaming():
            raise AssertionError("an origin gives its value whole")
        case Answered(body) as answered:
            headers = {**common, **outcomes.answered(request, outcome, answered, ""), "etag": body.etag}
    shared_s = _shared_s(resource, request, parts, outcome, answered, viewed=viewed)
    if shared_s:
        headers |= {
            "cache-control": f"public, max-age=0, s-maxage={shared_s}",
            **for_all(parts.settings.allowed_origins),
        }
    else:
        headers["cache-control"] = "private, no-cache"
    if body.kind == "absent":
        named = ", ".join(f"{name} {value!r}" for name, value in values.items())
        raise Problem(
            "not_found", f"There is no such thing: {resource.name} {named}.", headers=common, after=outcome.after
        )
    if is_known(request.header("if-none-match"), body.etag):
        return Reply(304, b"", headers, after=outcome.after, for_all=bool(shared_s))
    return Reply(200, body.content, headers, after=outcome.after, for_all=bool(shared_s))


def _shared_s(
    resource: Resource,
    request: Request,
    parts: "Parts",
    outcome: Outcome[object, Body],
    answered: Answered[Body],
    *,
    viewed: bool,
) -> int:
    """For how many seconds caches on the way may give this reply to others; 0: not at all.

    A client that knows the whole address knows the view key in it. Where only some origins may call, a reply that fits
    one of them fits no other. Who asks for a value of this second is not to find an older one on the way.
    """
    if resource.scope != "shared" or (resource.roles and not viewed) or request.header("authorization"):
        return 0
    if request.http.query_params.get(REFRESH) == "1":
        return 0
    origins = parts.settings.allowed_origins
    if answered.cache == "stale" or (origins and "*" not in origins):
        return 0
    age_ms = max(0, outcome.now_ms - answered.stored_at_ms)
    return max(0, min(EDGE_MOST_S, (outcome.fresh_ms - age_ms) // 1000))


def is_known(header: str, etag: str) -> bool:
    """Whether ``If-None-Match`` names an ETag; weak ones are as good (RFC 9110, section 13.1.2)."""
    return header.strip() == "*" or etag in [each.strip().removeprefix("W/") for each in header.split(",")]
