"""Paths: what a segment is, and which of several paths of one function a request is for."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from lib.app.instance import instance as parts_of_the_environment
from lib.app.wiring import build
from lib.base.clock import Clock
from lib.base.events import Crashed, Event, RequestDone
from lib.edge.paths import paths, segments
from lib.edge.problems import Problem
from lib.edge.request import Reply, Request
from lib.parts import Parts
from lib.settings import Settings
from tests.rig.instance import Built

pytestmark = pytest.mark.anyio

LONG = "x" * 10_240


@pytest.mark.parametrize(
    ("raw_path", "found"),
    [
        pytest.param(b"/api/servers/web-1", ("api", "servers", "web-1"), id="plain"),
        pytest.param(b"/api/servers/a%2Fb", ("api", "servers", "a/b"), id="slash"),
        pytest.param(b"/api/servers/a%2fb", ("api", "servers", "a/b"), id="slash-in-lower-case"),
        pytest.param(b"/api/servers/a%252Fb", ("api", "servers", "a%2Fb"), id="decoded-once"),
        pytest.param(b"/api/servers/%2e%2e", ("api", "servers", ".."), id="dots-climb-nowhere"),
        pytest.param(b"/api/servers/%00", ("api", "servers", "\0"), id="nul"),
        pytest.param(b"/api/servers/a%3Fid=b%23c", ("api", "servers", "a?id=b#c"), id="question-mark-and-hash"),
        pytest.param(b"/api/servers/a+b", ("api", "servers", "a+b"), id="plus-is-no-space"),
        pytest.param(b"/api/servers/", ("api", "servers", ""), id="trailing-slash"),
        pytest.param(b"/api//admin", ("api", "", "admin"), id="doubled-slash"),
        pytest.param(b"//api/admin", ("", "api", "admin"), id="leading-slashes"),
        pytest.param(b"/", ("",), id="root"),
        pytest.param(b"/%EC%84%9C%EB%B2%84", ("서버",), id="korean"),
        pytest.param("/서버".encode(), ("서버",), id="korean-not-encoded"),
        pytest.param(b"/%ff%fe", ("\ufffd\ufffd",), id="not-utf-8"),
        pytest.param(b"/%ed%a0%80", ("\ufffd" * 3,), id="half-a-surrogate-pair"),
        pytest.param(b"/%zz%4", ("%zz%4",), id="not-an-encoding"),
        pytest.param(f"/api/{LONG}".encode(), ("api", LONG), id="long"),
        pytest.param(b"/" * 10_240, ("",) * 10_240, id="nothing-but-slashes"),
    ],
)
async def test_segments(raw_path: bytes, found: tuple[str, ...]) -> None:
    """A path is divided first and decoded after that, so that an encoded slash stays within its segment."""
    assert segments({"path": "/decoded/by/the/server", "raw_path": raw_path}) == found
    # Whatever came, it can be sent on as UTF-8.
    assert "".join(found).encode().decode() == "".join(found)


@pytest.mark.parametrize("raw_path", [None, b""], ids=["none", "empty"])
async def test_segments_without_a_raw_path(raw_path: bytes | None) -> None:
    """A server that gives the decoded path alone is served by that."""
    assert segments({"path": "/api/서버 1", "raw_path": raw_path}) == ("api", "서버 1")
    assert segments({"path": "/api/100%25"}) == ("api", "100%25")


async def one(request: Request, parts: Parts) -> Reply:
    return Reply(200, b"one")


async def two(request: Request, parts: Parts) -> Reply:
    raise Problem("closed", "two")


@pytest.fixture
async def parts() -> AsyncIterator[tuple[Parts, list[Event]]]:
    """Parts of an instance that asks nobody, and its events."""
    environ = {
        "REDIS_ENABLED": "false",
        "CLOUD_RUN_AI_URL": "http://127.0.0.1:9",
        "ALLOWED_ORIGINS": "https://a.example",
    }
    events: list[Event] = []
    built = build(Settings.from_env(environ), Clock(), (events.append,))
    yield built, events
    await built.aclose()


@pytest.fixture
async def http(parts: tuple[Parts, list[Event]]) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a function with two paths."""

    app: Any = paths(Built(parts[0]), {"/api/one": {"get": one}, "/api/two": {"post": two}})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://breakwater") as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        pytest.param("GET", "/api/one", 200, None, id="one"),
        pytest.param("HEAD", "/api/one", 200, None, id="head"),
        pytest.param("GET", "/api/one?path=/api/two", 200, None, id="the-query-chooses-nothing"),
        pytest.param("GET", "/api/%6Fne", 200, None, id="needlessly-encoded"),
        pytest.param("POST", "/api/two", 403, None, id="two"),
        pytest.param("POST", "/api/one", 405, "GET, HEAD, OPTIONS", id="the-other-path-has-it"),
        pytest.param("GET", "/api/two", 405, "OPTIONS, POST", id="only-by-post"),
        pytest.param("OPTIONS", "/api/two", 204, "OPTIONS, POST", id="options"),
    ],
)
async def test_a_path_has_its_own_methods(
    http: httpx.AsyncClient, method: str, path: str, status: int, allow: str | None
) -> None:
    """Each path answers by its own handlers, and names no other path's methods."""
    reply = await http.request(method, path)
    allowed = ", ".join(sorted(reply.headers["allow"].split(", "))) if "allow" in reply.headers else None
    assert (reply.status_code, allowed) == (status, allow)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/api/ops", id="the-functions-own"),
        pytest.param("/api/one/", id="trailing-slash"),
        pytest.param("/api//one", id="doubled-slash"),
        pytest.param("/api%2Fone", id="encoded-slash"),
        pytest.param("/api/one%00", id="nul"),
        pytest.param("/api/ONE", id="other-case"),
        pytest.param("/api/하나", id="korean"),
        pytest.param(f"/api/{LONG}", id="long"),
        pytest.param("/", id="root"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "BREW"])
async def test_other_paths_are_not_found(
    http: httpx.AsyncClient, parts: tuple[Parts, list[Event]], method: str, path: str
) -> None:
    """Any other path is a problem with an id and a line in the log, whatever the method."""
    reply = await http.request(method, path, headers={"origin": "https://b.example"})
    problem = reply.json()
    assert (reply.status_code, problem["code"], problem["source"]) == (404, "not_found", "client")
    assert reply.headers["content-type"] == "application/problem+json"
    assert problem["requestId"] == reply.headers["x-request-id"]
    assert "allow" not in reply.headers
    assert LONG not in reply.text
    events = parts[1]
    assert [(each.status, each.reason) for each in events if isinstance(each, RequestDone)] == [(404, "not_found")]
    assert not [each for each in events if isinstance(each, Crashed)]


async def test_an_allowed_origin_can_read_that_nothing_was_found(http: httpx.AsyncClient) -> None:
    """The 404 carries CORS headers like every other reply."""
    reply = await http.get("/api/ops", headers={"origin": "https://a.example"})
    assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (404, "https://a.example")


async def test_the_lifespan_is_answered_once() -> None:
    """A function of several paths starts and stops as one."""
    incoming = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[str] = []

    async def receive() -> Any:
        return incoming.pop(0)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    app = paths(parts_of_the_environment, {"/api/one": {"get": one}, "/api/two": {"post": two}})
    await app({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
