"""The short form of the fault suite: `python -m tests.faults` plays every case, and loads for longer."""

import asyncio

import pytest

from lib.base.events import ModeSwitched, RequestDone, StoreFailed, StoreSwitched
from tests.faults import load
from tests.faults.cases import PROVIDER_FAULTS, Case, cases, play
from tests.faults.rig import Rig
from tests.rig.clock import patient
from tests.rig.instance import Instance

pytestmark = pytest.mark.anyio

_SLOW = ("trickle", "delay", "hang")
PATIENT = {"FALLBACK_TIMEOUT_MS": "60000"}
"""Where calls to both stores are under way at one time: the next timer is that of the one that hangs."""
WORK_S = 0.1
"""What working takes beside waiting, by a loop whose seconds are a hundred times longer (``PatientLoop``)."""


def _short() -> list[Case]:
    """A case for each fault; each step for those that are quick."""
    return [
        case
        for case in cases()
        if not (case.stream and case.redis)
        and not (case.at == "budget" and any(slow in case.redis for slow in _SLOW))
        and not (case.redis == case.supabase and case.redis not in ("tcp hang", "process killed", "http drop"))
        and not (case.supabase and not case.redis and case.supabase != "tcp hang")
    ]


@pytest.mark.parametrize("case", _short(), ids=str)
async def test_a_fault_at_a_step(rig: Rig, case: Case) -> None:
    """Status, mode, headers, time, counts in both stores, calls of the provider, and the next call when all is well."""
    assert (await play(rig, case)).wrong == []


async def test_a_dead_redis_costs_one_timeout_a_cool_down(rig: Rig) -> None:
    """Ten calls while it hangs wait for it once; after the cool-down once more."""
    async with rig.instance() as instance:
        rig.redis.set("tcp hang")
        for _ in range(2):
            began = patient().time()
            assert {(await instance.ask_anew()).headers["x-guard-mode"] for _ in range(5)} == {"supabase"}
            assert 0.3 <= patient().time() - began < 0.3 + WORK_S
            rig.time.ms += 6_000
        assert [each.phase for each in failures(instance)] == ["ask", "ask"]


async def test_a_slow_redis_is_handled_as_a_dead_one(rig: Rig) -> None:
    """Every reply takes 200 of 300 ms: after ten it is left alone, after a cool-down it is asked twice."""
    async with rig.instance() as instance:
        rig.redis.set("late 0.2")
        seen = [(await instance.ask_anew()).headers["x-guard-mode"] for _ in range(9)]
        assert seen == ["redis"] * seen.count("redis") + ["supabase"] * seen.count("supabase")
        # Four round trips a call: windows, the provider's budget, the write-back, and the note that it was slow.
        assert seen.count("redis") == 2
        rig.time.ms += 6_000
        began = patient().time()
        # One is left of the ten a minute.
        assert [(await instance.ask_anew()).status_code for _ in range(5)] == [200] + [429] * 4
        assert patient().time() - began < 3 * 0.2 + WORK_S


async def test_more_than_one_percent_of_failures_switches_by_itself(rig: Rig) -> None:
    """Two failures far apart among a hundred calls: the next call does not ask Redis."""
    from lib.breaker.vitals import VitalsPolicy

    # A ledger that is written meanwhile would fail as well, and be the third in a row.
    async with rig.instance(RATELIMIT_AI_SUPERVISOR="1000/minute", LEDGER_FLUSH_COMMANDS="10000") as instance:
        store = instance.parts.guard.limits.redis
        assert store is not None
        assert store.gate.policy == VitalsPolicy()
        for number in range(60):
            if number in (10, 35):
                rig.redis.set("http status 500")
            await instance.ask_anew()
            rig.redis.heal()
            rig.time.ms += 10
        switched = instance.seen(StoreSwitched)
        assert [(each.now, "calls failed" in each.reason) for each in switched] == [("paused", True)]


async def test_recovery_is_probed_by_one_request(rig: Rig) -> None:
    """Eight at once after the cool-down, Redis still dead: one of them waits."""
    async with rig.instance(**PATIENT) as instance:
        rig.redis.set("tcp hang")
        await instance.ask_anew()
        rig.time.ms += 6_000
        instance.events.clear()
        replies = await asyncio.gather(*(instance.ask_anew() for _ in range(8)))
        assert {each.headers["x-guard-mode"] for each in replies} == {"supabase"}
        assert len(failures(instance)) == 1


async def test_a_switch_is_told_once(rig: Rig) -> None:
    """Calls one by one and at one time, an outage and its end: two switches of the mode, two of the store."""
    async with rig.instance(**PATIENT) as instance:
        await instance.ask_anew()
        rig.redis.set("tcp hang")
        rig.waits.crowd = 4
        await asyncio.gather(*(instance.ask_anew() for _ in range(4)))
        for _ in range(3):
            await instance.ask_anew()
        rig.redis.heal()
        rig.time.ms += 70_000
        await asyncio.gather(*(instance.ask_anew() for _ in range(4)))
        modes = [(each.before, each.after) for each in instance.seen(ModeSwitched)]
        stores = [(each.store, each.now) for each in instance.seen(StoreSwitched)]
        assert modes == [("redis", "supabase"), ("supabase", "redis")]
        assert stores == [("redis", "paused"), ("redis", "resumed")]


async def test_health_says_since_when_and_why(rig: Rig) -> None:
    """The mode, its beginning and its reason, while Redis hangs and after it."""
    async with rig.instance(**PATIENT) as instance:
        began = rig.time.ms
        rig.time.ms += 60_000
        rig.redis.set("tcp hang")
        await instance.ask_anew()
        rig.time.ms += 30_000
        report = (await instance.health()).json()
        assert (report["status"], report["mode"], report["modeSince"]) == ("degraded", "supabase", began // 1000 + 60)
        assert report["modeReason"].startswith("timeout")
        down_s = report["redis"].pop("since")
        assert report["redis"] == {
            "state": "down",
            "reason": "timeout",
            "lastError": {"kind": "timeout", "at": rig.time.ms // 1000},
        }
        assert down_s == began // 1000 + 60
        rig.redis.heal()
        await instance.ask_anew()
        # Past the second for which a report is told again.
        rig.time.ms += 1_000
        report = (await instance.health()).json()
        assert (report["mode"], report["modeSince"], report["modeReason"]) == (
            "redis",
            began // 1000 + 90,
            "redis answers again",
        )


async def test_the_deadline_is_shared(rig: Rig) -> None:
    """Everybody hangs and the platform gives three seconds: the caller has its answer before them."""
    async with rig.instance(MAX_DURATION_MS="3000", AI_TIMEOUT_MS="60000") as instance:
        rig.redis.set("tcp hang")
        rig.supabase.set("tcp hang")
        rig.answers("hang")
        began = patient().time()
        response = await instance.ask_anew()
        assert (response.status_code, response.headers["x-guard-mode"]) == (504, "local")
        assert 1.5 < patient().time() - began < 3.0


async def test_a_deadline_that_is_near_is_no_outage(rig: Rig) -> None:
    """Redis had less time than it may take: it is not left alone for that."""
    async with rig.instance(MAX_DURATION_MS="100") as instance:
        rig.redis.set("http hang")
        await instance.ask_anew()
        store = instance.parts.guard.limits.redis
        assert store is not None
        assert store.gate.circuit.state == "closed"


@pytest.mark.parametrize("how", PROVIDER_FAULTS)
async def test_the_provider_is_asked_once_though_redis_dies_meanwhile(rig: Rig, how: str) -> None:
    """Whatever it answers, and Redis gone between the ask and the write-back."""
    if how == "hang":
        how = "cut before"
    played = await play(rig, Case(redis="tcp reset", at="write-back", provider=how, status=PROVIDER_FAULTS[how]))
    assert played.wrong == []


async def test_a_flapping_redis(rig: Rig) -> None:
    """Every other request is reset: no call fails, each asks the provider at most once, never above the limit."""
    async with rig.instance() as instance:
        rig.redis.proxy.set("flap")
        replies = []
        for _ in range(40):
            replies.append(await instance.ask_anew())
            rig.time.ms += 1
        statuses = [each.status_code for each in replies]
        assert set(statuses) == {200, 429}
        assert statuses.count(200) == rig.script.asked <= 10


async def test_no_reply_is_a_server_error_of_ours(rig: Rig) -> None:
    """With everything broken at once the log has a line for each request and no crash."""
    async with rig.instance() as instance:
        rig.redis.set("http not_json")
        rig.supabase.set("http cut")
        rig.answers("not_json")
        # Memory grants a quarter of the ten a minute.
        assert [(await instance.ask_anew()).status_code for _ in range(4)] == [502, 502, 429, 429]
        assert len(instance.seen(RequestDone)) == 5
        assert not [each for each in instance.events if each.event == "crashed"]


def test_load_while_redis_is_killed_and_returns(rig: Rig) -> None:
    """CASE 30: four processes, callers in the middle of their minute: no 500, nobody above the limit and its bound."""
    report = asyncio.run(load.run(rig, 9.0, load.only_redis(rig, 9.0)))
    assert load.faults_of(report) == [], report.text()
    assert {"redis", "supabase"} <= set(report.modes)


def failures(instance: Instance) -> list[StoreFailed]:
    """What Redis failed at."""
    return [each for each in instance.seen(StoreFailed) if each.store == "redis"]
