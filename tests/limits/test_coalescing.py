"""Calls of one caller at once pay together: as many are admitted as without, never more, and for fewer commands."""

import asyncio
import math
import time
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib.afterwards import Afterwards
from lib.edge.limits import route_limit
from lib.limits.admission import Charge, Subject
from lib.limits.counting import Counting
from lib.limits.grammar import parse_limits
from lib.limits.judge import judge
from lib.limits.marker import UNKNOWN
from lib.limits.remembered import Memory
from lib.redis.op import gather
from tests.limits.instance import NOON_MS
from tests.rig.callers import a_caller
from tests.rig.data import menu, read, site
from tests.rig.door import Counted, a_name, an_instance, bill, door
from tests.rig.guard import Rig
from tests.rig.instance import together
from tests.rig.redis import Store

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["rest", "tcp"])
def transport(request: pytest.FixtureRequest) -> str:
    """Redis over both."""
    return str(request.param)


async def test_eight_at_once_cost_as_much_as_two(rig: Rig) -> None:
    """CASE 44: the first goes at once, the others together."""
    app = site(an_instance(rig), menu(Counted("v"), strict=True, scope="caller"), route_limit("100/minute", a_name()))
    caller = a_caller()
    await read(app, caller=caller)
    async with bill(rig) as spent:
        replies = await asyncio.gather(*(read(app, caller=caller) for _ in range(8)))
    assert spent == [4, 2]
    assert {reply.status_code for reply in replies} == {200}
    assert (await read(app, caller=caller)).headers["x-ratelimit-remaining"] == "90"


async def test_eight_at_once_from_memory(rig: Rig) -> None:
    """CASE 44: 2 commands for all of them, where the marks were read within a second."""
    app = site(an_instance(rig), menu(Counted("v"), scope="caller"), route_limit("100/minute", a_name()))
    caller = a_caller()
    for _ in range(2):
        await read(app, caller=caller)
    async with bill(rig) as spent:
        replies = await asyncio.gather(*(read(app, caller=caller) for _ in range(8)))
    assert spent == [2, 2]
    assert {reply.status_code for reply in replies} == {200}
    assert (await read(app, caller=caller)).headers["x-ratelimit-remaining"] == "89"


async def test_callers_do_not_wait_for_each_other(rig: Rig) -> None:
    """Each pays for itself."""
    app = site(an_instance(rig), menu(Counted("v"), strict=True), route_limit("100/minute", a_name()))
    callers = [a_caller() for _ in range(3)]
    for caller in callers:
        await read(app, caller=caller)
    async with bill(rig) as spent:
        await asyncio.gather(*(read(app, caller=caller) for caller in callers))
    assert spent == [6, 3]


@pytest.mark.parametrize("instances", [1, 3])
@pytest.mark.parametrize("calls", [9, 10, 25])
async def test_exactly_the_limit_is_admitted(rig: Rig, calls: int, instances: int) -> None:
    """Where all of them do not fit, as many as do; also where other instances take what one has seen left."""
    limit = route_limit("9/minute", a_name())
    apps, caller = [site(an_instance(rig), menu(Counted("v")), limit) for _ in range(instances)], a_caller()
    for app in apps:
        await read(app, caller=caller)
    replies = await asyncio.gather(*(read(apps[n % instances], caller=caller) for n in range(calls * instances)))
    statuses = [reply.status_code for reply in replies]
    assert (statuses.count(200), statuses.count(429)) == (9 - instances, (calls + 1) * instances - 9)


@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=2, max_size=12))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_groups_get_what_single_calls_would(redis: Store, groups: list[tuple[int, bool]]) -> None:
    """Groups of several instances, each taken back at once or not before the end: what is left is admitted at once.

    A group that is refused as a whole keeps others from what it was refused for: nobody got it, now and then.
    """
    counting, subject = Counting(Memory()), Subject(a_name(), parse_limits("9/minute,100/day"))
    admitted, kept = 0, Afterwards()
    for calls, is_taken_back in groups:
        charge = Charge(subject, NOON_MS, math.inf, cost=calls, parts=tuple(range(1, calls)))
        after = kept if not is_taken_back else Afterwards()
        tally = redis.run(counting.op(charge))
        admission = counting.admit(charge, tally, after, UNKNOWN)
        if all(tally.added):
            got = admission.charge.cost if admission.quota.allowed else 0
            assert got == min(calls, 9 - admitted)
        else:
            # Four bits did not hold it: nothing was counted there, and those who wait try it in a smaller group.
            assert not admission.quota.allowed
            got = 0
        admitted += got
        assert admission.quota.left == 9 - admitted
        if is_taken_back:
            redis.run(gather([step.op for step in after.take()]))
    redis.run(gather([step.op for step in kept.take()]))
    seen = judge(subject.layout.windows, redis.run(counting.op(replace(charge, cost=0))).usage, 0, NOON_MS)
    assert [each.remaining for each in seen.states] == [9 - admitted, 100 - admitted]


@pytest.mark.parametrize("calls", [9, 10, 100])
async def test_what_a_crowd_that_is_refused_costs(rig: Rig, calls: int) -> None:
    """CASE 34: as much as a small one: nobody is counted who cannot be admitted, the others are refused from memory."""
    app = site(an_instance(rig), menu(Counted("v"), strict=True), route_limit("9/minute", a_name()))
    caller = a_caller()
    await read(app, caller=caller)
    async with bill(rig) as spent:
        replies = await asyncio.gather(*(read(app, caller=caller) for _ in range(calls)))
    assert spent == [4, 2]
    refused = [reply for reply in replies if reply.status_code == 429]
    assert len(refused) == calls - 8
    assert {(each.headers["retry-after"], each.headers["x-ratelimit-remaining"]) for each in refused} == {("62", "0")}


@pytest.mark.parametrize("calls", [10, 100])
async def test_what_a_crowd_at_the_door_costs(rig: Rig, calls: int) -> None:
    """CASE 34: the same for `bw.limit`, with calls that count for several."""
    bw, who = door(an_instance(rig)), a_name()
    await bw.limit(who, "20/minute", cost=2)
    async with bill(rig) as spent:
        verdicts = await asyncio.gather(*(bw.limit(who, "20/minute", cost=2) for _ in range(calls)))
    assert spent == [4, 2]
    assert [each.allowed for each in verdicts] == [True] * 9 + [False] * (calls - 9)
    assert {each.reason for each in verdicts[9:]} == {"minute"}


@pytest.mark.parametrize("calls", [10, 100])
async def test_what_a_crowd_before_the_ai_costs(rig: Rig, calls: int) -> None:
    """CASE 34: and for AI answers."""
    made, caller = an_instance(rig), a_caller()
    await made.ask("same", caller)
    async with bill(rig) as spent:
        replies = await together([made.ask("same", caller) for _ in range(calls)])
    assert spent == [4, 2]
    assert sorted(reply.status_code for reply in replies) == [200] * 9 + [429] * (calls - 9)
    assert rig.script.asked == 1


@pytest.mark.parametrize("transport", ["rest"])
async def test_the_vendors_limiter_is_asked_for_each(rig: Rig) -> None:
    """It spends what it refuses, if that is more than one call."""
    rig.time.ms = time.time_ns() // 1_000_000  # it has its own clock
    made = an_instance(rig, RATELIMIT_ALGORITHM="upstash")
    app, caller = site(made, menu(Counted("v"), strict=True), route_limit("90/minute", a_name())), a_caller()
    await read(app, caller=caller)
    async with bill(rig) as spent:
        await asyncio.gather(*(read(app, caller=caller) for _ in range(8)))
    assert spent[1] == 16


async def test_the_attack_on_permits_that_are_paid_ahead(rig: Rig) -> None:
    """Bursts just before and after the ends of buckets and windows, on two instances: never more than the limit.

    Permits that were paid in one bucket and used in a later one would let 45 of 30 pass in a minute.
    """
    limit, wanted = route_limit("30/minute", a_name()), menu(Counted("v"))
    apps = [site(an_instance(rig), wanted, limit) for _ in range(2)]
    caller, admitted, began = a_caller(), list[int](), rig.time.ms
    for at_ms in (0, 7_400, 7_500, 29_900, 59_900, 60_000, 62_400, 62_600, 67_400, 89_900, 119_900, 122_600):
        rig.time.ms = began + at_ms
        replies = await asyncio.gather(*(read(apps[n % 2], caller=caller) for n in range(15)))
        admitted += [at_ms for reply in replies if reply.status_code == 200]
    assert len(admitted) > 45, "the attack has to get somewhere"
    for start in admitted:
        assert sum(start <= each < start + 60_000 for each in admitted) <= 30


async def test_who_leaves_takes_nobody_along(rig: Rig) -> None:
    """The first and one of those that wait are cancelled: the others are answered."""
    app = site(an_instance(rig), menu(Counted("v"), strict=True), route_limit("100/minute", a_name()))
    caller = a_caller()
    await read(app, caller=caller)
    asks = [asyncio.ensure_future(read(app, caller=caller)) for _ in range(6)]
    for _ in range(3):
        await asyncio.sleep(0)
    asks[0].cancel()
    asks[3].cancel()
    done = await asyncio.gather(*asks, return_exceptions=True)
    assert [isinstance(each, asyncio.CancelledError) for each in done] == [True, False, False, True, False, False]
    assert (await read(app, caller=caller)).status_code == 200


async def test_without_redis(rig: Rig) -> None:
    """Memory counts them: a share of the limit, as without."""
    made = an_instance(rig, **rig.nowhere, SUPABASE_URL=None, SUPABASE_SERVICE_ROLE_KEY=None)
    app = site(made, menu(Counted("v")), route_limit("8/minute", a_name()))
    caller = a_caller()
    replies = await asyncio.gather(*(read(app, caller=caller) for _ in range(12)))
    assert [reply.status_code for reply in replies].count(200) == 2
