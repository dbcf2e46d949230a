"""Rewrites of every kind, what the real build makes of them, and which function answers a path.

Three things are held to the same table: the local server (`tests/dev/test_routes.py`), the routing of a build output
(`tests/vercel/test_edge.py`), and a real build under the real runtime (`tests/vercel/test_deployment.py`).
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

ECHO = """
import json

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (message := await receive())["type"]:
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    seen = {
        "function": FUNCTION,
        "path": scope["path"],
        "raw_path": scope["raw_path"].decode("latin-1"),
        "query": scope["query_string"].decode("latin-1"),
    }
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(seen).encode()})
"""
"""A function that answers with its own name and what it sees of the request. It needs no package."""

FUNCTIONS = ("api/ops", "api/data", "api/fleet/now", "api/servers/[id]")

REWRITES = (
    {"source": "/api/admin", "destination": "/api/ops"},
    {"source": "/api/:name(overview|metrics)", "destination": "/api/ops"},
    {"source": "/api/queries/:name", "destination": "/api/data"},
    {"source": "/api/fleet/:path*", "destination": "/api/data"},
    {"source": "/api/pages/:number?", "destination": "/api/data"},
    {"source": "/api/a/:one/b/:two", "destination": "/api/servers/:one"},
    {"source": "/api/c/:one/d/:two", "destination": "/api/data?kind=c&one=:two"},
    {"source": "/api/rest/(.*)", "destination": "/api/data?rest=$1"},
    {"source": "/api/hosts/:id(\\d+)", "destination": "/api/servers/:id?from=hosts"},
    {"source": "/api/data", "destination": "/api/ops"},
    {"source": "/api/nowhere", "destination": "/api/missing"},
    {"source": "/old/:path*", "destination": "/:path*"},
)

BUILT: tuple[Mapping[str, Any], ...] = (
    {"src": "^/(.*)/$", "headers": {"Location": "/$1"}, "status": 308},
    {"handle": "filesystem"},
    {"src": "^/api/admin$", "dest": "/api/ops", "check": True},
    {"src": "^/api(?:/(overview|metrics))$", "dest": "/api/ops?name=$1", "check": True},
    {"src": "^/api/queries(?:/([^/]+?))$", "dest": "/api/data?name=$1", "check": True},
    {"src": "^/api/fleet(?:/((?:[^/]+?)(?:/(?:[^/]+?))*))?$", "dest": "/api/data?path=$1", "check": True},
    {"src": "^/api/pages(?:/([^/]+?))?$", "dest": "/api/data?number=$1", "check": True},
    {"src": "^/api/a(?:/([^/]+?))/b(?:/([^/]+?))$", "dest": "/api/servers/$1", "check": True},
    {"src": "^/api/c(?:/([^/]+?))/d(?:/([^/]+?))$", "dest": "/api/data?kind=c&one=$2&two=$2", "check": True},
    {"src": "^/api/rest(?:/(.*))$", "dest": "/api/data?rest=$1", "check": True},
    {"src": "^/api/hosts(?:/(\\d+))$", "dest": "/api/servers/$1?from=hosts", "check": True},
    {"src": "^/api/data$", "dest": "/api/ops", "check": True},
    {"src": "^/api/nowhere$", "dest": "/api/missing", "check": True},
    {"src": "^/old(?:/((?:[^/]+?)(?:/(?:[^/]+?))*))?$", "dest": "/$1", "check": True},
    {"src": "^/api/servers/([^/]+)$", "dest": "/api/servers/[id]?id=$1", "check": True},
    {"src": "^/api(/.*)?$", "status": 404},
    {"handle": "error"},
    {"status": 404, "src": "^(?!/api).*$", "dest": "/404.html"},
    {"handle": "miss"},
    {"src": "^/api/(.+)(?:\\.(?:py))$", "dest": "/api/$1", "check": True},
)
"""The routes that the pinned CLI makes of these rewrites and functions; a test builds them anew and compares."""

FILES: Mapping[str, str] = {
    **{f"{name}.py": ECHO.replace("FUNCTION", repr(name)) for name in FUNCTIONS},
    "public/robots.txt": "User-agent: *\n",
    "requirements.txt": "",
    ".python-version": "3.12\n",
    "vercel.json": json.dumps(
        {"framework": None, "outputDirectory": "public", "trailingSlash": False, "rewrites": REWRITES}
    ),
}
"""A whole project, by path."""


class Case(NamedTuple):
    """A path with its query as the client sends it, the function that answers (None: nothing does), and its query."""

    sent: str
    function: str | None
    query: str = ""


CASES = {
    "plain": Case("/api/admin", "api/ops"),
    "own-path": Case("/api/ops", "api/ops"),
    "query-stays": Case("/api/admin?a=1&a=2", "api/ops", "a=1&a=2"),
    "one-of-two": Case("/api/metrics", "api/ops", "name=metrics"),
    "neither-of-two": Case("/api/metric", None),
    "joins-the-query": Case("/api/metrics?a=1", "api/ops", "a=1&name=metrics"),
    "client-overrides-the-name": Case("/api/metrics?name=mine", "api/ops", "name=mine"),
    "client-overrides-by-nothing": Case("/api/metrics?name=", "api/ops", "name="),
    "segment": Case("/api/queries/cpu", "api/data", "name=cpu"),
    "encoded-slash": Case("/api/queries/a%2Fb", "api/data", "name=a%2Fb"),
    "encoded-twice": Case("/api/queries/a%252Fb", "api/data", "name=a%252Fb"),
    "nul": Case("/api/queries/%00", "api/data", "name=%00"),
    "korean": Case("/api/queries/%EC%84%9C%EB%B2%84", "api/data", "name=%EC%84%9C%EB%B2%84"),
    "no-segment": Case("/api/queries", None),
    "two-segments": Case("/api/queries/a/b", None),
    "any-number-is-none": Case("/api/fleet", "api/data", "path="),
    "any-number-is-two": Case("/api/fleet/kr/web-1", "api/data", "path=kr%2Fweb-1"),
    "file-system-first": Case("/api/fleet/now", "api/fleet/now"),
    "optional": Case("/api/pages", "api/data", "number="),
    "optional-given": Case("/api/pages/2", "api/data", "number=2"),
    "none-joins-where-one-is-used": Case("/api/a/1/b/2", "api/servers/[id]", "id=1"),
    "destination-names-it-first": Case("/api/c/1/d/2", "api/data", "kind=c&one=2&two=2"),
    "group": Case("/api/rest/x/y", "api/data", "rest=x%2Fy"),
    "goes-on-to-a-segment-function": Case("/api/hosts/7", "api/servers/[id]", "from=hosts&id=7"),
    "pattern-refuses": Case("/api/hosts/seven", None),
    "function-before-its-rewrite": Case("/api/data", "api/data"),
    "leads-nowhere": Case("/api/nowhere", None),
    "through-the-path": Case("/old/api/ops", "api/ops"),
    "rewritten-twice": Case("/old/api/servers/9", "api/servers/[id]", "id=9"),
}
