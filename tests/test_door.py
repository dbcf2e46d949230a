"""The door: limits, values and circuits for anybody's code, with nothing to settle by hand."""

import asyncio
import contextlib
import dataclasses
import datetime
import decimal
import enum
import math
import os
import subprocess
import sys
import uuid
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pydantic
import pytest
import starlette.requests
from starlette.responses import JSONResponse

import lib
from lib import Breakwater, CircuitOpen, Problem, StrictWindows, Verdict
from lib.app import instance as instances
from lib.base.events import ModeSwitched, WouldRefuse
from lib.edge.app import Endpoint
from lib.redis import keys
from tests.rig.callers import a_caller
from tests.rig.clock import about_timeouts, until
from tests.rig.door import Counted, Gate, a_name, an_instance, bill, client, door, get
from tests.rig.guard import Rig
from tests.rig.instance import together
from tests.rig.redis import RedisFront

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[1]


@pytest.fixture(params=["rest", "tcp"])
def transport(request: pytest.FixtureRequest) -> str:
    """Redis over both."""
    return str(request.param)


def handler(bw: Breakwater, work: Callable[[], Awaitable[object]]) -> Endpoint:
    """A route without a limit or a cache of its own, which does this."""

    async def serve(request: starlette.requests.Request) -> object:
        return await work()

    return bw.route(serve, limit=None, name=a_name())


# ---------------------------------------------------------------- limits


async def test_a_verdict(rig: Rig) -> None:
    """Allowed until the limit, with what is left; then refused, with the time to wait and the headers to send."""
    bw, who = door(an_instance(rig)), a_name()
    first, second, third, fourth = [await bw.limit(who, "2/minute,100/day") for _ in range(4)]
    assert first == Verdict(True, 1, None, "admitted", "redis", first.headers)
    assert (second.allowed, second.remaining) == (True, 0)
    assert (third.allowed, third.remaining, third.reason) == (False, 0, "blocked")
    assert third.retry_after_s == int(third.headers["retry-after"]) > 0
    assert (fourth.allowed, fourth.reason, fourth.retry_after_s) == (False, "blocked", third.retry_after_s)
    assert first.headers.keys() == {f"x-ratelimit-{each}" for each in ("limit", "remaining", "reset")} | {
        "ratelimit",
        "ratelimit-policy",
    }
    rig.time.ms += third.retry_after_s * 1000
    assert (await bw.limit(who, "2/minute,100/day")).allowed


async def test_what_a_limit_costs(rig: Rig) -> None:
    """2 commands in 1 round trip; refused where it is not known that nothing is left, 3 in 2; then nothing."""
    bw, other, who = door(an_instance(rig)), door(an_instance(rig)), a_name()
    await bw.limit(who, "4/minute")
    await other.limit(who, "4/minute")
    found = []
    for each in (bw, other, bw, bw, other):
        async with bill(rig) as spent:
            await each.limit(who, "4/minute")
        found.append(tuple(spent))
    assert found == [(2, 1), (2, 1), (3, 2), (0, 0), (0, 0)]


async def test_one_limit_for_all_instances(rig: Rig) -> None:
    """Twelve calls at once through three instances: exactly five are allowed."""
    doors, who = [door(an_instance(rig)) for _ in range(3)], a_name()
    verdicts = await together([bw.limit(who, "5/minute") for bw in doors for _ in range(4)])
    assert sorted(each.allowed for each in verdicts) == [False] * 7 + [True] * 5


@pytest.mark.parametrize("who", ["", "user:42", "\ud55c\uae00", "\ud800", "a\0b", "x" * 100_000, "rl:{x}:1"])
async def test_anybody_can_be_named(rig: Rig, who: str) -> None:
    """Whatever text names who calls, it is one caller, and nobody else's key."""
    bw = door(an_instance(rig))
    assert [(await bw.limit(who, "1/hour")).allowed for _ in range(2)] == [True, False]
    assert (await bw.limit(f"{who}!", "1/hour")).allowed
    assert all(len(key) < 64 for key in rig.server.keys("rl:*"))


async def test_a_call_may_cost_more(rig: Rig) -> None:
    """A call of several is admitted whole or not at all; one that never fits has no time to wait for."""
    bw, who = door(an_instance(rig)), a_name()
    assert (await bw.limit(who, "10/minute", cost=7)).remaining == 3
    assert not (await bw.limit(who, "10/minute", cost=4)).allowed
    assert (await bw.limit(who, "10/minute", cost=3)).allowed
    never = await bw.limit(a_name(), "10/minute", cost=11)
    assert (never.allowed, never.reason, never.retry_after_s) == (False, "cost_exceeds_limit", None)
    assert "retry-after" not in never.headers


@pytest.mark.parametrize(
    ("lower", "higher", "left"),
    [("3/minute", "10/minute", 7), ("9/minute,3/day", "9/minute,100/day", 6), ("3/minute", "10/minute,100/day", 7)],
)
async def test_a_higher_limit_of_the_same_caller(rig: Rig, lower: str, higher: str, left: int) -> None:
    """Who has another plan from now on is not refused by the one before; what was counted stays counted."""
    bw, who = door(an_instance(rig)), a_name()
    assert [(await bw.limit(who, lower)).allowed for _ in range(5)] == [True] * 3 + [False] * 2
    assert [(await bw.limit(who, higher)).allowed for _ in range(left + 1)] == [True] * left + [False]
    assert (await bw.limit(who, lower)).reason == "blocked"


async def test_a_look(rig: Rig) -> None:
    """CASE 4: a call that costs nothing says what is left, writes nothing and makes no key; 2 commands."""
    bw, who = door(an_instance(rig)), a_name()
    for _ in range(2):
        assert (await bw.limit(who, "10/minute", cost=0)).remaining == 10
    assert rig.server.keys("rl:*") == []
    await bw.limit(who, "10/minute", cost=4)
    (key,) = rig.server.keys("rl:*")
    before = rig.server.get(key)
    async with bill(rig) as spent:
        assert (await bw.limit(who, "10/minute", cost=0)).remaining == 6
    assert spent == [2, 1]
    assert rig.server.get(key) == before
    await bw.limit(who, "10/minute", cost=6)
    look = await bw.limit(who, "10/minute", cost=0)
    assert (look.allowed, look.remaining) == (True, 0)


async def test_no_limit(rig: Rig) -> None:
    """`off` asks nobody."""
    async with bill(rig) as spent:
        verdict = await door(an_instance(rig)).limit(a_name(), "off")
    assert (verdict.allowed, verdict.reason, verdict.mode, dict(verdict.headers)) == (True, "unlimited", "off", {})
    assert spent == [0, 0]


@pytest.mark.parametrize("limits", ["", "10", "10/week", "10 per minute", "0/minute", "10/minute,5/minute"])
async def test_what_is_no_limit(rig: Rig, limits: str) -> None:
    """It is said where it is written, and nothing is sent."""
    with pytest.raises(ValueError, match=r"limit|minute"):
        await door(an_instance(rig)).limit("somebody", limits)
    with pytest.raises(ValueError, match=r"limit|minute"):
        door(an_instance(rig)).route(lambda request: 1, limit=limits)
    with pytest.raises(ValueError, match="0 or more"):
        await door(an_instance(rig)).limit("somebody", "1/minute", cost=-1)


@pytest.mark.parametrize("cost", [1.5, 1.0, "1", None, float("nan"), decimal.Decimal(1)], ids=repr)
async def test_what_is_no_cost(rig: Rig, cost: Any) -> None:
    """It is an error where it is written: sent to Redis and Supabase, it would look as if they had failed."""
    instance = an_instance(rig)
    async with bill(rig) as spent:
        with pytest.raises(TypeError, match="integer"):
            await door(instance).limit("somebody", "9/minute", cost=cost)
    assert (spent, instance.events) == ([0, 0], [])
    verdict = await door(instance).limit("somebody", "9/minute", cost=True)
    assert (verdict.remaining, verdict.mode) == (8, "redis")


async def test_a_dry_run(rig: Rig) -> None:
    """Everything is allowed; what would have been refused is an event, and says so in the verdict."""
    instance = an_instance(rig)
    verdicts = [await door(instance).limit("somebody", "1/minute", dry_run=True) for _ in range(3)]
    assert [(each.allowed, each.reason) for each in verdicts] == [
        (True, "admitted"),
        (True, "blocked"),
        (True, "blocked"),
    ]
    assert [each.group for each in instance.seen(WouldRefuse)] == ["limit", "limit"]


@pytest.mark.parametrize("mode", ["supabase", "local"])
async def test_a_limit_while_redis_is_out(rig: Rig, mode: str) -> None:
    """Supabase counts, and memory after it, at a share of the limit; the verdict says who."""
    rig.upstash.fault("refuse")
    if mode == "local":
        rig.supabase.fault("refuse")
    bw, who = door(an_instance(rig)), a_name()
    verdicts = [await bw.limit(who, "8/minute") for _ in range(9)]
    assert {each.mode for each in verdicts} == {mode}
    assert sum(each.allowed for each in verdicts) == (8 if mode == "supabase" else 2)


# ---------------------------------------------------------------- values


async def test_what_a_value_costs(rig: Rig) -> None:
    """A hit is 1 command in 1 round trip; a miss 3 in 3: read, take the lock, keep. The first one creates epochs."""
    bw, fill = door(an_instance(rig)), Counted()
    found = []
    for key in ("a", "b", "b"):
        async with bill(rig) as spent:
            assert await bw.cached(key, fill, fresh=30) == "value"
        found.append(tuple(spent))
    assert found == [(6, 4), (3, 3), (1, 1)]
    assert (fill.calls, fill.given) == (2, [])
    assert rig.without_ttl() == []


@pytest.mark.parametrize("number", [1, 2])
async def test_ten_at_once_fill_once(rig: Rig, number: int) -> None:
    """On one instance and on two, whoever wants a value while it is computed waits for it."""
    doors, gate = [door(an_instance(rig)) for _ in range(number)], Gate()
    fill = Counted({"weather": "fine"}, gate=gate)
    asks = asyncio.gather(*(doors[n % number].cached("seoul", fill, fresh=30) for n in range(10)))
    await gate.reached.wait()
    gate.open()
    assert await asks == [{"weather": "fine"}] * 10
    assert fill.calls == 1


async def test_an_error_reaches_all_who_wait(rig: Rig) -> None:
    """What fill raised is raised to each of them, called once; the next one tries again."""
    bw, gate = door(an_instance(rig)), Gate()
    fill = Counted(error=LookupError("no such city"), gate=gate)
    asks = asyncio.gather(*(bw.cached("x", fill, fresh=30) for _ in range(10)), return_exceptions=True)
    await gate.reached.wait()
    gate.open()
    assert {str(each) for each in await asks} == {"no such city"}
    assert fill.calls == 1
    with pytest.raises(LookupError):
        await bw.cached("x", fill, fresh=30)
    assert fill.calls == 2


def blocking() -> dict[str, int]:
    """No coroutine: what a driver without asyncio offers."""
    asyncio.set_event_loop(None)
    return {"threads": 1}


FILLS: Mapping[str, Callable[[], Any]] = {
    "a function": blocking,
    "a lambda": lambda: {"threads": 1},
    "a coroutine function": Counted({"threads": 1}),
    "an object": type("", (), {"__call__": lambda self: {"threads": 1}})(),
}


@pytest.mark.parametrize("fill", FILLS.values(), ids=FILLS)
async def test_any_function_fills(rig: Rig, fill: Callable[[], Any]) -> None:
    """One that is not async runs in a thread, and stops nobody else."""
    assert await door(an_instance(rig)).cached("x", fill, fresh=30) == {"threads": 1}


async def test_a_function_that_is_not_async_stops_nobody(rig: Rig) -> None:
    """While it waits, the event loop goes on: here it waits for what the loop does."""
    loop, reached = asyncio.get_running_loop(), asyncio.Event()

    def waits() -> str:
        asyncio.run_coroutine_threadsafe(reached.wait(), loop).result(60)
        return "reached"

    asked = asyncio.ensure_future(door(an_instance(rig)).cached("x", waits, fresh=30))
    await asyncio.sleep(0)
    reached.set()
    assert await asked == "reached"


@dataclasses.dataclass
class Disk:
    """What a program may have of its own."""

    name: str
    since: datetime.date


class Model(pydantic.BaseModel):
    """The same with pydantic."""

    disk: str
    percent: decimal.Decimal


class Color(enum.Enum):
    """Something that JSON has no word for."""

    RED = "red"


class Pair(NamedTuple):
    """A tuple with names."""

    one: int
    two: int


DAY = datetime.date(2026, 11, 25)
VALUES: Mapping[str, tuple[Any, Any]] = {
    "null": (None, None),
    "false": (False, False),
    "zero": (0, 0),
    "empty": ("", ""),
    "a text": ("line\nbreak \ud55c\uae00 \x00", "line\nbreak \ud55c\uae00 \x00"),
    "half a surrogate pair": ("\ud800 \ud55c", "? \ud55c"),
    "a number": (0.1, 0.1),
    "a large number": (2**80, 2**80),
    "nested": ({"a": [1, {"b": None}]}, {"a": [1, {"b": None}]}),
    "a tuple": ((1, 2), [1, 2]),
    "a named tuple": (Pair(1, 2), [1, 2]),
    "numbers as names": ({1: "a"}, {"1": "a"}),
    "a dataclass": (Disk("/", DAY), {"name": "/", "since": "2026-11-25"}),
    "dataclasses in a list": ([Disk("/", DAY)], [{"name": "/", "since": "2026-11-25"}]),
    "a model": (Model(disk="/", percent=decimal.Decimal("41.5")), {"disk": "/", "percent": "41.5"}),
    "models in an object": ({"m": Model(disk="/", percent=decimal.Decimal(1))}, {"m": {"disk": "/", "percent": "1"}}),
    "a time": (datetime.datetime(2026, 11, 25, 20, 15, tzinfo=datetime.UTC), "2026-11-25T20:15:00+00:00"),
    "a UUID": (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
    "a decimal": (decimal.Decimal("0.10"), "0.10"),
    "an enum": ([Color.RED], ["red"]),
}


@pytest.mark.parametrize(("value", "as_json"), VALUES.values(), ids=VALUES)
async def test_a_value_is_the_same_the_first_time(rig: Rig, value: Any, as_json: Any) -> None:
    """Whoever computed a value gets what the others get from the cache: as JSON has it."""
    bw, fill = door(an_instance(rig)), Counted(value)
    for _ in range(2):
        found = await bw.cached("x", fill, fresh=30)
        assert (found, type(found)) == (as_json, type(as_json))
    assert fill.calls == 1


@pytest.mark.parametrize("value", [b"bytes", {1, 2}, Ellipsis, float("nan"), {("a", 1): 2}], ids=str)
async def test_what_json_cannot_hold(rig: Rig, value: Any) -> None:
    """It is an error of fill's, raised to all who wait: ten at once call it once."""
    made, gate = an_instance(rig), Gate()
    bw, fill = door(made), Counted(value, gate=gate)
    asks = asyncio.gather(*(bw.cached("x", fill, fresh=30) for _ in range(10)), return_exceptions=True)
    flying = made.parts.guard.computing.leading.flights._flying
    await until(lambda: [each.followers for each in flying.values()] == [9])
    gate.open()
    found = await asks
    assert {type(each) for each in found} <= {TypeError, ValueError}
    assert fill.calls == 1


async def test_a_value_that_is_too_large_is_given_and_not_kept(rig: Rig) -> None:
    """A few of them would fill a free tier."""
    bw, fill = door(an_instance(rig)), Counted("x" * 300_000)
    for _ in range(2):
        assert len(await bw.cached("x", fill, fresh=30)) == 300_000
    assert fill.calls == 2
    assert rig.server.keys("v:*") + rig.server.keys("lock:*") == []


async def test_keys_never_meet(rig: Rig) -> None:
    """However alike two keys are, each has its own value."""
    bw = door(an_instance(rig))
    alike = ["", "a", "A", "a ", "a\0", "\0a", "a:b", "a%3Ab", "e\u0301", "\u00e9", "\ud800", "?", "cached:a"]
    for key in alike:
        assert await bw.cached(key, Counted(f"value of {key!a}"), fresh=30) == f"value of {key!a}"
    for key in alike:
        assert await bw.cached(key, Counted(), fresh=30) == f"value of {key!a}"


async def test_stale_while_it_is_computed_anew(rig: Rig) -> None:
    """Past its time a value is still served, and one call computes it anew; past both it is waited for."""
    bw = door(an_instance(rig))

    async def ask(value: str) -> str:
        return await bw.cached("x", Counted(value), fresh=30, stale=60)

    assert await ask("old") == "old"
    rig.time.ms += 29_999
    assert await ask("unwanted") == "old"
    rig.time.ms += 1
    assert [await ask("new"), await ask("unwanted")] == ["old", "new"]
    rig.time.ms += 90_000
    assert await ask("newest") == "newest"


async def test_stale_if_error(rig: Rig) -> None:
    """While computing fails an older value is served, as long as `stale` says; then the error comes through."""
    bw, fails = door(an_instance(rig)), Counted(error=OSError("down"))
    assert await bw.cached("x", Counted("old"), fresh=30, stale=60) == "old"
    rig.time.ms += 89_999
    for _ in range(2):
        assert await bw.cached("x", fails, fresh=30, stale=60) == "old"
    rig.time.ms += 1
    with pytest.raises(OSError, match="down"):
        await bw.cached("x", fails, fresh=30, stale=60)


async def test_without_stale_nothing_old_is_served(rig: Rig) -> None:
    """`fresh` alone is a plain time to live."""
    bw = door(an_instance(rig))
    assert await bw.cached("x", Counted("old"), fresh=0.5) == "old"
    rig.time.ms += 500
    assert await bw.cached("x", Counted("new"), fresh=0.5) == "new"


@pytest.mark.parametrize("tags", ["weather", ("weather", "seoul"), ["seoul", "weather"]], ids=str)
async def test_tags(rig: Rig, tags: Any) -> None:
    """Values with a tag are computed anew after it was invalidated, on every instance; others stay."""
    one, two = door(an_instance(rig)), door(an_instance(rig))
    assert await one.cached("x", Counted("old"), fresh=3_600, stale=3_600, tags=tags) == "old"
    assert await one.cached("y", Counted("kept"), fresh=3_600) == "kept"
    async with bill(rig) as spent:
        await one.invalidate("weather", "weather")
    assert spent == [1, 1]
    assert await two.cached("x", Counted("new"), fresh=3_600, stale=3_600, tags=tags) == "new"
    assert await two.cached("y", Counted("unwanted"), fresh=3_600) == "kept"


async def test_invalidated_while_it_is_computed(rig: Rig) -> None:
    """What was begun before is given to whoever waits for it, and to nobody who asks afterwards."""
    one, two, gate = door(an_instance(rig)), door(an_instance(rig)), Gate()
    await one.cached("other", Counted(), fresh=60, tags="t")
    slow = Counted("before", gate=gate)
    begun = asyncio.ensure_future(one.cached("x", slow, fresh=60, tags="t"))
    await gate.reached.wait()
    await two.invalidate("t")
    for bw in (one, two):
        assert await bw.cached("x", Counted("after"), fresh=60, tags="t") == "after"
    gate.open()
    assert await begun == "before"
    # It was kept under its own epoch, in the place of the newer one: that costs another call, and is never served.
    for bw in (one, two):
        assert await bw.cached("x", Counted("again"), fresh=60, tags="t") == "again"


async def test_invalidating_without_redis(rig: Rig) -> None:
    """Where it cannot be reached that is a problem; where it is switched off nothing was cached."""
    bw = door(an_instance(rig))
    rig.upstash.fault("refuse")
    with pytest.raises(Problem, match="store_unavailable: Redis gave no usable reply"):
        await bw.invalidate("weather")
    await door(an_instance(rig, REDIS_ENABLED="false")).invalidate("weather")
    await door(an_instance(rig)).invalidate()


async def test_values_while_redis_is_out(rig: Rig) -> None:
    """They are computed for each call, but once for all who ask at the same time; nothing fails."""
    rig.upstash.fault("refuse")
    instance = an_instance(rig)
    bw, fill, gate = door(instance), Counted(), Gate()
    assert [await bw.cached("x", fill, fresh=30) for _ in range(2)] == ["value"] * 2
    assert fill.calls == 2
    fill.gate = gate
    asks = asyncio.gather(*(bw.cached("x", fill, fresh=30) for _ in range(10)))
    flying = instance.parts.guard.computing.leading.flights._flying
    await until(lambda: [each.followers for each in flying.values()] == [9])
    gate.open()
    assert await asks == ["value"] * 10
    assert fill.calls == 3


@pytest.mark.parametrize(
    ("fresh", "stale"),
    [(0, 0), (-1, 0), (30, -1), (math.inf, 0), (30, math.inf), (math.nan, 0), (30, math.nan), (1e17, 0)],
)
async def test_times_that_cannot_be(rig: Rig, fresh: float, stale: float) -> None:
    """They are refused where they are written, and nothing is called."""
    bw, fill = door(an_instance(rig)), Counted()
    with pytest.raises(ValueError, match="fresh for more than 0"):
        await bw.cached("x", fill, fresh=fresh, stale=stale)
    with pytest.raises(ValueError, match="fresh for more than 0"):
        bw.route(fill, cache=fresh, stale=stale)
    assert fill.calls == 0


async def test_one_value_for_each_caller(rig: Rig) -> None:
    """`scope="caller"` inside a route: nobody gets another's value, whether the route has a limit or not."""
    bw = door(an_instance(rig))
    values = iter(["first", "second", "third"])

    async def mine() -> object:
        return await bw.cached("x", lambda: next(values), fresh=30, scope="caller")

    callers = [a_caller(), a_caller()]
    for app in (handler(bw, mine), bw.route(lambda request: mine(), limit="9/minute", name=a_name())):
        found = [(await get(app, caller=each)).json() for each in callers for _ in range(2)]
        assert found == ["first", "first", "second", "second"]
    assert await bw.cached("x", lambda: next(values), fresh=30) == "third"
    with pytest.raises(ValueError, match="needs a request"):
        await bw.cached("x", Counted(), fresh=30, scope="caller")


async def test_a_value_that_is_late_is_a_problem(rig: Rig) -> None:
    """A route whose value is not there in time answers 504; a script can catch it."""

    async def never() -> None:
        await asyncio.Event().wait()

    bw = door(an_instance(rig, MAX_DURATION_MS="1100"))
    with pytest.raises(Problem, match="backend_timeout"):
        await bw.cached("x", never, fresh=30)
    reply = await get(handler(bw, lambda: bw.cached("x", never, fresh=30)))
    assert (reply.status_code, reply.json()["code"]) == (504, "backend_timeout")


# ---------------------------------------------------------------- after-work


@about_timeouts
async def test_after_work_joins_the_request(rig: Rig) -> None:
    """A refund, a value to keep and a failure of a circuit: one round trip for all of them, after the reply."""
    bw, who = door(an_instance(rig)), a_name()
    for each in (bw, door(an_instance(rig))):
        await each.limit(who, "2/minute")
    await bw.cached("warm", Counted(), fresh=30)
    before = list[int]()

    async def work() -> object:
        rig.forget_counts()
        refused = await bw.limit(who, "2/minute")
        await bw.cached("x", Counted(), fresh=30)
        with contextlib.suppress(OSError):
            async with bw.circuit("weather"):
                await Counted(error=OSError())()
        before.extend(reversed(rig.cost()))
        return refused.allowed

    assert (await get(handler(bw, work))).json() is False
    # The count, the value's read and its lock, the circuit's read.
    assert before == [2 + 2 + 1, 4]
    # The refund, the entry, and the circuit's move.
    assert list(reversed(rig.cost())) == [2 + 2 + 1 + 1 + 1 + 3, 5]
    async with bill(rig) as hit:
        await bw.cached("x", Counted(error=OSError()), fresh=30)
    assert hit == [1, 1]


async def test_two_environments_in_one_process(rig: Rig) -> None:
    """In a request that one of them serves, what the other one leaves goes to its own Redis, at once."""
    here, other = door(an_instance(rig)), door(an_instance(rig, KEY_PREFIX="other:"))
    who, fill = a_name(), Counted()

    async def work() -> object:
        verdicts = [await other.limit(who, "1/minute") for _ in range(2)]
        return [await other.cached("x", fill, fresh=30) for _ in range(2)] + [each.allowed for each in verdicts]

    assert (await get(handler(here, work))).json() == ["value", "value", True, False]
    assert (len(rig.server.keys("*")), fill.calls) == (len(rig.server.keys("other:*")), 1)
    assert [rig.server.ttl(key) > 0 for key in rig.server.keys("other:rl:*")] == [True]


async def test_a_refresh_does_not_hold_up_the_reply(rig: Rig) -> None:
    """Inside a route an aging value is given at once, and computed anew when the reply is out."""
    bw, order = door(an_instance(rig)), list[str]()
    await bw.cached("x", Counted("old"), fresh=30, stale=60)
    rig.time.ms += 31_000

    async def fill() -> str:
        order.append("computed")
        return "new"

    async def work() -> object:
        found = await bw.cached("x", fill, fresh=30, stale=60)
        order.append("replied")
        return found

    assert (await get(handler(bw, work))).json() == "old"
    assert order == ["replied", "computed"]
    assert await bw.cached("x", Counted("unwanted"), fresh=30) == "new"


async def test_a_value_is_found_here_until_it_is_kept(rig: Rig) -> None:
    """Between a value and the reply that keeps it, others on the instance get it without computing."""
    bw, fill = door(an_instance(rig)), Counted()
    await bw.cached("warm", Counted(), fresh=30)

    async def work() -> object:
        await bw.cached("x", fill, fresh=30)
        assert rig.server.keys("v:cached:*") != []
        return await together([bw.cached("x", fill, fresh=30) for _ in range(3)])

    assert (await get(handler(bw, work))).json() == ["value"] * 3
    assert fill.calls == 1


@pytest.mark.parametrize("lost", ["refuse", "drop"])
async def test_after_work_that_is_lost_holds_nobody_up(rig: Rig, lost: str) -> None:
    """Where nobody confirms that the value is kept, the instance does not go on giving what it has in memory."""
    instance = an_instance(rig)
    bw, fill = door(instance), Counted()
    await bw.cached("warm", Counted(), fresh=30)

    async def work() -> object:
        value = await bw.cached("x", fill, fresh=30)
        assert len(instance.parts.guard.computing.leading.flights) == 1
        rig.upstash.fault(lost, times=1)
        return value

    assert (await get(handler(bw, work))).json() == "value"
    assert not instance.parts.guard.computing.leading.flights


async def test_a_task_that_outlives_its_request_sends_its_own(rig: Rig) -> None:
    """Whether it begins before the reply and ends after it, or does all of its work afterwards."""
    instance = an_instance(rig)
    bw, gate, tasks = door(instance), Gate(), list[asyncio.Task[object]]()
    await bw.cached("warm", Counted(), fresh=30)

    async def begun_before() -> object:
        return await bw.cached("before", Counted("b", gate=gate), fresh=30)

    async def all_afterwards() -> object:
        await gate()
        await bw.limit("somebody", "1/minute")
        return await bw.cached("afterwards", Counted("a"), fresh=30)

    async def work() -> object:
        tasks.extend((asyncio.create_task(begun_before()), asyncio.create_task(all_afterwards())))
        await asyncio.sleep(0)
        return "replied"

    assert (await get(handler(bw, work))).json() == "replied"
    gate.open()
    assert await asyncio.gather(*tasks) == ["b", "a"]
    assert not instance.parts.guard.computing.leading.flights
    assert rig.without_ttl() == []
    unwanted = Counted(error=OSError())
    assert [await bw.cached(key, unwanted, fresh=30) for key in ("before", "afterwards")] == ["b", "a"]


async def test_a_crash_still_sends(rig: Rig) -> None:
    """A function that raises after it has used the door: what that left is sent all the same."""
    bw = door(an_instance(rig))

    async def work() -> object:
        await bw.limit("somebody", "5/minute")
        await bw.cached("x", Counted(), fresh=30)
        raise ZeroDivisionError

    assert (await get(handler(bw, work))).status_code == 500
    assert rig.without_ttl() == []
    assert await bw.cached("x", Counted(error=OSError()), fresh=30) == "value"


# ---------------------------------------------------------------- one process, many files


def environ_of(front: RedisFront, **more: str) -> dict[str, str]:
    """A Redis, and nothing else."""
    return {**front.environ, **more}


def test_a_script(front: RedisFront) -> None:
    """`asyncio.run` may be called again: each event loop has connections of its own, and the stores are the same."""
    bw, fill, who, key = Breakwater.from_env(environ_of(front)), Counted(), a_name(), a_name()

    async def main() -> tuple[int, Any]:
        async with bw:
            verdict = await bw.limit(who, "5/minute")
            return verdict.remaining, await bw.cached(key, fill, fresh=30)

    assert [asyncio.run(main()) for _ in range(2)] == [(4, "value"), (3, "value")]
    assert fill.calls == 1
    assert [each for each in instances._built if each.environ is bw.instance.environ] == []  # type: ignore[attr-defined]


async def test_no_ai_provider_is_needed(front: RedisFront) -> None:
    """A Redis is all that a limit, a value and a circuit need."""
    async with Breakwater.from_env(environ_of(front)) as bw:
        assert (await bw.limit(a_name(), "5/minute")).mode == "redis"
        assert await bw.cached(a_name(), Counted(), fresh=30) == "value"
        async with bw.circuit(a_name()):
            pass
        assert (await get(bw.route(lambda request: {"hello": "world"}, name=a_name()))).json() == {"hello": "world"}


async def test_closing_and_going_on(front: RedisFront) -> None:
    """Closing what was never used builds nothing; after closing, the next call makes new connections."""
    bw = Breakwater.from_env(environ_of(front))
    before = len(instances._built)
    await bw.aclose()
    assert len(instances._built) == before
    for _ in range(2):
        assert (await bw.limit(a_name(), "5/minute")).mode == "redis"
        await bw.aclose()
    assert len(instances._built) == before


async def test_one_set_of_parts_a_process(front: RedisFront) -> None:
    """However many files call `from_env()`: of one environment, or of equal ones."""
    environ = environ_of(front)
    first, *others = (Breakwater.from_env(each) for each in (environ, environ, dict(environ)))
    async with first:
        parts = await first.parts()
        assert all([await each.parts() is parts for each in others])
        async with Breakwater.from_env({**environ, "REDIS_SLOW_MS": "5"}) as another:
            assert await another.parts() is not parts


async def lifespan(app: Any) -> list[str]:
    """Start an application and stop it; what it said."""
    incoming, sent = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}], list[str]()

    async def receive() -> Any:
        return incoming.pop(0)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await app({"type": "lifespan"}, receive, send)
    return sent


@pytest.mark.parametrize("end", ["shutdown", "aclose"])
async def test_the_ledger_is_flushed_at_the_end(front: RedisFront, end: str) -> None:
    """What the calls of all doors have cost is in Redis when the process ends in order."""
    environ = environ_of(front)
    one, two = Breakwater.from_env(environ), Breakwater.from_env(environ)
    for bw in (one, two):
        for _ in range(3):
            await bw.limit(a_name(), "5/minute")
    redis = (await one.parts()).guard.limits.redis
    assert redis is not None
    ledger = (await one.parts()).ledger
    assert ledger.flushes == 0
    if end == "shutdown":
        app = two.route(lambda request: 1, name=a_name())
        assert await lifespan(app) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    else:
        await two.aclose()
    assert ledger.flushes == 1
    await one.aclose()


# ---------------------------------------------------------------- nothing configured

NOTHING = """
import asyncio, sys
from lib import Breakwater, BadSettings
bw = Breakwater.from_env()
app = bw.route(lambda request: 1, limit="5/minute", cache=30)

async def main():
    sent = []
    async def receive():
        await asyncio.Event().wait()
    async def send(message):
        sent.append(message)
    scope = {"type": "http", "method": "GET", "path": "/api/x", "query_string": b"", "headers": [], "client": None}
    for _ in range(2):
        await app(scope, receive, send)
    for name, call in {
        "limit": lambda: bw.limit("x", "1/minute"),
        "cached": lambda: bw.cached("x", lambda: 1, fresh=1),
        "invalidate": lambda: bw.invalidate("x"),
    }.items():
        try:
            await call()
        except BadSettings as e:
            print(name, e)
    await bw.aclose()
    print(*(message["status"] for message in sent if "status" in message), sent[1]["body"].decode())

asyncio.run(main())
"""


def test_nothing_configured() -> None:
    """Importing works, and each request answers 500 `misconfigured` with the variables to set; so do calls."""
    environ = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = [sys.executable, "-c", NOTHING]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True)
    limit, cached, invalidate, replies = done.stdout.splitlines()
    for line in (limit, cached, invalidate, replies):
        assert "KV_REST_API_URL" in line
        assert "REDIS_ENABLED=false" in line
    assert replies.startswith("500 500 ")
    assert '"code":"misconfigured"' in replies


# ---------------------------------------------------------------- what the door offers


def test_every_name_of_the_door() -> None:
    """What `lib` names can be imported from it, and nothing else can."""
    assert {name for name in lib.__all__ if not hasattr(lib, name)} == set()
    assert lib.StrictWindows is StrictWindows
    with pytest.raises(AttributeError, match="Breakwaters"):
        lib.Breakwaters  # noqa: B018


BAD_OPTIONS: Mapping[str, tuple[dict[str, Any], type[Exception], str]] = {
    "a typing error": ({"limits": "1/minute"}, TypeError, "no option limits"),
    "a scope that is none": ({"cache": 1, "scope": "all"}, ValueError, "scope: 'caller', or 'shared'"),
    "tags without a cache": ({"tags": ("a",)}, ValueError, "tags: only together with cache"),
    "a scope without a cache": ({"scope": "shared"}, ValueError, "scope: only together with cache"),
    "a POST from the cache": ({"cache": 1, "methods": ("GET", "POST")}, ValueError, "GET"),
    "a list of methods in one": ({"methods": "GET,POST"}, ValueError, "methods: one or several of"),
    "no method": ({"methods": ()}, ValueError, "methods: one or several of"),
    "a method that is answered already": ({"methods": ("GET", "OPTIONS")}, ValueError, "OPTIONS is answered"),
    "a body for what is cached": ({"cache": 1, "max_body_bytes": 5}, ValueError, "max_body_bytes: only without cache"),
    "a body of less than nothing": ({"max_body_bytes": -1}, ValueError, "max_body_bytes: 0 or more"),
    "stale twice": ({"cache": lib.CacheRules(), "stale": 5}, ValueError, "stale: "),
}


@pytest.mark.parametrize(("options", "error", "text"), BAD_OPTIONS.values(), ids=BAD_OPTIONS)
@pytest.mark.parametrize("form", ["call", "decorator"])
async def test_options_that_mean_nothing(
    rig: Rig, options: dict[str, Any], error: type[Exception], text: str, form: str
) -> None:
    """They are refused where they are written: a limit that is misspelt must not be one that is missing."""
    bw = door(an_instance(rig))
    with pytest.raises(error, match=text):
        _ = bw.route(Counted(), **options) if form == "call" else bw.route(**options)(Counted())


async def test_circuits_of_the_door(rig: Rig) -> None:
    """A block that fails is counted, one that is refused is not run, and the error names the circuit."""
    bw, fails = door(an_instance(rig, BREAKER_FAILURES="2")), Counted(error=OSError("down"))

    async def ask() -> None:
        async with bw.circuit("weather"):
            await fails()

    for _ in range(2):
        with pytest.raises(OSError, match="down"):
            await ask()
    with pytest.raises(CircuitOpen, match="circuit_open: The circuit 'weather' is open") as refused:
        await ask()
    assert (fails.calls, refused.value.name, refused.value.retry_after_s) == (2, "weather", 60)
    assert rig.server.get(keys.circuit(keys.circuit_of_app("weather"))) is not None


async def ask_inside(bw: Breakwater, name: str, error: Exception | None = None, **about: Any) -> str:
    """What became of one block in a circuit: ran, raised, or refused."""
    try:
        async with bw.circuit(name, **about):
            if error is not None:
                raise error
    except CircuitOpen:
        return "refused"
    except OSError:
        return "raised"
    return "ran"


async def test_a_circuit_whose_callers_are_known(rig: Rig) -> None:
    """CASE 31: one caller's failures close it for that caller, those of five callers for everybody."""
    bw, down = door(rig.instance()), OSError("down")
    assert [await ask_inside(bw, "weather", down, caller="a") for _ in range(4)] == ["raised"] * 3 + ["refused"]
    assert [await ask_inside(bw, "weather", down, caller=caller) for caller in "bcd"] == ["raised"] * 3
    assert await ask_inside(door(rig.instance()), "weather", down, caller="e") == "raised"
    assert [await ask_inside(each, "weather", caller="f") for each in (bw, door(rig.instance()))] == ["refused"] * 2


CHECKS: dict[str, BaseException | None] = {"well": None, "down": OSError("down"), "cut": asyncio.CancelledError()}


@pytest.mark.parametrize("error", CHECKS.values(), ids=CHECKS)
async def test_a_circuit_with_a_check(rig: Rig, error: BaseException | None) -> None:
    """CASE 31: after failures in a row the check decides; when the pause is over it decides again."""
    bw, down, works = door(rig.instance()), OSError("down"), error is None
    check = Counted(error=error)
    assert [await ask_inside(bw, "weather", down, check=check) for _ in range(3)] == ["raised"] * 3
    assert await ask_inside(bw, "weather", check=check) == ("ran" if works else "refused")
    assert check.calls == 1
    if not works:
        check.error = None
        rig.time.ms += 60_000
        assert await ask_inside(bw, "weather", check=check) == "ran"
        assert check.calls == 2


async def test_a_call_that_was_never_sent(rig: Rig) -> None:
    """CASE 19: three refused connections open it, whoever made the calls, and no check is asked."""
    bw, check, error = door(rig.instance()), Counted(), OSError("all attempts failed")
    error.__cause__ = ConnectionRefusedError()
    for caller in ("a", "a", "b"):
        assert await ask_inside(bw, "weather", error, caller=caller, check=check) == "raised"
    assert await ask_inside(bw, "weather", caller="c", check=check) == "refused"
    assert check.calls == 0


async def test_an_open_circuit_is_a_reply(rig: Rig) -> None:
    """A route that does not catch it answers 503 with the time to wait; nothing is logged as a bug."""
    instance = an_instance(rig, BREAKER_FAILURES="1")
    bw = door(instance)

    async def work() -> object:
        async with bw.circuit("weather"):
            raise Problem("backend_failed", "The weather service is down.")

    app = handler(bw, work)
    assert [(await get(app)).status_code for _ in range(2)] == [502, 503]
    reply = await get(app)
    assert (reply.json()["code"], reply.headers["retry-after"]) == ("circuit_open", "60")


async def test_the_request_says_who_counted(rig: Rig) -> None:
    """A door that finds Redis away switches once, and says so, as a route does."""
    rig.upstash.fault("refuse")
    instance = an_instance(rig)
    for _ in range(3):
        await door(instance).limit(a_name(), "5/minute")
    assert [each.after for each in instance.seen(ModeSwitched)] == ["supabase"]


async def test_a_route_in_a_larger_application(rig: Rig) -> None:
    """A route is an ASGI application: it can be mounted in another, and closes what is no HTTP."""
    from starlette.applications import Starlette
    from starlette.routing import Mount, Route

    bw = door(an_instance(rig))
    mounted = bw.route(lambda asked: {"path": asked.path}, cache=30, name=a_name())
    plain = bw.route(lambda request: JSONResponse({"path": request.url.path}), name=a_name())
    app = Starlette(routes=[Mount("/data", mounted), Route("/plain", plain)])
    async with client(app) as http:
        found = [(await http.get(path)).json()["path"] for path in ("/data/x", "/data/y", "/data/x", "/plain")]
    assert found == ["/data/x", "/data/y", "/data/x", "/plain"]
    sent = list[Any]()

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    await mounted({"type": "websocket", "path": "/data/x", "headers": []}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1000}]


@pytest.mark.parametrize(("share", "admitted"), [({}, 2), ({"LOCAL_LIMIT_SHARE": "1"}, 10)], ids=["a quarter", "all"])
async def test_what_memory_grants_without_a_redis(share: dict[str, str], admitted: int) -> None:
    """Of ten a minute a quarter, as the guides say, unless the only process says that it is the only one."""
    async with Breakwater.from_env({"REDIS_ENABLED": "false", **share}) as bw:
        verdicts = [await bw.limit("somebody", "10/minute") for _ in range(11)]
    assert [each.allowed for each in verdicts] == [True] * admitted + [False] * (11 - admitted)
