"""The ledger: what is counted, what counting costs, what is lost and what is not."""

from datetime import UTC, datetime
from typing import Any

import pytest

from lib.base.calendar import month_ends_ms
from lib.base.clock import Clock
from lib.base.events import RequestDone
from lib.ledger import places, reading
from lib.ledger.batches import RECENT
from lib.ledger.counts import Counts
from lib.ledger.reading import Reading
from lib.ledger.recent import EVERY
from lib.ledger.table import months, place
from tests.rig.ledger import CRON, MIDMONTH_MS, World

pytestmark = pytest.mark.anyio


def total(world: World, *name: str) -> int:
    """What Redis itself holds of a counter in the present month."""
    kind, offset = place(name)
    month = months(world.time.ms)[0]
    values = world.server.bitfield(f"ledger:2:{month}").get(kind, offset).execute()
    return int(values[0])


async def test_counts_every_command_that_is_billed(world: World) -> None:
    """After any number of requests, what is in Redis and what is pending add up to the bill."""
    one = world.instance()
    for number in range(100):
        await one.ask(f"question {number % 40}")
    pending = one.parts.ledger.pending().get(place(places.COMMANDS), 0)
    assert total(world, "redis_commands") + pending == sum(world.billed().values())
    assert total(world, "redis_commands") > 0


@pytest.mark.parametrize("count", [4, 1])
async def test_costs_less_than_two_percent(world: World, count: int) -> None:
    """600 requests, three quarters of them hits: the ledger's own commands, callers included, are below 2 %."""
    instances = [world.instance() for _ in range(count)]
    for number in range(600):
        await instances[number % count].ask(f"question {number // 4 % 37}")
    written = world.server.bitfield("ledger:2:2025-11").get(*place(places.WRITES)).execute()[0]
    bill = world.billed()
    # What sets TTLs, with a month's first writes, does not grow with the requests.
    assert 0 < written + bill.get("lpush", 0) < 0.02 * sum(bill.values()), f"{written} writes in {bill}"
    assert world.server.llen(RECENT.key) == written // count // EVERY * count


async def test_rides_with_the_write_back(world: World) -> None:
    """Counts that are due when an answer is stored need no round trip of their own."""
    one = world.instance(LEDGER_FLUSH_COMMANDS="2")
    for number in range(reading.FIRST_WRITES + 1):
        await one.ask(f"question {number}")
    before, written = world.front.control.requests(), total(world, "writes")
    await one.ask("another")
    # One round trip counted and looked up, one took the lock, and the last wrote back.
    assert world.front.control.requests() - before == 3
    assert total(world, "writes") == written + 1


async def test_nothing_is_lost_while_redis_is_out(world: World) -> None:
    """What could not be written is written when Redis is back, each request once."""
    one = world.instance(LEDGER_FLUSH_COMMANDS="1", REDIS_COOLDOWN_MS="1")
    await one.ask("before")
    world.redis_down()
    for number in range(5):
        await one.ask(f"meanwhile {number}")
        world.time.ms += 1_000
    world.front.faults.clear()
    # What failed on its way is taken up again once no reply can come any more.
    world.time.later(60)
    await one.ask("after")
    await one.parts.ledger.settle(1)
    asked = sum(total(world, "requests", "ai/supervisor", decision) for decision in places.DECISIONS)
    assert asked == 7
    assert total(world, "modes", "local") == 5


async def test_the_bound_on_what_a_killed_instance_loses(world: World) -> None:
    """Whenever it is killed, at most LEDGER_FLUSH_COMMANDS and what one request cost are missing."""
    one = world.instance()
    for number in range(150):
        await one.ask(f"question {number % 9}")
        pending = one.parts.ledger.pending().get(place(places.COMMANDS), 0)
        assert pending < 64 + 6


async def test_little_traffic_is_counted_too(world: World) -> None:
    """Six instances, each killed after 12 requests in an hour: what is missing is the last request of each."""
    for number in range(6):
        one = world.instance()
        for asked in range(12):
            await one.ask(f"question {number} {asked}")
            world.time.later(301)
    # The first request of an instance starts its clock; from then on each one is written with the next.
    assert sum(total(world, "requests", "ai/supervisor", each) for each in places.DECISIONS) >= 6 * 11
    # With the eighth of each instance its callers go along, as one more command.
    assert total(world, "time_flushes") == 6 * (11 + 1)


async def test_a_refused_caller_is_counted_by_time_as_well(world: World) -> None:
    """Requests that cost no command are worth one every five minutes."""
    one = world.instance(RATELIMIT_AI_SUPERVISOR="1/day")
    for _ in range(4):
        await one.ask("again")
    world.time.later(301)
    await one.ask("again")
    assert total(world, "requests", "ai/supervisor", "refuse") == 4
    before = total(world, "writes")
    await one.ask("again")
    assert total(world, "writes") == before


async def test_the_bound_on_what_time_costs(world: World) -> None:
    """However many instances there are and however long they live, flushes by time stay below 2 % of the plan."""
    plan = 20_000
    for _ in range(60):
        one = world.instance(REDIS_MONTH_COMMANDS=str(plan))
        for _ in range(20):
            await one.ask("the same")
            world.time.later(301)
        if world.time.ms > MIDMONTH_MS + 15 * 86_400_000:
            break
    found = total(world, "time_flushes")
    assert 0 < found < 0.02 * plan
    assert world.server.get("thrift:2025-11") == "0q/20000"


@pytest.mark.parametrize("bills", [True, False], ids=["billed", "a Redis of one's own"])
async def test_the_bound_on_what_requests_without_commands_cost(world: World, bills: bool) -> None:
    """A caller who is refused from memory and never stops: what counting it costs stays below 2 % of the plan."""
    plan, flushes = 2_500, 80
    one = world.instance(REDIS_MONTH_COMMANDS=str(plan), REDIS_BILLED=str(bills).lower())
    ledger = one.parts.ledger
    refused = RequestDone("id", "POST", "/api/ai/supervisor", 429, "refuse", "blocked", "a caller", mode="redis")
    for _ in range(flushes):
        for _ in range(1_000):
            ledger.listen(refused)
        await ledger.settle()
        # It is read back twice a minute.
        world.time.later(31)
    written = total(world, "writes")
    assert written < 0.02 * plan if bills else written >= flushes
    assert world.server.get("thrift:2025-11") == ("0q/2500" if bills else None)
    # None of them is lost: the next flush that commands call for takes them along.
    ledger.sent([("GET", "a key")] * 100)
    await ledger.settle()
    assert total(world, "requests", "ai/supervisor", "refuse") == flushes * 1_000


async def test_who_is_told_to_be_quiet_and_when_that_ends(world: World) -> None:
    """All instances read the same text; the daily job lifts it once the month has passed enough."""
    server = world.server
    server.bitfield("ledger:2:2025-11").set(*place(places.TIME_FLUSHES), 6_000).set(
        *place(places.WRITES), 6_000
    ).execute()
    one, other = world.instance(), world.instance()
    for number in range(40):
        await one.ask(f"question {number}")
    assert server.get("thrift:2025-11") == "0q/500000"
    await other.ask("first")
    before = total(world, "writes")
    world.time.later(301)
    await other.ask("second")
    assert total(world, "writes") == before
    world.time.ms += 6 * 86_400_000
    await one.http.get("/api/cron/daily", headers=CRON)
    assert server.get("thrift:2025-11") == "0/500000"
    await other.ask("third")
    assert total(world, "time_flushes") == 6_001


async def test_an_orderly_end_loses_nothing_worth_a_command(world: World) -> None:
    """An instance that is shut down flushes what it has."""
    one = world.instance()
    for number in range(6):
        await one.ask(f"question {number}")
    await one.parts.ledger.close()
    assert total(world, "requests", "ai/supervisor", "compute") == 6


async def test_every_string_has_a_ttl(world: World) -> None:
    """No key of the ledger, its alerts or its step is left without one, in the month's last day either."""
    for at in (MIDMONTH_MS, int(datetime(2025, 11, 30, 20, tzinfo=UTC).timestamp() * 1000)):
        world.time.ms = at
        one = world.instance(LEDGER_FLUSH_COMMANDS="1", REDIS_MONTH_COMMANDS="100")
        for number in range(30):
            await one.ask(f"question {number}")
    found: Any = world.server.keys("*")
    # Epochs are few, and have none: an evicted one is a miss.
    mine = [key for key in found if not key.startswith(("rl:", "epoch:2"))]
    assert {"ledger:2:2025-11", "ledger:2:2025-12", "thrift:2025-11"} <= set(mine)
    assert [key for key in mine if world.server.ttl(key) == -1] == []


async def test_the_last_day_is_whole_over_the_end_of_a_month(world: World) -> None:
    """At 02:00 on the first, the last 24 hours hold what was asked at 23:00, and the new month's totals do not."""
    world.time.ms = int(datetime(2025, 11, 30, 23, tzinfo=UTC).timestamp() * 1000)
    one = world.instance(LEDGER_FLUSH_COMMANDS="1")
    await one.ask("in November")
    await one.parts.ledger.settle(1)
    world.time.ms += 3 * 3_600_000
    seen = await world.instance().overview()
    assert sum(each["compute"] for each in seen["day"]) == 1
    redis = seen["allowances"][0]
    assert redis["used"] < 5
    assert redis["resetsAt"] == int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())


async def test_the_daily_job_takes_the_vendors_figure(world: World) -> None:
    """The vendor's count replaces ours, and what is counted since is added to it."""
    world.outside.month_requests = 123_456
    one = world.instance(
        UPSTASH_EMAIL="me@example.com",
        UPSTASH_API_KEY="key",
        UPSTASH_API_URL=world.outside.url,
        LEDGER_FLUSH_COMMANDS="1",
    )
    await one.ask("before")
    reply = await one.http.get("/api/cron/daily", headers=CRON)
    assert (reply.status_code, reply.json()["vendor"]) == (200, "corrected")
    first = (await world.instance().overview())["allowances"][0]
    assert (first["source"], first["asOf"]) == ("vendor", world.time.ms // 1000)
    assert 123_456 <= first["used"] <= 123_456 + 10
    for number in range(20):
        await one.ask(f"question {number}")
    world.time.ms += 3_600_000
    after = (await world.instance().overview())["allowances"][0]["used"]
    assert after >= 123_456 + 20 * 2


@pytest.mark.parametrize("month_requests", ["many", None, -1], ids=["text", "missing", "negative"])
async def test_a_vendor_that_makes_no_sense_changes_nothing(world: World, month_requests: object) -> None:
    """A figure that is no count is reported as unavailable, and ours stands."""
    world.outside.month_requests = month_requests
    one = world.instance(UPSTASH_EMAIL="me@example.com", UPSTASH_API_KEY="key", UPSTASH_API_URL=world.outside.url)
    reply = await one.http.get("/api/cron/daily", headers=CRON)
    assert reply.json()["vendor"] == "unavailable"
    assert (await one.overview())["allowances"][0]["source"] == "counted"


async def test_a_string_of_another_kind_disturbs_no_request(world: World) -> None:
    """Where the ledger's key holds something else, requests are answered as ever."""
    world.server.hset("ledger:2:2025-11", "a", "b")
    one = world.instance(LEDGER_FLUSH_COMMANDS="1")
    for number in range(3):
        reply = await one.ask(f"question {number}")
        assert (reply.status_code, reply.headers["x-guard-mode"]) == (200, "redis")


def test_days_without_redis_keep_the_totals_and_the_last_day() -> None:
    """What waits for the next flush does not grow with the length of an outage."""
    counts, minutes = Counts(), 3 * 24 * 60
    for minute in range(minutes):
        totals, timed = counts.at(MIDMONTH_MS + minute * 60_000)
        totals[places.COMMANDS] += 1
        timed["serve"] += 1
    now_ms = MIDMONTH_MS + (minutes - 1) * 60_000
    by_place = counts.places()
    assert list(by_place) == ["2025-11"]
    seen = Reading(now_ms, "2025-11", by_place["2025-11"])
    assert seen.total(*places.COMMANDS) == minutes
    assert sum(seen.by_hour("serve")[1:]) >= 23 * 60
    assert sum(seen.by_five_minutes("serve")[:-1]) == 60
    assert len(by_place["2025-11"]) < 400


def counted_by_0_1(world: World, commands: int, vendor: tuple[int, int] | None = None) -> None:
    """As if version 0.1 had counted so many commands this month; the vendor's figure, and what was counted then."""
    # Its places are 48 bits each: 1 has the commands, 15 to 17 the vendor's figure, what was counted then, and when.
    string = world.server.bitfield("ledger:1:2025-11").set("u48", "#1", commands)
    if vendor:
        string = string.set("u48", "#15", vendor[0]).set("u48", "#16", vendor[1]).set("u48", "#17", 1_762_000_000)
    string.execute()


def in_0_1(world: World) -> tuple[int, list[int]]:
    """The length of 0.1's string, and its first numbers."""
    numbers = world.server.bitfield("ledger:1:2025-11")
    for number in range(20):
        numbers = numbers.get("u48", f"#{number}")
    found: Any = numbers.execute()
    return world.server.strlen("ledger:1:2025-11"), found


@pytest.mark.parametrize(
    ("commands", "vendor", "earlier"),
    [
        pytest.param(420_000, None, 420_000, id="as counted"),
        pytest.param(1_000, (419_500, 500), 420_000, id="by the vendor's figure"),
    ],
)
async def test_a_month_that_version_0_1_began(
    world: World, commands: int, vendor: tuple[int, int] | None, earlier: int
) -> None:
    """Its Redis commands count on, its string stays as it is, and the step of thrift is not lowered meanwhile."""
    counted_by_0_1(world, commands, vendor)
    before = in_0_1(world)
    world.server.set("thrift:2025-11", 1, px=86_400_000)
    instances = [world.instance(LEDGER_FLUSH_COMMANDS="1") for _ in range(5)]
    for number in range(4):
        for each in instances:
            await each.ask(f"question {number}")
            assert world.server.get("thrift:2025-11") == "1"
    redis = (await world.instance().overview())["allowances"][0]
    assert earlier < redis["used"] < earlier + 300
    assert total(world, "earlier_commands") == earlier
    assert in_0_1(world) == before


@pytest.mark.parametrize("instances", [1, 4])
async def test_a_new_month_costs_little(world: World, instances: int) -> None:
    """The first three writes of a string set its TTL and look for 0.1's counts in one round trip; later ones do not."""
    made = [world.instance(LEDGER_FLUSH_COMMANDS="1") for _ in range(instances)]
    for number in range(8):
        await made[number % instances].ask(f"question {number}")
    assert total(world, "writes") >= 8
    assert world.billed()["bitfield_ro"] == reading.FIRST_WRITES


async def test_a_string_of_0_1_that_is_none_disturbs_nothing(world: World) -> None:
    """Where its key holds something else, the month begins at what 0.2 counts."""
    world.server.hset("ledger:1:2025-11", "a", "b")
    one = world.instance(LEDGER_FLUSH_COMMANDS="1")
    for number in range(5):
        reply = await one.ask(f"question {number}")
        assert (reply.status_code, reply.headers["x-guard-mode"]) == (200, "redis")
    assert total(world, "redis_commands") > 0
    assert total(world, "earlier_commands") == 0
    assert world.server.ttl("ledger:2:2025-11") > 0


async def test_two_instances_add_up(world: World) -> None:
    """Counts of several instances are one total, and one command reads them."""
    one, two = world.instance(), world.instance()
    for each in (one, two):
        for number in range(4):
            await each.ask(f"question {number}")
        await each.parts.ledger.close()
    store = one.parts.guard.limits.redis
    assert store is not None
    world.forget_counts()
    seen = await store.run(reading.read(world.time.ms), "read", 5)
    assert world.billed() == {"bitfield_ro": 1}
    decided = {decision: seen.total("requests", "ai/supervisor", decision) for decision in ("serve", "compute")}
    assert decided == {"serve": 4, "compute": 4}


async def test_the_month_is_read_back_twice_a_minute(world: World) -> None:
    """A flush reads the whole month only where the last reading is half a minute old, or somebody looks at it."""
    one = world.instance(LEDGER_FLUSH_COMMANDS="1")
    ledger = one.parts.ledger
    # Durations are set by hand as well: however slow the machine is, none of it passes by itself.
    ledger.clock = Clock(lambda: world.time.ms, lambda: world.time.ms / 1000, world.time.sleep)
    for number in range(reading.FIRST_WRITES + 1):
        await one.ask(f"question {number}")
    redis, before = ledger.redis, total(world, "rpc_calls")
    assert redis is not None

    async def flush(*, reads: bool = False) -> Reading | None:
        ledger.called()
        ledger.sent([("GET", "a key")] * 2)
        op = ledger.take(1, reads=reads)
        assert op is not None
        return await redis.run(op, "ledger", 2.0)

    assert await flush() is None
    world.time.ms += 29_000
    assert await flush() is None
    read = await flush(reads=True)
    assert read is not None
    world.time.ms += 29_000
    assert await flush() is None
    world.time.ms += 2_000
    read = await flush()
    assert read is not None
    assert read.total("rpc_calls") == total(world, "rpc_calls") == before + 5
    # A new month is read at once, whenever the old one was.
    world.time.ms = month_ends_ms(world.time.ms) + 1
    assert await flush() is not None


async def test_what_was_counted_before_a_month_ends_is_written_after_it(world: World) -> None:
    """The first flush of a month may write to two strings: it disturbs no request, and nothing counts twice."""
    one = world.instance(LEDGER_FLUSH_COMMANDS="1")
    world.time.ms = month_ends_ms(world.time.ms) - 1_000
    await one.ask("the month's last question")
    world.time.ms += 2_000
    flushes = one.parts.ledger.flushes
    for number in range(4):
        reply = await one.ask(f"question {number}")
        assert (reply.status_code, reply.headers["x-guard-mode"]) == (200, "redis")
    assert one.parts.ledger.flushes > flushes
    assert one.parts.ledger.pending().get(place(places.COMMANDS), 0) < 5
    await one.parts.ledger.close()
    kind, offset = place(places.COMMANDS)
    november, december = (
        int(world.server.bitfield(f"ledger:2:{month}").get(kind, offset).execute()[0])
        for month in ("2025-11", "2025-12")
    )
    left = one.parts.ledger.pending().get((kind, offset), 0)
    assert november + december + left == sum(world.billed().values())


async def test_a_flush_by_time_counts_each_string_that_it_writes(world: World) -> None:
    """A month's first flush may write to two; so many commands are counted against what time may cost."""
    one = world.instance()
    world.time.ms = month_ends_ms(world.time.ms) - 1_000
    await one.ask("the month's last question")
    world.time.later(302)
    await one.ask("a question of the new month")
    assert (total(world, "time_flushes"), total(world, "writes")) == (2, 1)
    world.time.later(302)
    await one.ask("another")
    assert (total(world, "time_flushes"), total(world, "writes")) == (3, 2)


async def test_a_new_month_is_read_whatever_is_pending(world: World) -> None:
    """What an instance has counted weeks ago, and has slept on, is written to its month; the present one is read."""
    one = world.instance()
    await one.ask("a question")
    world.time.later((month_ends_ms(world.time.ms) - world.time.ms) / 1000 + 3 * 86_400)
    seen = await one.overview()
    assert (seen["source"], seen["mode"]) == ("redis", "redis")
    assert seen["allowances"][0]["used"] is not None
    november = world.server.bitfield("ledger:2:2025-11").get(*place(("requests", "ai/supervisor", "compute")))
    assert november.execute() == [1]
