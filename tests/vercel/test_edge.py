"""Vercel's routing, on the routes that a build of every kind of rule leaves."""

import pytest

from dev.vercel.edge import Call, Missing, Page, Redirect, Site, Target, joined
from tests.vercel import rewrites
from tests.vercel.rewrites import Case

ROUTES = (
    {"src": "^/(.*)/$", "headers": {"Location": "/$1"}, "status": 308},
    {"src": "^(?:/((?!api/).*))$", "headers": {"X-Path": "$1"}, "continue": True},
    {"handle": "filesystem"},
    {"src": "^/api/admin(?:/((?:[^/]+?)(?:/(?:[^/]+?))*))?$", "dest": "/api/admin?what=$1", "check": True},
    {"src": "^/old/(?<name>[^/]+)$", "dest": "/api/$name", "check": True},
    {"src": "^/api/servers/([^/]+)$", "dest": "/api/servers/[id]?id=$1", "check": True},
    {"src": "^/api(/.*)?$", "status": 404},
    {"handle": "error"},
    {"status": 404, "src": "^(?!/api).*$", "dest": "/404.html"},
    {"handle": "miss"},
    {"src": "^/api/(.+)(?:\\.(?:py))$", "dest": "/api/$1", "check": True},
)
FUNCTIONS = frozenset({"api/health", "api/admin", "api/servers/[id]"})


@pytest.mark.parametrize(
    ("path", "target"),
    [
        pytest.param("/api/health", Call("api/health"), id="function"),
        pytest.param("/api/health.py", Call("api/health"), id="function-by-its-file"),
        pytest.param("/api/health/", Redirect("/api/health", 308), id="trailing-slash"),
        pytest.param("/api/health/more", Missing(404), id="below-a-function"),
        pytest.param("/api/admin/keys/1", Call("api/admin", {"what": "keys/1"}), id="rewrite"),
        pytest.param("/api/admin/", Redirect("/api/admin", 308), id="rewrite-trailing-slash"),
        pytest.param("/old/health", Call("api/health"), id="rewrite-by-name"),
        pytest.param("/old/none", Page("404.html", {"X-Path": "old/none"}, 404), id="rewrite-to-nothing"),
        pytest.param("/api/servers/web-1", Call("api/servers/[id]", {"id": "web-1"}), id="segment"),
        pytest.param("/api/servers/a%20b", Call("api/servers/[id]", {"id": "a b"}), id="segment-encoded"),
        pytest.param("/api/servers/a/b", Missing(404), id="two-segments"),
        pytest.param("/", Page("index.html", {"X-Path": ""}), id="index"),
        pytest.param("/robots.txt", Page("robots.txt", {"X-Path": "robots.txt"}), id="file"),
        pytest.param("/lib/guard.py", Page("404.html", {"X-Path": "lib/guard.py"}, 404), id="no-file"),
        pytest.param("/api", Missing(404), id="api-itself"),
    ],
)
def test_resolve(path: str, target: Target) -> None:
    """A path leads to a function, a file, a redirect or nothing."""
    assert Site(ROUTES, FUNCTIONS, frozenset({"index.html", "404.html", "robots.txt"})).resolve(path) == target


def test_no_page_for_a_404() -> None:
    """Without a 404.html nothing answers."""
    assert Site(ROUTES, FUNCTIONS, frozenset({"robots.txt"})).resolve("/nowhere") == Missing(404)


@pytest.mark.parametrize("case", rewrites.CASES.values(), ids=rewrites.CASES)
def test_rewrites(case: Case) -> None:
    """What the real build made of rewrites leads where the table says, with what they add to the query."""
    path, _, sent = case.sent.partition("?")
    found = Site(rewrites.BUILT, frozenset(rewrites.FUNCTIONS), frozenset({"robots.txt"})).resolve(path)
    if case.function is None:
        assert found == Missing(404)
    else:
        assert isinstance(found, Call)
        assert (found.function, joined(sent, found.query)) == (case.function, case.query)


def test_a_rewrite_to_a_file() -> None:
    """A static file can be rewritten to as well."""
    site = Site(rewrites.BUILT, frozenset(rewrites.FUNCTIONS), frozenset({"robots.txt"}))
    assert site.resolve("/old/robots.txt") == Page("robots.txt")
