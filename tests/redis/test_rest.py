"""The wire to Upstash: how every reply that is none is classified, and that it ends in time and never repeats."""

import gzip
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from lib.base.http import new_pool
from lib.redis.errors import RedisDown
from lib.redis.op import CommandError, Op, as_text
from lib.redis.rest import Upstash
from tests.rig.clock import PATIENT_BACKEND, patient
from tests.rig.redis import RedisFront
from tests.rig.script import Script, scripted

pytestmark = pytest.mark.anyio
OK = json.dumps([{"result": "v"}]).encode()
TIMEOUT_S = 0.2
GET = Op((("GET", "k"),), lambda replies: as_text(replies[0]))


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, object]]:
    return PATIENT_BACKEND


@pytest.fixture(scope="module")
def script() -> Iterator[Script]:
    with scripted() as server:
        yield server


@pytest.fixture
async def wire(script: Script) -> AsyncIterator[Upstash]:
    script.reset(body=OK)
    async with new_pool() as pool:
        yield Upstash(pool, script.url, "the-token", TIMEOUT_S, 0.5)
    script.release()


def item(**fields: Any) -> bytes:
    return json.dumps([fields]).encode()


QUOTA = "ERR max requests limit exceeded. Limit: 500000, Usage: 500000. See https://upstash.com/docs"
DAILY = "ERR max daily request limit exceeded. Limit: 10000, Usage: 10000. See https://upstash.com/docs"
REPLIES: dict[str, tuple[dict[str, Any], str]] = {
    "401": ({"status": 401, "body": b'{"error":"WRONGPASS invalid or missing auth token"}'}, "unauthorized"),
    "403": ({"status": 403}, "unauthorized"),
    "429": ({"status": 429, "body": b'{"error":"ERR too many requests"}'}, "throttled"),
    "429-quota": ({"status": 429, "body": json.dumps({"error": QUOTA}).encode()}, "quota"),
    "400-quota": ({"status": 400, "body": json.dumps({"error": QUOTA}).encode()}, "quota"),
    "400-daily-quota": ({"status": 400, "body": json.dumps({"error": DAILY}).encode()}, "quota"),
    "item-quota": ({"body": item(error=QUOTA)}, "quota"),
    "item-daily-quota": ({"body": item(error=DAILY)}, "quota"),
    "400": ({"status": 400, "body": b'{"error":"ERR failed to parse pipeline request"}'}, "server"),
    "404": ({"status": 404}, "server"),
    "500": ({"status": 500}, "server"),
    "502-html": ({"status": 502, "body": b"<html>Bad gateway</html>"}, "server"),
    "redirect": ({"status": 301, "headers": {"location": "https://elsewhere.example"}}, "server"),
    "204": ({"status": 204, "body": b""}, "server"),
    "item-error": ({"body": item(error="WRONGTYPE Operation against a key")}, "command"),
    "empty": ({"body": b""}, "protocol"),
    "text": ({"body": b"The service is starting"}, "protocol"),
    "half": ({"body": OK[:8]}, "protocol"),
    "cut": ({"cut": 0.5}, "connection"),
    "object": ({"body": b'{"result":"v"}'}, "protocol"),
    "none": ({"body": b"[]"}, "protocol"),
    "too-many": ({"body": b'[{"result":"v"},{"result":"v"}]'}, "protocol"),
    "no-result": ({"body": b"[{}]"}, "protocol"),
    "number-item": ({"body": b"[5]"}, "protocol"),
    "map-result": ({"body": item(result={"a": 1})}, "protocol"),
    "float-result": ({"body": item(result=0.5)}, "protocol"),
    "list-for-text": ({"body": item(result=["v"])}, "protocol"),
    "number-error": ({"body": item(error=5)}, "protocol"),
    "nan": ({"body": b"[{\"result\":NaN}]"}, "protocol"),
    "deep": ({"body": b"[" * 100_000}, "protocol"),
    "gzip": ({"body": gzip.compress(OK), "headers": {"content-encoding": "gzip"}}, "protocol"),
    "no-answer": ({"hold": True}, "timeout"),
    "trickle": ({"trickle_s": 0.1}, "timeout"),
}  # fmt: skip


@pytest.mark.parametrize(("reply", "kind"), REPLIES.values(), ids=REPLIES)
async def test_classification(wire: Upstash, script: Script, reply: dict[str, Any], kind: str) -> None:
    """CASES 27: every unusable reply is RedisDown of a kind, within the budget, after one attempt."""
    loop = patient()
    script.reset(**{"body": OK, **reply, "waits": loop.jump})
    began = loop.time()
    with pytest.raises(RedisDown) as down:
        await wire.run(GET)
    assert loop.time() - began == pytest.approx(TIMEOUT_S if kind == "timeout" else 0, abs=0.1)
    assert (down.value.kind, script.asked) == (kind, 1)
    assert "the-token" not in str(down.value)


async def test_refused_connection() -> None:
    """Nobody listens: at once, a kind of its own."""
    async with new_pool() as pool:
        with pytest.raises(RedisDown) as down:
            await Upstash(pool, "http://127.0.0.1:9", "t", 0.2, 0.5).run(GET)
    assert down.value.kind == "connection"


async def test_neighbours_of_a_failed_command(wire: Upstash, script: Script) -> None:
    """One refused command of a round trip leaves its neighbours their replies."""
    script.body = json.dumps([{"result": 1}, {"error": "ERR no"}, {"result": None}]).encode()
    assert await wire.send([("INCR", "a"), ("NO",), ("GET", "b")]) == [1, CommandError("ERR no"), None]


async def test_real_replies(upstash: RedisFront, subject: str) -> None:
    """Against the real Redis: text, numbers, nil, lists and Korean come back as they are; no command, no request."""
    async with new_pool() as pool:
        wire = Upstash(pool, upstash.url, upstash.token, 5, 5)
        before = upstash.control.requests()
        assert await wire.send([]) == []
        replies = await wire.send(
            [
                ("SET", subject, "디스크 \N{SLIGHTLY SMILING FACE} \0"),
                ("GET", subject),
                ("STRLEN", subject),
                ("MGET", subject, "no"),
            ]
        )
        assert upstash.control.requests() == before + 1
    assert replies == ["OK", "디스크 🙂 \0", 16, ["디스크 🙂 \0", None]]
