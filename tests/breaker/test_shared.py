"""One circuit for all instances: transitions through real Redis, many instances, several processes (CASES 19 to 22)."""

import asyncio
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest

from lib.base.events import CircuitChanged
from lib.breaker import circuit as breaker
from lib.breaker import stored
from lib.breaker.circuit import BreakerPolicy, Circuit
from lib.redis import keys
from tests.rig.callers import a_caller
from tests.rig.clock import NOON_MS
from tests.rig.guard import Rig, fail_from_another_process, leaving
from tests.rig.instance import together

pytestmark = pytest.mark.anyio
OPEN = Circuit("open", generation=1, until_ms=NOON_MS + 60_000, since_ms=NOON_MS, reason="server")


@pytest.fixture(params=["rest", "tcp"])
def transport(request: pytest.FixtureRequest) -> str:
    """Redis over both."""
    return str(request.param)


async def test_failures_at_once_from_several_processes(rig: Rig) -> None:
    """CASES 19: of 10 failures that end at the same moment in 3 processes none is lost, and the circuit opens."""
    rig.script.reset(status=500, crowd=10)
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as pool:
        loop = asyncio.get_running_loop()
        runs = [
            loop.run_in_executor(pool, fail_from_another_process, rig.environ, rig.time.ms, calls)
            for calls in (4, 3, 3)
        ]
        statuses = [status for run in runs for status in await run]
    assert statuses == [502] * 10
    # One check for all processes.
    assert (rig.script.asked, rig.script.checks) == (10, 1)
    assert (rig.circuit.state, rig.circuit.generation, rig.circuit.until_ms) == ("open", 2, NOON_MS + 60_000)
    refused = await rig.instance().ask()
    assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (503, "circuit_open", "60")
    assert (rig.script.asked, rig.script.checks) == (10, 1)


# F: HTTP 500, R: the backend rejects the question, U: it rejects our secret, S: it answers, L: the caller leaves.
SEQUENCES = {
    "three-in-a-row": ("FFF", "open", 0),
    "two": ("FF", "closed", 2),
    "success-between": ("FFSFF", "closed", 2),
    "success-forgets": ("FFS", "closed", 0),
    "rejected-is-neutral": ("FFRF", "open", 0),
    "rejected-alone": ("RRRR", "closed", 0),
    "our-secret-is-neutral": ("FFUF", "open", 0),
    "our-secret-alone": ("UUUU", "closed", 0),
    "leaving-is-neutral": ("FFLF", "open", 0),
    "leaving-alone": ("LLLL", "closed", 0),
}


@pytest.mark.parametrize(("steps", "state", "failures"), SEQUENCES.values(), ids=SEQUENCES)
async def test_what_counts(rig: Rig, steps: str, state: str, failures: int) -> None:
    """CASES 19: only the backend's own failures count, only a success resets; over two instances in turn."""
    instances = [rig.instance(), rig.instance()]
    for number, step in enumerate(steps):
        rig.script.reset(status={"F": 500, "R": 422, "U": 401}.get(step, 200), hold=step == "L")
        instance = instances[number % 2]
        if step == "L":
            await leaving(instance, rig.script)
        else:
            await instance.ask(f"question {number}")
    assert (rig.circuit.state, rig.circuit.failures) == (state, failures)


@pytest.mark.parametrize("works", [True, False], ids=["success-closes", "failure-opens-again"])
async def test_one_probe_of_fifty(rig: Rig, works: bool) -> None:
    """CASES 20: at the end of the 60 s exactly one of 50 instances checks; the others are refused while it does."""
    rig.store(OPEN)
    instances = [rig.instance() for _ in range(50)]
    rig.time.ms = OPEN.until_ms - 1
    assert (await instances[0].ask()).status_code == 503
    assert rig.script.asked == 0

    rig.time.ms = OPEN.until_ms
    rig.script.reset(status=200 if works else 500, hold=True)
    asking = [asyncio.ensure_future(each.ask("are you there?")) for each in instances]
    _, pending = await asyncio.wait(asking, timeout=0)
    await rig.script.until(lambda script: script.checks == 1)
    while len(pending) > 1:
        _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
    assert rig.circuit.state == "probing"

    rig.time.ms += 5_000
    rig.script.hold = False
    rig.script.release()
    statuses = sorted([reply.status_code for reply in await together(asking)])
    # The check, and the question of the request that waited for it.
    assert (rig.script.checks, rig.script.asked) == (1, int(works))
    if works:
        assert statuses == [200] + [503] * 49
        assert (rig.circuit.state, rig.circuit.failures, rig.circuit.owner) == ("closed", 0, "")
    else:
        assert statuses == [503] * 50
        assert (rig.circuit.state, rig.circuit.until_ms) == ("open", rig.time.ms + 60_000)
    changes = [(change.before, change.after) for each in instances for change in each.seen(CircuitChanged)]
    assert changes == [("open", "probing"), ("probing", "closed" if works else "open")]


async def test_crashed_probe_is_replaced(rig: Rig) -> None:
    """CASES 20: a probe that never reports holds the circuit until its lease ends, not longer."""
    lease = BreakerPolicy().check_lease_ms
    rig.store(breaker.claim(OPEN, "crashed", OPEN.until_ms, lease))
    rig.time.ms = OPEN.until_ms + lease - 1
    early = await rig.instance().ask()
    assert (early.status_code, early.headers["retry-after"], rig.script.asked) == (503, "1", 0)
    rig.time.ms += 1
    replies = await together([rig.instance().ask() for _ in range(5)])
    assert sorted(reply.status_code for reply in replies)[0] == 200
    assert rig.circuit.state == "closed"


@pytest.mark.parametrize("status", [200, 500], ids=["success", "failure"])
async def test_late_result(rig: Rig, status: int) -> None:
    """CASES 21: a call that began before the opening changes nothing when it ends after it."""
    rig.script.reset(hold=True, status=status)
    late = asyncio.ensure_future(rig.instance().ask())
    await rig.script.until(lambda script: script.asked == 1)
    rig.store(OPEN)
    before = rig.circuit_text
    rig.script.release()
    assert (await late).status_code == {200: 200, 500: 502}[status]
    assert rig.circuit_text == before


@pytest.mark.parametrize("status", [200, 500], ids=["success", "failure"])
async def test_stale_probe(rig: Rig, status: int) -> None:
    """CASES 21: a probe that outlived its lease changes nothing of the circuit that another probe holds by then."""
    rig.store(OPEN)
    rig.time.ms = OPEN.until_ms
    rig.script.reset(hold=True, status=status)
    stale = asyncio.ensure_future(rig.instance().ask())
    await rig.script.until(lambda script: script.checks == 1)
    second = breaker.claim(rig.circuit, "another", rig.circuit.until_ms, 15_000)
    rig.store(second)
    rig.script.release()
    await stale
    assert rig.circuit == second


async def test_healthy_call_writes_nothing(rig: Rig) -> None:
    """CASES 22: beside its own count, which is one BITFIELD, a healthy call only reads, by the server's own account."""
    instance, caller = rig.instance(), a_caller()
    await instance.ask("first sight", caller, Cache_Control="no-store")
    rig.forget_counts()
    reply = await instance.ask("again", caller, Cache_Control="no-store")
    assert reply.status_code == 200
    assert rig.commands() == {"bitfield": 1, "mget": 1}
    assert rig.circuit_text is None


CORRUPT = {
    "empty": "",
    "null": "null",
    "short": '["open",1]',
    "no-json": "{",
    "unknown-state": '[2,"ajar",1,0,0,0,"",0,"",0,[],[]]',
    "other-types": '[2,"open","1",0,0,0,"",0,"",0,[],[]]',
    "deep": "[" * 5_000,
    "lone-surrogate": '[2,"open",1,0,0,9999999999999,"\\ud800",0,"\\ud800",0,[],[]]',
}


@pytest.mark.parametrize("content", CORRUPT.values(), ids=CORRUPT)
async def test_corrupt_circuit(rig: Rig, content: str) -> None:
    """CASES 15: a circuit that cannot be read is an untouched one, and is overwritten by the next failures."""
    rig.server.set(keys.circuit("cloud-run"), content)
    instance = rig.instance()
    assert (await instance.ask()).status_code == 200
    # Of a success long ago: one failed check is enough.
    rig.time.ms += 61_000
    rig.script.reset(status=500)
    assert [(await instance.ask(f"question {n}")).status_code for n in range(4)] == [502, 502, 502, 503]
    assert rig.circuit.state == "open"


async def test_circuit_of_another_type(rig: Rig) -> None:
    """CASES 15: a list in the circuit's place does not stop the failures from being counted."""
    rig.server.rpush(keys.circuit("cloud-run"), "x")
    rig.script.reset(status=500)
    instance = rig.instance()
    assert [(await instance.ask(f"question {n}")).status_code for n in range(4)] == [502, 502, 502, 503]


async def test_outage_is_not_a_fresh_start(rig: Rig) -> None:
    """A circuit that was open when Redis went stays open for the instances that have seen it."""
    rig.store(OPEN)
    instance = rig.instance()
    assert (await instance.ask()).status_code == 503
    rig.upstash.fault("refuse")
    blind = await instance.ask()
    assert (blind.status_code, blind.json()["code"], blind.headers["x-guard-mode"]) == (503, "circuit_open", "supabase")
    rig.time.ms = OPEN.until_ms
    assert (await instance.ask()).status_code == 200
    assert (rig.script.asked, rig.script.checks) == (1, 1)


async def test_local_breaker(rig: Rig) -> None:
    """Without Redis an instance counts by itself: three failures and a check open, one check at 60 s closes."""
    instance = rig.instance(REDIS_ENABLED="false")
    rig.script.reset(status=500)
    assert [(await instance.ask(f"question {n}")).status_code for n in range(4)] == [502, 502, 502, 503]
    rig.time.ms += 60_000
    rig.script.reset(hold=True)
    probe = asyncio.ensure_future(instance.ask("probe"))
    await rig.script.until(lambda script: script.checks == 1)
    assert [(await instance.ask(f"other {n}")).status_code for n in range(3)] == [503] * 3
    rig.script.hold = False
    rig.script.release()
    assert (await probe).status_code == 200
    rig.script.reset()
    assert (await instance.ask("after")).status_code == 200


RETRY_AFTERS = {
    "429": (429, "120", 120_000),
    "429-without-a-time": (429, None, 60_000),
    "429-with-nonsense": (429, "soon", 60_000),
    "429-for-a-century": (429, "9999999", 600_000),
    "503-counts-as-a-failure": (503, "7", None),
}


@pytest.mark.parametrize(("status", "after", "opens_ms"), RETRY_AFTERS.values(), ids=RETRY_AFTERS)
async def test_backend_names_its_return(rig: Rig, status: int, after: str | None, opens_ms: int | None) -> None:
    """CASE 31: a backend that refuses our own question as well is left alone until then, ten minutes at most."""
    rig.script.reset(status=status, headers={"retry-after": after} if after else {})
    await rig.instance().ask()
    if opens_ms is None:
        assert (rig.circuit.state, rig.circuit.failures, rig.script.asked) == ("closed", 1, 1)
    else:
        assert (rig.circuit.state, rig.circuit.until_ms - rig.time.ms) == ("open", opens_ms)
        assert (rig.script.asked, rig.script.checks) == (1, 1)


async def test_a_check_goes_on_when_its_caller_leaves(rig: Rig) -> None:
    """CASES 19, 20: whoever began the check, its result counts."""
    rig.store(OPEN)
    rig.time.ms = OPEN.until_ms
    rig.script.reset(hold=True)
    left = asyncio.ensure_future(leaving(rig.instance(), rig.script))
    await rig.script.until(lambda script: script.checks == 1)
    rig.script.hold = False
    rig.script.release()
    await left
    assert rig.circuit.state == "closed"
    assert (await rig.instance().ask()).status_code == 200


async def test_a_verdict_is_told_whatever_this_instance_heard_meanwhile(rig: Rig) -> None:
    """A reply that was under way for longer tells of the circuit as it was before the check: the verdict stands."""
    rig.store(Circuit("suspect", generation=1, until_ms=NOON_MS - 1, since_ms=NOON_MS - 1, reason="server"))
    rig.script.reset(status=500, hold=True)
    instance = rig.instance()
    asked = asyncio.ensure_future(instance.ask())
    await rig.script.until(lambda seen: (seen.asked, seen.checks) == (1, 1))
    instance.parts.circuits.lookup(["cloud-run"], NOON_MS).read([stored.dump(Circuit(failures=2))])
    rig.script.release()
    assert (await asked).status_code == 502
    assert (rig.circuit.state, rig.circuit.until_ms) == ("open", NOON_MS + 60_000)
