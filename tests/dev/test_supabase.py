"""The local Supabase, spoken to by Supabase's own clients."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import jwt
import psycopg
import pytest
from postgrest import APIError, AsyncPostgrestClient

import supabase
from dev.faults import Faults
from dev.postgres import Postgres
from dev.serve import ThreadedServer
from dev.supabase import SigningKey, sign_user_token, supabase_app

SERVICE_KEY = "sb_secret_local"
ANON_KEY = "sb_publishable_local"
JWT_SECRET = "a secret of at least thirty-two bytes"
SIGNING_KEY = SigningKey.generate("current")
OLD_SIGNING_KEY = SigningKey.generate("previous")

MINUTE_MS = 60_000
NOON_MS = 1_763_553_600_000
WINDOWS = [
    {"window_ms": MINUTE_MS, "bucket_ms": 2_000, "limit": 10},
    {"window_ms": 86_400_000, "bucket_ms": 1_800_000, "limit": 100},
]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with TemporaryDirectory(prefix="breakwater-") as directory, Postgres.start(Path(directory) / "data") as server:
        yield server


def stand_in(postgres: Postgres) -> ThreadedServer:
    return ThreadedServer(
        supabase_app(
            postgres.uri,
            service_key=SERVICE_KEY,
            anon_key=ANON_KEY,
            jwt_secret=JWT_SECRET,
            signing_keys=(SIGNING_KEY, OLD_SIGNING_KEY),
        )
    )


@pytest.fixture(scope="module")
def url(postgres: Postgres) -> Iterator[str]:
    with stand_in(postgres) as server:
        yield server.url


def arguments(subject: str, **changed: Any) -> dict[str, Any]:
    return {
        "p_subject": subject,
        "p_windows": WINDOWS,
        "p_cost": 1,
        "p_now_ms": NOON_MS,
        "p_skew_ms": 1_000,
        **changed,
    }


def headers(key: str = SERVICE_KEY, bearer: str | None = None) -> dict[str, str]:
    return {"apikey": key, **({"Authorization": f"Bearer {bearer}"} if bearer else {})}


def ask[T](url: str, using: Callable[[AsyncPostgrestClient], Coroutine[Any, Any, T]], key: str = SERVICE_KEY) -> T:
    """Run `using` with a client of its own, as a function on a platform does."""

    async def run() -> T:
        async with httpx.AsyncClient(timeout=20) as http:
            return await using(AsyncPostgrestClient(f"{url}/rest/v1", headers=headers(key), http_client=http))

    return asyncio.run(run())


def rpc(client: AsyncPostgrestClient, function: str, named: dict[str, Any]) -> Awaitable[Any]:
    return client.rpc(function, named).execute()


def post(url: str, function: str = "breakwater_spend", *, headers: dict[str, str], **body: Any) -> httpx.Response:
    return httpx.post(f"{url}/rest/v1/rpc/{function}", headers=headers, **body)


def error(response: httpx.Response) -> tuple[int, str]:
    """Status and code of an error that has exactly PostgREST's four fields."""
    body = response.json()
    assert set(body) == {"code", "details", "hint", "message"}
    assert body["message"]
    return response.status_code, body["code"]


def test_the_asynchronous_client_spends_and_resets(url: str) -> None:
    """One caller's life through postgrest's client, replies as the functions return them."""

    async def life(client: AsyncPostgrestClient) -> None:
        floor = [{"window_ms": MINUTE_MS, "buckets": [[NOON_MS, 4]]}]
        spent = await rpc(client, "breakwater_spend", arguments("life", p_cost=2, p_floor=floor))
        two = [[NOON_MS, 2]]
        day = {"window_ms": 86_400_000, "buckets": two, "spent": two}
        minute = {"window_ms": MINUTE_MS, "buckets": [[NOON_MS, 6]], "spent": two}
        assert spent.data == {"allowed": True, "windows": [minute, day]}
        reset = await rpc(client, "breakwater_reset", {"p_subject": "life"})
        assert reset.data == 2

    ask(url, life)


def test_the_synchronous_client_speaks_to_it(postgres: Postgres) -> None:
    """`supabase.create_client(...).rpc(...)`: with a key that is a token, and refused with one that is none.

    It sends its key as a bearer token as well, whatever kind of key it is (supabase-py#1228).
    """
    key = jwt.encode({"role": "service_role"}, JWT_SECRET, "HS256")
    app = supabase_app(postgres.uri, service_key=key, anon_key=ANON_KEY, jwt_secret=JWT_SECRET)
    # With an HTTP client of ours: for its own, supabase passes parameters that postgrest warns of as deprecated.
    with ThreadedServer(app) as served, httpx.Client() as http:
        client = supabase.create_client(served.url, key, supabase.ClientOptions(httpx_client=http))
        reply: Any = client.rpc("breakwater_spend", arguments("synchronous")).execute()
        assert reply.data["allowed"] is True
        client = supabase.create_client(served.url, ANON_KEY, supabase.ClientOptions(httpx_client=http))
        with pytest.raises(APIError, match="Expected 3 parts in JWT; got 1"):
            client.rpc("breakwater_spend", arguments("synchronous")).execute()


def test_a_hundred_calls_at_once_admit_ten(url: str) -> None:
    """One caller, one client, 100 requests in flight: exactly 10."""

    async def hundred(client: AsyncPostgrestClient) -> list[Any]:
        calls = (rpc(client, "breakwater_spend", arguments("hundred")) for _ in range(100))
        return await asyncio.gather(*calls)

    assert sum(reply.data["allowed"] for reply in ask(url, hundred)) == 10


@pytest.mark.parametrize("subject", ["o'brien'; --", '{"a": 1}', "한국어", "%s \\ \n", "😀"])
def test_a_hostile_subject_arrives_as_it_is(url: str, postgres: Postgres, subject: str) -> None:
    """What JSON can say reaches the table unchanged."""
    ask(url, lambda client: client.rpc("breakwater_spend", arguments(subject)).execute())
    with psycopg.connect(postgres.uri) as owner:
        found = owner.execute("select count(*) from public.breakwater_windows where subject = %s", (subject,))
        assert found.fetchone() == (2,)


def test_the_clients_error_names_the_argument(url: str) -> None:
    """A bad argument surfaces as an APIError with PostgreSQL's code and the function's message."""
    with pytest.raises(APIError) as caught:
        ask(url, lambda client: client.rpc("breakwater_spend", arguments("bad", p_cost=-1)).execute())
    assert (caught.value.code, caught.value.message) == ("22023", "p_cost: 0 to 1000000, got -1")


USER = "00000000-0000-4000-8000-000000000001"
OTHER_KEY = SigningKey.generate("current")
SERVICE_TOKEN = sign_user_token(USER, JWT_SECRET, role="service_role")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(headers(), 200, id="the secret key"),
        pytest.param(headers(SERVICE_KEY, SERVICE_KEY), (401, "PGRST301"), id="the secret key as a bearer, too"),
        pytest.param(headers(ANON_KEY, SERVICE_KEY), (401, "PGRST301"), id="the secret key as a bearer only"),
        pytest.param(headers(ANON_KEY, ANON_KEY), (401, "PGRST301"), id="the publishable key as a bearer, too"),
        pytest.param(headers(SERVICE_KEY, ANON_KEY), (401, "PGRST301"), id="the publishable key as a bearer"),
        pytest.param(headers(ANON_KEY, SERVICE_TOKEN), 200, id="a service token"),
        pytest.param(headers(ANON_KEY), (401, "42501"), id="anon"),
        pytest.param(headers(ANON_KEY, sign_user_token(USER, JWT_SECRET)), (403, "42501"), id="user, HS256"),
        pytest.param(headers(ANON_KEY, sign_user_token(USER, SIGNING_KEY)), (403, "42501"), id="user, ES256"),
        pytest.param(headers(ANON_KEY, sign_user_token(USER, OLD_SIGNING_KEY)), (403, "42501"), id="user, older key"),
        pytest.param(
            headers(SERVICE_KEY, sign_user_token(USER, JWT_SECRET)),
            (403, "42501"),
            id="the bearer decides, not the key",
        ),
        pytest.param(
            headers(ANON_KEY, sign_user_token(USER, JWT_SECRET, role="postgres")), (403, "42501"), id="superuser"
        ),
        pytest.param(
            headers(ANON_KEY, sign_user_token(USER, JWT_SECRET, role="nobody")), (401, "22023"), id="unknown role"
        ),
        pytest.param(
            headers(ANON_KEY, sign_user_token(USER, JWT_SECRET[::-1])), (401, "PGRST301"), id="signed by another secret"
        ),
        pytest.param(
            headers(ANON_KEY, sign_user_token(USER, OTHER_KEY)), (401, "PGRST301"), id="signed by another ES256 key"
        ),
        pytest.param(
            headers(ANON_KEY, sign_user_token(USER, SigningKey.generate("lost"))), (401, "PGRST301"), id="unknown kid"
        ),
        pytest.param(
            headers(ANON_KEY, sign_user_token(USER, JWT_SECRET, issued_at=1_700_000_000)),
            (401, "PGRST303"),
            id="expired",
        ),
        pytest.param(
            headers(ANON_KEY, sign_user_token(USER, JWT_SECRET, claims={"nbf": 9_000_000_000})),
            (401, "PGRST303"),
            id="not yet valid",
        ),
        pytest.param(
            headers(ANON_KEY, jwt.encode({"role": "service_role"}, "", algorithm="none")),
            (401, "PGRST301"),
            id="unsigned",
        ),
        pytest.param(headers(ANON_KEY, "rubbish"), (401, "PGRST301"), id="no token at all"),
    ],
)
def test_the_token_decides_the_role(url: str, given: dict[str, str], expected: int | tuple[int, str]) -> None:
    """Only the service role may call; everybody else gets PostgREST's refusal."""
    response = post(url, headers=given, json=arguments("roles", p_cost=0))
    if isinstance(expected, int):
        assert response.status_code == expected
    else:
        assert error(response) == expected
        challenge = response.headers.get("www-authenticate", "")
        assert challenge.startswith("Bearer ") == expected[1].startswith("PGRST")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param({}, "No API key found in request", id="none"),
        pytest.param({"Authorization": f"Bearer {SERVICE_KEY}"}, "No API key found in request", id="a bearer only"),
        pytest.param(headers("wrong"), "Invalid API key", id="a wrong one"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_gateway_wants_an_api_key(url: str, method: str, given: dict[str, str], message: str) -> None:
    """Without a key of the project nothing behind the gateway is reached: its own 401, with its own body."""
    path = "/rest/v1/" if method == "GET" else "/rest/v1/rpc/breakwater_spend"
    response = httpx.request(method, url + path, headers=given)
    assert response.status_code == 401
    assert response.json()["message"] == message


@pytest.mark.parametrize(
    ("function", "content", "expected"),
    [
        pytest.param("breakwater_none", "{}", (404, "PGRST202"), id="unknown function"),
        pytest.param("breakwater_reset", "{}", (404, "PGRST202"), id="an argument is missing"),
        pytest.param("breakwater_reset", '{"p_subject": "a", "p_x": 1}', (404, "PGRST202"), id="an argument too many"),
        pytest.param("breakwater_reset", '{"subject": "a"}', (404, "PGRST202"), id="a wrong name"),
        pytest.param("breakwater_reset", "{", (400, "PGRST102"), id="not JSON"),
        pytest.param("breakwater_reset", '{"p_subject": NaN}', (400, "PGRST102"), id="Python's idea of JSON"),
        pytest.param("breakwater_reset", b'{"p_subject": "\xff"}', (400, "PGRST102"), id="not UTF-8"),
        pytest.param("breakwater_reset", "[]", (400, "PGRST102"), id="an array"),
        pytest.param("breakwater_reset", r'{"p_subject": "\u0000"}', (400, "22P05"), id="a NUL in a text"),
        pytest.param("breakwater_sweep", '{"p_subject": "a", "p_now_ms": "x"}', (400, "22P02"), id="no number"),
        pytest.param("breakwater_spend", json.dumps(arguments("a", p_now_ms=None)), (400, "22023"), id="its own error"),
    ],
)
def test_a_call_that_cannot_be_made_says_why(
    url: str, function: str, content: str | bytes, expected: tuple[int, str]
) -> None:
    """Status, code and body of PostgREST's errors."""
    assert error(post(url, function, headers=headers(), content=content)) == expected


WRITE = "insert into public.breakwater_windows values ('gone', 1, 1, 1, 0, 1)"


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        pytest.param("raise exception 'no'", (400, "P0001"), id="raised"),
        pytest.param("raise exception 'no' using errcode = '57014'", (500, "57014"), id="statement timeout"),
        pytest.param("raise exception 'no' using errcode = '40P01'", (500, "40P01"), id="deadlock"),
        pytest.param("raise exception 'no' using errcode = '23505'", (409, "23505"), id="conflict"),
        pytest.param("raise exception 'no' using errcode = '53300'", (503, "53300"), id="too many connections"),
        pytest.param("raise exception 'no' using errcode = 'XX000'", (500, "XX000"), id="internal"),
        pytest.param("perform 1 from public.none", (404, "42P01"), id="no such table"),
    ],
)
def test_an_error_in_a_function_has_its_status(
    url: str, postgres: Postgres, statement: str, expected: tuple[int, str]
) -> None:
    """SQLSTATE to status as PostgREST maps them; nothing of the transaction stays."""
    with psycopg.connect(postgres.uri) as owner:
        body = f"begin {WRITE}; {statement}; end"
        owner.execute(
            f"create or replace function public.failing() returns void language plpgsql as $$ {body} $$".encode()
        )
    assert error(post(url, "failing", headers=headers())) == expected
    with psycopg.connect(postgres.uri) as owner:
        found = owner.execute("select count(*) from public.breakwater_windows where subject = 'gone'")
        assert found.fetchone() == (0,)


@pytest.mark.parametrize(
    ("definition", "status", "body"),
    [
        ("returns void language sql as ''", 204, ""),
        ("returns integer language sql return null::integer", 200, "null"),
        ("returns setof integer language sql as 'values (1), (2)'", 200, "[1, 2]"),
        ("returns setof integer language sql as 'select 1 where false'", 200, "[]"),
        ("returns jsonb language sql return current_setting('request.jwt.claims')::jsonb", 200, '{"role": "anon"}'),
        ("returns text language sql return current_user", 200, '"anon"'),
    ],
    ids=["void", "null", "set", "empty set", "claims", "role"],
)
def test_results_are_json(url: str, postgres: Postgres, definition: str, status: int, body: str) -> None:
    """Nothing, a value or an array; within the call the role and the claims are the caller's."""
    with psycopg.connect(postgres.uri) as owner:
        owner.execute("drop function if exists public.shaped()")
        owner.execute(f"create function public.shaped() {definition}".encode())
    response = post(url, "shaped", headers=headers(ANON_KEY))
    assert (response.status_code, response.text) == (status, body)


def test_other_paths_and_methods_are_refused_as_json(url: str) -> None:
    """A function is called by POST, and a table has one name."""
    assert error(httpx.get(f"{url}/rest/v1/breakwater_menus/1", headers=headers())) == (404, "PGRST125")
    assert error(httpx.get(f"{url}/rest/v1/rpc/breakwater_spend", headers=headers())) == (405, "PGRST101")
    assert httpx.get(f"{url}/rest/v1/", headers=headers(ANON_KEY)).status_code == 200


def test_rows_of_a_table(url: str) -> None:
    """Columns, an equal value, an order and a bound; privileges are PostgreSQL's."""

    def get(query: str, key: str = SERVICE_KEY) -> httpx.Response:
        return httpx.get(f"{url}/rest/v1/{query}", headers=headers(key))

    rows = get("breakwater_menus?select=id,name&category=eq.lunch&order=id.desc&limit=2").json()
    assert rows == [{"id": 3, "name": "Bulgogi"}, {"id": 2, "name": "김치찌개"}]
    assert get("breakwater_menus?id=eq.99").json() == []
    assert error(get("breakwater_menus?id=eq.x")) == (400, "22P02")
    assert error(get("breakwater_menus?id=gt.1")) == (400, "PGRST100")
    assert error(get("no_such_table")) == (404, "PGRST205")
    assert error(get("breakwater_menus", ANON_KEY)) == (401, "42501")


def test_the_published_keys_verify_a_users_token(url: str) -> None:
    """PyJWT's own JWKS client finds the key of a token; private halves are not published."""
    address = f"{url}/auth/v1/.well-known/jwks.json"
    token = sign_user_token(USER, OLD_SIGNING_KEY, claims={"session_id": "s1"})
    key = jwt.PyJWKClient(address).get_signing_key_from_jwt(token)
    claims = jwt.decode(token, key, algorithms=["ES256"], audience="authenticated")
    assert (claims["sub"], claims["role"], claims["session_id"]) == (USER, "authenticated", "s1")
    published = httpx.get(address).json()["keys"]
    assert [key["kid"] for key in published] == ["current", "previous"]
    assert not any("d" in key for key in published)


def test_faults_and_counters_are_this_protocols(postgres: Postgres) -> None:
    """The control routes count calls by function, and a fault answers in PostgREST's shape."""
    with stand_in(postgres) as server:
        for _ in range(2):
            post(server.url, "breakwater_reset", headers=headers(), json={"p_subject": "a"})
        httpx.put(f"{server.url}/_control/faults", json={"kind": "status", "status": 504, "times": 1})
        assert error(post(server.url, headers=headers(), json=arguments("a"))) == (504, "PGRST003")
        stats = httpx.get(f"{server.url}/_control/stats").json()
        assert stats == {"http_requests": 3, "rpc_calls": {"breakwater_reset": 2}}
        httpx.delete(f"{server.url}/_control/stats")
        assert httpx.get(f"{server.url}/_control/stats").json() == {"http_requests": 0, "rpc_calls": {}}


@pytest.mark.parametrize("end", [Postgres.stop, Postgres.kill], ids=["stopped", "killed"])
def test_it_survives_its_database(postgres: Postgres, url: str, end: Callable[[Postgres], None]) -> None:
    """While PostgreSQL is away every call is a 503 at once; the first call after its return is served."""
    ask(url, lambda client: client.rpc("breakwater_spend", arguments(f"{end}", p_cost=3)).execute())
    end(postgres)
    try:
        away = [post(url, headers=headers(), json=arguments(f"{end}")) for _ in range(3)]
    finally:
        postgres.restart()
    back = post(url, headers=headers(), json=arguments(f"{end}"))
    assert [error(response) for response in away] == [(503, "PGRST000")] * 3
    # PostgREST itself would have them wait for ten seconds.
    assert max(response.elapsed.total_seconds() for response in away) < 10
    assert back.status_code == 200
    assert back.json()["windows"][0]["buckets"] == [[NOON_MS, 4]]


def test_a_database_that_goes_within_a_call_is_a_503(postgres: Postgres, url: str) -> None:
    """A call that waits in PostgreSQL while it is killed gets an error, not silence."""

    async def killed_within() -> httpx.Response:
        with psycopg.connect(postgres.uri) as blocker:
            blocker.execute("lock table public.breakwater_windows")
            async with httpx.AsyncClient(timeout=10) as http:
                body = {"p_subject": "within"}
                call = asyncio.create_task(
                    http.post(f"{url}/rest/v1/rpc/breakwater_reset", headers=headers(), json=body)
                )
                waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
                while blocker.execute(waiting).fetchone() == (0,):
                    blocker.execute("select pg_stat_clear_snapshot()")
                    await asyncio.sleep(0)
                postgres.kill()
                blocker.close()
                return await call

    try:
        response = asyncio.run(killed_within())
    finally:
        postgres.restart()
    assert error(response) == (503, "PGRST001")


def test_without_a_lifespan_it_still_answers() -> None:
    """Keys and routes need no database and no start-up: only a call does."""
    app = supabase_app(
        "postgresql:///?host=/nonexistent", service_key="s", anon_key="a", jwt_secret=JWT_SECRET, faults=Faults()
    )

    async def call() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://stand-in") as http:
            return [
                await http.get("/auth/v1/.well-known/jwks.json"),
                await http.post("/rest/v1/rpc/x", headers=headers("s"), content=json.dumps({})),
            ]

    keys, called = asyncio.run(call())
    assert len(keys.json()["keys"]) == 1
    assert error(called) == (503, "PGRST000")
