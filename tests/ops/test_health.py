"""The health report, in each state of the parts, and what asking for it costs."""

from typing import Any

import pytest

from lib.breaker.circuit import Circuit
from tests.rig.clock import NOON_MS, about_timeouts
from tests.rig.guard import Rig
from tests.rig.instance import together

pytestmark = pytest.mark.anyio
OPEN = Circuit("open", generation=1, until_ms=NOON_MS + 60_000, since_ms=NOON_MS, reason="server")


OUT: dict[str, Any] = {"kind": "refuse"}
NO_REDIS = {"REDIS_ENABLED": "false"}
NO_SUPABASE: dict[str, str | None] = {"SUPABASE_URL": None, "SUPABASE_SERVICE_ROLE_KEY": None}
STATES: dict[str, tuple[dict[str, str | None], Any, Any, bool, tuple[int, str, str, str, str]]] = {
    "all-up": ({}, None, None, False, (200, "ok", "redis", "up", "up")),
    "redis-refused": ({}, OUT, None, False, (200, "degraded", "supabase", "down", "up")),
    "redis-hangs": ({}, {"kind": "hang"}, None, False, (200, "degraded", "supabase", "down", "up")),
    "redis-html": ({}, {"kind": "html"}, None, False, (200, "degraded", "supabase", "down", "up")),
    "supabase-out": ({}, None, OUT, False, (200, "ok", "redis", "up", "down")),
    "both-out": ({}, OUT, OUT, False, (200, "degraded", "local", "down", "down")),
    "redis-disabled": ({**NO_REDIS}, None, None, False, (200, "ok", "supabase", "disabled", "up")),
    "redis-disabled-and-supabase-out": ({**NO_REDIS}, None, OUT, False, (200, "degraded", "local", "disabled", "down")),
    "no-supabase": (NO_SUPABASE, None, None, False, (200, "ok", "redis", "up", "not_configured")),
    "no-supabase-redis-out": (NO_SUPABASE, OUT, None, False, (200, "degraded", "local", "down", "not_configured")),
    "backend-open": ({}, None, None, True, (503, "down", "redis", "up", "up")),
}


@about_timeouts
@pytest.mark.parametrize(("environ", "redis", "supabase_out", "opened", "expected"), STATES.values(), ids=STATES)
async def test_states(
    rig: Rig,
    environ: dict[str, str | None],
    redis: Any,
    supabase_out: Any,
    opened: bool,
    expected: tuple[int, str, str, str, str],
) -> None:
    """On an instance that has served nothing yet: 200 while questions can be answered, in whatever mode; 503 if not."""
    if redis:
        rig.upstash.fault(**redis)
    if supabase_out:
        rig.supabase.fault(**supabase_out)
    if opened:
        rig.store(OPEN)
    reply = await rig.instance(**environ).health()
    report = reply.json()
    status, overall, mode, redis_state, supabase_state = expected
    assert (reply.status_code, report["status"]) == (status, overall)
    assert (report["redis"]["state"], report["supabase"]["state"]) == (redis_state, supabase_state)
    # Where there is one function an instance, the mode that this very instance last served in says nothing.
    assert (report["mode"], reply.headers["x-guard-mode"]) == (mode, mode)
    assert (report["modeSince"], report["modeReason"].split()[0]) == (NOON_MS // 1000, "redis")
    assert report["requestId"] == reply.headers["x-request-id"]
    backend: dict[str, object] = {"name": "cloud-run", "circuit": "closed", "failures": 0}
    if opened:
        backend |= {"circuit": "open", "retryAfter": 60, "reason": "server", "since": NOON_MS // 1000}
    assert report["providers"] == [backend]


@pytest.mark.parametrize(
    ("redis", "expected"),
    [pytest.param(None, (200, "ok", "redis"), id="up"), pytest.param(OUT, (200, "degraded", "supabase"), id="out")],
)
async def test_without_a_provider(rig: Rig, redis: Any, expected: tuple[int, str, str]) -> None:
    """Where no provider is configured only data is served, and the stores alone decide."""
    if redis:
        rig.upstash.fault(**redis)
    reply = await rig.instance(CLOUD_RUN_AI_URL=None).health()
    report = reply.json()
    assert (reply.status_code, report["status"], report["mode"]) == expected
    assert report["providers"] == []


KINDS: dict[str, tuple[dict[str, Any], str]] = {
    "timeout": ({"kind": "hang"}, "timeout"),
    "connection": ({"kind": "refuse"}, "connection"),
    "unauthorized": ({"kind": "status", "status": 401}, "unauthorized"),
    "server": ({"kind": "status", "status": 500}, "server"),
    "protocol": ({"kind": "not_json"}, "protocol"),
}


@about_timeouts
@pytest.mark.parametrize(("fault", "reason"), KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("store", ["redis", "supabase"])
async def test_reasons(rig: Rig, store: str, fault: dict[str, Any], reason: str) -> None:
    """A store that is down says how."""
    (rig.upstash if store == "redis" else rig.supabase).fault(**fault)
    # Both are asked at one time, and the timer that comes next is that of the one that hangs.
    patience = {"redis": "FALLBACK_TIMEOUT_MS", "supabase": "REDIS_TIMEOUT_MS"}[store]
    report = (await rig.instance(**{patience: "20000"}).health()).json()
    since = {"since": NOON_MS // 1000, "lastError": {"kind": reason, "at": NOON_MS // 1000}} if store == "redis" else {}
    assert report[store] == {"state": "down", "reason": reason, **since}


async def test_cost(rig: Rig) -> None:
    """A report costs at most one billed command, none while requests come, and callers at once share a check."""
    instance = rig.instance()
    rig.forget_counts()
    await together([instance.health() for _ in range(20)])
    assert rig.commands() == {"mget": 1}
    assert rig.upstash.requests() == 1
    rig.time.ms += 10_000
    await instance.ask()
    rig.forget_counts()
    rig.time.ms += 1_000
    await instance.health()
    assert rig.commands() == {}
    assert rig.upstash.requests() == 1


async def test_recovers(rig: Rig) -> None:
    """A second later a report shows that a part is back, and that it is gone again."""
    instance = rig.instance()
    states = []
    for out in (True, False, True):
        if out:
            rig.upstash.fault("refuse")
        else:
            rig.upstash.clear()
        rig.time.ms += 1_000
        states.append((await instance.health()).json()["status"])
    assert states == ["degraded", "ok", "degraded"]


async def test_mode_since(rig: Rig) -> None:
    """A mode's time and reason are those of its beginning, and stay while it lasts."""
    instance, told = rig.instance(), []
    for out in (False, False, True, True, False):
        if out:
            rig.upstash.fault("refuse")
        else:
            rig.upstash.clear()
        report = (await instance.health()).json()
        told.append((report["mode"], report["modeSince"] - NOON_MS // 1000, report["modeReason"]))
        rig.time.ms += 60_000
    assert told == [
        ("redis", 0, "redis up"),
        ("redis", 0, "redis up"),
        ("supabase", 120, "redis connection"),
        ("supabase", 120, "redis connection"),
        ("redis", 240, "redis up"),
    ]


async def test_every_provider_is_shown(rig: Rig) -> None:
    """All providers in their order; while one of them can be asked the main job can be served."""
    rig.store(OPEN)
    reply = await rig.instance(GEMINI_API_KEY="a-key").health()
    assert reply.status_code == 200
    shown = [(each["name"], each["circuit"]) for each in reply.json()["providers"]]
    assert shown == [("cloud-run", "open"), ("gemini", "closed")]


async def test_writes_nothing(rig: Rig) -> None:
    """Asking leaves no key in Redis."""
    await rig.instance().health()
    assert rig.server.dbsize() == 0


async def test_open_circuit_ends(rig: Rig) -> None:
    """When the 60 s are over the main job can be tried again, and health says so."""
    rig.store(OPEN)
    instance = rig.instance()
    assert (await instance.health()).status_code == 503
    rig.time.ms = OPEN.until_ms
    assert (await instance.health()).status_code == 200
