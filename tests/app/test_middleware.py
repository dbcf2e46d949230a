"""The guard in front of somebody else's application: what passes, what is refused, and what is left alone."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
import starlette.requests
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from lib import Breakwater, GuardMiddleware
from lib.app.instance import Instance
from lib.base.events import Crashed, RequestDone, WouldRefuse
from lib.edge.current import current
from tests.rig.callers import a_caller
from tests.rig.clock import about_timeouts
from tests.rig.door import Counted, a_name, an_instance, bill, client, door
from tests.rig.guard import Rig

pytestmark = pytest.mark.anyio
LIMIT_HEADERS = {"x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "ratelimit", "ratelimit-policy"}


async def ok(request: starlette.requests.Request) -> Response:
    return JSONResponse({"ok": True})


async def crash(request: starlette.requests.Request) -> Response:
    raise ZeroDivisionError


async def missing(request: starlette.requests.Request) -> Response:
    raise HTTPException(404, "No such thing")


async def stream(request: starlette.requests.Request) -> Response:
    async def chunks() -> Any:
        yield b"one "
        yield b"two"

    return StreamingResponse(chunks())


async def own_headers(request: starlette.requests.Request) -> Response:
    return PlainTextResponse("x", headers={"X-RateLimit-Remaining": "theirs", "X-Request-Id": "theirs"})


ROUTES = [
    Route("/api/ok", ok, methods=["GET", "POST", "OPTIONS"]),
    Route("/api/crash", crash),
    Route("/api/missing", missing),
    Route("/api/stream", stream),
    Route("/api/own", own_headers),
    Route("/elsewhere", ok),
]


def app(bw: Breakwater, *outside: Middleware, **about: Any) -> Starlette:
    """An application of somebody's, with the guard before it; `outside`: middlewares before the guard."""
    given = {"limit": "2/minute", "paths": "/api/*", "name": a_name(), **about}
    return Starlette(routes=ROUTES, middleware=[*outside, Middleware(GuardMiddleware, breakwater=bw, **given)])


# ---------------------------------------------------------------- counting


async def test_two_pass_and_the_third_is_refused(rig: Rig) -> None:
    """With the headers of the limit on each, and a problem that says when to come back."""
    instance = an_instance(rig)
    async with client(app(door(instance))) as http:
        replies = [await http.get("/api/ok") for _ in range(4)]
    assert [each.status_code for each in replies] == [200, 200, 429, 429]
    assert [each.headers["x-ratelimit-remaining"] for each in replies] == ["1", "0", "0", "0"]
    assert all(each.headers.keys() >= LIMIT_HEADERS | {"x-guard-mode", "x-request-id"} for each in replies)
    refused = replies[2]
    assert refused.headers["content-type"] == "application/problem+json"
    assert (refused.json()["code"], refused.json()["requestId"]) == ("rate_limited", refused.headers["x-request-id"])
    assert int(refused.headers["retry-after"]) == refused.json()["retryAfter"]
    done = instance.seen(RequestDone)
    assert [(each.status, each.decision, each.reason) for each in done] == [
        (200, "none", "passed"),
        (200, "none", "passed"),
        (429, "refuse", "rate_limited:blocked"),
        (429, "refuse", "rate_limited:blocked"),
    ]


async def test_what_it_costs(rig: Rig) -> None:
    """2 commands in 1 round trip; once nothing is left, nothing. A path that is not guarded costs nothing."""
    found = list[list[int]]()
    async with client(app(door(an_instance(rig)))) as http:
        await http.get("/api/ok")
        for path in ("/api/ok", "/api/ok", "/api/ok", "/elsewhere"):
            async with bill(rig) as spent:
                await http.get(path)
            found.append(spent)
    assert found == [[2, 1], [0, 0], [0, 0], [0, 0]]


PATTERNS: Mapping[str, tuple[Any, dict[str, bool]]] = {
    "all": ("*", {"/api/ok": True, "/elsewhere": True}),
    "below a path": ("/api/*", {"/api/ok": True, "/elsewhere": False}),
    "one path": ("/elsewhere", {"/api/ok": False, "/elsewhere": True}),
    "a list": (["/api/o?", "/else*"], {"/api/ok": True, "/api/own": False, "/elsewhere": True}),
    "a tuple": (("/api/own",), {"/api/ok": False, "/api/own": True}),
    "none": ([], {"/api/ok": False, "/elsewhere": False}),
    "another case": ("/API/*", {"/api/ok": False}),
}


@pytest.mark.parametrize(("paths", "guarded"), PATTERNS.values(), ids=PATTERNS)
async def test_paths(rig: Rig, paths: Any, guarded: Mapping[str, bool]) -> None:
    """One pattern or several, as a shell has them; whatever matches none is left alone."""
    async with client(app(door(an_instance(rig)), paths=paths, limit="9/minute")) as http:
        found = {path: "x-ratelimit-limit" in (await http.get(path)).headers for path in guarded}
    assert found == guarded


MOUNTED: Mapping[str, tuple[Any, str, bool]] = {
    "as the application has it": ("/api/*", "/v1/api/ok", True),
    "as the client sent it": ("/v1/api/*", "/v1/api/ok", True),
    "another one": ("/api/*", "/v1/elsewhere", False),
    "a part of a name": ("/api/*", "/v1x/api/ok", False),
}


@pytest.mark.parametrize(("paths", "path", "guarded"), MOUNTED.values(), ids=MOUNTED)
@pytest.mark.parametrize("how", ["a server's root path", "mounted in another application"])
async def test_below_a_root_path(rig: Rig, paths: Any, path: str, how: str, *, guarded: bool) -> None:
    """A pattern fits the path as the application's own routes have it, too: none is left open by where it stands."""
    guarding = app(door(an_instance(rig)), paths=paths)
    made: Any = guarding if "server" in how else Starlette(routes=[Mount("/v1", guarding)])
    transport: Any = httpx.ASGITransport(app=made, root_path="/v1" if "server" in how else "")
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as http:
        reply = await http.get(path)
    assert ("x-ratelimit-limit" in reply.headers) == guarded


async def test_two_middlewares_have_limits_of_their_own(rig: Rig) -> None:
    """Without a name their paths name them; with the same name they share their counts."""
    bw = door(an_instance(rig))
    for name, left in (("", ["1", "4"]), ("ours", ["1", "3"])):
        both = [
            Middleware(GuardMiddleware, breakwater=bw, limit=limit, paths=path, name=name)
            for limit, path in (("2/minute", "/api/*"), ("5/minute", "/elsewhere"))
        ]
        async with client(Starlette(routes=ROUTES, middleware=both)) as http:
            replies = [await http.get(path) for path in ("/api/ok", "/elsewhere")]
        assert [each.headers["x-ratelimit-remaining"] for each in replies] == left


VARIABLES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "the paths' name": ("RATELIMIT_MIDDLEWARE_API", {"name": ""}),
    "a name": ("RATELIMIT_SHOP", {"name": "shop"}),
    "no limit in code": ("RATELIMIT_SHOP", {"name": "shop", "limit": None}),
}


@pytest.mark.parametrize(("variable", "about"), VARIABLES.values(), ids=VARIABLES)
async def test_the_environment_wins(rig: Rig, variable: str, about: dict[str, Any]) -> None:
    """`RATELIMIT_` and the middleware's name; without a name its paths name it."""
    async with client(app(door(an_instance(rig, **{variable: "7/minute"})), **about)) as http:
        assert (await http.get("/api/ok")).headers["x-ratelimit-limit"] == "7"


async def test_a_limit_has_to_be_said(rig: Rig) -> None:
    """A guard that nobody gave a limit would guard nothing; None says so on purpose."""
    made: Any = GuardMiddleware
    with pytest.raises(TypeError, match="limit"):
        made(ok, breakwater=door(an_instance(rig)))
    with pytest.raises(ValueError, match="not a limit"):
        made(ok, breakwater=door(an_instance(rig)), limit="many")
    async with client(app(door(an_instance(rig)), limit=None)) as http, bill(rig) as spent:
        assert {(await http.get("/api/ok")).status_code for _ in range(5)} == {200}
    assert spent == [0, 0]


async def test_a_dry_run(rig: Rig) -> None:
    """Everything passes; what would have been refused is an event."""
    instance = an_instance(rig)
    async with client(app(door(instance), dry_run=True, name="dry")) as http:
        assert [(await http.get("/api/ok")).status_code for _ in range(4)] == [200] * 4
    assert [(each.group, each.reason) for each in instance.seen(WouldRefuse)] == [
        ("route:dry", "blocked"),
        ("route:dry", "blocked"),
    ]


# ---------------------------------------------------------------- who calls


def by_key(scope: Scope) -> str | None:
    """The key in a header, if there is one."""
    key = dict(scope["headers"]).get(b"x-api-key")
    return key.decode() if key else None


async def by_key_later(scope: Scope) -> str | None:
    """The same for whoever looks it up."""
    await asyncio.sleep(0)
    return by_key(scope)


@pytest.mark.parametrize("caller", [by_key, by_key_later], ids=["function", "async"])
async def test_who_calls(rig: Rig, caller: Any) -> None:
    """A function of the scope may name the caller; where it names nobody, the address does."""
    made, address = app(door(an_instance(rig)), caller=caller), a_caller()
    async with client(made, address) as http:
        found = [(await http.get("/api/ok", headers=headers)).status_code for headers in [{"x-api-key": "one"}] * 3]
        found += [(await http.get("/api/ok", headers={"x-api-key": "two"})).status_code]
        found += [(await http.get("/api/ok", headers=headers)).status_code for headers in [{}, {"x-api-key": ""}, {}]]
    assert found == [200, 200, 429, 200, 200, 200, 429]
    async with client(made) as http:
        assert (await http.get("/api/ok", headers={"x-api-key": "one"})).status_code == 429


@pytest.mark.parametrize(
    ("error", "logged"),
    [
        (KeyError("secret"), "KeyError: 'secret'"),
        (asyncio.CancelledError("secret"), "CancelledError: secret"),
    ],
)
async def test_a_caller_function_that_fails(rig: Rig, error: BaseException, logged: str) -> None:
    """It is a bug of the application, which is logged: nobody passes uncounted, and nothing of it is shown."""
    instance = an_instance(rig)

    async def fails(scope: Scope) -> str:
        raise error

    async with client(app(door(instance), caller=fails)) as http:
        reply = await http.get("/api/ok")
    assert (reply.status_code, reply.json()["code"], "secret" in reply.text) == (500, "internal_error", False)
    assert (reply.json()["source"], "`caller` of the middleware" in reply.json()["detail"]) == ("application", True)
    assert logged in instance.seen(Crashed)[0].traceback


# ---------------------------------------------------------------- what the application replies


REPLIES: Mapping[str, tuple[str, str, int]] = {
    "a reply": ("GET", "/api/ok", 200),
    "HEAD": ("HEAD", "/api/ok", 200),
    "POST": ("POST", "/api/ok", 200),
    "another method": ("DELETE", "/api/ok", 405),
    "no route": ("GET", "/api/none", 404),
    "an HTTP exception": ("GET", "/api/missing", 404),
    "a stream": ("GET", "/api/stream", 200),
    "a crash": ("GET", "/api/crash", 500),
}


@pytest.mark.parametrize(("method", "path", "status"), REPLIES.values(), ids=REPLIES)
async def test_every_reply_has_the_headers(rig: Rig, method: str, path: str, status: int) -> None:
    """Whatever the application says, exceptions included; each request is reported once."""
    instance = an_instance(rig)
    async with client(app(door(instance)), raises=False) as http:
        reply = await http.request(method, path)
    assert reply.status_code == status
    assert reply.headers.keys() >= LIMIT_HEADERS
    assert [each.status for each in instance.seen(RequestDone)] == [status]
    assert rig.without_ttl() == []


async def test_a_stream_comes_as_it_is(rig: Rig) -> None:
    """Piece by piece, whatever the application sends."""
    sent = list[Any]()

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/api/stream", "query_string": b"", "headers": []}
    made = app(door(an_instance(rig)))
    await made({**scope, "client": ("127.0.0.1", 1), "http_version": "1.1"}, receive, send)
    assert [each["body"] for each in sent[1:]] == [b"one ", b"two", b""]


async def test_the_applications_own_headers_stay(rig: Rig) -> None:
    """What it says itself is not said again."""
    async with client(app(door(an_instance(rig)))) as http:
        reply = await http.get("/api/own")
    assert reply.headers.get_list("x-ratelimit-remaining") == ["theirs"]
    assert reply.headers.get_list("x-request-id") == ["theirs"]
    assert reply.headers["x-ratelimit-limit"] == "2"


@pytest.mark.parametrize("raises", [True, False])
async def test_an_exception_goes_on(rig: Rig, raises: bool) -> None:
    """Whoever looks for exceptions behind the guard (the server's log, a tracker) still sees them."""
    async with client(app(door(an_instance(rig))), raises=raises) as http:
        if raises:
            with pytest.raises(ZeroDivisionError):
                await http.get("/api/crash")
        else:
            assert (await http.get("/api/crash")).text == "Internal Server Error"


async def test_what_cancels_itself_is_no_client_that_left(rig: Rig) -> None:
    """A CancelledError that comes from the application is its failure: it goes on, and the log says so."""
    instance = an_instance(rig)

    async def gives_up(scope: Scope, receive: Receive, send: Send) -> None:
        raise asyncio.CancelledError

    made = GuardMiddleware(gives_up, breakwater=door(instance), limit="5/minute", name=a_name())
    async with client(made) as http:
        with pytest.raises(asyncio.CancelledError):
            await http.get("/api/x")
    (done,) = instance.seen(RequestDone)
    assert (done.status, done.reason) == (500, "raised CancelledError")


@pytest.mark.parametrize("key", [500, Exception])
async def test_the_applications_own_page_for_exceptions_stays(rig: Rig, key: Any) -> None:
    """Starlette sends it from outside of the guard, which leaves that to it."""

    async def page(request: object, error: Exception) -> Response:
        return JSONResponse({"sorry": type(error).__name__}, 500)

    made = app(door(an_instance(rig)))
    made.add_exception_handler(key, page)
    async with client(made, raises=False) as http:
        assert (await http.get("/api/crash")).json() == {"sorry": "ZeroDivisionError"}


async def test_around_a_whole_application(rig: Rig) -> None:
    """`GuardMiddleware(app, ...)` instead of `add_middleware`: then its pages for exceptions have the headers, too."""

    async def page(request: object, error: Exception) -> Response:
        return JSONResponse({"sorry": 1}, 500)

    inner = Starlette(routes=ROUTES, exception_handlers={Exception: page})
    made = GuardMiddleware(inner, breakwater=door(an_instance(rig)), limit="5/minute", name=a_name())
    async with client(made, raises=False) as http:
        reply = await http.get("/api/crash")
    assert reply.json() == {"sorry": 1}
    assert reply.headers.keys() >= LIMIT_HEADERS


async def test_anything_that_speaks_asgi(rig: Rig) -> None:
    """No framework at all: a bare application, one that fails included."""

    async def bare(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/fails":
            raise ZeroDivisionError
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    made = GuardMiddleware(bare, breakwater=door(an_instance(rig)), limit="5/minute", name=a_name())
    async with client(made, raises=False) as http:
        replies = [await http.get(path) for path in ("/x", "/fails")]
    assert [(each.status_code, each.headers["x-ratelimit-remaining"]) for each in replies] == [(204, "4"), (500, "3")]


@about_timeouts
async def test_after_work_joins(rig: Rig) -> None:
    """What lies behind may use the door: one round trip after the reply, whether it answers or crashes."""
    bw = door(an_instance(rig))
    await bw.cached("warm", Counted(), fresh=30)
    during = list[tuple[int, int]]()

    async def work(request: starlette.requests.Request) -> Response:
        rig.forget_counts()
        await bw.cached(f"x{request.url.path}", Counted(), fresh=30)
        await bw.limit(request.url.path, "5/minute")
        during.append(rig.cost())
        if request.url.path == "/crash":
            raise ZeroDivisionError
        return JSONResponse(await bw.cached("mine", Counted(), fresh=30, scope="caller"))

    made = Starlette(routes=[Route("/ok", work), Route("/crash", work)])
    made.add_middleware(GuardMiddleware, breakwater=bw, limit="5/minute", name=a_name())
    async with client(made, raises=False) as http:
        assert (await http.get("/ok")).json() == "value"
        assert (await http.get("/crash")).status_code == 500
        # Reading and locking a value, and counting.
        assert during[1] == (3, 4)
        # The value, and the TTL of the key that counts.
        assert rig.cost() == (4, 6)
    assert rig.without_ttl() == []
    assert [await bw.cached(f"x/{each}", Counted(error=OSError()), fresh=30) for each in ("ok", "crash")] == [
        "value"
    ] * 2


async def test_background_work_may_use_the_door(rig: Rig) -> None:
    """Starlette's background tasks run before the guard's own after-work, which takes along what they leave."""
    bw = door(an_instance(rig))

    async def later() -> None:
        await bw.cached("later", Counted(), fresh=30)

    async def work(request: starlette.requests.Request) -> Response:
        return JSONResponse(1, background=BackgroundTask(later))

    made = Starlette(routes=[Route("/", work)])
    made.add_middleware(GuardMiddleware, breakwater=bw, limit="5/minute", name=a_name())
    async with client(made) as http:
        await http.get("/")
    assert await bw.cached("later", Counted(error=OSError()), fresh=30) == "value"


async def test_behind_a_middleware_that_runs_the_application_in_a_task(rig: Rig) -> None:
    """`BaseHTTPMiddleware`, on either side of the guard: the request is still found by what it calls."""
    bw, fill = door(an_instance(rig)), Counted()

    async def unchanged(request: starlette.requests.Request, call_next: Any) -> Any:
        return await call_next(request)

    async def work(request: starlette.requests.Request) -> Response:
        return JSONResponse(await bw.cached("x", fill, fresh=30, scope="caller"))

    between = Middleware(BaseHTTPMiddleware, dispatch=unchanged)
    guard = Middleware(GuardMiddleware, breakwater=bw, limit="5/minute", name=a_name())
    async with client(Starlette(routes=[Route("/", work)], middleware=[between, guard, between])) as http:
        assert [(await http.get("/")).json() for _ in range(2)] == ["value"] * 2
    assert fill.calls == 1


# ---------------------------------------------------------------- what is left alone


@pytest.mark.parametrize("order", ["cors outside", "cors inside"])
async def test_preflights(rig: Rig, order: str) -> None:
    """A browser's question beforehand is neither counted nor refused; a refusal can be read by its page."""
    bw = door(an_instance(rig))
    cors = Middleware(CORSMiddleware, allow_origins=["https://a.example"], expose_headers=["Retry-After"])
    guard = Middleware(GuardMiddleware, breakwater=bw, limit="1/minute", name=a_name())
    made = Starlette(routes=ROUTES, middleware=[cors, guard] if order == "cors outside" else [guard, cors])
    origin = {"origin": "https://a.example"}
    async with client(made) as http:
        async with bill(rig) as spent:
            for _ in range(3):
                asked = await http.options("/api/ok", headers={**origin, "access-control-request-method": "GET"})
                assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, origin["origin"])
        assert spent == [0, 0]
        replies = [await http.get("/api/ok", headers=origin) for _ in range(2)]
    assert [each.status_code for each in replies] == [200, 429]
    if order == "cors outside":
        assert all(each.headers["access-control-allow-origin"] == origin["origin"] for each in replies)


async def test_a_plain_options_request_counts(rig: Rig) -> None:
    """It is a request as any other: the application answers it."""
    async with client(app(door(an_instance(rig)))) as http:
        assert [(await http.options("/api/ok")).status_code for _ in range(3)] == [200, 200, 429]


def test_websockets_pass(rig_environ: dict[str, str]) -> None:
    """They are neither counted nor changed."""

    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        socket = WebSocket(scope, receive, send)
        await socket.accept()
        await socket.send_text(await socket.receive_text())
        await socket.close()

    made: ASGIApp = GuardMiddleware(echo, breakwater=Breakwater.from_env(rig_environ), limit="1/minute")
    http = TestClient(made)
    for _ in range(3):
        with http.websocket_connect("/api/socket") as socket:
            socket.send_text("hello")
            assert socket.receive_text() == "hello"


@pytest.fixture
def rig_environ() -> dict[str, str]:
    """What a Breakwater is made of that asks nobody."""
    return {"REDIS_ENABLED": "false"}


def test_the_lifespan_is_the_applications(rig_environ: dict[str, str]) -> None:
    """It starts and stops as without the guard, and the ledger is flushed before it says that it has stopped."""
    order = list[str]()

    class Noting(Instance):
        async def goodbye(self) -> None:
            order.append("flushed")

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            order.append(message["type"])
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return

    made = GuardMiddleware(inner, breakwater=Breakwater(Noting(rig_environ)), limit="1/minute")
    with TestClient(made):
        pass
    assert order == ["lifespan.startup", "lifespan.shutdown", "flushed"]


# ---------------------------------------------------------------- what may be wrong around it


BAD: Mapping[str, tuple[dict[str, str], str]] = {
    "nothing": ({}, "KV_REST_API_URL: missing"),
    "half a Redis": ({"KV_REST_API_URL": "https://x"}, "KV_REST_API_TOKEN: missing"),
    "no limit": ({"REDIS_ENABLED": "false", "RATELIMIT_SHOP": "some"}, "RATELIMIT_SHOP: not a limit"),
}


@pytest.mark.parametrize(("environ", "fault"), BAD.values(), ids=BAD)
async def test_bad_settings(environ: dict[str, str], fault: str) -> None:
    """Each guarded request answers 500 with what to set, and the application is not asked; others pass."""
    made = app(Breakwater.from_env(environ), name="shop")
    async with client(made) as http:
        replies = [await http.get(path) for path in ("/api/ok", "/api/ok", "/elsewhere")]
    assert [each.status_code for each in replies] == [500, 500, 200]
    assert replies[0].headers["content-type"] == "application/problem+json"
    assert (replies[0].json()["code"], fault in replies[0].json()["detail"]) == ("misconfigured", True)
    assert replies[0].headers["x-request-id"] == replies[0].json()["requestId"]


async def test_redis_away(rig: Rig) -> None:
    """The limit holds, counted elsewhere, and the replies say by whom."""
    rig.upstash.fault("refuse")
    async with client(app(door(an_instance(rig)))) as http:
        replies = [await http.get("/api/ok") for _ in range(3)]
    assert [each.status_code for each in replies] == [200, 200, 429]
    assert {each.headers["x-guard-mode"] for each in replies} == {"supabase"}


async def test_the_client_leaves(rig: Rig) -> None:
    """A request that is cancelled is reported as one whose client left, and its key has its TTL."""
    instance, reached = an_instance(rig), asyncio.Event()

    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        reached.set()
        await asyncio.Event().wait()

    made = GuardMiddleware(waits, breakwater=door(instance), limit="5/minute", name=a_name())
    async with client(made) as http:
        task = asyncio.ensure_future(http.get("/"))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [(each.status, each.decision) for each in instance.seen(RequestDone)] == [(499, "client_left")]
    assert rig.without_ttl() == []


async def test_a_stream_that_outlasts_a_request(rig: Rig) -> None:
    """Hours into a stream the door still counts in Redis, and what is left is still sent."""
    bw, modes = door(an_instance(rig)), list[str]()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        request = current()
        assert request is not None
        request.deadline -= 86_400
        modes.append((await bw.limit(a_name(), "5/minute")).mode)
        await send({"type": "http.response.body"})

    made = GuardMiddleware(slow, breakwater=bw, limit="5/minute", name=a_name())
    async with client(made) as http:
        reply: httpx.Response = await http.get("/")
    assert (reply.status_code, modes) == (200, ["redis"])
    assert rig.without_ttl() == []
