"""Instances whose clocks are wrong (CASES 13 and 37): real Redis, real time, machines off by seconds to a day."""

import time
from typing import Any

import pytest

from dev.supabase import sign_user_token
from lib.base.events import RequestDone
from lib.limits.window import DAY_MS
from tests.rig.callers import a_caller
from tests.rig.guard import Rig
from tests.rig.instance import Instance, together
from tests.rig.supabase import SupabaseStandIn

pytestmark = pytest.mark.anyio

HOUR_MS = 3_600_000
OFF_MS = [
    pytest.param(off_ms, id=f"{off_ms / 1000:g} s")
    for each in (0, 300, 2_000, 6_000, HOUR_MS, DAY_MS)
    for off_ms in ({each, -each})
]


@pytest.fixture(params=["rest", "tcp"])
def transport(request: pytest.FixtureRequest) -> str:
    """Redis over both."""
    return str(request.param)


def error_ms(instance: Instance) -> int:
    """How far an instance's time is from this machine's, which is Redis' as well."""
    return instance.parts.clock.now_ms() - time.time_ns() // 1_000_000


@pytest.mark.parametrize("off_ms", OFF_MS)
async def test_an_instance_corrects_itself_with_its_first_request(rig: Rig, off_ms: int) -> None:
    """From its first reply on it counts by the store's time, within what the round trip leaves open."""
    instance = rig.off_by(off_ms)
    assert (await instance.ask()).status_code == 200
    assert abs(error_ms(instance)) <= 250


@pytest.mark.parametrize("off_ms", OFF_MS)
async def test_a_limit_holds_across_clocks(rig: Rig, off_ms: int) -> None:
    """No window is exceeded, whoever comes first: an instance's first call is counted again by the right time."""
    good, wrong = rig.off_by(0), rig.off_by(off_ms)
    caller = a_caller()
    replies = [await each.ask(f"question {n}", caller) for n in range(9) for each in (wrong, good)]
    assert sum(each.status_code == 200 for each in replies) == 10
    # What the wrong clock counted first was taken back: nothing counts at any other time.
    retry_s = [int(each.headers["retry-after"]) for each in replies if each.status_code == 429]
    assert max(retry_s) <= 66


@pytest.mark.parametrize("off_ms", OFF_MS)
async def test_first_requests_at_once(rig: Rig, off_ms: int) -> None:
    """A new instance's first requests are all counted again where its clock was wrong."""
    good, wrong = rig.off_by(0), rig.off_by(off_ms)
    caller = a_caller()
    first = await together([wrong.ask(f"question {n}", caller) for n in range(8)])
    later = [await good.ask(f"later {n}", caller) for n in range(8)]
    assert [each.status_code for each in first] == [200] * 8
    assert [each.status_code for each in later] == [200] * 2 + [429] * 6


@pytest.mark.parametrize("off_ms", OFF_MS)
async def test_a_circuit_is_open_for_its_time(rig: Rig, off_ms: int) -> None:
    """Whoever opens it, it is over when its time is: by the clock of the store."""
    rig.script.status = 500
    wrong = rig.off_by(off_ms, BREAKER_FAILURES="3", BREAKER_COOLDOWN_MS="60000")
    for number in range(3):
        await wrong.ask(f"question {number}", a_caller())
    circuit = rig.circuit
    assert circuit.state == "open"
    assert 55_000 <= circuit.until_ms - time.time_ns() // 1_000_000 <= 60_300


@pytest.mark.parametrize("off_ms", OFF_MS)
async def test_an_entry_has_the_age_it_has(rig: Rig, off_ms: int) -> None:
    """What an instance with a wrong clock stores is as fresh for others as it is, and the other way round."""
    good, wrong = rig.off_by(0), rig.off_by(off_ms)
    await wrong.ask("of the wrong one")
    await good.ask("of the good one")
    for asked, query in ((good, "of the wrong one"), (wrong, "of the good one")):
        reply = await asked.ask(query)
        assert int(reply.headers.get("age", "0")) <= 2


async def test_what_it_costs(rig: Rig) -> None:
    """A good clock costs one or two commands an instance, and the same again every half hour; no round trip."""
    instance = rig.off_by(0)
    rig.forget_counts()
    for number in range(6):
        await instance.ask(f"question {number}", a_caller())
    assert 1 <= rig.commands()["time"] <= 2


async def test_a_wrong_clock_leaves_no_key_for_ever(rig: Rig) -> None:
    """The key of a day that an instance took for today gets its TTL like any other."""
    await rig.off_by(DAY_MS).ask()
    await rig.off_by(-DAY_MS).ask()
    found: Any = rig.server.keys("rl:*")
    days = {int(name.rpartition(":")[2]) for name in found}
    assert len(days) == 3
    assert rig.without_ttl() == []


async def test_a_clock_that_is_handed_in_is_believed(rig: Rig) -> None:
    """Tests set the time of day by hand: nothing is measured then."""
    instance = rig.instance()
    rig.forget_counts()
    await instance.ask()
    assert "time" not in rig.commands()


@pytest.mark.parametrize("off_ms", OFF_MS)
async def test_tokens_are_valid_by_the_store_s_time(rig: Rig, supabase: SupabaseStandIn, off_ms: int) -> None:
    """Once corrected, a machine that is a day ahead takes no valid token of a user for one that is over."""
    instance = rig.off_by(off_ms)
    await instance.ask()
    for lifetime_s, kind in ((60, "user"), (-60, "address")):
        token = sign_user_token("somebody", supabase.jwt_secret, lifetime_s=lifetime_s)
        await instance.ask(Authorization=f"Bearer {token}")
        assert instance.seen(RequestDone)[-1].caller_kind == kind
