"""Limits at the edge: every route has one, every reply says so, and wrong tokens count against their sender."""

import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.responses import JSONResponse

from dev.routes import served
from lib.base.events import Crashed, WouldRefuse
from lib.edge.app import endpoint
from lib.edge.limits import BY_GUARD, BY_TABLE, UNLIMITED, RouteLimit, route_limit
from lib.edge.problems import Problem
from lib.edge.request import Reply, Request
from lib.parts import Parts
from lib.policy import GROUPS, SIGN_INS, group_of, variable_of
from tests.rig.callers import a_caller
from tests.rig.door import a_name, an_instance, bill, client, door, get
from tests.rig.guard import Rig
from tests.rig.instance import Built, apps

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
AI = "/api/ai/supervisor"
JSON = {"content-type": "application/json"}
LIMIT_HEADERS = {
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "ratelimit",
    "ratelimit-policy",
    "x-guard-mode",
}


@pytest.fixture(params=["rest", "tcp"])
def transport(request: pytest.FixtureRequest) -> str:
    """Redis over both."""
    return str(request.param)


async def fine(request: Request, parts: Parts) -> Reply:
    return Reply(200, b"{}")


# ---------------------------------------------------------------- the table

ROW = re.compile(r"^\| [^|]*`/api/[^|]+ \| ([^|]+) \| `(RATELIMIT_\w+)` \|$", re.M)
PATHS = {
    "RATELIMIT_AI_SUPERVISOR": [AI],
    "RATELIMIT_AI": ["/api/ai/other", "/api/ai/a/b", "/api/v1/chat/completions"],
    "RATELIMIT_SERVERS": ["/api/servers", "/api/servers/web-1", "/api/servers/web-1/cpu"],
    "RATELIMIT_DATA": ["/api/data", "/api/cache/menu/1", "/api/rankings/demo/kim"],
    "RATELIMIT_API": ["/api/new", "/api/cache", "/api/ai", "/api/v1", "/api/serversx", "/api/AI/other", "/elsewhere"],
}
"""Paths that each row of the documents' table is about."""


@pytest.mark.parametrize("page", ["README.md", "docs/api.md"])
def test_the_table_of_the_documents_is_the_one_that_holds(page: str) -> None:
    """The words of the documents for each limit are those of the code."""
    rows = ROW.findall((ROOT / page).read_text())
    written = {variable: limit.replace(" a ", "/").replace(", ", ",") for limit, variable in rows}
    assert written == {group.variable: group.default for group in GROUPS}


@pytest.mark.parametrize(
    ("variable", "path"), [(variable, path) for variable, paths in PATHS.items() for path in paths]
)
async def test_a_new_file_is_limited_by_the_table(rig: Rig, variable: str, path: str) -> None:
    """A route that says nothing of its limit has the one of its path."""
    app = endpoint(Built(an_instance(rig).parts), get=fine)
    tightest = {group.variable: group.default for group in GROUPS}[variable].partition("/")[0]
    caller = a_caller()
    replies = [await get(app, path, caller) for _ in range(2)]
    assert [reply.headers["x-ratelimit-limit"] for reply in replies] == [tightest] * 2
    assert [int(tightest) - int(reply.headers["x-ratelimit-remaining"]) for reply in replies] == [1, 2]


async def test_a_new_file_refuses_the_hundred_and_first(rig: Rig) -> None:
    """`endpoint(instance, get=...)` and nothing else: 100 a minute, then 429 without a command, from the first on."""
    app, caller = endpoint(Built(an_instance(rig).parts), get=fine), a_caller()
    async with client(app, caller) as http:
        assert {(await http.get("/api/new")).status_code for _ in range(100)} == {200}
        async with bill(rig) as blocked:
            assert [(await http.get("/api/new")).status_code for _ in range(2)] == [429, 429]
    assert blocked == [0, 0]


async def test_a_request_costs_two_commands(rig: Rig) -> None:
    """A route that only counts takes one round trip; the caller's first call sets the TTL of its key afterwards."""
    app, caller = endpoint(Built(an_instance(rig).parts), get=fine), a_caller()
    async with bill(rig) as first:
        await get(app, "/api/new", caller)
    async with bill(rig) as next_one:
        await get(app, "/api/new", caller)
    assert (first, next_one) == ([3, 2], [2, 1])


UNLIMITED_PATHS = {"/api/health", "/api/cron/daily", "/api/admin", "/api/metrics", "/api/ai/supervisor/[id]/stream"}
UNLIMITED_PATHS |= {"/api/overview", "/api/history", "/api/activity", "/api/cache/invalidate", "/api/cache/stats"}
"""Health is polled, and so is the stream to resume; the others take a token, and only a wrong one counts."""


@pytest.mark.parametrize("path", sorted(served(ROOT)))
async def test_our_routes(rig: Rig, path: str) -> None:
    """Each route of this project is limited, unless its own file says that it is not."""
    app: Any = apps(an_instance(rig).parts)[path]
    assert app.limit.limited is (path not in UNLIMITED_PATHS)


@pytest.mark.parametrize("path", ["/api/health", "/api/cron/daily"])
async def test_what_is_not_limited_costs_nothing(rig: Rig, path: str) -> None:
    """Health and the daily job are never refused, and no caller's count is kept."""
    instance, caller = an_instance(rig, RATELIMIT_API="1/minute", CRON_SECRET="c" * 20), a_caller()
    headers = {"x-forwarded-for": caller, "authorization": "Bearer " + "c" * 20}
    for _ in range(3):
        reply = await instance.http.get(path, headers=headers)
        assert reply.status_code == 200
        assert not any(name.startswith("x-ratelimit") for name in reply.headers)
    assert rig.server.keys("rl:*") == []


# ---------------------------------------------------------------- a limit of its own


async def test_a_limit_of_its_own_counts_under_its_own_name(rig: Rig) -> None:
    """What a route with its own limit uses up is used up nowhere else, and the other way round."""
    built, caller = Built(an_instance(rig).parts), a_caller()
    apps_by_name = {name: endpoint(built, get=fine, limit=route_limit("2/minute", name)) for name in ("one", "two")}
    table = endpoint(built, get=fine)
    for name in ("one", "two"):
        found = [(await get(apps_by_name[name], "/api/x", caller)).status_code for _ in range(3)]
        assert found == [200, 200, 429]
    assert (await get(table, "/api/x", caller)).headers["x-ratelimit-remaining"] == "99"


@pytest.mark.parametrize("name", ["servers", "api", "ai", "ai/supervisor", "sign-in", "limit", "health"])
async def test_a_name_of_the_table_is_another_group(rig: Rig, name: str) -> None:
    """A route that is called like a group of the table does not share that group's counts."""
    instance, caller = an_instance(rig, ADMIN_TOKEN="a" * 20), a_caller()
    built = Built(instance.parts)
    await get(endpoint(built, get=fine), "/api/servers/web-1", caller)
    await get(endpoint(built, get=fine), "/api/x", caller)
    await instance.http.get("/api/metrics", headers={"x-forwarded-for": caller, "authorization": "Bearer wrong"})
    own = endpoint(built, get=fine, limit=route_limit("20/minute,100/day", name))
    assert (await get(own, "/api/x", caller)).headers["x-ratelimit-remaining"] == "19"


NAMES = {
    "a file": ("hello", "RATELIMIT_HELLO"),
    "a file in a folder": ("reports/daily", "RATELIMIT_REPORTS_DAILY"),
    "a segment": ("servers/[id]", "RATELIMIT_SERVERS_ID"),
    "a module": ("shop.main.list_items", "RATELIMIT_SHOP_MAIN_LIST_ITEMS"),
    "a middleware": ("middleware/api/*", "RATELIMIT_MIDDLEWARE_API"),
    "every path": ("middleware/*", "RATELIMIT_MIDDLEWARE"),
    "a group's name": ("servers", "RATELIMIT_SERVERS"),
}


@pytest.mark.parametrize(("name", "variable"), NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("code", ["5/minute", None])
async def test_the_environment_wins_over_code(rig: Rig, name: str, variable: str, code: str | None) -> None:
    """`RATELIMIT_<NAME>` sets the limit of a route whatever its file says, also where that says None."""
    assert variable_of(name) == variable
    built = Built(an_instance(rig, **{variable: "3/minute"}).parts)
    app = endpoint(built, get=fine, limit=route_limit(code, name))
    assert (await get(app)).headers["x-ratelimit-limit"] == "3"


async def test_the_environment_may_switch_a_limit_off(rig: Rig) -> None:
    """`off`: nobody is counted, and no command is sent."""
    app = endpoint(
        Built(an_instance(rig, RATELIMIT_HELLO="off").parts), get=fine, limit=route_limit("1/minute", "hello")
    )
    async with bill(rig) as spent:
        for _ in range(3):
            reply = await get(app)
            assert (reply.status_code, "x-ratelimit-limit" in reply.headers) == (200, False)
    assert spent == [0, 0]


async def test_a_variable_that_is_no_limit(rig: Rig) -> None:
    """It is the fault of the route that is named so; no other route minds other software's variables."""
    built = Built(an_instance(rig, RATELIMIT_ENABLED="true", RATELIMIT_STORAGE_URI="redis://elsewhere").parts)
    named = await get(endpoint(built, get=fine, limit=route_limit("5/minute", "enabled")))
    assert (named.status_code, named.json()["code"]) == (500, "misconfigured")
    assert "RATELIMIT_ENABLED: not a limit" in named.json()["detail"]
    assert (await get(endpoint(built, get=fine))).status_code == 200


# ---------------------------------------------------------------- the headers, on every reply


async def crash(request: Request, parts: Parts) -> Reply:
    raise ZeroDivisionError


async def unavailable(request: Request, parts: Parts) -> Reply:
    raise Problem("store_unavailable", "No.", 5)


async def streamed(request: Request, parts: Parts) -> Reply:
    async def pieces() -> Any:
        yield b"one"
        yield b"two"

    return Reply(200, pieces())


QUESTION = b'{"query":"q","sessionId":"s"}'
AI_REPLIES: Mapping[str, tuple[str, bytes, Mapping[str, str], int]] = {
    "answered": ("POST", QUESTION, JSON, 200),
    "streamed": ("POST", QUESTION, {**JSON, "accept": "text/event-stream"}, 200),
    "no JSON": ("POST", b"{", JSON, 400),
    "another method": ("GET", b"", {}, 405),
    "HEAD": ("HEAD", b"", {}, 405),
    "too large": ("POST", b" " * 65_537, JSON, 413),
    "no media type": ("POST", b"{}", {}, 415),
    "an unknown field": ("POST", b'{"que":1}', JSON, 422),
    "not in the cache": ("POST", QUESTION, {**JSON, "cache-control": "only-if-cached"}, 504),
}


@pytest.mark.parametrize(("method", "body", "headers", "status"), AI_REPLIES.values(), ids=AI_REPLIES)
async def test_every_reply_of_a_guarded_route_has_the_headers(
    rig: Rig, method: str, body: bytes, headers: Mapping[str, str], status: int
) -> None:
    """Failures as well as answers, each counted once."""
    app, caller = apps(an_instance(rig).parts)[AI], a_caller()
    async with client(app, caller) as http:
        for left in ("9", "8"):
            reply = await http.request(method, AI, content=body, headers=headers)
            assert reply.status_code == status
            assert reply.headers.keys() >= LIMIT_HEADERS
            assert reply.headers["x-ratelimit-remaining"] == left


FAILING: Mapping[str, tuple[Mapping[str, object], int]] = {
    "rejected": ({"status": 400}, 422),
    "failed": ({"status": 500}, 502),
    "throttled": ({"status": 429, "headers": {"retry-after": "7"}}, 503),
    "unauthorized": ({"status": 401}, 502),
}


@pytest.mark.parametrize(("backend", "status"), FAILING.values(), ids=FAILING)
async def test_a_failing_backend_leaves_the_headers(rig: Rig, backend: Mapping[str, Any], status: int) -> None:
    """502, 503 and the like say what is left, as an answer does."""
    rig.script.reset(**backend)
    reply = await an_instance(rig).ask()
    assert reply.status_code == status
    assert reply.headers.keys() >= LIMIT_HEADERS


async def test_an_open_circuit_leaves_the_headers(rig: Rig) -> None:
    """503 `circuit_open` says what is left, too."""
    instance = an_instance(rig, BREAKER_FAILURES="1")
    rig.script.reset(status=500)
    await instance.ask()
    reply = await instance.ask()
    assert (reply.status_code, reply.json()["code"]) == (503, "circuit_open")
    assert reply.headers.keys() >= LIMIT_HEADERS


HANDLERS: Mapping[str, tuple[str, Any, int]] = {
    "answered": ("GET", fine, 200),
    "HEAD": ("HEAD", fine, 200),
    "streamed": ("GET", streamed, 200),
    "a problem": ("GET", unavailable, 503),
    "a bug": ("GET", crash, 500),
    "another method": ("DELETE", fine, 405),
}


@pytest.mark.parametrize(("method", "handler", "status"), HANDLERS.values(), ids=HANDLERS)
async def test_every_reply_of_a_plain_route_has_the_headers(
    rig: Rig, method: str, handler: Callable[[Request, Parts], Awaitable[Reply]], status: int
) -> None:
    """Whatever the handler does; and once it is over the limit, 429 with `Retry-After`."""
    limit, caller = route_limit("1/minute", a_name()), a_caller()
    async with client(endpoint(Built(an_instance(rig).parts), get=handler, limit=limit), caller) as http:
        first, second, third = [await http.request(method, "/api/x") for _ in range(3)]
    assert [first.status_code, second.status_code, third.status_code] == [status, 429, 429]
    for reply in (first, second, third):
        assert reply.headers.keys() >= LIMIT_HEADERS
    assert int(second.headers["retry-after"]) == int(third.headers["retry-after"]) > 0


@pytest.mark.parametrize("mode", ["redis", "supabase", "local"])
async def test_who_counts_is_said(rig: Rig, mode: str) -> None:
    """The headers are there whoever counts, and name it."""
    environ: dict[str, str | None] = {} if mode == "redis" else {"REDIS_ENABLED": "false"}
    if mode == "local":
        environ |= {"SUPABASE_SERVICE_ROLE_KEY": None}
    reply = await get(endpoint(Built(an_instance(rig, **environ).parts), get=fine))
    assert reply.headers.keys() >= LIMIT_HEADERS
    assert reply.headers["x-guard-mode"] == mode


async def test_options_is_not_counted(rig: Rig) -> None:
    """Neither a preflight, whether its origin is allowed or not, nor the plain question which methods there are."""
    instance = an_instance(rig, ALLOWED_ORIGINS="https://app.example")
    app, caller = endpoint(Built(instance.parts), get=fine, limit=route_limit("1/minute", a_name())), a_caller()
    async with client(app, caller) as http, bill(rig) as spent:
        for origin in ("https://app.example", "https://evil.example"):
            headers = {"origin": origin, "access-control-request-method": "GET"}
            assert (await http.options("/api/x", headers=headers)).status_code == (200 if "app" in origin else 403)
        assert (await http.options("/api/x")).status_code == 204
    assert spent == [0, 0]
    assert (await get(app, "/api/x", caller)).status_code == 200


# ---------------------------------------------------------------- malformed requests


async def test_malformed_requests_are_no_way_around_a_limit(rig: Rig) -> None:
    """They count, are refused after the limit like all others, and then cost nothing."""
    app, caller = apps(an_instance(rig).parts)[AI], a_caller()
    async with client(app, caller) as http:
        found = [(await http.post(AI, content=b"{", headers=JSON)).status_code for _ in range(10)]
        async with bill(rig) as blocked:
            found += [(await http.post(AI, content=body, headers=JSON)).status_code for body in (b"{", b"{", QUESTION)]
    assert found == [400] * 10 + [429] * 3
    assert blocked == [0, 0]


# ---------------------------------------------------------------- wrong tokens

TOKENS = {"ADMIN_TOKEN": "the-admin-token-of-this-test", "CRON_SECRET": "the-cron-secret-of-this-test"}
CLOSED: Mapping[str, tuple[str, str, str]] = {
    "admin": ("POST", "/api/admin", "the-admin-token-of-this-test"),
    "metrics": ("GET", "/api/metrics", "the-admin-token-of-this-test"),
    "overview": ("GET", "/api/overview", "the-admin-token-of-this-test"),
    "cron": ("GET", "/api/cron/daily", "the-cron-secret-of-this-test"),
}


async def send(rig_http: httpx.AsyncClient, method: str, path: str, caller: str, token: str) -> httpx.Response:
    headers = {"x-forwarded-for": caller, **({"authorization": f"Bearer {token}"} if token else {})}
    body = {"action": "invalidate", "scope": "everything"} if method == "POST" else None
    return await rig_http.request(method, path, json=body, headers=headers)


@pytest.mark.parametrize(("method", "path", "token"), CLOSED.values(), ids=CLOSED)
async def test_wrong_tokens_count(rig: Rig, method: str, path: str, token: str) -> None:
    """20 a minute an address, then 429 without any command; a right token passes and counts nothing. CASE 36."""
    instance, caller = an_instance(rig, **TOKENS), a_caller()
    replies = [await send(instance.http, method, path, caller, f"wrong-{n}") for n in range(20)]
    assert [reply.status_code for reply in replies] == [401] * 20
    assert [int(reply.headers["x-ratelimit-remaining"]) for reply in replies] == list(range(19, -1, -1))
    assert (await send(instance.http, method, path, caller, "wrong")).status_code == 429
    async with bill(rig) as blocked:
        reply = await send(instance.http, method, path, caller, "wrong")
    assert (reply.status_code, reply.json()["code"], blocked) == (429, "rate_limited", [0, 0])
    assert int(reply.headers["retry-after"]) > 0
    assert (await send(instance.http, method, path, caller, token)).status_code == 200
    assert (await send(instance.http, method, path, a_caller(), "wrong")).status_code == 401


async def test_wrong_tokens_of_all_routes_count_together(rig: Rig) -> None:
    """An address has one allowance for guessing, whichever token it guesses, on whichever instance."""
    instances, caller = [an_instance(rig, **TOKENS) for _ in range(2)], a_caller()
    asks = [(each, method, path) for _ in range(3) for each in instances for method, path, _ in CLOSED.values()]
    found = [(await send(each.http, method, path, caller, "wrong")).status_code for each, method, path in asks]
    assert found == [401] * 20 + [429] * 4


async def test_a_day_of_guessing(rig: Rig) -> None:
    """100 a day: whoever guesses slowly is stopped as well."""
    instance, caller, found = an_instance(rig, **TOKENS), a_caller(), list[int]()
    for _ in range(6):
        found += [(await send(instance.http, "GET", "/api/metrics", caller, "wrong")).status_code for _ in range(20)]
        rig.time.ms += 70_000
    assert found == [401] * 100 + [429] * 20


@pytest.mark.parametrize("view", ["2026-11-20.0000", "wrong", "\ud55c\uae00"])
async def test_wrong_view_keys_count(rig: Rig, view: str) -> None:
    """A key of the overview is a token as well."""
    instance, caller = an_instance(rig, **TOKENS), a_caller()
    ask = {"params": {"view": view}, "headers": {"x-forwarded-for": caller}}
    found = [(await instance.http.get("/api/overview", **ask)).status_code for _ in range(21)]  # type: ignore[arg-type]
    assert found == [401] * 20 + [429]


@pytest.mark.parametrize(("method", "path", "token"), CLOSED.values(), ids=CLOSED)
@pytest.mark.parametrize("sent", ["none", "empty view"])
async def test_no_token_costs_nothing(rig: Rig, method: str, path: str, token: str, sent: str) -> None:
    """Whoever sends none guesses nothing: a stranger, a page that was opened without its key."""
    instance, caller = an_instance(rig, **TOKENS), a_caller()
    path = path + "?view=" if sent == "empty view" else path
    async with bill(rig) as spent:
        found = {(await send(instance.http, method, path, caller, "")).status_code for _ in range(25)}
    assert (found, spent) == ({401}, [0, 0])
    assert (await send(instance.http, method, path, caller, token)).status_code == 200


async def test_a_right_token_is_never_counted(rig: Rig) -> None:
    """However often it comes, no caller's count is kept, and what the route itself reads is all that it costs."""
    instance, caller = an_instance(rig, **TOKENS), a_caller()
    for _ in range(25):
        reply = await send(instance.http, "GET", "/api/metrics", caller, "the-admin-token-of-this-test")
        assert reply.status_code == 200
        assert "x-ratelimit-limit" not in reply.headers
    assert rig.server.keys("rl:*") == []


async def test_a_closed_route_counts_nothing(rig: Rig) -> None:
    """Where no token is configured there is nothing to guess."""
    instance, caller = an_instance(rig), a_caller()
    async with bill(rig) as spent:
        found = {(await send(instance.http, "GET", "/api/metrics", caller, "guess")).status_code for _ in range(25)}
    assert (found, spent) == ({403}, [0, 0])


async def test_a_reset_frees_the_sign_ins_of_an_address(rig: Rig) -> None:
    """`POST /api/admin` with `reset`: whoever mistyped the token may try again at once."""
    instance, caller = an_instance(rig, **TOKENS), a_caller()
    for _ in range(21):
        last = await send(instance.http, "GET", "/api/metrics", caller, "wrong")
    assert last.status_code == 429
    headers = {"authorization": f"Bearer {TOKENS['ADMIN_TOKEN']}", "x-forwarded-for": caller}
    reset = await instance.http.post("/api/admin", json={"action": "reset", "address": caller}, headers=headers)
    assert reset.status_code == 200
    again = await send(instance.http, "GET", "/api/metrics", caller, "wrong")
    assert (again.status_code, again.headers["x-ratelimit-remaining"]) == (401, "19")


async def test_sign_ins_are_counted_elsewhere_while_redis_is_out(rig: Rig) -> None:
    """Guessing is limited in an outage, too."""
    rig.upstash.fault("refuse")
    instance, caller = an_instance(rig, **TOKENS), a_caller()
    found = [(await send(instance.http, "GET", "/api/metrics", caller, "wrong")).status_code for _ in range(21)]
    assert found == [401] * 20 + [429]


def test_the_limit_of_sign_ins() -> None:
    """20 a minute and 100 a day."""
    assert [(each.limit, each.name) for each in SIGN_INS.layout.windows] == [(20, "minute"), (100, "day")]


# ---------------------------------------------------------------- dry runs

DRY: Mapping[str, RouteLimit] = {
    "the table's limit": RouteLimit(dry_run=True),
    "a limit of its own": route_limit("2/minute", "dry", dry_run=True),
}


@pytest.mark.parametrize("limit", DRY.values(), ids=DRY)
async def test_a_dry_run_refuses_nothing(rig: Rig, limit: RouteLimit) -> None:
    """What would have been refused passes, is logged with the caller's hash, and counted in the ledger."""
    instance, caller = an_instance(rig, RATELIMIT_API="2/minute"), a_caller()
    app = endpoint(Built(instance.parts), get=fine, limit=limit)
    replies = [await get(app, "/api/x", caller) for _ in range(5)]
    assert [reply.status_code for reply in replies] == [200] * 5
    assert [reply.headers["x-ratelimit-remaining"] for reply in replies] == ["1", "0", "0", "0", "0"]
    refused = instance.seen(WouldRefuse)
    assert [each.reason for each in refused] == ["blocked"] * 3
    assert {each.group for each in refused} == {"api" if limit.layout is None else "route:dry"}
    assert all(each.caller and caller not in str(each) for each in refused)
    totals, _ = instance.parts.ledger._pending.at(rig.time.ms)
    assert totals["refusals", "dry_run"] == 3
    assert instance.seen(Crashed) == []


async def test_a_dry_run_of_a_cached_route_keeps_its_headers(rig: Rig) -> None:
    """It is counted apart from what the cache is read with: what that says of nobody does not hide it."""
    instance, caller = an_instance(rig), a_caller()
    app = door(instance).route(lambda asked: JSONResponse(1), limit="1/minute", cache=60, name=a_name(), dry_run=True)
    replies = [await get(app, "/api/x", caller) for _ in range(3)]
    assert [reply.status_code for reply in replies] == [200] * 3
    assert [reply.headers["x-ratelimit-remaining"] for reply in replies] == ["0", "0", "0"]
    assert {reply.headers["x-guard-mode"] for reply in replies} == {"redis"}
    assert [reply.headers["x-cache"] for reply in replies] == ["MISS", "HIT", "HIT"]
    assert len(instance.seen(WouldRefuse)) == 2


def test_what_a_file_need_not_say() -> None:
    """The three ways to be limited differ in one word each."""
    assert (BY_TABLE.limited, BY_TABLE.by_guard, BY_TABLE.layout) == (True, False, None)
    assert (BY_GUARD.limited, BY_GUARD.by_guard, BY_GUARD.layout) == (True, True, None)
    assert UNLIMITED.limited is False
    assert group_of("/api/hello").variable == "RATELIMIT_API"
