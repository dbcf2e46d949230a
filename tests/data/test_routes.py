"""A function as a guarded route: what it costs, what it receives, who gets whose value, and what is kept."""

import asyncio
import functools
import itertools
import json
import os
import threading
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import starlette.requests
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from dev.supabase import sign_user_token
from lib import Asked, Breakwater, CacheRules, Problem
from lib.base.events import Crashed, RequestDone
from lib.data.options import MAX_BODY_BYTES
from lib.data.routes import name_of
from lib.edge.app import Endpoint
from tests.rig.callers import a_caller
from tests.rig.clock import until
from tests.rig.door import Counted, Gate, a_name, an_instance, bill, client, door, get
from tests.rig.guard import Rig
from tests.rig.supabase import SupabaseStandIn

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["rest", "tcp"])
def transport(request: pytest.FixtureRequest) -> str:
    """Redis over both."""
    return str(request.param)


def counting(bw: Breakwater, function: Any = None, **options: Any) -> tuple[Endpoint, Counted]:
    """A cached route of a function that counts its calls and returns its call's number."""
    function = function or Counted()
    return bw.route(function, **{"cache": 30, "name": a_name(), "limit": None, **options}), function


async def cost_of_the_head(rig: Rig, app: Endpoint, caller: str) -> list[tuple[int, int]]:
    """GET `/api/y`: round trips and commands until the head of its reply was out, once for each head."""
    sent = list[tuple[int, int]]()

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            sent.append(rig.cost())

    headers = [(b"x-forwarded-for", caller.encode())]
    scope = {"type": "http", "method": "GET", "path": "/api/y", "query_string": b"", "client": ("127.0.0.1", 1)}
    rig.forget_counts()
    await app({**scope, "headers": headers}, receive, send)
    return sent


# ---------------------------------------------------------------- what it costs


async def test_what_a_route_costs(rig: Rig) -> None:
    """A hit is 2 commands in 1 round trip; a miss 4 in 2 and 1 after the reply; once nothing is left, nothing."""
    app, _ = counting(door(an_instance(rig)), limit="4/minute")
    caller, found = a_caller(), list[list[int]]()
    await get(app, "/api/x", caller)
    for path in ("/api/x", "/api/y", "/api/x", "/api/x", "/api/x"):
        async with bill(rig) as spent:
            await get(app, path, caller)
        found.append(spent)
    assert found == [[2, 1], [4, 3], [2, 1], [0, 0], [0, 0]]
    assert rig.without_ttl() == []


async def test_the_reply_to_a_miss_takes_two_round_trips(rig: Rig) -> None:
    """The third one, which keeps the value, follows the reply."""
    app, _ = counting(door(an_instance(rig)), limit="9/minute")
    caller = a_caller()
    await get(app, "/api/x", caller)
    assert (await cost_of_the_head(rig, app, caller), rig.cost()) == ([(2, 3)], (3, 4))


@pytest.mark.parametrize("cache", [None, 30])
async def test_a_limit_from_the_environment_alone(rig: Rig, cache: int | None) -> None:
    """`RATELIMIT_<NAME>` is a limit of the route's own, also where its file says none."""
    bw = door(an_instance(rig, RATELIMIT_PRICES="5/minute"))
    found = [await get(bw.route(Counted(), cache=cache, name=name)) for name in ("prices", "others")]
    assert [each.headers["x-ratelimit-limit"] for each in found] == ["5", "100"]


async def test_without_a_limit(rig: Rig) -> None:
    """`limit=None`: a hit is 1 command in 1 round trip, and nobody is counted."""
    app, _ = counting(door(an_instance(rig)), limit=None, scope="shared")
    replies = [await get(app)]
    async with bill(rig) as spent:
        replies.append(await get(app))
    assert spent == [1, 1]
    for reply in replies:
        assert reply.headers["x-guard-mode"] == "off"
        assert not any(name.startswith("x-ratelimit") for name in reply.headers)
    assert rig.server.keys("rl:*") == []


async def test_without_a_cache(rig: Rig) -> None:
    """Each request is counted and calls the function, which gets the request."""
    bw, function = door(an_instance(rig)), Counted({"ok": True})
    app, caller = bw.route(function, limit="9/minute", name=a_name()), a_caller()
    await get(app, caller=caller)
    async with bill(rig) as spent:
        reply = await get(app, "/api/x?a=1", caller, x_one="1")
    assert (spent, reply.json(), function.calls) == ([2, 1], {"ok": True}, 2)
    request = function.given[-1]
    assert isinstance(request, starlette.requests.Request)
    assert (request.query_params["a"], request.headers["x-one"]) == ("1", "1")
    assert "x-cache" not in reply.headers


async def test_who_counts_by_default(rig: Rig) -> None:
    """A route that says nothing of its limit has the table's, cached or not."""
    bw = door(an_instance(rig))
    for app in (bw.route(Counted(), name=a_name()), bw.route(Counted(), cache=30, name=a_name())):
        assert (await get(app, "/api/servers/1")).headers["x-ratelimit-limit"] == "30"


# ---------------------------------------------------------------- one call for all


@pytest.mark.parametrize("number", [1, 2])
async def test_ten_callers_at_once_make_one_call(rig: Rig, number: int) -> None:
    """Of a shared route, on one instance and on two: each is counted, and the function is called once."""
    gate, name = Gate(), a_name()
    function = Counted({"disks": 3}, gate=gate)
    made = [
        counting(door(an_instance(rig)), function, scope="shared", limit="1/minute", name=name)[0]
        for _ in range(number)
    ]
    asks = asyncio.gather(*(get(made[n % number]) for n in range(10)))
    await gate.reached.wait()
    gate.open()
    replies = await asks
    assert [reply.json() for reply in replies] == [{"disks": 3}] * 10
    assert {reply.headers["x-ratelimit-remaining"] for reply in replies} == {"0"}
    assert function.calls == 1


async def test_an_error_reaches_all_who_wait(rig: Rig) -> None:
    """The function is called once; each gets a 500, with its own request's id and the headers of its limit."""
    instance, gate = an_instance(rig), Gate()
    app, function = counting(
        door(instance), Counted(error=ZeroDivisionError("secret"), gate=gate), scope="shared", limit="5/minute"
    )
    asks = asyncio.gather(*(get(app) for _ in range(10)))
    flying = instance.parts.guard.computing.leading.flights._flying
    await until(lambda: [each.followers for each in flying.values()] == [9])
    gate.open()
    replies = await asks
    assert function.calls == 1
    errors = [(reply.status_code, reply.json()["code"], reply.json()["source"]) for reply in replies]
    assert set(errors) == {(500, "internal_error", "application")}
    assert len({reply.json()["requestId"] for reply in replies}) == 10
    assert all("secret" not in reply.text and "x-ratelimit-limit" in reply.headers for reply in replies)
    assert all("ZeroDivisionError: secret" in each.traceback for each in instance.seen(Crashed))
    # The next one tries again.
    await get(app)
    assert function.calls == 2


async def gives_up() -> None:
    """Awaits a task of its own that was cancelled."""
    task = asyncio.ensure_future(asyncio.Event().wait())
    task.cancel()
    await task


FAILING = {
    "KeyError": Counted(error=KeyError("secret")),
    "TypeError": Counted({1, 2}),
    "CancelledError": Counted(gate=gives_up),
}


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("error", FAILING)
async def test_a_function_that_fails_is_named(rig: Rig, error: str, *, cached: bool) -> None:
    """Its reply does not say that Breakwater broke: it names the route; the log has the exception under that id."""
    instance = an_instance(rig)
    options: Any = {"cache": 30} if cached else {}
    reply = await get(door(instance).route(FAILING[error], name="prices", **options))
    body = reply.json()
    assert (reply.status_code, body["code"], body["source"]) == (500, "internal_error", "application")
    assert ("'prices'" in body["detail"], "Breakwater" in reply.text, "secret" in reply.text) == (True, False, False)
    (crashed,) = instance.seen(Crashed)
    assert (crashed.request_id in body["detail"], crashed.request_id) == (True, body["requestId"])
    assert error in crashed.traceback


async def test_a_problem_is_a_reply(rig: Rig) -> None:
    """A function may say what is wrong: the caller gets its code and text, and nothing is logged as a bug or kept."""
    instance = an_instance(rig)
    app, function = counting(door(instance), Counted(error=Problem("not_found", "No such server.")), limit="5/minute")
    replies = [await get(app) for _ in range(2)]
    assert [(each.status_code, each.json()["detail"]) for each in replies] == [(404, "No such server.")] * 2
    assert "x-ratelimit-limit" in replies[0].headers
    assert (function.calls, instance.seen(Crashed)) == (2, [])


async def test_a_code_that_is_none(rig: Rig) -> None:
    """A `Problem` of a code that does not exist is the function's failure: answered, logged, and counted like any."""
    instance = an_instance(rig)

    async def broken(request: object) -> object:
        raise Problem("no_such_price", "Not for sale.")

    reply = await get(door(instance).route(broken, limit="5/minute", name=a_name()))
    assert (reply.status_code, reply.json()["source"]) == (500, "application")
    assert "x-ratelimit-limit" in reply.headers
    (crashed,) = instance.seen(Crashed)
    assert "no error has the code 'no_such_price'; take one of" in crashed.traceback
    assert [each.status for each in instance.seen(RequestDone)] == [500]


ERRORS: Mapping[str, Exception] = {"a problem": Problem("not_found", "No such server."), "a bug": KeyError("secret")}


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
async def test_the_reply_to_an_error_waits_for_nothing(rig: Rig, error: Exception) -> None:
    """The lock is released after the reply, as all that follows from a request."""
    app, _ = counting(door(an_instance(rig)), Counted(error=error))
    await get(app)
    assert (await cost_of_the_head(rig, app, a_caller()), rig.cost()) == ([(2, 2)], (3, 5))
    assert rig.server.keys("lock:*") == []


# ---------------------------------------------------------------- whose value it is


async def test_one_callers_value_is_nobody_elses(rig: Rig, supabase: SupabaseStandIn) -> None:
    """`scope="caller"`, which is so without a word: a value for each user and address, with and without a limit."""
    numbers = itertools.count(1)
    address = a_caller()
    users = [f"Bearer {sign_user_token(name, supabase.jwt_secret)}" for name in ("user-one", "user-two")]
    for limit in ("99/minute", None):

        async def mine(asked: Asked) -> dict[str, object]:
            assert asked.caller is not None
            return {"number": next(numbers), "caller": asked.caller.id}

        app, _ = counting(door(an_instance(rig)), mine, limit=limit)
        callers = [(address, {}), (a_caller(), {}), *((address, {"authorization": user}) for user in users)]
        found = [
            [(await get(app, "/api/x", caller, **headers)).json() for _ in range(2)] for caller, headers in callers
        ]
        assert all(first == again for first, again in found)
        assert len({first["number"] for first, _ in found}) == len({first["caller"] for first, _ in found}) == 4


async def test_a_shared_value_is_everybodys(rig: Rig) -> None:
    """`scope="shared"`: the function does not learn who asks, so that its value cannot depend on it."""
    app, function = counting(door(an_instance(rig)), scope="shared", limit="9/minute")
    assert [(await get(app)).headers["x-cache"] for _ in range(3)] == ["MISS", "HIT", "HIT"]
    assert [each.caller for each in function.given] == [None]


async def test_scopes_never_meet(rig: Rig) -> None:
    """A route that changes its scope serves no value of before."""
    bw, name = door(an_instance(rig)), a_name()
    for scope in ("shared", "caller"):
        app, function = counting(bw, scope=scope, name=name)
        await get(app)
        assert function.calls == 1


async def test_what_a_function_receives(rig: Rig) -> None:
    """Path, segments, query in the order of names, and the headers that `vary` names."""
    app, function = counting(door(an_instance(rig)), vary=("Accept-Language", "X-Absent"))
    await get(app, "/api/servers/a%2Fb%20c?z=1&a=2&a=1&b", accept_language="ko", cookie="secret")
    (asked,) = function.given
    assert isinstance(asked, Asked)
    assert (asked.path, asked.segments) == ("/api/servers/a/b c", ("api", "servers", "a/b c"))
    assert asked.query.multi_items() == [("a", "2"), ("a", "1"), ("b", ""), ("z", "1")]
    assert asked.headers == {"accept-language": "ko", "x-absent": ""}


@pytest.mark.parametrize("vary", ["accept-language", ("Accept-Language", "x-two")], ids=str)
async def test_vary(rig: Rig, vary: Any) -> None:
    """A value for each of what the named headers say; what is not named changes nothing."""
    app, function = counting(door(an_instance(rig)), scope="shared", vary=vary)
    for language in ("ko", "en", "ko"):
        await get(app, accept_language=language, user_agent=a_name())
    await get(app)
    assert function.calls == 3


SAME: Mapping[str, tuple[str, str]] = {
    "another order": ("/x?a=1&b=2", "/x?b=2&a=1"),
    "another order around a repeated one": ("/x?a=1&b=0&a=2", "/x?b=0&a=1&a=2"),
    "encoded without need": ("/x?a=%61", "/x?a=a"),
    "a plus": ("/x?a=b+c", "/x?a=b%20c"),
    "without a value": ("/x?a", "/x?a="),
    "nothing between": ("/x?a=1&&b=2", "/x?a=1&b=2"),
    "an empty query": ("/x?", "/x"),
    "a path encoded without need": ("/%78", "/x"),
}


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME)
async def test_what_is_the_same_shares_a_value(rig: Rig, one: str, other: str) -> None:
    """Two addresses that say the same to a function have one value."""
    app, function = counting(door(an_instance(rig)), scope="shared")
    await get(app, one)
    await get(app, other)
    assert function.calls == 1


HOSTILE = [
    "/x", "/X", "/x/", "//x", "/x//", "/x%2F", "/x%252F", "/x/%2e%2f", "/x%00", "/x;a=1", "/x%3Fa=1", "/x?a=1",
    "/x?A=1", "/x?a=1&a=2", "/x?a=2&a=1", "/x?a=1,2", "/x?a=1%262", "/x?a=1%26a=2", "/x?a%3D1", "/x?a=1;a=2", "/x?=a",
    "/x?a=%00", "/x?a=%22", "/x?a=%5B%5D", "/x?a[]=1", "/x?a=%20", "/x?a=%20%20", "/x?a=%E2%80%83", "/x?a=e%CC%81",
    "/x?a=%C3%A9", "/x?a=%EF%BC%91", "/x?a=%E1%84%80", "/x?a=%EA%B0%80", "/x?a=%ED%A0%80x", "/x?a=%ED%A0%80y",
    "/x?a=null", "/x?a=%5C", "/x?a=%5Cn", "/x?a=%0A", "/x?a=%0D%0A", "/x?a&b", "/x?b=a&a", "/x?a=b&=", "/x?a=1&b=",
    "/x?caller=1", "/x?path=/y", "/y?path=/x", "/x?" + "a=1&" * 2_000 + "z", "/x?a=" + "1" * 5_000,
    "/x?a=" + "1" * 4_999 + "2",
]  # fmt: skip


async def test_hostile_addresses_never_share_a_value(rig: Rig) -> None:
    """Each has a value of its own, however alike they look: what a function sees is what its value is kept under."""

    async def seen(asked: Asked) -> object:
        return [asked.path, asked.segments, asked.query.multi_items()]

    app, _ = counting(door(an_instance(rig)), seen, scope="shared")
    first = {each: (await get(app, each)) for each in HOSTILE}
    assert {each: reply.headers["x-cache"] for each, reply in first.items()} == dict.fromkeys(HOSTILE, "MISS")
    assert len({reply.text for reply in first.values()}) == len(HOSTILE)
    for each in HOSTILE:
        again = await get(app, each)
        assert (again.headers["x-cache"], again.text) == ("HIT", first[each].text)


@pytest.mark.parametrize("raw", [b"a=\xff", b"\xed\x95\x9c=1", b"a=%zz", b"%", b"&&&", b"a=" + b"\x00" * 10])
async def test_a_query_that_is_no_query(rig: Rig, raw: bytes) -> None:
    """Whatever bytes it has, it is answered, and found again."""
    app, function = counting(door(an_instance(rig)), scope="shared")
    sent = list[Any]()

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    for _ in range(2):
        await app(
            {"type": "http", "method": "GET", "path": "/x", "query_string": raw, "headers": [], "client": None},
            receive,
            send,
        )
    assert [each["status"] for each in sent if "status" in each] == [200, 200]
    assert function.calls == 1


# ---------------------------------------------------------------- how long it is kept


async def test_stale_while_it_is_computed_anew(rig: Rig) -> None:
    """Past its time a value goes out at once; one request has it computed anew after its reply."""
    app, function = counting(door(an_instance(rig)), stale=60, scope="shared")
    function.value = "old"
    await get(app)
    rig.time.ms += 31_000
    function.value = "new"
    stale = await get(app)
    assert (stale.json(), stale.headers["x-cache"], stale.headers["age"]) == ("old", "STALE", "31")
    fresh = await get(app)
    assert (fresh.json(), fresh.headers["x-cache"]) == ("new", "HIT")
    assert function.calls == 2


async def test_stale_if_error(rig: Rig) -> None:
    """While the function fails an older value is served as long as `stale` says."""
    app, function = counting(door(an_instance(rig)), cache=CacheRules(30_000, 0, 60_000), scope="shared")
    await get(app)
    function.error = OSError("down")
    rig.time.ms += 89_999
    assert (await get(app)).headers["x-cache"] == "STALE"
    rig.time.ms += 1
    assert (await get(app)).status_code == 500


GONE: Mapping[str, Any] = {
    "a problem": Problem("not_found", "Sold."),
    "a reply": JSONResponse({"sold": True}, 404),
    "a reply that it is closed": Response(status_code=403),
}


@pytest.mark.parametrize("aged", [True, False], ids=["aging", "only if nothing else is to be had"])
@pytest.mark.parametrize("gone", GONE.values(), ids=GONE)
async def test_what_is_gone_is_not_served(rig: Rig, gone: Any, *, aged: bool) -> None:
    """A function that says so has not failed: what it said before ends with that, and is looked for no more."""
    rules = CacheRules(30_000, 60_000, 60_000) if aged else CacheRules(30_000, 0, 60_000)
    app, function = counting(door(an_instance(rig)), cache=rules, scope="shared")
    await get(app)
    rig.time.ms += 31_000
    if isinstance(gone, Exception):
        function.error = gone
    else:
        function.value = gone
    status = gone.status_code if isinstance(gone, Response) else gone.kind.status
    found = [(await get(app)).status_code for _ in range(3)]
    assert found == [200 if aged else status, status, status]
    assert rig.server.keys("v:*") == []


NOT_GONE: Mapping[str, Any] = {
    "an error": OSError("down"),
    "a reply that it failed": JSONResponse(1, 502),
    "a reply that it has no capacity": JSONResponse(1, 429),
    "a problem of a server": Problem("backend_failed", "Down."),
    "a problem of a limit": Problem("rate_limited", "Later."),
}


@pytest.mark.parametrize("failed", NOT_GONE.values(), ids=NOT_GONE)
async def test_what_failed_is_not_gone(rig: Rig, failed: Any) -> None:
    """An older value is served for its whole time."""
    app, function = counting(door(an_instance(rig)), stale=60, scope="shared")
    await get(app)
    rig.time.ms += 31_000
    if isinstance(failed, Exception):
        function.error = failed
    else:
        function.value = failed
    assert [(await get(app)).status_code for _ in range(3)] == [200] * 3


async def test_tags(rig: Rig) -> None:
    """What was computed before a tag was invalidated is not served again, on any instance."""
    one, two = door(an_instance(rig)), door(an_instance(rig))
    name = a_name()
    app, function = counting(one, tags=("servers", "disks"), scope="shared", name=name)
    other, _ = counting(two, function, tags=("servers", "disks"), scope="shared", name=name)
    for each in (app, other):
        await get(each)
    assert function.calls == 1
    await two.invalidate("disks")
    for each in (app, other):
        await get(each)
    assert function.calls == 2


async def test_invalidated_while_it_is_computed(rig: Rig) -> None:
    """Whoever asks after an invalidation gets nothing that was begun before it, on the same instance either."""
    bw, gate = door(an_instance(rig)), Gate()
    app, function = counting(bw, tags="t", scope="shared", stale=60)
    await get(app, "/other")
    function.value, function.gate = "before", gate
    begun = asyncio.ensure_future(get(app))
    await gate.reached.wait()
    await bw.invalidate("t")
    function.value, function.gate = "after", None
    assert (await get(app)).json() == "after"
    gate.open()
    await begun
    assert (await get(app)).json() == "after"


DIRECTIVES = {"no-cache": 2, "no-store": 2, "max-age=0": 1, "only-if-cached": 1, "nonsense": 1}


@pytest.mark.parametrize(("directive", "calls"), DIRECTIVES.items(), ids=DIRECTIVES)
async def test_the_requests_cache_control(rig: Rig, directive: str, calls: int) -> None:
    """It is honoured as on every route."""
    app, function = counting(door(an_instance(rig)), scope="shared")
    await get(app)
    assert (await get(app, cache_control=directive)).status_code == 200
    assert function.calls == calls


async def test_only_if_cached(rig: Rig) -> None:
    """Whoever wants a stored value only is told that there is none; the function is not called."""
    app, function = counting(door(an_instance(rig)), scope="shared")
    reply = await get(app, cache_control="only-if-cached")
    assert (reply.status_code, reply.json()["code"], function.calls) == (504, "not_cached", 0)


RESPONSES: Mapping[str, tuple[Any, int]] = {
    "a page": (lambda: Response("x", media_type="text/css", headers={"x-one": "1"}), 1),
    "bytes": (lambda: b"\xff", 1),
    "an object": (lambda: {"a": 1}, 1),
    "created": (lambda: JSONResponse(1, 201), 3),
    "not found": (lambda: JSONResponse(1, 404), 3),
    "an error": (lambda: JSONResponse(1, 500), 3),
    "a cookie": (lambda: PlainTextResponse("x", headers={"set-cookie": "a=1"}), 3),
    "too large": (lambda: "x" * 300_000, 3),
}


@pytest.mark.parametrize(("make", "calls"), RESPONSES.values(), ids=RESPONSES)
async def test_what_is_kept(rig: Rig, make: Any, calls: int) -> None:
    """A plain success is, as it was sent; errors, cookies and what is too large are given and not kept."""
    made = 0

    async def respond(asked: Asked) -> Any:
        nonlocal made
        made += 1
        return make()

    app, _ = counting(door(an_instance(rig)), respond, scope="shared")
    replies = [await get(app) for _ in range(3)]
    assert made == calls
    assert len({(each.status_code, each.content) for each in replies}) == 1
    assert len({(each.headers["content-type"], each.headers.get("x-one")) for each in replies}) == 1
    assert rig.server.keys("lock:*") == [] or calls == 1


async def test_a_cookie_is_for_one(rig: Rig) -> None:
    """Of those who wait for one value, only the request that computed it gets its cookies: all of them."""
    instance, gate = an_instance(rig), Gate()

    async def respond(asked: Asked) -> Response:
        await gate()
        response = PlainTextResponse("x")
        response.set_cookie("session", "1")
        response.set_cookie("theme", "dark")
        return response

    app, _ = counting(door(instance), respond, scope="shared")
    asks = asyncio.gather(*(get(app) for _ in range(5)))
    flying = instance.parts.guard.computing.leading.flights._flying
    await until(lambda: [each.followers for each in flying.values()] == [4])
    gate.open()
    found = [[name.partition("=")[0] for name in each.headers.get_list("set-cookie")] for each in await asks]
    assert sorted(found) == [[], [], [], [], ["session", "theme"]]


# ---------------------------------------------------------------- any function, any response


def blocking(asked: object) -> dict[str, bool]:
    """No coroutine."""
    return {"in a thread": threading.current_thread() is not threading.main_thread()}


async def not_blocking(asked: object) -> dict[str, bool]:
    """A coroutine."""
    return blocking(asked)


class AnObject:
    """An object that is called."""

    async def __call__(self, asked: object) -> dict[str, bool]:
        """A coroutine, too."""
        return blocking(asked)


FUNCTIONS: Mapping[str, tuple[Any, bool]] = {
    "a function": (blocking, True),
    "a partial function": (functools.partial(blocking), True),
    "a lambda": (lambda asked: blocking(asked), True),  # noqa: PLW0108 - it is one that is tested
    "a coroutine function": (not_blocking, False),
    "a partial coroutine function": (functools.partial(not_blocking), False),
    "a lambda of a coroutine": (lambda asked: not_blocking(asked), False),  # noqa: PLW0108 - likewise
    "an object": (AnObject(), False),
}


@pytest.mark.parametrize("cache", [None, 30])
@pytest.mark.parametrize(("function", "in_a_thread"), FUNCTIONS.values(), ids=FUNCTIONS)
async def test_any_function(rig: Rig, function: Any, in_a_thread: bool, cache: int | None) -> None:
    """One that is not async runs in a thread, cached or not, so that it stops nobody else."""
    app = door(an_instance(rig)).route(function, cache=cache, name=a_name())
    assert (await get(app)).json() == {"in a thread": in_a_thread}


async def test_slow_functions_stop_nothing_else(rig: Rig) -> None:
    """The event loop's own threads stay free: with them held, no address could be looked up, and Redis not reached."""
    loop, many = asyncio.get_running_loop(), min(32, (os.cpu_count() or 1) + 4)
    running, all_run, let_go = itertools.count(1), asyncio.Event(), threading.Event()

    def slow(asked: object) -> int:
        if next(running) == many:
            loop.call_soon_threadsafe(all_run.set)
        let_go.wait()
        return 1

    app = door(an_instance(rig)).route(slow, limit=None, name=a_name())
    asks = asyncio.gather(*(get(app) for _ in range(many)))
    try:
        async with asyncio.timeout(60):
            await all_run.wait()
            assert await loop.getaddrinfo("localhost", 80)
    finally:
        let_go.set()
    assert {each.status_code for each in await asks} == {200}


@pytest.mark.parametrize("form", ["call", "decorator"])
async def test_the_two_forms(rig: Rig, form: str) -> None:
    """`bw.route(function, ...)`, and `@bw.route(...)`."""
    bw = door(an_instance(rig))
    if form == "call":
        app = bw.route(not_blocking, limit="5/minute", cache=30)
    else:

        @bw.route(limit="5/minute", cache=30)
        async def app(asked: Asked) -> object:
            return {"in a thread": False}

    assert (await get(app)).json() == {"in a thread": False}


async def test_methods(rig: Rig) -> None:
    """GET and HEAD unless it says otherwise; a body can be read where it does."""
    bw = door(an_instance(rig))

    async def echo(request: starlette.requests.Request) -> object:
        return await request.json()

    posts, gets = bw.route(echo, methods="post", name=a_name()), bw.route(Counted(), name=a_name())
    async with client(posts) as http:
        assert (await http.post("/x", json={"a": 1})).json() == {"a": 1}
        assert (await http.get("/x")).headers["allow"] == "POST, OPTIONS"
    async with client(gets) as http:
        assert (await http.head("/x")).status_code == 200
        assert (await http.post("/x")).status_code == 405


async def in_two_chunks() -> AsyncGenerator[bytes]:
    """Nine bytes without a declared length."""
    yield b"12345"
    yield b"6789"


BODIES: dict[str, Callable[[], Any]] = {"declared": lambda: b"123456789", "in chunks": in_two_chunks}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize(("bound", "status"), [(9, 200), (8, 413), (0, 413)])
async def test_a_body_has_a_bound(rig: Rig, body: str, bound: int, status: int) -> None:
    """A body that is larger is refused before the function has all of it, counted like any other call."""
    bw = door(an_instance(rig))

    async def length(request: starlette.requests.Request) -> object:
        return len(await request.body())

    app = bw.route(length, methods="POST", limit="5/minute", max_body_bytes=bound, name=a_name())
    async with client(app) as http:
        reply = await http.post("/x", content=BODIES[body]())
    assert (reply.status_code, reply.headers["x-ratelimit-remaining"]) == (status, "4")
    if status == 413:
        assert (reply.json()["code"], reply.json()["detail"]) == ("body_too_large", f"Send at most {bound} bytes.")
    else:
        assert reply.json() == 9


async def test_a_body_is_as_large_as_vercel_takes(rig: Rig) -> None:
    """Nobody has to say a bound to have one: nothing is read beyond 4.5 MiB, wherever the route runs."""
    bw, read = door(an_instance(rig)), 0

    async def count(request: starlette.requests.Request) -> object:
        nonlocal read
        async for chunk in request.stream():
            read += len(chunk)
        return read

    async def endless() -> AsyncGenerator[bytes]:
        while True:
            yield b"x" * 65_536

    async with client(bw.route(count, methods="POST", limit=None, name=a_name())) as http:
        assert (await http.post("/x", content=endless())).json()["code"] == "body_too_large"
    assert read == MAX_BODY_BYTES


async def test_a_response_that_streams(rig: Rig) -> None:
    """Where nothing is cached a function may stream, set cookies, and leave something to be done in the background."""
    instance, done = an_instance(rig), list[str]()

    async def chunks() -> Any:
        try:
            yield "one "
            yield b"two"
        finally:
            done.append("closed")

    async def respond(request: object) -> Response:
        task = BackgroundTask(done.append, "background")
        response = StreamingResponse(chunks(), 201, {"vary": "Accept"}, "text/plain", task)
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    reply = await get(door(instance).route(respond, limit="5/minute", name=a_name()))
    assert (reply.status_code, reply.text, reply.headers["content-type"]) == (
        201,
        "one two",
        "text/plain; charset=utf-8",
    )
    assert len(reply.headers.get_list("set-cookie")) == 2
    assert reply.headers["vary"] == "Accept, Origin"
    assert reply.headers["x-ratelimit-remaining"] == "4"
    assert done == ["closed", "background"]
    assert [each.status for each in instance.seen(RequestDone)] == [201]


async def test_background_work_of_a_whole_response(rig: Rig) -> None:
    """It runs once the reply is out; what it raises is logged and changes no reply."""
    instance, done = an_instance(rig), list[str]()

    def fails() -> None:
        done.append("begun")
        raise OSError

    app = door(instance).route(lambda request: JSONResponse(1, background=BackgroundTask(fails)), name=a_name())
    assert (await get(app)).json() == 1
    assert (done, len(instance.seen(Crashed))) == (["begun"], 1)


async def test_headers_of_a_response(rig: Rig) -> None:
    """Those of the function go out, kept or computed; ours say where the value came from."""
    app, _ = counting(
        door(an_instance(rig)),
        lambda asked: JSONResponse(
            1, headers={"Cache-Control": "public, max-age=5", "X-Cache": "theirs", "ETag": '"1"'}
        ),
        scope="shared",
        limit="5/minute",
    )
    for state in ("MISS", "HIT"):
        reply = await get(app)
        assert reply.headers["cache-control"] == "public, max-age=5"
        assert (reply.headers["etag"], reply.headers["x-cache"]) == ('"1"', state)
        assert reply.headers["x-request-id"]


# ---------------------------------------------------------------- without Redis


@pytest.mark.parametrize("redis", ["away", "switched off"])
@pytest.mark.parametrize("supabase_there", [True, False])
async def test_without_redis(rig: Rig, redis: str, supabase_there: bool) -> None:
    """A data route answers: its limit is counted elsewhere, and nothing is read or kept."""
    environ: dict[str, str | None] = {"REDIS_ENABLED": "false"} if redis == "switched off" else {}
    if redis == "away":
        rig.upstash.fault("refuse")
    if not supabase_there:
        environ["SUPABASE_SERVICE_ROLE_KEY"] = None
    app, function = counting(door(an_instance(rig, **environ)), limit="8/minute", scope="shared")
    caller = a_caller()
    replies = [await get(app, caller=caller) for _ in range(9)]
    admitted = 8 if supabase_there else 2
    assert [each.status_code for each in replies] == [200] * admitted + [429] * (9 - admitted)
    assert {each.headers["x-guard-mode"] for each in replies} == {"supabase" if supabase_there else "local"}
    assert {each.headers["x-cache"] for each in replies[:admitted]} == {"BYPASS"}
    assert function.calls == admitted


async def test_ten_at_once_without_redis(rig: Rig) -> None:
    """One call for all of an instance, all the same."""
    instance, gate = an_instance(rig, REDIS_ENABLED="false"), Gate()
    app, function = counting(door(instance), Counted(gate=gate), scope="shared")
    asks = asyncio.gather(*(get(app) for _ in range(10)))
    flying = instance.parts.guard.computing.leading.flights._flying
    await until(lambda: [each.followers for each in flying.values()] == [9])
    gate.open()
    assert {reply.json() for reply in await asks} == {"value"}
    assert function.calls == 1


async def test_redis_comes_back(rig: Rig) -> None:
    """After an outage values are kept again."""
    app, function = counting(door(an_instance(rig, REDIS_COOLDOWN_MS="1")), scope="shared")
    rig.upstash.fault("refuse")
    assert (await get(app)).headers["x-cache"] == "BYPASS"
    rig.upstash.clear()
    rig.time.ms += 10_000
    found = list[str]()

    async def asked_until_it_is_kept() -> None:
        # The cool-down is over by the loop's clock, a millisecond after the failure.
        while "HIT" not in found:
            found.append((await get(app)).headers["x-cache"])

    await asyncio.wait_for(asked_until_it_is_kept(), 60)
    assert function.calls == len(found)


# ---------------------------------------------------------------- names


def somebodys() -> None:
    """A function with a name."""


NAMES: Mapping[str, tuple[Any, str]] = {
    "a function": (somebodys, "tests.data.test_routes.somebodys"),
    "a partial function": (functools.partial(functools.partial(somebodys)), "tests.data.test_routes.somebodys"),
    "a method": (AnObject().__call__, "tests.data.test_routes.AnObject.__call__"),
    "an object": (AnObject(), "tests.data.test_routes.AnObject"),
}


@pytest.mark.parametrize(("function", "name"), NAMES.values(), ids=NAMES)
def test_names(function: Any, name: str) -> None:
    """A route is named after its function's module and name, where its file does not lie below `api/`."""
    assert name_of(function) == name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/var/task/api/hello.py", "hello"),
        ("/var/task/api/servers/[id].py", "servers/[id]"),
        ("/home/me/api/project/api/a/b.py", "a/b"),
        ("/home/me/api.py", "there.hello"),
        ("/home/me/apis/hello.py", "there.hello"),
    ],
)
def test_names_of_files(path: str, name: str) -> None:
    """A Vercel function is named after its file's place, as its address is."""
    space: dict[str, Any] = {"__name__": "there"}
    exec(compile("def hello(): ...", path, "exec"), space)  # noqa: S102 - a file that is not there
    assert name_of(space["hello"]) == name


async def test_a_name_is_quoted(rig: Rig) -> None:
    """Whatever a route is called, its values lie under keys of its own."""
    bw = door(an_instance(rig))
    for name in ("a", "a:b", "a/b", "\ud55c\uae00", "*", "a b\n"):
        app, function = counting(bw, scope="shared", name=name)
        await get(app)
        assert function.calls == 1
        assert len(rig.server.keys(f"v:{quote(name, safe='')}:*".replace("*:", "[*]:"))) == 1


async def test_a_log_line_a_request(rig: Rig) -> None:
    """Each request is reported once, with what was decided."""
    instance = an_instance(rig)
    app, _ = counting(door(instance), scope="shared", limit="2/minute")
    caller = a_caller()
    for _ in range(3):
        await get(app, "/api/x", caller)
    done = instance.seen(RequestDone)
    assert [(each.decision, each.cache, each.status) for each in done] == [
        ("compute", "miss", 200),
        ("serve", "hit", 200),
        ("refuse", None, 429),
    ]
    assert {each.route for each in done} == {"/api/x"}
    assert json.dumps([str(each) for each in done]).count(caller) == 0


async def test_the_client_leaves(rig: Rig) -> None:
    """A function that nobody waits for any more is cancelled, and its lock is free for the next."""
    instance, gate, cancelled = an_instance(rig), Gate(), list[bool]()

    async def slow(asked: Asked) -> str:
        try:
            await gate()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        return "value"

    app, _ = counting(door(instance), slow, scope="shared", limit="5/minute")

    async def receive() -> Any:
        await gate.reached.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise AssertionError("nobody is there")

    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/api/x", "query_string": b"", "headers": []}
    await app(scope, receive, send)
    assert cancelled == [True]
    assert [each.status for each in instance.seen(RequestDone)] == [499]
    assert rig.without_ttl() == []
    gate.open()
    reply: httpx.Response = await get(app)
    assert (reply.json(), reply.headers["x-cache"]) == ("value", "MISS")
