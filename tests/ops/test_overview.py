"""Overview and metrics: what they say, what a read costs, and what they say when Redis says nothing."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lib.base.env import Secret
from lib.edge import tokens
from lib.ledger.places import REDIS_DURATION, WRITES
from lib.ledger.reading import FIRST_WRITES
from lib.ledger.table import place
from tests.rig.instance import ADMIN
from tests.rig.ledger import World

pytestmark = pytest.mark.anyio
OBSERVABILITY = Path(__file__).parents[2] / "docs" / "observability"


async def test_a_read_costs_two_commands(world: World) -> None:
    """However much there is to show: one round trip, 2 commands; the next within 2 minutes none; metrics share it."""
    one = world.instance(GEMINI_API_KEY="k", GROQ_API_KEY="k", OPENAI_API_KEY="k", OPENAI_LIMITS="9/day")
    # Not the month's first writes, each of which sets the TTL as well.
    world.server.bitfield("ledger:2:2025-11").set(*place(WRITES), FIRST_WRITES).execute()
    world.forget_counts()
    before = world.front.control.requests()
    await one.overview()
    assert world.billed() == {"bitfield_ro": 1, "mget": 1}
    assert world.front.control.requests() - before == 1
    world.time.ms += 119_000
    await one.overview()
    assert (await one.http.get("/api/metrics", headers=ADMIN)).status_code == 200
    assert sum(world.billed().values()) == 2
    world.time.ms += 1_000
    await one.overview()
    # What the first read cost is written by the second.
    assert world.billed() == {"bitfield_ro": 1, "bitfield": 1, "mget": 2}


async def test_a_budget_of_tokens_costs_two_more(world: World) -> None:
    """Today's and yesterday's counts of each such provider, in the same round trip; a calendar day's are today's."""
    zoned = "9/minute,5000 tokens/day@UTC"
    one = world.instance(GEMINI_API_KEY="k", GEMINI_LIMITS=zoned, GROQ_API_KEY="k", OPENAI_API_KEY="k")
    world.forget_counts()
    before = world.front.control.requests()
    await one.overview()
    assert world.front.control.requests() - before == 1
    assert world.billed() == {"bitfield_ro": 1 + 2 + 1, "mget": 1}


async def test_a_budget_of_tokens_has_a_row(world: World) -> None:
    """What all instances have used of it, as told by the backend, on an instance that has asked nothing itself."""
    world.outside.usage = {"promptTokens": 1_000, "completionTokens": 500}
    limits = {"CLOUD_RUN_LIMITS": "100/day,20000 tokens/day"}
    for number in range(2):
        await world.instance(**limits).ask(f"question {number}")
    seen = await world.instance(**limits).overview()
    (row,) = [each for each in seen["allowances"] if each["unit"] == "tokens"]
    assert (row["service"], row["period"], row["limit"]) == ("cloud-run", "24 hours", 20_000)
    assert (row["used"], row["left"], row["percent"], row["source"]) == (3_000, 17_000, 15.0, "counted")
    # 3,000 in the first hour: not for long.
    assert world.time.ms / 1000 < row["runsOutAt"] < world.time.ms / 1000 + 6 * 3_600


async def test_the_view_key_lets_the_edge_answer(world: World) -> None:
    """With the day's key in the address the reply may be kept at the edge; with the token itself it may not."""
    one = world.instance()
    day = "2025-11-14"
    key = tokens.view_of(Secret("admin-token-for-tests"), day)
    reply = await one.http.get("/api/overview", params={"view": key})
    assert reply.status_code == 200
    assert reply.headers["cache-control"] == "max-age=0, s-maxage=120, stale-while-revalidate=120"
    own = await one.http.get("/api/overview", headers=ADMIN)
    assert own.headers["cache-control"] == "private, no-store"
    assert (await one.http.get("/api/metrics", params={"view": key})).status_code == 401
    world.time.ms += 2 * 86_400_000
    assert (await one.http.get("/api/overview", params={"view": key})).status_code == 401


@pytest.mark.parametrize("view", ["", "2025-11-14.", "2025-11-14.0", "x" * 5_000, "é"])
async def test_other_view_keys_open_nothing(world: World, view: str) -> None:
    """A key that is none is refused."""
    assert (await world.instance().http.get("/api/overview", params={"view": view})).status_code == 401


async def test_what_it_says(world: World) -> None:
    """Requests by decision, hit rate, latency, circuits and allowances, of all instances."""
    one, two = world.instance(), world.instance()
    for number in range(6):
        await one.ask(f"question {number % 2}")
    await one.parts.ledger.close()
    seen = await two.overview()
    assert (seen["source"], seen["mode"], seen["thrift"]) == ("redis", "redis", 0)
    now = {"serve": 4, "compute": 2, "refuse": 0, "fail": 0}
    assert {k: seen["hour"][-1][k] for k in now} == now
    assert {k: seen["day"][-1][k] for k in now} == now
    assert len(seen["hour"]) == 13
    assert len(seen["day"]) == 25
    assert seen["hitRate"]["hour"] == pytest.approx(4 / 6, abs=1e-4)
    assert seen["errorRate"]["day"] == 0
    assert 0 < seen["latency"]["redis"]["p50"] <= seen["latency"]["redis"]["p95"]
    assert seen["circuits"][0]["state"] == "closed"
    redis, computing = seen["allowances"]
    assert redis["used"] + redis["left"] == redis["limit"] == 500_000
    assert redis["used"] >= 6 * 2
    assert (computing["service"], computing["limit"]) == ("cloud-run", 180_000)


async def test_an_instance_shows_what_it_has_not_handed_over(world: World) -> None:
    """On this machine, where all routes are one instance, a request is on the page at once."""
    one = world.instance()
    await one.ask("a question")
    assert (await one.overview())["hour"][-1]["compute"] == 1
    await one.ask("a question")
    assert (await one.overview())["hour"][-1]["serve"] == 1


async def test_without_redis(world: World) -> None:
    """When Redis is out or off, the instance's own figures, and the edge is not to keep them."""
    one = world.instance()
    await one.ask("before")
    world.redis_down()
    await one.ask("meanwhile")
    key = tokens.view_of(Secret("admin-token-for-tests"), "2025-11-14")
    reply = await one.http.get("/api/overview", params={"view": key})
    seen = reply.json()
    assert (seen["source"], seen["mode"], seen["hour"][-1]["compute"]) == ("instance", "local", 2)
    assert reply.headers["cache-control"] == "private, no-store"
    off = world.instance(REDIS_ENABLED="false", OPENAI_API_KEY="k")
    await off.ask("anything")
    without = await off.overview()
    assert without["hour"][-1]["compute"] == 1
    for each in [*seen["allowances"], *without["allowances"]]:
        assert (each["used"], each["left"], each["percent"], each["runsOutAt"]) == (None, None, None, None)
        assert each["limit"] > 0


COUNTERS = ("_total", "_bucket", "_count", "_sum")


async def test_no_counter_falls_in_an_outage(world: World) -> None:
    """A scraper that asks any instance, before an outage, in it and after it, never sees less of the month. CASE 40."""
    one, other, late = world.instance(), world.instance(), world.instance()
    highest: dict[object, float] = {}
    read_at: dict[object, float] = {}

    async def scrape(of: Any) -> int:
        """How many counters were taken, as Prometheus takes them: nothing older than what it has."""
        text = (await of.http.get("/api/metrics", headers=ADMIN)).text
        taken = 0
        for family in text_string_to_metric_families(text):
            for each in family.samples:
                if not each.name.endswith(COUNTERS):
                    continue
                name, at = (each.name, tuple(sorted(each.labels.items()))), float(str(each.timestamp))
                if at < read_at.get(name, 0.0):
                    continue
                assert each.value >= highest.get(name, 0.0), name
                highest[name], read_at[name] = each.value, at
                taken += 1
        return taken

    for number in range(9):
        await one.ask(f"question {number}")
    assert await scrape(one)
    world.time.ms += 60_000
    for number in range(9):
        await other.ask(f"another {number}")
    assert await scrape(other)
    # An instance that read Redis a minute before the other one says nothing new.
    assert await scrape(one) == 0
    world.redis_down()
    world.time.ms += 300_000
    for of in (one, other, late):
        await of.ask("meanwhile")
    assert await scrape(one) == 0
    assert await scrape(other) > 0
    assert await scrape(late) == 0
    world.front.faults.clear()
    world.time.later(60)
    for of in (late, one, other):
        await of.ask("after")
        await scrape(of)
        world.time.ms += 1_000
    assert highest["breakwater_requests_total", (("decision", "compute"), ("http_route", "/api/ai/supervisor"))] == 22


async def test_the_last_figures_with_their_time(world: World) -> None:
    """In an outage the page says what Redis said last, and when; in the next month nothing of it. CASE 40."""
    one = world.instance()
    await one.ask("before")
    before = await one.overview()
    read_at = world.time.ms // 1000
    world.redis_down()
    world.time.ms += 180_000
    seen = await one.overview()
    assert (seen["source"], seen["at"], seen["mode"]) == ("last", read_at, "local")
    used = [each["used"] for each in seen["allowances"]]
    assert all(now >= then["used"] for now, then in zip(used, before["allowances"], strict=True))
    world.time.ms += 20 * 86_400_000
    seen = await one.overview()
    assert seen["source"] == "instance"
    assert {each["used"] for each in seen["allowances"]} == {None}


async def test_what_fails_for_every_reason_counts_as_failed(world: World) -> None:
    """Errors of the backend, an open circuit and a spent budget are failures; a refused caller is none. CASE 40."""
    one = world.instance(CLOUD_RUN_LIMITS="4/day")
    world.outside.fails = True
    statuses = [(await one.ask(f"question {number}")).status_code for number in range(6)]
    assert statuses[-1] == 503
    world.outside.fails = False
    keys: Any = world.server.keys("cb:*")
    world.server.delete(*keys)
    spent = world.instance(CLOUD_RUN_LIMITS="1/day", RATELIMIT_AI_SUPERVISOR="2/minute")
    statuses += [(await spent.ask(f"more {number}")).status_code for number in range(3)]
    await one.parts.ledger.settle(1)
    await spent.parts.ledger.settle(1)
    hour = (await world.instance().overview())["hour"][-1]
    assert hour["fail"] == sum(status >= 500 for status in statuses)
    assert hour["refuse"] == statuses.count(429)
    assert hour["compute"] == statuses.count(200)


async def test_a_data_route_that_fails_counts_as_failed(world: World) -> None:
    """A watched database that cannot be reached is on the page as an answer that failed is. CASE 40."""
    one = world.instance(DB_CONNECTIONS="prod=postgres:PROD_URL", PROD_URL="postgresql://nobody@127.0.0.1:9/none")
    reply = await one.http.get("/api/monitoring/sessions", params={"connectionId": "prod"}, headers=ADMIN)
    assert reply.status_code == 503
    seen = await one.overview()
    assert seen["hour"][-1]["fail"] == 1
    assert seen["errorRate"]["hour"] == 1


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample by name and labels."""
    families = text_string_to_metric_families(text)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


async def test_metrics_hold_what_happened(world: World) -> None:
    """In the text format: requests by route and decision, modes, caches, histograms, circuits, the ledger."""
    one = world.instance()
    for number in range(6):
        await one.ask(f"question {number % 2}")
    reply = await one.http.get("/api/metrics", headers=ADMIN)
    assert reply.headers["content-type"].startswith("text/plain; version=")
    found = samples(reply.text)
    route = ("http_route", "/api/ai/supervisor")
    assert found["breakwater_requests_total", (("decision", "serve"), route)] == 4
    assert found["breakwater_responses_total", (route, ("status", "2xx"))] == 6
    assert found["breakwater_admissions_total", (("mode", "redis"),)] == 6
    assert found["breakwater_answers_total", (("cache", "miss"),)] == 2
    timed = (("http_request_method", "POST"), route)
    assert found["http_server_request_duration_seconds_count", timed] == 6
    assert found["http_server_request_duration_seconds_bucket", (timed[0], route, ("le", "+Inf"))] == 6
    assert found["db_client_operation_duration_seconds_count", (("db_system_name", "redis"),)] == 6
    calls = (("gen_ai_operation_name", "chat"), ("gen_ai_provider_name", "cloud-run"))
    assert found["gen_ai_client_operation_duration_seconds_count", calls] == 2
    assert found["breakwater_circuit_state", (("gen_ai_provider_name", "cloud-run"), ("state", "closed"))] == 1
    month = (("period", "month"), ("service", "upstash"), ("unit", "commands"))
    assert found["breakwater_allowance_limit", month] == 500_000
    assert found["breakwater_redis_commands_total", ()] == found["breakwater_allowance_used", month] > 0


async def test_bounds_of_a_histogram(world: World) -> None:
    """What takes exactly a bound is in its bucket; the sum is kept to the microsecond."""
    names = REDIS_DURATION.names()
    assert REDIS_DURATION.counts(5.0) == ((names[1], 1), (names[-1], 5_000))
    assert REDIS_DURATION.counts(5.001) == ((names[2], 1), (names[-1], 5_001))
    assert REDIS_DURATION.counts(99_999.0)[0] == (names[-2], 1)


@pytest.mark.parametrize("loaded", ["api.ai.supervisor", "api.ops", "api.ops, lib.app.wiring, lib.ops.admin"])
def test_only_a_request_for_metrics_loads_prometheus(loaded: str) -> None:
    """Neither the start of a function nor what other paths need loads the library of the text format."""
    code = f"import sys, {loaded}; print('prometheus_client' in sys.modules, 'lib.ops.metrics' in sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=OBSERVABILITY.parents[1], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"


def _expressions(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            if key == "expr":
                yield each
            else:
                yield from _expressions(each)
    elif isinstance(value, list):
        for each in value:
            yield from _expressions(each)


async def test_dashboard_and_rules_name_metrics_that_exist(world: World) -> None:
    """No panel and no rule asks for a name that the route does not give."""
    text = (await world.instance().http.get("/api/metrics", headers=ADMIN)).text
    given = {name for name, _ in samples(text)}
    given |= {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    asked = list(_expressions(json.loads((OBSERVABILITY / "grafana-dashboard.json").read_text())))
    asked.append((OBSERVABILITY / "prometheus-rules.yml").read_text())
    prefixes = ("breakwater_", "http_server_", "db_client_", "gen_ai_client_")
    words = {word for each in asked for word in re.findall(r"[a-z_]+", each) if word.startswith(prefixes)}
    assert words
    assert {word for word in words if word not in given} <= {"breakwater_reading"}


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed: apt-get install prometheus")
async def test_prometheus_itself_takes_them(world: World) -> None:
    """The real program finds no fault in metrics and rules, and its rules fire in its own tests."""
    one = world.instance()
    await one.ask("a question")
    text = (await one.http.get("/api/metrics", headers=ADMIN)).text
    for arguments, given in (
        (["check", "metrics"], text),
        (["check", "rules", str(OBSERVABILITY / "prometheus-rules.yml")], None),
        (["test", "rules", str(OBSERVABILITY / "prometheus-rules.test.yml")], None),
        (["check", "config", "--syntax-only", str(OBSERVABILITY / "prometheus.yml")], None),
    ):
        done = subprocess.run(["promtool", *arguments], input=given, capture_output=True, text=True, check=False)  # noqa: ASYNC221 - nothing else waits
        assert done.returncode == 0, done.stdout + done.stderr
