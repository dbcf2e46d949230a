"""Callers, notable requests and alerts across instances: what is shown, what it costs, what is in Redis."""

import json

import pytest

from lib.base.env import Secret
from lib.edge import tokens
from lib.ledger.batches import RECENT
from tests.rig.instance import ADMIN, Instance
from tests.rig.ledger import World

pytestmark = pytest.mark.anyio


async def activity(one: Instance) -> dict[str, object]:
    """What the page gets."""
    reply = await one.http.get("/api/activity", headers=ADMIN)
    assert reply.status_code == 200, reply.text
    found: dict[str, object] = reply.json()
    return found


async def test_the_busiest_callers_of_all_instances(world: World) -> None:
    """By hash, highest first, ten at most; whoever is refused counts as well. One of them can be reset by that hash."""
    one, two = world.instance(RATELIMIT_AI_SUPERVISOR="9/day"), world.instance(RATELIMIT_AI_SUPERVISOR="9/day")
    for instance in (one, two):
        for number in range(12):
            for _ in range(number % 12 + 1):
                await instance.ask("the same", caller=f"10.0.1.{number}")
        instance.parts.ledger.recent.close()
        await instance.parts.ledger.settle(1)
    callers = (await activity(world.instance()))["callers"]
    assert isinstance(callers, list)
    assert [each["requests"] for each in callers] == [24, 22, 20, 18, 16, 14, 12, 10, 8, 6]
    busiest = callers[0]["caller"]
    assert (await one.ask("again", caller="10.0.1.11")).status_code == 429
    assert (await one.act(action="reset", caller=busiest)).status_code == 200
    assert (await one.ask("again", caller="10.0.1.11")).status_code == 200


async def test_notable_requests(world: World) -> None:
    """A failure is there for all instances with the next flush, with its reason, and without the question."""
    one = world.instance(LEDGER_FLUSH_COMMANDS="1")
    world.outside.fails = True
    await one.ask("a secret question")
    # A flush follows the reply: its request is in the next one.
    world.outside.fails = False
    await one.ask("another")
    found = (await activity(world.instance()))["notable"]
    assert isinstance(found, list)
    assert [(each["kind"], each["status"], each["provider"], each["route"]) for each in found] == [
        ("failed", 502, "", "/api/ai/supervisor")
    ]
    assert found[0]["reason"].startswith("server")
    assert "secret" not in str(world.server.lrange(RECENT.key, 0, -1))
    assert 0 < world.server.ttl(RECENT.key) <= RECENT.lasts_s


async def test_what_is_only_here_is_shown_too(world: World) -> None:
    """The instance that answers adds what it has not written yet."""
    one = world.instance()
    world.outside.fails = True
    await one.ask("question")
    found = await activity(one)
    assert len(found["notable"]) == 1  # type: ignore[arg-type] # a list
    assert found["callers"] == [{"caller": found["notable"][0]["caller"], "requests": 1}]  # type: ignore[index]


async def test_what_was_here_is_there_when_it_is_written(world: World) -> None:
    """What an instance has shown as its own does not vanish with the flush that takes it along."""
    one = world.instance()
    await activity(one)
    world.outside.fails = True
    await one.ask("question")
    before = await activity(one)
    await one.parts.ledger.settle(1)
    assert one.parts.ledger.recent.written == 1
    after = await activity(one)
    assert (after["notable"], after["callers"]) == (before["notable"], before["callers"])
    assert len(after["notable"]) == 1  # type: ignore[arg-type] # a list
    world.forget_counts()
    await activity(one)
    assert world.billed() == {}


async def test_alerts_are_a_history(world: World) -> None:
    """Each that was sent stays in the list, also several of a kind, newest first."""
    one = world.instance()
    for state in ("open", "closed", "open"):
        await one.act(action="circuit", provider="cloud-run", state=state)
        world.time.ms += 16 * 60_000
    found = (await activity(world.instance()))["alerts"]
    assert isinstance(found, list)
    assert [(each["kind"], each["about"]) for each in found] == [
        ("circuit_open", "cloud-run"),
        ("circuit_closed", "cloud-run"),
        ("circuit_open", "cloud-run"),
    ]
    assert found[0]["at"] - found[2]["at"] == 32 * 60


async def test_a_look_costs_two_commands(world: World) -> None:
    """One round trip; nothing for five minutes after it."""
    one = world.instance()
    world.forget_counts()
    before = world.front.control.requests()
    await activity(one)
    world.time.ms += 299_000
    await activity(one)
    assert world.billed() == {"lrange": 2}
    assert world.front.control.requests() - before == 1
    world.time.ms += 1_000
    await activity(one)
    assert world.billed() == {"lrange": 4}


async def test_while_redis_is_away(world: World) -> None:
    """The last reading stays, and says so; an instance that has none shows its own."""
    one, two = world.instance(REDIS_COOLDOWN_MS="1"), world.instance(REDIS_COOLDOWN_MS="1")
    await activity(one)
    world.redis_down()
    world.time.ms += 301_000
    assert (await activity(one))["source"] == "last"
    assert (await activity(two))["source"] == "instance"


async def test_keys_that_hold_something_else(world: World) -> None:
    """Neither counts nor requests are lost because of it; the page shows what this instance knows."""
    world.server.set("recent", "text")
    world.server.rpush("alerts", "no JSON", json.dumps({"kind": "mode"}))
    one = world.instance(LEDGER_FLUSH_COMMANDS="1")
    world.outside.fails = True
    for number in range(3):
        assert (await one.ask(f"question {number}")).status_code == 502
    assert (await one.overview())["day"][-1]["fail"] == 3
    assert (await activity(world.instance()))["source"] == "instance"
    world.server.delete("recent")
    assert (await activity(world.instance()))["alerts"] == []


@pytest.mark.parametrize("path", ["/api/activity", "/api/history"])
async def test_opened_as_the_overview_is(world: World, path: str) -> None:
    """By the token, or by the day's key, with which the edge may keep the reply; by nothing else."""
    one, key = world.instance(), tokens.view_of(Secret("admin-token-for-tests"), "2025-11-14")
    viewed = await one.http.get(path, params={"view": key})
    assert (viewed.status_code, viewed.headers["cache-control"].partition(",")[0]) == (200, "max-age=0")
    assert (await one.http.get(path, headers=ADMIN)).headers["cache-control"] == "private, no-store"
    assert (await one.http.get(path)).status_code == 401
    assert (await one.http.get(path, params={"view": "2025-11-14.0"})).status_code == 401
