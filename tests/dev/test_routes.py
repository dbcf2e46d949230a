"""Vercel's routing, on temporary trees of small functions."""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import anyio
import httpx
import pytest
from starlette.types import ASGIApp, Message

from dev.routes import discover, routes_app, served
from dev.serve import ThreadedServer
from dev.vercel_json import source_pattern
from tests.vercel import rewrites
from tests.vercel.rewrites import Case

# Answers with what the function sees: its own name, and the request's path and query.
ECHO = """
import json
from starlette.responses import JSONResponse

async def app(scope, receive, send):
    seen = {"name": NAME, "path": scope["path"], "query": scope["query_string"].decode()}
    await JSONResponse(seen)(scope, receive, send)
"""

type Tree = Callable[[Mapping[str, str]], Path]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Write files below a temporary root; `ECHO` gets the file's own name."""

    def write(files: Mapping[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("NAME", repr(name)) if text is ECHO else text, "utf-8")
        return tmp_path

    return write


async def call(app: ASGIApp, path: str, *incoming: Message, method: str = "GET") -> list[Message]:
    """Serve one request without a server; returns every message the app sent."""
    sent: list[Message] = []
    pending = list(incoming) or [{"type": "http.request", "body": b"", "more_body": False}]
    plain, _, query = path.partition("?")

    async def receive() -> Message:
        if not pending:
            await anyio.sleep_forever()  # a client that stays
        return pending.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": method,
        "scheme": "http", "path": httpx.URL(plain).path, "raw_path": plain.encode(), "query_string": query.encode(),
        "root_path": "", "headers": [], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    await app(scope, receive, send)
    return sent


async def get(app: ASGIApp, path: str, method: str = "GET") -> httpx.Response:
    """The same, as a response."""
    start, *parts = await call(app, path, method=method)
    body = b"".join(part.get("body", b"") for part in parts)
    return httpx.Response(start["status"], headers=start["headers"], content=body)


def test_discovers_by_vercels_rule(tree: Tree, caplog: pytest.LogCaptureFixture) -> None:
    """Every file with a visible `app` is a route, save those below a name that begins with `_` or a dot."""
    root = tree(
        {
            "api/index.py": "app = 1",
            "api/ai/supervisor.py": "app: object = 1",
            "api/ai/index.py": "from somewhere import app",
            "api/ai/other.py": "import somewhere as app",
            "api/servers/[id].py": "async def app(scope, receive, send): ...",
            "api/servers/[id]/metrics.py": "app = 1",
            "api/broken.py": "app = (",
            "api/_shared.py": "app = 1",
            "api/_private/x.py": "app = 1",
            "api/.hidden/x.py": "app = 1",
            "api/hidden_app.py": "if True:\n    app = 1",
            "api/tuple.py": "app, other = 1, 2",
            "api/declared.py": "app: object",
            "api/notes.txt": "app = 1",
            "lib/x.py": "app = 1",
        }
    )
    assert {route: str(path.relative_to(root)) for route, path in discover(root).items()} == {
        "/api": "api/index.py",
        "/api/ai": "api/ai/index.py",
        "/api/ai/other": "api/ai/other.py",
        "/api/ai/supervisor": "api/ai/supervisor.py",
        "/api/broken": "api/broken.py",
        "/api/servers/[id]": "api/servers/[id].py",
        "/api/servers/[id]/metrics": "api/servers/[id]/metrics.py",
    }
    left_out = {record.getMessage().partition(" ")[0] for record in caplog.records}
    assert left_out == {"api/hidden_app.py", "api/tuple.py", "api/declared.py"}


FUNCTIONS = (
    "api/index.py",
    "api/ai/supervisor.py",
    "api/servers/[id].py",
    "api/servers/all.py",
    "api/servers/[id]/metrics.py",
    "api/[kind]/all.py",
    "api/system.py",
)
SITE = {
    **dict.fromkeys(FUNCTIONS, ECHO),
    "public/index.html": "<p>home",
    "public/docs/index.html": "<p>docs",
    "public/robots.txt": "User-agent: *\n",
    "public/style.css": "p {}",
    "secret.txt": "secret",
    "vercel.json": json.dumps(
        {
            "trailingSlash": False,
            "rewrites": [
                {"source": "/api/system/:section", "destination": "/api/system"},
                {"source": "/status/(.*)", "destination": "/api/servers/$1?from=status"},
                {"source": "/old/:path*", "destination": "/:path*"},
                {"source": "/api/servers/all", "destination": "/api/system"},
                {"source": "/nowhere", "destination": "/api/missing"},
            ],
            "headers": [
                {"source": "/(.*)", "headers": [{"key": "X-Content-Type-Options", "value": "nosniff"}]},
                {"source": "/robots.txt", "headers": [{"key": "Cache-Control", "value": "max-age=60"}]},
            ],
        }
    ),
}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("path", "name", "query"),
    [
        pytest.param("/api", "api/index.py", "", id="index"),
        pytest.param("/api/ai/supervisor?a=1", "api/ai/supervisor.py", "a=1", id="static"),
        pytest.param("/api/servers/all", "api/servers/all.py", "", id="static-before-dynamic-and-rewrites"),
        pytest.param("/api/servers/7?x=1", "api/servers/[id].py", "x=1&id=7", id="segment-joins-the-query"),
        pytest.param("/api/servers/7?id=8", "api/servers/[id].py", "id=8", id="client-overrides-the-query"),
        pytest.param("/api/servers/a%2Fb", "api/servers/[id].py", "id=a%2Fb", id="encoded-slash-is-one-segment"),
        pytest.param("/api/servers/all/metrics", "api/servers/[id]/metrics.py", "id=all", id="segment-in-the-middle"),
        pytest.param("/api/jobs/all", "api/[kind]/all.py", "kind=jobs", id="dynamic-directory"),
        pytest.param("/api/system/cpu", "api/system.py", "section=cpu", id="rewrite-adds-its-segment"),
        pytest.param("/status/9", "api/servers/[id].py", "from=status&id=9", id="rewrite-to-a-dynamic-route"),
        pytest.param("/old/api/system", "api/system.py", "", id="rewrite-with-a-path"),
    ],
)
async def test_routes_to(tree: Tree, path: str, name: str, query: str) -> None:
    """A path finds its function, which sees the path as the client sent it."""
    reply = await get(routes_app(tree(SITE)), path)
    assert reply.json() == {"name": name, "path": httpx.URL(path).path, "query": query}


@pytest.mark.anyio
@pytest.mark.parametrize(
    "path",
    [
        "/api/servers/",
        "/api/servers",
        "/api/servers/7/8",
        "/api/_shared",
        "/api/missing",
        "/nowhere",
        "/missing",
        "/secret.txt",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/docs/%2e%2e/robots.txt",
        "/%00",
    ],
)
async def test_unknown_paths(tree: Tree, path: str) -> None:
    """What is no route is Vercel's plain 404, and no path leads out of `public/`."""
    site = {**SITE, "vercel.json": SITE["vercel.json"].replace('"trailingSlash": false', '"trailingSlash": true')}
    reply = await get(routes_app(tree({**site, "api/_shared.py": ECHO})), path)
    assert (reply.status_code, reply.headers["x-vercel-error"]) == (404, "NOT_FOUND")
    assert reply.text.startswith("The page could not be found\n\nNOT_FOUND")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("path", "content_type", "text", "cache_control"),
    [
        pytest.param("/", "text/html; charset=utf-8", "<p>home", "public, max-age=0, must-revalidate", id="home"),
        pytest.param("/docs", "text/html; charset=utf-8", "<p>docs", "public, max-age=0, must-revalidate", id="index"),
        pytest.param("/robots.txt", "text/plain; charset=utf-8", "User-agent: *\n", "max-age=60", id="own-header"),
        pytest.param("/style.css", "text/css; charset=utf-8", "p {}", "public, max-age=0, must-revalidate", id="css"),
        pytest.param(
            "/old/style.css", "text/css; charset=utf-8", "p {}", "public, max-age=0, must-revalidate", id="rw"
        ),
    ],
)
async def test_files(tree: Tree, path: str, content_type: str, text: str, cache_control: str) -> None:
    """Files of `public/` come with their type, the cache header of the platform and the headers of vercel.json."""
    reply = await get(routes_app(tree(SITE)), path)
    assert (reply.status_code, reply.text) == (200, text)
    assert reply.headers["content-type"] == content_type
    assert reply.headers["cache-control"] == cache_control
    assert reply.headers["x-content-type-options"] == "nosniff"


@pytest.mark.anyio
async def test_files_are_read_only(tree: Tree) -> None:
    """A file answers GET and HEAD alone."""
    app = routes_app(tree(SITE))
    assert (await get(app, "/robots.txt", "POST")).status_code == 405
    head = await get(app, "/robots.txt", "HEAD")
    assert (head.status_code, head.headers["content-length"]) == (200, "14")


@pytest.mark.anyio
async def test_own_404_page(tree: Tree) -> None:
    """`public/404.html` is the page for unknown paths outside the API."""
    app = routes_app(tree({**SITE, "public/404.html": "<p>gone"}))
    page, api = await get(app, "/missing"), await get(app, "/api/missing")
    assert (page.status_code, page.text) == (404, "<p>gone")
    assert (api.status_code, api.headers["content-type"]) == (404, "text/plain; charset=utf-8")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("path", "location"),
    [
        pytest.param("/api/system/?a=1", "/api/system?a=1", id="query-stays"),
        pytest.param("//elsewhere.example/", "/elsewhere.example", id="never-another-host"),
    ],
)
async def test_trailing_slash(tree: Tree, path: str, location: str) -> None:
    """With `trailingSlash: false` a trailing slash is redirected away."""
    start, *_ = await call(routes_app(tree(SITE)), path)
    assert start["status"] == 308
    assert dict(start["headers"])[b"location"] == location.encode()


@pytest.mark.anyio
@pytest.mark.parametrize("case", rewrites.CASES.values(), ids=rewrites.CASES)
async def test_rewrites(tree: Tree, case: Case) -> None:
    """A rewrite leads where the real build's does; the function sees the path as it was sent, and a longer query."""
    reply = await get(routes_app(tree(rewrites.FILES)), case.sent)
    if case.function is None:
        assert (reply.status_code, reply.headers["x-vercel-error"]) == (404, "NOT_FOUND")
    else:
        path = case.sent.partition("?")[0]
        assert reply.json() == {
            "function": case.function,
            "path": httpx.URL(path).path,
            "raw_path": path,
            "query": case.query,
        }


def test_the_paths_of_the_api(tree: Tree) -> None:
    """A function that rewrites lead to has their paths; every other one has its own."""
    rules = [{"source": "/api/admin", "destination": "/api/ops"}, {"source": "/api/metrics", "destination": "/api/ops"}]
    root = tree({"api/ops.py": ECHO, "api/health.py": ECHO, "vercel.json": json.dumps({"rewrites": rules})})
    assert served(root) == {"/api/admin", "/api/metrics", "/api/health"}


@pytest.mark.parametrize(
    ("source", "path", "groups"),
    [
        pytest.param("/a/:x", "/a/1", {"x": "1"}, id="segment"),
        pytest.param("/a/:x", "/a/1/2", None, id="one-segment-only"),
        pytest.param("/a/:x*", "/a", {"x": None}, id="none"),
        pytest.param("/a/:x*", "/a/1/2", {"x": "1/2"}, id="many"),
        pytest.param("/a/:x+", "/a", None, id="at-least-one"),
        pytest.param("/a/:x?", "/a", {"x": None}, id="optional"),
        pytest.param("/a/:x?", "/a/1/2", None, id="one-at-most"),
        pytest.param("/a/:x(b|c)", "/a/c", {"x": "c"}, id="one-of"),
        pytest.param("/a/:x(b|c)", "/a/d", None, id="none-of"),
        pytest.param(r"/a/:x(\d+)", "/a/12", {"x": "12"}, id="pattern"),
        pytest.param(r"/a/:x(\d+)", "/a/b", None, id="pattern-refuses"),
        pytest.param("/(.*)", "/a/b", {}, id="group"),
        pytest.param("/((?!api).*)", "/api/x", None, id="lookahead"),
        pytest.param("/a.b", "/aXb", None, id="dot-is-a-dot"),
    ],
)
def test_source_patterns(source: str, path: str, groups: dict[str, str | None] | None) -> None:
    """The sources of vercel.json, as far as they are supported here."""
    found = source_pattern(source).fullmatch(path)
    assert (found.groupdict() if found else None) == groups


def test_what_is_not_honoured_is_said(tree: Tree, caplog: pytest.LogCaptureFixture) -> None:
    """Settings that only Vercel knows are named in a warning; a rewrite to another origin is an error."""
    rules = [{"source": "/x", "destination": "/y", "has": [{"type": "host", "value": "z"}]}]
    routes_app(tree({"vercel.json": json.dumps({"redirects": [{}], "rewrites": rules})}))
    assert [record.getMessage() for record in caplog.records] == [
        "vercel.json: redirects is not honoured by the local server",
        "vercel.json: /x: has is not honoured by the local server",
    ]
    root = tree({"vercel.json": json.dumps({"rewrites": [{"source": "/x", "destination": "https://z.example"}]})})
    with pytest.raises(ValueError, match=r"https://z\.example"):
        routes_app(root)


@pytest.mark.anyio
async def test_imports_at_the_first_request_and_once(tree: Tree) -> None:
    """A function is imported when it is first called, again after a failed import, and not again after a good one."""
    count = "from pathlib import Path\nwith (Path(__file__).parent / 'imports').open('a') as f: f.write('x')\n"
    root = tree({"api/a.py": "raise RuntimeError('not yet')\napp = 1"})
    imports = root / "api" / "imports"
    app = routes_app(root)
    assert (await get(app, "/api/a")).status_code == 500
    tree({"api/a.py": count + ECHO.replace("NAME", "'second'")})
    assert not imports.exists()
    for _ in range(2):
        assert (await get(app, "/api/a")).json()["name"] == "second"
    assert imports.read_text() == "x"


@pytest.mark.anyio
async def test_modules_of_the_same_name(tree: Tree) -> None:
    """Equal file names in different directories, and in different trees, are different modules."""
    app = routes_app(tree({"one/api/x.py": ECHO, "one/api/y/x.py": ECHO, "two/api/x.py": ECHO}) / "one")
    other = routes_app(tree({}) / "two")
    names = [
        (await get(site, path)).json()["name"] for site, path in ((app, "/api/x"), (app, "/api/y/x"), (other, "/api/x"))
    ]
    assert names == ["one/api/x.py", "one/api/y/x.py", "two/api/x.py"]


@pytest.mark.anyio
async def test_dataclasses_work_in_functions(tree: Tree) -> None:
    """A module is registered under its name, which dataclasses with deferred annotations look up."""
    code = "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\n"
    assert (await get(routes_app(tree({"api/[id].py": code + ECHO.replace("NAME", "A(1).x")})), "/api/5")).json()[
        "name"
    ] == 1


@pytest.mark.anyio
async def test_an_exception_is_a_plain_500(tree: Tree, caplog: pytest.LogCaptureFixture) -> None:
    """What escapes a function is a plain 500 for the client and a traceback in the log."""
    root = tree({"api/bad.py": "async def app(scope, receive, send):\n    raise ZeroDivisionError('oops')"})
    reply = await get(routes_app(root), "/api/bad")
    assert (reply.status_code, reply.headers["x-vercel-error"]) == (500, "FUNCTION_INVOCATION_FAILED")
    assert "oops" not in reply.text
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "ZeroDivisionError: oops" in caplog.text


def test_a_cut_response_stays_cut(tree: Tree, caplog: pytest.LogCaptureFixture) -> None:
    """An exception after the response began closes the connection, so that nobody takes a part for the whole."""
    code = """
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"8")]})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    raise ZeroDivisionError
"""
    with ThreadedServer(routes_app(tree({"api/cut.py": code}))) as server, pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{server.url}/api/cut")
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.anyio
async def test_streams_disconnects_and_background_work(tree: Tree) -> None:
    """Each part of a stream is passed on as it comes, a disconnect arrives, and work after the response is done."""
    code = """
from pathlib import Path

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while (message := await receive())["type"] == "http.request":
        await send({"type": "http.response.body", "body": message["body"], "more_body": message["more_body"]})
    (Path(__file__).parent / "afterwards").write_text(message["type"])
"""
    root = tree({"api/stream.py": code})
    parts: list[Message] = [
        {"type": "http.request", "body": b"one", "more_body": True},
        {"type": "http.request", "body": b"two", "more_body": False},
        {"type": "http.disconnect"},
    ]
    sent = await call(routes_app(root), "/api/stream", *parts, method="POST")
    assert [message.get("body") for message in sent] == [None, b"one", b"two"]
    assert (root / "api" / "afterwards").read_text() == "http.disconnect"


LIFESPAN = """
from contextlib import asynccontextmanager
from pathlib import Path
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

@asynccontextmanager
async def lifespan(app):
    log = Path(__file__).parent / "log"
    log.write_text("start")
    yield {"greeting": "hello"}
    log.write_text(log.read_text() + " stop")

async def greet(request):
    return PlainTextResponse(request.state.greeting)

app = Starlette(routes=[Route("/api/hello", greet)], lifespan=lifespan)
"""


def test_lifespans(tree: Tree) -> None:
    """A function's lifespan starts once, at its first request, passes its state on and ends with the server."""
    root = tree({"api/hello.py": LIFESPAN, "api/never.py": LIFESPAN.replace('"log"', '"never"')})
    with ThreadedServer(routes_app(root)) as server, httpx.Client(base_url=server.url) as http:
        assert not (root / "api" / "log").exists()
        assert [http.get("/api/hello").text for _ in range(2)] == ["hello", "hello"]
        assert (root / "api" / "log").read_text() == "start"
    assert (root / "api" / "log").read_text() == "start stop"
    assert not (root / "api" / "never").exists()


@pytest.mark.anyio
async def test_a_failed_lifespan_is_a_500(tree: Tree, caplog: pytest.LogCaptureFixture) -> None:
    """A function whose startup fails does not serve."""
    code = LIFESPAN.replace("    yield", "    raise OSError('no disk')\n    yield")
    assert (await get(routes_app(tree({"api/hello.py": code})), "/api/hello")).status_code == 500
    assert "no disk" in caplog.text


def test_the_client_is_the_peer(tree: Tree) -> None:
    """No platform header is added here: what a function sees of its caller is the connection's other end."""
    code = """
from starlette.responses import JSONResponse

async def app(scope, receive, send):
    names = [name.decode() for name, _ in scope["headers"]]
    await JSONResponse({"client": scope["client"][0], "headers": names})(scope, receive, send)
"""
    with ThreadedServer(routes_app(tree({"api/who.py": code}))) as server:
        seen = httpx.get(f"{server.url}/api/who").json()
    assert seen["client"] == "127.0.0.1"
    assert [name for name in seen["headers"] if name.startswith("x-")] == []
