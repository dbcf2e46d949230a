"""A circuit around anybody's code: shared by all instances, open after failures in a row, closed by one probe."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from lib import Breakwater, CircuitOpen
from lib.base.events import CircuitChanged
from lib.breaker import stored
from lib.redis import keys
from tests.rig.door import Counted, Gate, an_instance, bill, door
from tests.rig.guard import Rig

pytestmark = pytest.mark.anyio
COOLDOWN_MS = 60_000


@pytest.fixture(params=["rest", "tcp"])
def transport(request: pytest.FixtureRequest) -> str:
    """Redis over both."""
    return str(request.param)


async def ask(bw: Breakwater, call: Counted, name: str = "weather") -> str:
    """`ok`, `failed` or `open`."""
    try:
        async with bw.circuit(name):
            await call()
    except CircuitOpen:
        return "open"
    except OSError:
        return "failed"
    return "ok"


def ok() -> Counted:
    return Counted()


def fails() -> Counted:
    return Counted(error=OSError("down"))


def state(rig: Rig, name: str = "weather") -> str:
    """The circuit's state in Redis."""
    text: Any = rig.server.get(keys.circuit(keys.circuit_of_app(name)))
    return stored.parse(text).state


async def test_what_a_circuit_costs(rig: Rig) -> None:
    """1 command while all is well, 1 while it is open, 4 for a failure and for the success that ends failures.

    Whoever opens it sends the alert as well, once in a quarter of an hour: 3 more, and 1 for the list of alerts, or 2.
    """
    bw, found = door(an_instance(rig, BREAKER_FAILURES="2")), list[tuple[str, list[int]]]()
    for call in (ok(), fails(), ok(), fails(), fails(), ok()):
        async with bill(rig) as spent:
            became = await ask(bw, call)
        found.append((became, spent))
    assert found == [
        ("ok", [1, 1]),
        ("failed", [4, 2]),
        ("ok", [4, 2]),
        ("failed", [4, 2]),
        ("failed", [4 + 3 + 2, 6]),
        ("open", [1, 1]),
    ]
    assert rig.without_ttl() == []


@pytest.mark.parametrize("failures", [1, 3])
async def test_failures_in_a_row_open_it_for_all(rig: Rig, failures: int) -> None:
    """As many as BREAKER_FAILURES, on whichever instances; then no instance runs the block."""
    one, two = (door(an_instance(rig, BREAKER_FAILURES=str(failures))) for _ in range(2))
    for number in range(failures):
        assert await ask((one, two)[number % 2], fails()) == "failed"
    call = ok()
    assert [await ask(bw, call) for bw in (one, two)] == ["open", "open"]
    assert (call.calls, state(rig)) == (0, "open")


async def test_a_success_between_failures_keeps_it_closed(rig: Rig) -> None:
    """Only failures in a row count."""
    bw = door(an_instance(rig, BREAKER_FAILURES="2"))
    for _ in range(3):
        assert [await ask(bw, each) for each in (fails(), ok())] == ["failed", "ok"]
    assert state(rig) == "closed"


async def test_failures_at_once_are_all_counted(rig: Rig) -> None:
    """Six at the same time on two instances: more than enough, and it opens once."""
    made = [an_instance(rig, BREAKER_FAILURES="5") for _ in range(2)]
    gate = Gate()
    call = Counted(error=OSError(), gate=gate)
    asks = asyncio.gather(*(ask(door(each), call) for each in made for _ in range(3)))
    await gate.reached.wait()
    gate.open()
    await asks
    assert state(rig) == "open"
    opened = [each for one in made for each in one.seen(CircuitChanged) if each.after == "open"]
    assert [each.provider for each in opened] == [keys.circuit_of_app("weather")]


async def test_one_probe_closes_it(rig: Rig) -> None:
    """After the cool-down one call may go, the others still may not; when it succeeds, all may."""
    one, two = (door(an_instance(rig, BREAKER_FAILURES="1")) for _ in range(2))
    await ask(one, fails())
    rig.time.ms += COOLDOWN_MS - 1
    assert await ask(two, ok()) == "open"
    rig.time.ms += 1
    gate = Gate()
    probe = asyncio.ensure_future(ask(two, Counted(gate=gate)))
    await gate.reached.wait()
    assert [await ask(bw, ok()) for bw in (one, two)] == ["open", "open"]
    gate.open()
    assert await probe == "ok"
    assert [await ask(bw, ok()) for bw in (one, two)] == ["ok", "ok"]


async def test_a_probe_that_fails_opens_it_again(rig: Rig) -> None:
    """For another cool-down."""
    bw = door(an_instance(rig, BREAKER_FAILURES="1"))
    await ask(bw, fails())
    rig.time.ms += COOLDOWN_MS
    assert [await ask(bw, fails()), await ask(bw, ok())] == ["failed", "open"]
    rig.time.ms += COOLDOWN_MS
    assert await ask(bw, ok()) == "ok"


@pytest.mark.parametrize("probing", [False, True], ids=["closed", "probe"])
async def test_a_block_that_is_cancelled_says_nothing(rig: Rig, probing: bool) -> None:
    """Whoever stops waiting tells nothing of what is called; a probe that was left lets the next one try at once."""
    bw, gate = door(an_instance(rig, BREAKER_FAILURES="1")), Gate()
    if probing:
        await ask(bw, fails())
        rig.time.ms += COOLDOWN_MS
    task = asyncio.ensure_future(ask(bw, Counted(gate=gate)))
    await gate.reached.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert await ask(bw, ok()) == "ok"


@pytest.mark.parametrize("name", ["a:b", "a/b", "\ud55c\uae00", "", "x" * 1_000, "app:weather", "cloud-run"])
async def test_each_name_is_a_circuit_of_its_own(rig: Rig, name: str) -> None:
    """Apart from all others, and from those of the AI providers."""
    bw = door(an_instance(rig, BREAKER_FAILURES="1"))
    await ask(bw, fails(), name)
    assert [await ask(bw, ok(), each) for each in (name, "weather", f"{name}.")] == ["open", "ok", "ok"]
    assert rig.circuit_text is None


@pytest.mark.parametrize("redis", ["away", "switched off"])
async def test_without_redis(rig: Rig, redis: str) -> None:
    """Each instance has a circuit of its own."""
    made = {"REDIS_ENABLED": "false"} if redis == "switched off" else {}
    if redis == "away":
        rig.upstash.fault("refuse")
    one, two = (door(an_instance(rig, BREAKER_FAILURES="2", **made)) for _ in range(2))
    assert [await ask(one, fails()) for _ in range(2)] == ["failed", "failed"]
    assert [await ask(one, ok()), await ask(two, ok())] == ["open", "ok"]


async def test_the_error_says_when_to_come_back(rig: Rig) -> None:
    """Whole seconds, at least one."""
    bw = door(an_instance(rig, BREAKER_FAILURES="1"))
    await ask(bw, fails())
    for passed_ms, left_s in ((0, 60), (1_500, 59), (58_400, 1)):
        rig.time.ms += passed_ms
        with pytest.raises(CircuitOpen) as refused:
            await bw.circuit("weather").__aenter__()
        assert refused.value.retry_after_s == left_s
