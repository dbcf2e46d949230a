"""The contract of the Upstash stand-in, through the real clients and over plain HTTP, on every Redis there is."""

import asyncio
import hashlib
import ssl
from base64 import b64decode
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from upstash_ratelimit import Ratelimit, SlidingWindow
from upstash_redis import Redis
from upstash_redis.asyncio import Redis as AsyncRedis
from upstash_redis.errors import UpstashError

from dev.faults import Fault, Faults
from dev.redis_server import RedisServer, available
from dev.serve import ThreadedServer
from dev.upstash import FREE, upstash_app

TOKEN = "test-token"
READER = "test-reader"
SHEBANG = "#!lua flags=allow-key-locking\n"
SSL = ssl.create_default_context()
"""One for all clients: making it is most of what a client costs, and every URL here is plain HTTP anyway."""


@dataclass(frozen=True)
class Database:
    """A served stand-in, and the Redis behind it."""

    server: RedisServer
    url: str
    faults: Faults
    control: httpx.Client
    """A client without a token."""

    def http(self, token: str = TOKEN, *, base64: bool = False) -> httpx.Client:
        """A client for the protocol itself."""
        headers = {"authorization": f"Bearer {token}"} | ({"upstash-encoding": "base64"} if base64 else {})
        return httpx.Client(base_url=self.url, headers=headers, timeout=10, verify=SSL)

    def many(self) -> httpx.AsyncClient:
        """A client for many requests at once."""
        return httpx.AsyncClient(
            base_url=self.url, headers={"authorization": f"Bearer {TOKEN}"}, timeout=10, verify=SSL
        )

    @contextmanager
    def sync(self) -> Iterator[Redis]:
        """The vendor's client."""
        with Redis(self.url, TOKEN, rest_retries=0, allow_telemetry=False) as client:
            yield client

    @asynccontextmanager
    async def asynchronous(self) -> AsyncIterator[AsyncRedis]:
        """The vendor's asynchronous client."""
        async with AsyncRedis(self.url, TOKEN, rest_retries=0, allow_telemetry=False) as client:
            yield client

    def direct(self) -> redis.Redis:
        """Redis itself, past the stand-in."""
        return redis.Redis.from_url(self.server.url, protocol=2, driver_info=None, retry=Retry(NoBackoff(), 0))

    def stats(self) -> dict[str, Any]:
        """What the stand-in counted since the test began."""
        stats: dict[str, Any] = self.control.get("/_control/stats").json()
        return stats


@pytest.fixture(scope="module", params=available())
def started(request: pytest.FixtureRequest) -> Iterator[Database]:
    faults = Faults()
    with RedisServer.start(prefer=request.param) as server:
        app = upstash_app(server.url, TOKEN, read_only_token=READER, faults=faults)
        with ThreadedServer(app) as served, httpx.Client(base_url=served.url, timeout=10, verify=SSL) as control:
            yield Database(server, served.url, faults, control)


@pytest.fixture
def database(started: Database) -> Database:
    started.faults.clear()
    with started.direct() as client:
        client.flushall()
    started.control.delete("/_control/stats")
    return started


# --- the clients that the functions use --------------------------------------------------------------------------


def test_the_sync_client(database: Database) -> None:
    """Values, missing values, numbers, lists and options come through as the client expects them."""
    with database.sync() as client:
        assert client.set("k", "v")
        assert not client.set("k", "w", nx=True, px=1000)
        assert client.get("k") == "v"
        assert client.get("missing") is None
        assert client.incrby("n", 5) == 5
        assert client.mget("k", "missing", "n") == ["v", None, "5"]
        assert client.execute(["HSET", "h", "a", 1, "b", {"c": [True, None]}]) == 2
        assert client.hgetall("h") == {"a": "1", "b": '{"c": [true, null]}'}
        assert client.set("e", "v", ex=100)
        assert 0 < client.ttl("e") <= 100
        assert client.set("text", "새 검색 – “ok”")
        assert client.get("text") == "새 검색 – “ok”"


def test_the_sync_clients_pipeline_and_transaction(database: Database) -> None:
    """Both answer one result per command, in order."""
    with database.sync() as client:
        for batch in (client.pipeline(), client.multi()):
            batch.set("k", "1").incr("k").get("k").get("missing")
            assert batch.exec() == [True, 2, "2", None]


def test_the_async_client(database: Database) -> None:
    """The asynchronous client sees the same database."""

    async def talk() -> None:
        async with database.asynchronous() as client:
            assert await client.set("k", "v")
            assert await client.get("k") == "v"
            batch = client.pipeline()
            batch.incr("n").incr("n")
            assert await batch.exec() == [1, 2]
            batch = client.multi()
            batch.incr("n").get("n")
            assert await batch.exec() == [3, "3"]

    asyncio.run(talk())


def test_bitfield_through_the_client(database: Database) -> None:
    """Saturating and failing increments, reads past the end, and the read-only twin."""
    with database.sync() as client:
        saturating = client.bitfield("k").overflow("SAT").incrby("u4", 0, 14).incrby("u4", 0, 14)
        assert saturating.execute() == [14, 15]
        failing = client.bitfield("k").overflow("FAIL").incrby("u8", "#1", 255).incrby("u8", "#1", 1).get("u8", "#1")
        assert failing.execute() == [255, None, 255]
        assert client.bitfield_ro("k").get("u4", 0).get("u8", "#1").get("u16", "#1000").execute() == [15, 255, 0]
        assert client.strlen("k") == 2


@pytest.mark.parametrize("shebang", [SHEBANG, ""], ids=["with the lock's flag", "without"])
def test_scripts_written_for_upstash_run(database: Database, shebang: str) -> None:
    """The flag that only Upstash knows does no harm, to EVAL, SCRIPT LOAD and EVALSHA by the caller's own digest."""
    script = f"{shebang}return {{redis.call('INCRBY', KEYS[1], ARGV[1]), ARGV[2]}}"
    with database.sync() as client:
        digest = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
        assert client.script_exists(digest) == [False]
        with pytest.raises(UpstashError, match="NOSCRIPT"):
            client.evalsha(digest, keys=["n"], args=["2", "x"])
        assert client.eval(script, keys=["n"], args=["2", "x"]) == [2, "x"]
        assert client.evalsha(digest, keys=["n"], args=["2", "x"]) == [4, "x"]
        client.script_flush()
        assert client.script_load(script) == digest
        assert client.script_exists(digest) == [True]
        assert client.evalsha(digest, keys=["n"], args=["2", "x"]) == [6, "x"]


def test_the_vendors_sliding_window(database: Database) -> None:
    """The vendor's own limiter, unmodified: it allows the limit, then refuses, and knows what remains."""
    with database.sync() as client:
        ratelimit = Ratelimit(redis=client, limiter=SlidingWindow(max_requests=3, window=3650, unit="d"), prefix="p")
        assert [ratelimit.limit("me").allowed for _ in range(4)] == [True, True, True, False]
        assert ratelimit.limit("you").remaining == 2
        assert ratelimit.get_remaining("you") == 2


def test_a_failed_command_is_the_clients_error(database: Database) -> None:
    """Redis's own words reach the caller."""
    with database.sync() as client:
        client.set("k", "v")
        with pytest.raises(UpstashError, match="ERR value is not an integer"):
            client.incr("k")


# --- the protocol itself -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "stored"),
    [
        pytest.param(["SET", "k", "1.50"], "1.50", id="a string stays as it is"),
        pytest.param(["SET", "k", 12345678901234567890], "12345678901234567890", id="integer"),
        pytest.param(["SET", "k", 1.5], "1.5", id="float"),
        pytest.param(["SET", "k", True], "true", id="bool"),
        pytest.param(["SET", "k", None], "null", id="null"),
        pytest.param(["SET", "k", {"a": [1, "é"]}], '{"a":[1,"é"]}', id="object"),
    ],
)
def test_arguments_are_stringified(database: Database, command: list[object], stored: str) -> None:
    """What is no string is stored as its JSON text."""
    with database.http() as http:
        assert http.post("/", json=command).json() == {"result": "OK"}
        assert http.get("/get/k").json() == {"result": stored}


@pytest.mark.parametrize(
    ("method", "url", "body", "stored"),
    [
        pytest.param("GET", "/set/k/v", None, b"v", id="GET"),
        pytest.param("GET", "/SET/k/a%2Fb%20c%ED%95%9C/EX/100", None, "a/b c한".encode(), id="escapes"),
        pytest.param("POST", "/set/k", b"\x00\xff/?", b"\x00\xff/?", id="binary body"),
        pytest.param("PUT", "/set/k", b"v", b"v", id="PUT"),
        pytest.param("POST", "/set/k?EX=100&NX", b"v", b"v", id="query after the body"),
        pytest.param("GET", f"/set/k/v?_token={TOKEN}", None, b"v", id="the token is no argument"),
    ],
)
def test_the_path_style(database: Database, method: str, url: str, body: bytes | None, stored: bytes) -> None:
    """Path segments, then the body, then the query make up the command."""
    with database.http() as http, database.direct() as direct:
        response = http.request(method, url, content=body)
        assert (response.status_code, response.json()) == (200, {"result": "OK"})
        assert direct.get("k") == stored
        assert (direct.ttl("k") > 0) == ("EX" in url)


def test_replies_keep_their_shape(database: Database) -> None:
    """Numbers, nulls and nested arrays are JSON's own, and every reply carries a sync token."""
    with database.http() as http:
        response = http.post("/", json=["EVAL", "return {1, 'a', {2, {'b'}}, false}", 0])
        assert response.json() == {"result": [1, "a", [2, ["b"]], None]}
        assert response.headers["upstash-sync-token"]
        assert response.headers["content-type"] == "application/json"


def test_binary_values_are_exact_in_base64_and_mended_without(database: Database) -> None:
    """What BITFIELD leaves in a key is no text: base64 carries it unharmed, plain JSON replaces what it cannot say."""
    with database.http() as plain, database.http(base64=True) as base64:
        increments = ["INCRBY", "u8", "#0", 255, "INCRBY", "u8", "#1", 128, "INCRBY", "u8", "#2", 65]
        assert base64.post("/", json=["BITFIELD", "k", *increments]).json() == {"result": [255, 128, 65]}
        (held, missing) = base64.post("/", json=["MGET", "k", "missing"]).json()["result"]
        assert (b64decode(held), missing) == (b"\xff\x80A", None)
        assert plain.post("/", json=["MGET", "k", "missing"]).json() == {"result": ["\ufffd\ufffdA", None]}


def test_base64_concerns_strings_but_not_ok_and_errors(database: Database) -> None:
    """Strings at every depth are encoded; numbers, nulls, a plain OK and errors are not."""
    commands = [["SET", "k", "v"], ["GET", "k"], ["INCR", "n"], ["INCR", "k"], ["EVAL", "return {'v', {1, 'v'}}", 0]]
    with database.http(base64=True) as http:
        response = http.post("/pipeline", json=[*commands, ["PING"], ["GET", "missing"]])
        assert response.json() == [
            {"result": "OK"},
            {"result": "dg=="},
            {"result": 1},
            {"error": "ERR value is not an integer or out of range"},
            {"result": ["dg==", [1, "dg=="]]},
            {"result": "UE9ORw=="},
            {"result": None},
        ]


def test_a_failed_command_spoils_neither_pipeline_nor_transaction(database: Database) -> None:
    """A command that fails while running leaves the others as they are, and the status is 200."""
    with database.http() as http:
        for path in ("/pipeline", "/multi-exec"):
            response = http.post(path, json=[["SET", "k", "v"], ["LPUSH", "k", "x"], ["STRLEN", "k"]])
            assert response.status_code == 200
            first, failed, last = response.json()
            assert (first, last) == ({"result": "OK"}, {"result": 1})
            assert failed["error"].startswith("WRONGTYPE ")


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(["GET"], id="arguments"),
        pytest.param(["NOSUCHCOMMAND", "k"], id="unknown"),
        pytest.param(["WATCH", "k"], id="unavailable"),
    ],
)
def test_a_transaction_with_a_command_that_cannot_run_does_nothing(database: Database, bad: list[str]) -> None:
    """All or nothing: one error for the whole, and nothing is executed or billed."""
    with database.http() as http:
        response = http.post("/multi-exec", json=[["SET", "k", "v"], bad])
        assert response.status_code == 400
        assert response.json()["error"].startswith("EXECABORT ")
        assert http.get("/exists/k").json() == {"result": 0}
    assert database.stats()["commands"] == {"exists": 1}


def test_transactions_are_atomic(database: Database) -> None:
    """Transactions running at once never see each other half done."""

    async def all_at_once() -> list[httpx.Response]:
        async with database.many() as http:
            commands = [["INCR", "n"], ["INCR", "n"], ["INCR", "n"]]
            return await asyncio.gather(*(http.post("/multi-exec", json=commands) for _ in range(12)))

    for response in asyncio.run(all_at_once()):
        first, second, third = (item["result"] for item in response.json())
        assert (second, third) == (first + 1, first + 2)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param("/", "", id="empty"),
        pytest.param("/", "{", id="no JSON"),
        pytest.param("/", "[]", id="no command"),
        pytest.param("/", '"GET"', id="no array"),
        pytest.param("/", '[["GET", "k"]]', id="a pipeline where a command belongs"),
        pytest.param("/", '[1, "k"]', id="a number for a name"),
        pytest.param("/", '["SET", "k", NaN]', id="not JSON's numbers"),
        pytest.param("/", '["GET", "\\ud800"]', id="half a character"),
        pytest.param("/pipeline", "[]", id="empty pipeline"),
        pytest.param("/pipeline", '["GET", "k"]', id="a command where a pipeline belongs"),
        pytest.param("/pipeline", '[["GET", "k"], []]', id="an empty command in a pipeline"),
        pytest.param("/multi-exec", '{"a": 1}', id="an object"),
        pytest.param("/", '["GET"]', id="too few arguments"),
        pytest.param("/", '["NOSUCHCOMMAND"]', id="unknown command"),
        pytest.param("/", '["SUBSCRIBE", "c"]', id="unavailable command"),
    ],
)
def test_what_cannot_be_run_is_400_with_an_error(database: Database, path: str, body: str) -> None:
    """Malformed requests and failing commands are answered alike: 400, and a sentence."""
    with database.http() as http:
        response = http.post(path, content=body)
        assert response.status_code == 400
        assert response.json()["error"].startswith("ERR ")


@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        pytest.param({"authorization": f"Bearer {TOKEN}"}, "", 200, id="bearer"),
        pytest.param({"authorization": f"bearer {TOKEN}"}, "", 200, id="the scheme has no case"),
        pytest.param({}, f"?_token={TOKEN}", 200, id="in the query"),
        pytest.param({}, "", 401, id="none"),
        pytest.param({"authorization": "Bearer"}, "", 401, id="empty"),
        pytest.param({"authorization": "Bearer wrong"}, "", 401, id="wrong"),
        pytest.param({"authorization": f"Basic {TOKEN}"}, "", 401, id="another scheme"),
        pytest.param({}, "?_token=wrong", 401, id="wrong in the query"),
    ],
)
def test_only_tokens_open_the_database(database: Database, headers: dict[str, str], query: str, status: int) -> None:
    """Every form of a valid token works, all else is 401 on every route and runs nothing."""
    for path, body in (("/", ["SET", "k", "v"]), ("/pipeline", [["SET", "k", "v"]]), ("/multi-exec", [["GET", "k"]])):
        response = database.control.post(f"{path}{query}", json=body, headers=headers)
        assert response.status_code == status
        if status == 401:
            assert response.json() == {"error": "WRONGPASS invalid or missing auth token"}
    assert bool(database.stats()["commands"]) == (status == 200)


def test_other_methods_are_405(database: Database) -> None:
    """GET, HEAD, POST and PUT are the protocol's methods."""
    with database.http() as http:
        assert http.delete("/get/k").status_code == 405
        assert http.head("/get/k").status_code == 200


def test_the_read_only_token_reads(database: Database) -> None:
    """Writes and scripts are refused by name, alone, in pipelines and in transactions; reads go through."""
    noperm = "NOPERM this user has no permissions to run the '{}' command or its subcommand"
    with database.http(READER) as reader, database.http() as writer:
        writer.post("/", json=["SET", "k", "v"])
        for command in (["SET", "k", "w"], ["DEL", "k"], ["EVAL", "return 1", 0], ["BITFIELD", "k", "GET", "u8", 0]):
            refused = reader.post("/", json=command)
            assert (refused.status_code, refused.json()) == (400, {"error": noperm.format(str(command[0]).lower())})
        mixed = reader.post("/pipeline", json=[["GET", "k"], ["SET", "k", "w"], ["BITFIELD_RO", "k", "GET", "u8", 0]])
        assert mixed.json() == [{"result": "v"}, {"error": noperm.format("set")}, {"result": [ord("v")]}]
        assert reader.post("/multi-exec", json=[["GET", "k"], ["DEL", "k"]]).status_code == 400
        assert reader.get("/get/k").json() == {"result": "v"}


# --- the bill ----------------------------------------------------------------------------------------------------


def test_every_command_is_billed_and_the_free_ones_are_not(database: Database) -> None:
    """Alone, in pipelines and in transactions; requests are counted apart."""
    with database.http() as http:
        http.post("/", json=["BITFIELD", "k", "INCRBY", "u8", 0, 1, "GET", "u8", 8])
        http.post("/pipeline", json=[["SET", "k", "v"], ["get", "k"], ["PING"], ["INCR", "k"]])
        http.post("/multi-exec", json=[["MGET", "k", "n"], ["GET", "k"]])
        http.get("/ping")
    assert database.stats() == {
        "http_requests": 4,
        "billed_commands": 6,
        "commands": {"bitfield": 1, "set": 1, "get": 2, "incr": 1, "mget": 1},
    }


def test_the_bill_is_what_redis_itself_counted(database: Database) -> None:
    """Scripts' inner commands included, with many callers at once, the bill equals the server's own counters."""
    if database.server.kind == "fakeredis":
        pytest.skip("fakeredis counts nothing; see test_fakeredis_bills_a_script_as_one_command")
    script = f"{SHEBANG}for i = 1, ARGV[1] do redis.call('INCR', KEYS[1]) end return redis.call('GET', KEYS[1])"
    digest = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()

    async def ask(http: httpx.AsyncClient, n: int) -> None:
        await http.post("/", json=["EVAL", script, 1, f"k{n}", n])
        await http.post("/pipeline", json=[["EVALSHA", digest, 1, "k", 2], ["INCR", "n"], ["LPUSH", "n", 1]])
        await http.post("/multi-exec", json=[["GET", "n"], ["EVAL", script, 1, "k", 1], ["EVALSHA", digest, 1, "k", 1]])
        await http.post("/", json=["EVAL", "return redis.call('LPUSH', KEYS[1], 1)", 1, "k"])

    async def all_at_once() -> None:
        async with database.many() as http:
            await http.post("/", json=["EVAL", "return redis.call('PING')", 0])
            await asyncio.gather(*(ask(http, n) for n in range(10)))

    with database.direct() as direct:
        direct.config_resetstat()
        asyncio.run(all_at_once())
        counted = Counter[str]()
        for name, stats in direct.info("commandstats").items():
            counted[name.removeprefix("cmdstat_").partition("|")[0].lower()] += stats["calls"]
    # What the stand-in adds to tell a script's commands from others': MULTI, INFO and EXEC. Upstash bills none of them.
    expected = {name: calls for name, calls in counted.items() if name not in FREE | {"multi", "exec"}}
    assert database.stats()["commands"] == expected
    assert database.stats()["billed_commands"] == sum(expected.values())


def test_fakeredis_bills_a_script_as_one_command(database: Database) -> None:
    """The last resort cannot see into scripts; the difference is known, and pinned here."""
    if database.server.kind != "fakeredis":
        pytest.skip("a real Redis counts; see test_the_bill_is_what_redis_itself_counted")
    with database.http() as http:
        http.post("/", json=["EVAL", "return redis.call('INCR', KEYS[1])", 1, "k"])
    assert database.stats()["commands"] == {"eval": 1}


def test_the_vendors_limiter_costs_what_its_cost_page_says(database: Database) -> None:
    """A first request: EVAL, two GETs, INCRBY, PEXPIRE. A refused one: EVAL and two GETs."""
    if database.server.kind == "fakeredis":
        pytest.skip("fakeredis cannot see into scripts")
    with database.sync() as client:
        ratelimit = Ratelimit(redis=client, limiter=SlidingWindow(max_requests=1, window=3650, unit="d"), prefix="p")
        assert ratelimit.limit("me").allowed
        assert database.stats()["commands"] == {"eval": 1, "get": 2, "incrby": 1, "pexpire": 1}
        assert not ratelimit.limit("me").allowed
        assert database.stats()["billed_commands"] == 5 + 3


# --- when things go wrong ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", available())
def test_it_survives_the_death_and_return_of_redis(kind: str) -> None:
    """While Redis is away every route says so with 500; when it is back, many callers at once are served."""

    headers = {"authorization": f"Bearer {TOKEN}"}

    async def all_at_once(url: str) -> list[int]:
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=10, verify=SSL) as http:
            responses = await asyncio.gather(*(http.post("/", json=["INCR", "n"]) for _ in range(8)))
        return [response.status_code for response in responses]

    with RedisServer.start(prefer=kind) as server, ThreadedServer(upstash_app(server.url, TOKEN)) as served:
        assert asyncio.run(all_at_once(served.url)) == [200] * 8
        server.kill()
        with httpx.Client(base_url=served.url, headers=headers, timeout=10, verify=SSL) as http:
            for path, body in (("/", ["GET", "n"]), ("/pipeline", [["GET", "n"]]), ("/multi-exec", [["GET", "n"]])):
                away = http.post(path, json=body)
                assert away.status_code == 500
                assert away.json()["error"].startswith("ERR the database cannot be reached")
            server.restart()
            assert http.post("/", json=["GET", "n"]).json() == {"result": None}
        assert asyncio.run(all_at_once(served.url)) == [200] * 8


def test_one_failed_fails_the_first_and_runs_the_rest(database: Database) -> None:
    """The fault that only a pipeline can have; the failed command leaves no trace."""
    database.faults.set(Fault(kind="one_failed", times=1))
    with database.http() as http:
        spoilt = http.post("/pipeline", json=[["SET", "a", 1], ["SET", "b", 2]])
        assert (spoilt.status_code, spoilt.json()[1]) == (200, {"result": "OK"})
        assert spoilt.json()[0]["error"].startswith("ERR ")
        assert http.get("/mget/a/b").json() == {"result": [None, "2"]}


def test_a_dropped_reply_has_been_executed_and_billed(database: Database) -> None:
    """The worst fault for a client: it cannot know, and the command counts."""
    database.faults.set(Fault(kind="drop", times=1))
    with database.http() as http:
        with pytest.raises(httpx.RemoteProtocolError):
            http.post("/", json=["INCR", "n"])
        assert http.get("/get/n").json() == {"result": "1"}
    assert database.stats()["commands"] == {"incr": 1, "get": 1}


@pytest.mark.parametrize(
    ("status", "error"), [(401, "WRONGPASS"), (429, "ERR max requests limit exceeded"), (503, "ERR ")]
)
def test_an_injected_status_has_the_vendors_shape(database: Database, status: int, error: str) -> None:
    """Errors made to order look like Upstash's."""
    database.faults.set(Fault(kind="status", status=status))
    with database.http() as http:
        response = http.post("/", json=["GET", "k"])
    assert response.status_code == status
    assert response.json()["error"].startswith(error)
