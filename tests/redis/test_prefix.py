"""Several deployments in one Redis: every key of every command begins with the deployment's prefix, over both ways."""

import ast
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from dev.faults import Fault
from dev.redis_server import RedisServer
from lib.base.env import BadSettings
from lib.base.events import Crashed, StoreFailed
from lib.redis import keys
from lib.redis.op import Command
from lib.settings import Settings
from tests.rig.callers import a_caller
from tests.rig.door import door, get
from tests.rig.fleet import TOKENS, look, report, servers
from tests.rig.guard import Rig, rigged
from tests.rig.instance import ADMIN, Instance
from tests.rig.ledger import CRON
from tests.rig.redis import RedisFront, redis_front
from tests.rig.script import Script
from tests.rig.supabase import SupabaseStandIn

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["rest", "tcp"])
def transport(request: pytest.FixtureRequest) -> str:
    """Redis over both."""
    return str(request.param)


@pytest.fixture(scope="module")
def fenced() -> Iterator[RedisFront]:
    """A Redis that refuses every command, and every script, that touches a key without one of two prefixes."""
    with RedisServer.start() as server, redis_front(server) as front:
        direct: Any = front.direct
        direct.execute_command("ACL", "SETUSER", "default", "resetkeys", "~shop:*", "~test.2-*")
        yield front


@pytest.fixture
async def rig(fenced: RedisFront, supabase: SupabaseStandIn, script: Script, transport: str) -> AsyncIterator[Rig]:
    """Instances over it."""
    async with rigged(fenced, supabase, script, transport) as made:
        yield made


def deployment(rig: Rig, prefix: str) -> Instance:
    """One of the deployments."""
    token = ADMIN["authorization"].removeprefix("Bearer ")
    return rig.instance(
        KEY_PREFIX=prefix,
        ADMIN_TOKEN=token,
        CRON_SECRET=CRON["authorization"].removeprefix("Bearer "),
        FLEET_TOKENS=TOKENS,
        RANKING_TOKENS=f"demo={token}",
        DB_CONNECTIONS="prod=supabase",
        CLOUD_RUN_LIMITS="100/minute,1000/day",
        SLACK_WEBHOOK_URL=f"{rig.script.url}/hook",
        LEDGER_FLUSH_COMMANDS="1",
        REDIS_COOLDOWN_MS="1",
        REDIS_MONTH_COMMANDS="10000",
        REDIS_MONTH_PERCENTS="1,99,100",
        RATELIMIT_AI_SUPERVISOR="3/minute",
    )


PATHS = (
    "/api/rankings/demo",
    "/api/rankings/demo/kim",
    "/api/monitoring/locks?connectionId=prod",
    "/api/dashboard/metrics?connectionId=prod",
    "/api/monitoring/trend?connectionId=prod",
    "/api/data?resources=rankings:demo",
    "/api/cache/stats",
    "/api/metrics",
    "/api/activity",
)


async def use_everything(rig: Rig, made: Instance) -> None:
    """Every kind of request, twice: the first creates what the second finds."""
    bw, caller = door(made), a_caller()
    app = bw.route(lambda asked: {"path": asked.path}, limit="9/minute", cache=30, tags=("menus",))
    for _ in range(2):
        replies = [await made.ask("which disk?", caller) for _ in range(4)]
        replies += [await get(app), await made.health(), await look(made), await look(made, "/api/servers")]
        for path in PATHS:
            replies.append(await made.http.get(path, headers={"x-forwarded-for": a_caller(), **ADMIN}))
        score = {"member": "kim", "score": rig.time.ms}
        replies.append(await made.http.post("/api/rankings/demo", json=score, headers=ADMIN))
        replies.append(await made.http.post("/api/cache/invalidate", json={"all": True}, headers=ADMIN))
        replies.append(await made.http.get("/api/cron/daily", headers=CRON))
        replies += [await report(made, rig, servers(2)), await made.act(action="simulate", state="started")]
        replies += [await made.act(action="simulate", state="stopped"), await made.act(action="reset", address=caller)]
        replies.append(await made.act(action="reset", provider="cloud-run"))
        replies.append(await made.act(action="circuit", circuit="weather", state="open"))
        assert {each.status_code for each in replies} == {200, 429}, made.seen(Crashed)
        await bw.limit("user:42", "10/minute,100/day")
        await bw.cached("weather", lambda: 1, fresh=30, scope="shared", tags=("weather",))
        await made.overview()
        rig.time.later(61)


async def test_no_key_of_any_command_lacks_it(rig: Rig) -> None:
    """Answers, data, rankings, servers, databases, admin actions, ledger, alerts, an outage and its settlement."""
    made = deployment(rig, "shop:")
    await use_everything(rig, made)
    assert made.seen(StoreFailed) == []
    rig.front.faults.set(Fault(kind="refuse", times=1))
    await made.ask_anew()
    rig.time.later(1)
    await made.ask_anew()
    assert {each.store for each in made.seen(StoreFailed)} == {"redis"}
    assert len(made.seen(StoreFailed)) == 1
    found: Any = rig.server.keys("*")
    assert {key for key in found if not key.startswith("shop:")} == set()
    kinds = {key.removeprefix("shop:").partition(":")[0] for key in found}
    assert kinds >= {
        *("ai", "v", "cache", "tms", "lock", "epoch", "cb", "rl", "given", "outage", "shapes", "news", "thrift"),
        *("ledger", "recent", "alert", "alerts", "ranking", "servers", "tms-samples", "tms-catalogue", "tms-looked"),
    }


async def test_two_deployments_know_nothing_of_each_other(rig: Rig) -> None:
    """Neither of counts, nor of values and invalidations, nor of circuits."""
    one, other = deployment(rig, "shop:"), deployment(rig, "test.2-")
    caller = a_caller()
    from lib.base.events import Crashed

    print("\n".join(e.trace if hasattr(e, "trace") else str(e) for e in one.seen(Crashed)))
    statuses = [(await made.ask("same?", caller)).status_code for made in (one, other) for _ in range(4)]
    assert statuses == [200, 200, 200, 429] * 2
    assert rig.script.asked == 2
    await one.act(action="invalidate", scope="everything")
    caller = a_caller()
    for state in ("MISS", "HIT", "HIT"):
        assert (await other.ask("same?", caller, sessionId="s")).headers["x-cache"] == state
        assert (await one.act(action="invalidate", scope="everything")).status_code == 200


@pytest.mark.parametrize(
    ("command", "below"),
    [
        (("GET", "k"), ("GET", "p:k")),
        (("SET", "k", "k", "PX", 5), ("SET", "p:k", "k", "PX", 5)),
        (("MGET", "k", "l"), ("MGET", "p:k", "p:l")),
        (("DEL", "k", "l"), ("DEL", "p:k", "p:l")),
        (("EVAL", "k", 2, "k", "l", "k"), ("EVAL", "k", 2, "p:k", "p:l", "k")),
        (("EVAL", "k", 0, "k"), ("EVAL", "k", 0, "k")),
        (("HMGET", "k", "k"), ("HMGET", "p:k", "k")),
        (("PING",), ("PING",)),
    ],
)
def test_where_the_keys_are(command: Command, below: Command) -> None:
    """Only what is a key is changed, never a value or a field of the same name."""
    assert keys.under("p:", command) == below


def used() -> Iterator[str]:
    """The first words of all tuples and lists that the code writes down: the commands are among them."""
    for path in Path("lib").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Tuple(elts=[ast.Constant(str(word)), *_]) | ast.List(elts=[ast.Constant(str(word)), *_]):
                    yield word


def test_redis_finds_the_same_keys(redis_server: RedisServer) -> None:
    """In every command that is used; EVAL names its own number of keys."""
    words = sorted(
        {word for word in used() if word.isupper() and word.replace("_", "").isalpha()} - {"EVAL", "EVALSHA"}
    )
    with redis.Redis.from_url(redis_server.url, protocol=2) as server:
        told: Any = server.execute_command("COMMAND INFO", *words)
    known = {word: (info[3], info[4]) for word, info in zip(words, told, strict=True) if info}
    assert {"BITFIELD", "BITFIELD_RO", "DEL", "HSET", "LPUSH", "MGET", "PING", "SET", "ZREVRANK"} <= known.keys()
    for word, (first, last) in known.items():
        below = keys.under("p:", (word, "a", "b") if first else (word,))
        assert below[1:] == {(0, 0): (), (1, 1): ("p:a", "b"), (1, -1): ("p:a", "p:b")}[first, last], word


@pytest.mark.parametrize("prefix", ["shop*", "{shop}:", "shop 1:", "가:", "x" * 65])
def test_what_cannot_be_a_prefix(prefix: str) -> None:
    """Patterns, hash tags, white space, and what is too long."""
    with pytest.raises(BadSettings) as refused:
        Settings.from_env({"REDIS_ENABLED": "false", "KEY_PREFIX": prefix})
    assert [fault.partition(":")[0] for fault in refused.value.faults] == ["KEY_PREFIX"]
