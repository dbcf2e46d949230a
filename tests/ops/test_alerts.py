"""Alerts: what is sent, once for all instances in a period, and that no request is affected."""

import asyncio
import json
from typing import Any
from urllib.parse import quote

import pytest

from lib.base.calendar import month_ends_ms
from lib.base.events import Alerted, CircuitChanged, ProviderFailure, RedisSlow, StorePhase, WebhookFailed
from lib.ledger import places
from lib.ledger.places import AlertKind
from lib.ledger.table import TOTALS, five_minute_place, hour_place, place
from lib.ops.activity import SENT
from lib.ops.alert_rules import Alert
from lib.ops.alerts import Alerts
from lib.redis import keys
from lib.redis.op import Op
from tests.rig.instance import Instance
from tests.rig.ledger import CRON, World
from tests.rig.supabase import SupabaseStandIn

pytestmark = pytest.mark.anyio


def kinds(world: World) -> list[tuple[str, str]]:
    """What the webhook was sent."""
    return [(each["kind"], each["about"]) for each in world.outside.alerts()]


def used(world: World, commands: int) -> None:
    """As if so many commands had been counted this month."""
    kind, offset = place(places.COMMANDS)
    world.server.bitfield("ledger:2:2025-11").set(kind, offset, commands).execute()


def listed(world: World) -> list[Any]:
    """The alerts in the list."""
    found: Any = world.server.lrange(SENT.key, 0, -1)
    return [json.loads(each) for each in found]


async def daily(instance: Instance) -> None:
    """Run the daily job."""
    reply = await instance.http.get("/api/cron/daily", headers=CRON)
    assert reply.status_code == 200


async def test_eighty_percent_is_sent_once_by_all(world: World) -> None:
    """At 80 % of the month Slack and the webhook get one alert, however many instances notice, and how often."""
    used(world, 400_000)
    instances = [world.instance() for _ in range(5)]
    await asyncio.gather(*(daily(each) for each in instances))
    await asyncio.gather(*(daily(each) for each in instances))
    assert kinds(world).count(("redis_month", "1")) == 1
    (sent,) = [each for each in world.outside.alerts("/slack") if "80 %" in each["text"]]
    assert "400,0" in sent["text"]
    assert "500,000" in sent["text"]


async def test_each_threshold_has_its_own(world: World) -> None:
    """90 and 95 % have an alert as well, each once; that of 80 % is not sent again."""
    one = world.instance()
    for commands in (400_000, 410_000, 450_000, 475_000, 490_000):
        used(world, commands)
        await daily(one)
    assert [each for each in kinds(world) if each[0] == "redis_month"] == [
        ("redis_month", "1"),
        ("redis_month", "2"),
        ("redis_month", "3"),
    ]


async def test_noticed_when_counts_are_written(world: World) -> None:
    """No daily job is needed: the instance that writes counts notices."""
    used(world, 450_000)
    one = world.instance(LEDGER_FLUSH_COMMANDS="2")
    for number in range(3):
        await one.ask(f"question {number}")
    assert ("redis_month", "2") in kinds(world)


async def test_a_budget_that_does_not_last(world: World) -> None:
    """Half of Gemini's day used within an hour: an alert says when it ends and when it resets."""
    one = world.instance(GEMINI_API_KEY="key")
    at = hour_place("calls.gemini", world.time.ms, "2025-11")
    world.server.bitfield("ledger:2:2025-11").set(*at, 120).execute()
    await daily(one)
    (sent,) = [each for each in world.outside.alerts() if each["about"] == "gemini requests"]
    assert sent["kind"] == "runs_out"
    assert "120 of 225 requests used" in sent["text"]
    assert "It resets on 15 November at 08:00 UTC" in sent["text"]


async def test_a_budget_of_tokens_that_does_not_last(world: World) -> None:
    """Whoever calls the provider knows what all have used, and needs no command more to notice."""
    world.outside.usage = {"promptTokens": 1_000, "completionTokens": 500}
    limits = {"CLOUD_RUN_LIMITS": "100/day,20000 tokens/day", "CLOUD_RUN_MONTH_VCPU_SECONDS": "0"}
    await world.instance(**limits).ask("another instance's")
    one = world.instance(**limits, LEDGER_FLUSH_COMMANDS="1")
    await one.ask("a question")
    (sent,) = [each for each in world.outside.alerts() if each["kind"] == "runs_out"]
    assert sent["about"] == "cloud-run tokens"
    assert "(3,000 of 20,000 tokens used)" in sent["text"]


async def test_a_month_of_computing_begins_anew(world: World) -> None:
    """What the page has read in one month calls for no alert in the next."""
    one = world.instance(LEDGER_FLUSH_COMMANDS="1")
    world.time.ms = month_ends_ms(world.time.ms) - 3_600_000
    world.server.set(keys.month("cloud-run", "2025-11"), 200_000_000)
    computing = next(each for each in (await one.overview())["allowances"] if each["service"] == "cloud-run")
    assert (computing["used"], computing["left"]) == (200_000, 0)
    world.time.ms += 2 * 3_600_000
    world.outside.posted.clear()
    for number in range(3):
        await one.ask(f"question {number}")
    assert one.parts.ledger.flushes > 0
    assert kinds(world) == []


async def test_a_circuit_opens_and_closes(world: World) -> None:
    """Both have an alert, sent by the instance that moved it."""
    one = world.instance(BREAKER_COOLDOWN_MS="100")
    world.outside.fails = True
    for number in range(3):
        await one.ask(f"question {number}")
    world.outside.fails = False
    world.outside.posted.clear()
    world.time.ms += 1_000
    await one.ask("the probe")
    # The webhook failed along with the backend: its instance tries the opening again.
    assert kinds(world) == [("circuit_closed", "cloud-run")]
    assert one.seen(WebhookFailed)
    world.time.later(60)
    await one.ask("a minute later")
    closed, opened = world.outside.alerts()
    assert (opened["kind"], opened["at"]) == ("circuit_open", closed["at"] - 1)
    assert opened["text"].endswith("Noticed on 14 November at 12:00 UTC.")
    assert [(each.kind, each.about) for each in one.seen(Alerted)].count(("circuit_open", "cloud-run")) == 1
    world.time.later(120)
    await one.ask("later still")
    assert len(world.outside.alerts()) == 2


async def test_a_switch_of_mode_is_sent_while_redis_is_out(world: World, supabase: SupabaseStandIn) -> None:
    """Without Redis, Supabase's limits see to it that one of many instances sends it."""
    given = {"SUPABASE_URL": supabase.url, "SUPABASE_SERVICE_ROLE_KEY": supabase.service_key}
    instances = [world.instance(**given) for _ in range(4)]
    world.redis_down()
    for number, each in enumerate(instances):
        assert (await each.ask(f"question {number}")).headers["x-guard-mode"] == "supabase"
    assert kinds(world) == [("mode", "supabase")]
    world.front.faults.clear()
    world.time.ms += 60_000
    for number, each in enumerate(instances):
        assert (await each.ask(f"question {number}")).headers["x-guard-mode"] == "redis"
    assert kinds(world) == [("mode", "supabase"), ("mode", "redis")]
    shown = {each["about"] for each in (await world.instance().overview())["alerts"]}
    assert shown == {"redis", "supabase"}


async def test_the_error_rate(world: World) -> None:
    """More than 1 % of the last hour's requests failed: an alert, once there were enough of them."""
    one = world.instance()
    at = world.time.ms - 600_000
    few = world.server.bitfield("ledger:2:2025-11")
    few.set(*five_minute_place("compute", at, "2025-11"), 30).set(*five_minute_place("fail", at, "2025-11"), 1)
    few.execute()
    await daily(one)
    assert kinds(world) == []
    seldom = world.server.bitfield("ledger:2:2025-11")
    seldom.set(*five_minute_place("compute", at, "2025-11"), 60).set(*five_minute_place("report", at, "2025-11"), 39)
    seldom.execute()
    await daily(one)
    assert kinds(world) == []
    assert (await one.overview())["errorRate"]["hour"] == 0.01
    many = world.server.bitfield("ledger:2:2025-11")
    many.set(*five_minute_place("compute", at, "2025-11"), 59).set(*five_minute_place("fail", at, "2025-11"), 2)
    many.execute()
    await daily(one)
    assert kinds(world) == [("error_rate", "")]
    assert "2 of the last hour's 100 requests failed (2.0 %)" in world.outside.alerts()[0]["text"]


async def test_a_slow_redis(world: World) -> None:
    """Three replies slower than 100 ms within five minutes: an alert, once an hour; one may be a new connection's."""
    one = world.instance(REDIS_SLOW_MS="10000")
    sent = []
    for wait_ms in (0, 200_000, 200_000, 50_000, 1_000, 3_600_000, 1_000, 1_000):
        world.time.ms += wait_ms
        one.parts.emit(RedisSlow(140.0))
        await one.ask("anything")
        sent.append(kinds(world).count(("redis_slow", "")))
    assert sent == [0, 0, 0, 1, 1, 1, 1, 2]


async def test_an_alert_leaves_no_key_without_a_ttl(world: World) -> None:
    """An alert before any count was written makes the month's string, and sees to its end."""
    one = world.instance()
    for _ in range(3):
        one.parts.emit(RedisSlow(140.0))
    await one.ask("anything")
    assert world.server.exists("ledger:2:2025-11")
    found: Any = world.server.keys("*")
    # Epochs are few, and have none: an evicted one is a miss.
    assert [key for key in found if world.server.ttl(key) == -1 and not key.startswith("epoch:2")] == []


@pytest.mark.parametrize("broken", ["fails", "nobody there"])
async def test_a_broken_webhook_touches_no_request(world: World, broken: str) -> None:
    """Requests are answered as ever; the alert is logged, and tried again."""
    url = {"fails": f"{world.outside.url}/hook", "nobody there": "http://127.0.0.1:9/"}[broken]
    world.outside.fails = False
    used(world, 400_000)
    one = world.instance(LEDGER_FLUSH_COMMANDS="1", ALERT_WEBHOOK_URL=url, SLACK_WEBHOOK_URL=None)
    await one.ask("warm")
    world.outside.fails = broken == "fails"
    for _ in range(3):
        one.parts.emit(RedisSlow(140.0))
    reply = await one.ask("warm")
    assert reply.status_code == 200
    assert one.seen(WebhookFailed)
    assert not world.server.keys("alert:redis_slow*")
    assert all("127.0.0.1" not in each.reason for each in one.seen(WebhookFailed))


async def test_an_event_among_many(world: World) -> None:
    """A circuit opens while hundreds of calls fail at one moment: none of them takes the alert's place."""
    one = world.instance()
    one.parts.emit(CircuitChanged("cloud-run", "suspect", "open", "timeout"))
    for _ in range(1_000):
        one.parts.emit(ProviderFailure("cloud-run", "timeout", "theirs"))
    await one.ask("anything")
    assert ("circuit_open", "cloud-run") in kinds(world)


async def test_what_is_sent_while_another_alert_is_written_down(world: World) -> None:
    """Requests of one instance send alerts at the same time: the list has each of them once."""
    one = world.instance()
    alerts = Alerts.of(one.parts)
    store = alerts.redis
    assert store is not None
    send, began, may_go_on = store.run, asyncio.Event(), asyncio.Event()

    class Held:
        """The way to Redis; the first note on it waits."""

        async def run(self, op: Op[Any], phase: StorePhase, left_s: float) -> Any:
            if op.commands[0][0] == "BITFIELD" and not began.is_set():
                began.set()
                await may_go_on.wait()
            return await send(op, phase, left_s)

    alerts.redis = Held()  # type: ignore[assignment] # of the store nothing else is used
    alerts.notice(CircuitChanged("gemini", "closed", "open", "timeout"))
    first = asyncio.create_task(alerts.settle())
    await began.wait()
    alerts.notice(CircuitChanged("groq", "closed", "open", "timeout"))
    await alerts.settle()
    may_go_on.set()
    await first
    assert sorted(each["about"] for each in listed(world)) == ["gemini", "groq"]
    for each in ("gemini", "groq"):
        noted = world.server.bitfield("ledger:2:2025-11").get(*place(AlertKind.CIRCUIT_OPEN.counter(each)))
        assert noted.execute() == [world.time.ms // 1000]


async def test_what_nobody_takes_is_tried_again(world: World) -> None:
    """Each minute, for an hour, and not with every request; whoever sends it first, it is sent once."""
    one, other = world.instance(), world.instance()
    world.outside.fails = True
    one.parts.emit(opening := CircuitChanged("gemini", "suspect", "open", "timeout"))

    async def tries() -> int:
        before = len(world.outside.alerts())
        await one.ask_anew()
        return len([each for each in world.outside.alerts()[before:] if each["about"] == "gemini"])

    assert [await tries() for _ in range(3)] == [1, 0, 0]
    world.time.later(60)
    assert [await tries() for _ in range(2)] == [1, 0]
    world.outside.fails = False
    other.parts.emit(opening)
    await other.ask_anew()
    world.time.later(60)
    assert await tries() == 0
    found = [each["kind"] for each in listed(world) if each["about"] == "gemini"]
    assert found == ["circuit_open"]


async def test_nobody_takes_it_for_an_hour(world: World) -> None:
    """What is older than that is no news any more."""
    one = world.instance()
    world.outside.fails = True
    one.parts.emit(CircuitChanged("gemini", "suspect", "open", "timeout"))
    await one.ask_anew()
    world.outside.fails = False
    world.outside.posted.clear()
    world.time.later(3_600)
    await one.ask_anew()
    assert "gemini" not in [each["about"] for each in world.outside.alerts()]


async def test_without_redis_its_own_instance_tries_again(world: World, supabase: SupabaseStandIn) -> None:
    """That Supabase has counted the first try keeps the second one back as little."""
    # Its rows live as long as the tests: a period that no other one has.
    world.time.ms += 86_400_000
    one = world.instance(SUPABASE_URL=supabase.url, SUPABASE_SERVICE_ROLE_KEY=supabase.service_key)
    world.redis_down()
    world.outside.fails = True
    await one.ask_anew()
    world.outside.fails = False
    world.outside.posted.clear()
    world.time.later(60)
    await one.ask_anew()
    assert ("mode", "supabase") in kinds(world)


async def test_alerts_are_on_the_page_without_any_webhook(world: World) -> None:
    """Who has no webhook sees them in the overview."""
    used(world, 400_000)
    one = world.instance(ALERT_WEBHOOK_URL=None, SLACK_WEBHOOK_URL=None)
    await daily(one)
    shown = (await world.instance().overview())["alerts"]
    assert {"kind": "redis_month", "about": "1", "at": world.time.ms // 1000} in shown
    assert one.seen(Alerted)


@pytest.mark.parametrize(
    ("headers", "environ", "status"),
    [
        pytest.param({}, {}, 401, id="no token"),
        pytest.param({"authorization": "Bearer nearly"}, {}, 401, id="another token"),
        pytest.param({"authorization": "Bearer "}, {"CRON_SECRET": None}, 403, id="none is set"),
        pytest.param({"authorization": "Bearer None"}, {"CRON_SECRET": None}, 403, id="none is set, and None is sent"),
    ],
)
async def test_the_daily_job_is_not_for_everybody(
    world: World, headers: dict[str, str], environ: dict[str, str | None], status: int
) -> None:
    """Without the platform's secret it is refused; a wrong one counts against its sender."""
    one = world.instance(**environ)
    world.forget_counts()
    assert (await one.http.get("/api/cron/daily", headers=headers)).status_code == status
    counted = {"bitfield": 1, "bitfield_ro": 1, "mget": 1, "expire": 1}
    assert world.billed() == (counted if headers and status == 401 else {})


@pytest.mark.parametrize("kind", AlertKind)
@pytest.mark.parametrize("about", ["", "gemini", "a server: *web-1*", "other"])
def test_every_alert_has_a_place(kind: AlertKind, about: str) -> None:
    """Whatever an alert is about, its time can be kept, and no two kinds or subjects share a key."""
    assert kind.counter(about) in TOTALS
    alert = Alert(kind, about, 1_763_121_601_000, "info", "")
    assert alert.ends_ms > alert.at_ms
    assert alert.key == f"alert:{kind.label}:{quote(about, safe='')}:{alert.period}"
    assert ":" not in alert.period
