"""The wire to Supabase: real PostgreSQL decides, and every other reply is classified."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import jwt
import pytest

from dev.postgres import Postgres
from dev.serve import ThreadedServer
from dev.supabase import supabase_app
from lib.base.http import new_client
from lib.limits.marker import UNKNOWN
from lib.limits.supabase import Supabase, SupabaseDown, Told
from lib.limits.window import empty, window
from tests.rig.clock import NOON_MS, PATIENT_BACKEND, patient
from tests.rig.script import Script, scripted
from tests.rig.supabase import SupabaseStandIn

pytestmark = pytest.mark.anyio
WINDOWS = (window("minute", 10), window("day", 100))


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, object]]:
    return PATIENT_BACKEND


@pytest.fixture(scope="module")
def script() -> Iterator[Script]:
    with scripted() as server:
        yield server


@pytest.fixture
async def wire(script: Script) -> AsyncIterator[Supabase]:
    script.reset()
    async with new_client() as client:
        yield Supabase(lambda: client, script.url, "the-key", 0.3)
    script.release()


def error(status: int, code: str | None, message: str = "no") -> dict[str, Any]:
    body = {"code": code, "details": None, "hint": None, "message": message}
    return {"status": status, "body": json.dumps(body).encode()}


def reply(allowed: object, *windows: object) -> dict[str, Any]:
    return {"body": json.dumps({"allowed": allowed, "fence": 0, "windows": windows}).encode()}


FULL = {"buckets": [[NOON_MS // 2_500 * 2_500, 50]]}
NONE: dict[str, Any] = {"buckets": []}
REPLIES: dict[str, tuple[dict[str, Any], str]] = {
    "401-jwt": (error(401, "PGRST301"), "unauthorized"),
    "401-expired": (error(401, "PGRST303"), "unauthorized"),
    "401-gateway": (
        {"status": 401, "body": b'{"message":"Invalid API key","hint":"Double check your API key."}'},
        "unauthorized",
    ),
    "403-privilege": (error(403, "42501"), "unauthorized"),
    "404-function": (error(404, "PGRST202"), "server"),
    "429-html": ({"status": 429, "body": b"<html>"}, "throttled"),
    "500": (error(500, "XX000"), "server"),
    "503-database": (error(503, "PGRST000"), "server"),
    "504-pool": (error(504, "PGRST003"), "server"),
    "502-html": ({"status": 502, "body": b"<html>Bad gateway</html>"}, "server"),
    "500-empty": ({"status": 500, "body": b""}, "server"),
    "500-list": ({"status": 500, "body": b"[]"}, "server"),
    "redirect": ({"status": 302, "headers": {"location": "https://elsewhere.example"}}, "server"),
    "text": ({"body": b"The service is starting"}, "protocol"),
    "empty": ({"body": b""}, "protocol"),
    "null": ({"body": b"null"}, "protocol"),
    "half": ({"body": b'{"allowed":'}, "protocol"),
    "list": ({"body": b"[]"}, "protocol"),
    "no-windows": ({"body": b'{"allowed":true,"fence":0}'}, "protocol"),
    "no-fence": ({"body": json.dumps({"allowed": True, "windows": [NONE, NONE]}).encode()}, "protocol"),
    "one-window": (reply(True, NONE), "protocol"),
    "text-as-allowed": (reply("yes", NONE, NONE), "protocol"),
    "no-buckets": (reply(True, {}, NONE), "protocol"),
    "text-as-count": (reply(True, {"buckets": [[0, "1"]]}, NONE), "protocol"),
    "long-bucket": (reply(True, {"buckets": [[0, 1, 2]]}, NONE), "protocol"),
    "against-the-rule": (reply(True, FULL, NONE), "protocol"),
    "refused-without-reason": (reply(False, NONE, NONE), "protocol"),
    "cut": ({"cut": 0.5}, "connection"),
    "not-gzip": ({"headers": {"content-encoding": "gzip"}}, "connection"),
    "no-answer": ({"hold": True}, "timeout"),
    "trickle": ({"trickle_s": 0.05}, "timeout"),
}


@pytest.mark.parametrize(("answer", "kind"), REPLIES.values(), ids=REPLIES)
async def test_classification(wire: Supabase, script: Script, answer: dict[str, Any], kind: str) -> None:
    """CASES 28: every unusable reply is SupabaseDown of a kind, within the budget, after one attempt."""
    loop = patient()
    script.reset(**answer, waits=loop.jump)
    started = loop.time()
    with pytest.raises(SupabaseDown) as down:
        await wire.spend("subject", "", WINDOWS, 1, NOON_MS)
    assert loop.time() - started < 1
    assert (down.value.kind, script.asked) == (kind, 1)
    assert "the-key" not in str(down.value)


async def test_refused_connection() -> None:
    """Nobody listens."""
    async with new_client() as client:
        with pytest.raises(SupabaseDown) as down:
            await Supabase(lambda: client, "http://127.0.0.1:9", "k", 0.3).spend("subject", "", WINDOWS, 1, NOON_MS)
    assert down.value.kind == "connection"


@pytest.mark.parametrize("which", ["anon", "wrong", "user"])
async def test_wrong_key(supabase: SupabaseStandIn, which: str) -> None:
    """A key that may not call the function is said to be one, by the real roles."""
    key = {"anon": supabase.anon_key, "wrong": "sb_secret_of_another_project", "user": "not.a.token"}[which]
    async with new_client() as client:
        with pytest.raises(SupabaseDown) as down:
            await Supabase(lambda: client, supabase.url, key, 5).spend("subject", "", WINDOWS, 1, NOON_MS)
    assert down.value.kind == "unauthorized"


@pytest.mark.parametrize("kind", ["sb_secret_...", "a token"])
async def test_each_kind_of_key(postgres: Postgres, subjects: Callable[[], str], kind: str) -> None:
    """The newer keys go into `apikey` alone; the older ones are tokens, and go into `Authorization` as well."""
    secret = "a secret of at least thirty-two bytes"
    key = "sb_secret_local" if kind == "sb_secret_..." else jwt.encode({"role": "service_role"}, secret, "HS256")
    app = supabase_app(postgres.uri, service_key=key, anon_key="sb_publishable_local", jwt_secret=secret)
    with ThreadedServer(app) as served:
        async with new_client() as client:
            quota, _ = await Supabase(lambda: client, served.url, key, 5).spend(subjects(), "", WINDOWS, 1, NOON_MS)
    assert quota.allowed


async def test_real_decisions(supabase: SupabaseStandIn, subjects: Callable[[], str]) -> None:
    """Ten pass, the eleventh does not, a floor counts, and a ping writes nothing."""
    async with new_client() as client:
        wire = Supabase(lambda: client, supabase.url, supabase.service_key, 5)
        subject = subjects()
        quotas = [(await wire.spend(subject, "", WINDOWS, 1, NOON_MS))[0] for _ in range(11)]
        assert [quota.allowed for quota in quotas] == [True] * 10 + [False]
        assert [quota.states[0].remaining for quota in quotas] == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0]
        assert quotas[-1].reason == "minute"
        nothing = empty(WINDOWS)
        told = Told(({NOON_MS // 2_500: 9}, {NOON_MS // 1_800_000: 9}), nothing, UNKNOWN, nothing)
        floored = [(await wire.spend(subject + "f", "", WINDOWS, 1, NOON_MS, told))[0] for _ in range(2)]
        assert [quota.allowed for quota in floored] == [True, False]
        await wire.ping(NOON_MS)
        await wire.ping(NOON_MS)


async def test_both_rules_end_a_window_at_the_same_time(supabase: SupabaseStandIn, subjects: Callable[[], str]) -> None:
    """To the millisecond: what Supabase still counts and the rule does not would look like a wrong migration."""
    subject, bucket_ms = subjects(), NOON_MS // 2_500 * 2_500
    async with new_client() as client:
        wire = Supabase(lambda: client, supabase.url, supabase.service_key, 10)
        quota, _ = await wire.spend(subject, "", WINDOWS, 10, bucket_ms)
        assert quota.allowed
        refused, _ = await wire.spend(subject, "", WINDOWS, 1, bucket_ms)
        retry_at_ms = refused.retry_at_ms
        assert retry_at_ms is not None
        for at_ms, allowed in ((retry_at_ms - 1, False), (retry_at_ms, True)):
            quota, _ = await wire.spend(subject, "", WINDOWS, 1, at_ms)
            assert quota.allowed is allowed
