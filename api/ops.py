"""For people and programs that watch over a deployment: actions, metrics, what happened, the data routes' cache.

POST /api/admin, GET /api/metrics, GET /api/overview, GET /api/history, GET /api/activity, POST /api/cache/invalidate
and GET /api/cache/stats.

One function for all these paths, by rewrites in ``vercel.json``; its own path, /api/ops, is no route. What only one of
the paths needs is imported with that path's first request.
"""

from typing import TYPE_CHECKING

from pydantic_core import to_json

from lib.app.instance import instance
from lib.edge.limits import UNLIMITED
from lib.edge.paths import paths
from lib.edge.replies import AdminBody
from lib.edge.request import Reply, Request
from lib.edge.tokens import may_view, require
from lib.ops.overview import Overview
from lib.ops.overview_body import body

if TYPE_CHECKING:
    from lib.parts import Parts

_MAX_BODY_BYTES = 4 * 1024


async def admin(request: Request, parts: "Parts") -> Reply:
    """Carry out one admin action: invalidate values, reset a caller, open or close a circuit."""
    require(request, parts.settings.admin_token, "ADMIN_TOKEN")
    from lib.ops.admin import Action, act

    action = await request.json(Action, _MAX_BODY_BYTES)
    done = await act(parts, action, request.id)
    request.notes.decision, request.notes.reason = "report", action.root.action
    reply: AdminBody = {"action": action.root.action, "done": done, "requestId": request.id}
    return Reply(200, to_json(reply))


async def metrics(request: Request, parts: "Parts") -> Reply:
    """All counts in Prometheus' text format. Costs 2 commands at most, and none while the last reading is fresh."""
    require(request, parts.settings.admin_token, "ADMIN_TOKEN")
    # It imports prometheus_client, which is heavy and which no other path needs.
    from lib.ops.metrics import CONTENT_TYPE, render

    snapshot = await Overview.of(parts).snapshot()
    request.notes.decision, request.notes.reason = "report", snapshot.source
    return Reply(200, render(snapshot), content_type=CONTENT_TYPE)


async def overview(request: Request, parts: "Parts") -> Reply:
    """What is left and what happened, for the page. With a view key in the address, the edge answers most polls."""
    viewed = _views(request, parts)
    snapshot = await Overview.of(parts).snapshot(with_own=True)
    return _shown(request, body(snapshot), snapshot.source, snapshot.fresh_s if viewed else 0)


async def history(request: Request, parts: "Parts") -> Reply:
    """Past hours, of a ``range`` and ``by`` something. Costs 2 commands at most, and none while a reading is fresh."""
    viewed, given = _views(request, parts), request.http.query_params
    past, now_ms = Overview.of(parts).history, parts.clock.now_ms()
    found, fresh_s = await past.body(given.get("range", "7d"), given.get("by", "outcome")), past.fresh_s(now_ms)
    source = "redis" if now_ms // 1000 - found["at"] < fresh_s else "last"
    return _shown(request, found, source, fresh_s if viewed else 0)


async def activity(request: Request, parts: "Parts") -> Reply:
    """The busiest callers, notable requests and sent alerts. Costs 2 commands, and none while a reading is fresh."""
    viewed = _views(request, parts)
    found = await Overview.of(parts).activity.body()
    return _shown(request, found, found["source"], found["freshFor"] if viewed else 0)


def _views(request: Request, parts: "Parts") -> bool:
    """Whether the request has a view key; one that has not must have the token. Raises Problem."""
    secret = parts.settings.admin_token
    viewed = may_view(request.http.query_params.get("view", ""), secret, parts.clock.now_ms())
    if not viewed:
        require(request, secret, "ADMIN_TOKEN")
    return viewed


def _shown(request: Request, found: object, source: str, fresh_s: int) -> Reply:
    """Figures as JSON; an edge may keep them for ``fresh_s`` where they are Redis' own."""
    request.notes.decision, request.notes.reason = "report", source
    headers = {}
    if fresh_s and source == "redis":
        # A client that knows the whole address knows the key; an edge stores replies by the whole address.
        headers["cache-control"] = f"max-age=0, s-maxage={fresh_s}, stale-while-revalidate={fresh_s}"
    return Reply(200, to_json(found), headers)


async def invalidate(request: Request, parts: "Parts") -> Reply:
    """Invalidate values of data routes by their names, for ADMIN_TOKEN and for users with the role."""
    from lib.data.access import require_role
    from lib.ops.cache import Invalidation, act

    await require_role(request, parts, ("admin",))

    wanted = await request.json(Invalidation, _MAX_BODY_BYTES)
    done = await act(parts, wanted, request.id)
    request.notes.decision, request.notes.reason = "report", "invalidate"
    return Reply(200, to_json(done))


async def stats(request: Request, parts: "Parts") -> Reply:
    """How much the cache of the data routes saves. Costs as much as the metrics do."""
    require(request, parts.settings.admin_token, "ADMIN_TOKEN")
    from lib.ops.cache import stats as stats_of

    snapshot = await Overview.of(parts).snapshot(with_own=True)
    request.notes.decision, request.notes.reason = "report", snapshot.source
    return Reply(200, to_json(stats_of(snapshot.reading, snapshot.source, request.id)))


ROUTES = {
    "/api/admin": {"post": admin},
    "/api/metrics": {"get": metrics},
    "/api/overview": {"get": overview},
    "/api/history": {"get": history},
    "/api/activity": {"get": activity},
    "/api/cache/invalidate": {"post": invalidate},
    "/api/cache/stats": {"get": stats},
}

# A request with the token is never refused; a wrong token counts against its sender.
app = paths(instance, ROUTES, limit=UNLIMITED)
