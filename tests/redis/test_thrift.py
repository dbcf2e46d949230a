"""What is done more cheaply as Redis's month runs out, step by step, and that it ends with the month."""

from datetime import UTC, datetime
from typing import Any

import pytest

from lib.base.events import Alerted, ModeSwitched, ThriftChanged
from lib.ledger import places
from lib.ledger.table import place
from lib.redis import thrift
from tests.rig.ledger import CRON, World
from tests.rig.supabase import SupabaseStandIn

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("used", "step"),
    [(0, 0), (399_999, 0), (400_000, 1), (449_999, 1), (450_000, 2), (474_999, 2), (475_000, 3), (600_000, 3)],
)
def test_steps(used: int, step: int) -> None:
    """By default at 80, 90 and 95 % of 500,000."""
    assert thrift.step_of(used, 500_000, (80, 90, 95)) == step


def test_each_step_is_cheaper() -> None:
    """Every step asks Redis at most as often as the one before, in every respect."""
    for before, after in zip(thrift.STEPS, thrift.STEPS[1:], strict=False):
        assert before.flush <= after.flush
        assert before.read_s <= after.read_s
        assert before.refreshes >= after.refreshes
        assert before.asks_redis >= after.asks_redis
        assert before != after


@pytest.mark.parametrize("text", ["", "80", "80,90", "90,80,95", "0,1,2", "80,90,101", "a,b,c", "80,90,95,99"])
def test_percents_that_make_no_sense(text: str) -> None:
    """The error says what to write instead."""
    with pytest.raises(ValueError, match="for example '80,90,95'"):
        thrift.parse_percents(text)


def at_step(world: World, step: int) -> None:
    """As if another instance had found the month so far used up."""
    used = (0, 410_000, 460_000, 480_000)[step]
    world.server.bitfield("ledger:2:2025-11").set(*place(places.COMMANDS), used).execute()
    world.server.set("thrift:2025-11", f"{step}/500000", px=86_400_000)


@pytest.mark.parametrize(("step", "writes"), [(0, 9), (1, 3 + 1), (2, 0)])
async def test_counts_are_written_less_often(world: World, step: int, writes: int) -> None:
    """Each step multiplies what has to have been sent before counts are written: 4 commands, 16, 64."""
    at_step(world, step)
    one = world.instance(LEDGER_FLUSH_COMMANDS="4", REDIS_SLOW_MS="60000")
    await one.ask("first")
    world.forget_counts()
    for number in range(16):
        await one.ask(f"question {number % 2}")
    # 2 misses of 4 commands and 14 hits of 2. The first reading at step 1 sends an alert, which is counted as well.
    assert world.billed()["bitfield"] - 16 == writes


async def test_step_2_refreshes_nothing(world: World) -> None:
    """An aging answer is served as it is, and the backend is not asked behind the caller's back."""
    one = world.instance()
    await one.ask("a question")
    world.time.ms += 3_700_000
    at_step(world, 2)
    reply = await one.ask("a question")
    assert reply.headers["x-cache"] == "STALE"
    assert world.outside.asked == 1
    at_step(world, 0)
    await one.ask("a question")
    assert world.outside.asked == 2


async def test_step_3_counts_in_supabase(world: World, supabase: SupabaseStandIn) -> None:
    """Limits come from Supabase and Redis is not asked at all; the very limit goes on; a new month begins as usual."""
    world.time.ms = int(datetime(2025, 11, 30, 23, 59, 30, tzinfo=UTC).timestamp() * 1000)
    given: dict[str, Any] = {"SUPABASE_URL": supabase.url, "SUPABASE_SERVICE_ROLE_KEY": supabase.service_key}
    one = world.instance(RATELIMIT_AI_SUPERVISOR="5/hour", **given)
    caller = "10.77.0.1"
    for number in range(2):
        await one.ask(f"question {number}", caller)
    at_step(world, 3)
    assert (await one.ask("the one that brings the news", caller)).headers["x-guard-mode"] == "redis"
    world.forget_counts()
    replies = [await one.ask(f"later {number}", caller) for number in range(3)]
    assert [(each.status_code, each.headers["x-guard-mode"]) for each in replies[:2]] == [(200, "supabase")] * 2
    assert replies[2].status_code == 429
    assert {name: n for name, n in world.billed().items() if name not in ("set", "bitfield", "expire")} == {}
    assert one.seen(ModeSwitched)[-1].reason == "the month's Redis commands are nearly used up"
    assert (await one.overview())["mode"] == "supabase"
    world.time.ms += 60_000
    assert (await one.ask("in December", "10.77.0.2")).headers["x-guard-mode"] == "redis"
    # What Supabase admitted in November still counts in the hour.
    assert (await one.ask("in December", caller)).status_code == 429


async def test_step_3_without_supabase_goes_on_with_redis(world: World) -> None:
    """Where nobody else can count, Redis counts to its last command."""
    at_step(world, 3)
    one = world.instance()
    await one.ask("first")
    assert (await one.ask("second")).headers["x-guard-mode"] == "redis"


async def test_the_step_is_found_and_told(world: World) -> None:
    """Whoever writes counts beyond a threshold tells all instances, by one text that ends with the month."""
    one = world.instance(LEDGER_FLUSH_COMMANDS="4", REDIS_MONTH_COMMANDS="100", REDIS_MONTH_PERCENTS="10,20,90")
    for number in range(12):
        await one.ask(f"question {number}")
    assert world.server.get("thrift:2025-11") == "2/100"
    assert world.server.pttl("thrift:2025-11") <= 16.5 * 86_400_000
    two = world.instance(REDIS_MONTH_COMMANDS="100")
    await two.ask("anything")
    assert [each.before for each in two.seen(ThriftChanged)] == [0]
    assert (await two.overview())["thrift"] == 2


PLANS = {"a larger one": {"REDIS_MONTH_COMMANDS": "2000000"}, "none": {"REDIS_BILLED": "false"}}


@pytest.mark.parametrize("plan", PLANS)
async def test_another_plan_holds_at_once(world: World, supabase: SupabaseStandIn, plan: str) -> None:
    """Who buys more commands, or uses a Redis that bills none, deploys once and has Redis back: nothing is spared."""
    given: dict[str, Any] = {"SUPABASE_URL": supabase.url, "SUPABASE_SERVICE_ROLE_KEY": supabase.service_key}
    at_step(world, 3)
    before, after = world.instance(**given), world.instance(**given, **PLANS[plan])
    for number in range(3):
        await before.ask(f"question {number}")
        reply = await after.ask(f"another {number}")
        assert reply.headers["x-guard-mode"] == "redis"
    assert (await before.ask("one more")).headers["x-guard-mode"] == "supabase"
    overview = await after.overview()
    assert (overview["thrift"], overview["mode"]) == (0, "redis")
    # Who is left of the smaller plan goes on as it was.
    assert world.server.get("thrift:2025-11") == "3/500000"
    limits = [each["limit"] for each in overview["allowances"] if each["service"] == "upstash"]
    assert limits == ([2_000_000] if plan == "a larger one" else [])
    assert (await after.http.get("/api/cron/daily", headers=CRON)).status_code == 200
    assert after.seen(Alerted) == []
