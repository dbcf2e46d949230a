"""Budgets that change while they are in use, on a real Redis: what was counted before goes along (CASE 33).

Every change is a new instance with other settings, as a deployment makes it.
"""

import asyncio
import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib.afterwards import Afterwards
from lib.call import Answered
from lib.limits import bitfield
from lib.limits.admission import Charge
from lib.limits.grammar import parse_budget
from lib.limits.judge import Quota, judge
from lib.limits.window import Window
from lib.redis import keys
from lib.redis.op import Op, ignored
from tests.rig.ai import FakeProvider, Kit, kit
from tests.rig.instance import Instance
from tests.rig.redis import RedisFront

pytestmark = pytest.mark.anyio

HOUR_MS = 3_600_000
NOTHING: Op[None] = Op((), ignored)


async def spend(k: Kit, made: Instance, tokens: int = 0) -> Quota:
    """One call of the first provider's budget, in the order of a request: look, spend, write back."""
    redis, after = made.limits.redis, Afterwards()
    assert redis is not None
    view = await redis.run(made.chain.lookup(k.time.ms).op(), "ask", 5)
    charge = Charge(made.chain.subject(0, view), k.time.ms, math.inf, tokens=tokens)
    admission, _ = await made.limits.spend(charge, NOTHING, after)
    await made.guard.outbox.send(after, math.inf)
    return admission.quota


async def use(k: Kit, made: Instance, calls: int, tokens: int = 0) -> int:
    """So many calls; how many of them were admitted."""
    return sum([(await spend(k, made, tokens)).allowed for _ in range(calls)])


async def left(k: Kit, made: Instance) -> dict[str, int]:
    """What is left in each window."""
    subject, redis = made.chain.links[0].subject, made.limits.redis
    assert redis is not None
    tally = await redis.run(bitfield.peek(subject.id, subject.layout, k.time.ms), "ask", 5)
    states = judge(subject.layout.windows, tally.usage, 0, k.time.ms).states
    return {state.window.name: state.remaining for state in states}


@pytest.mark.parametrize(
    ("before", "used", "later_ms", "after", "calls", "admitted"),
    [
        # With one call more each, so that a window that begins anew is seen as well as one that is misread.
        pytest.param(
            "30/day@America/Los_Angeles", 20, 0, "300/day@America/Los_Angeles", 290, 280, id="raised: the rest is left"
        ),
        pytest.param("20/day@America/Los_Angeles", 20, 0, "20/day", 5, 0, id="the zone goes: not 20 more"),
        pytest.param("20/day", 20, 0, "20/day@America/Los_Angeles", 5, 0, id="a zone comes: not 20 more"),
        pytest.param("20/day@Asia/Seoul", 12, 0, "20/day@Asia/Kolkata", 12, 8, id="another zone"),
        pytest.param(
            "200/minute", 180, 8 * HOUR_MS, "14/minute", 20, 14, id="a narrower minute hours later: all of it"
        ),
        pytest.param("200/minute", 180, 0, "14/minute", 5, 0, id="a narrower minute at once: still used up"),
        pytest.param("9/minute", 9, 0, "200/minute", 200, 191, id="a wider minute at once: the rest"),
        pytest.param("200/minute,190/day", 180, 8 * HOUR_MS, "14/minute,190/day", 20, 10, id="the day goes along"),
        pytest.param("300/day", 20, 0, "10/day", 5, 0, id="lowered below what is used"),
        pytest.param("300/day", 20, 0, "25/day", 10, 5, id="lowered: the rest"),
        pytest.param("15/day", 15, 0, "16/day", 5, 1, id="raised by one"),
        pytest.param("20/day", 15, 0, "20/day@Asia/Kathmandu", 10, 5, id="to a zone off the half hour"),
        pytest.param("20/day@Asia/Kathmandu", 15, 0, "20/day", 10, 5, id="from a zone off the half hour"),
        pytest.param("20/day@Asia/Kathmandu", 15, 0, "20/day@Pacific/Chatham", 10, 5, id="both off the half hour"),
        pytest.param("70000/day", 15, 0, "20/day", 10, 5, id="from a limit above 65,535"),
        pytest.param("20/day", 15, 0, "70000/day,17/hour", 10, 10, id="to a limit above 65,535: the hour is new"),
        pytest.param("9/minute,20/day", 8, 0, "20/day", 15, 12, id="a window goes"),
        pytest.param("20/day", 15, 0, "9/minute,20/day", 10, 5, id="a window comes"),
        pytest.param("20/day", 15, 0, "9/hour,20/day", 10, 5, id="another window comes"),
        pytest.param("9/minute,30/hour", 9, 0, "100/minute,30/hour", 30, 21, id="the hour of another minute"),
        pytest.param("30/hour,9/minute", 9, 0, "100/minute,30/hour", 30, 21, id="in another order"),
        pytest.param("9/minute", 9, 0, "14/minute", 10, 5, id="a minute of the same width"),
        pytest.param("20/hour", 15, 0, "20/minute", 21, 20, id="another length begins anew"),
    ],
)
async def test_a_changed_budget(
    k: Kit, before: str, used: int, later_ms: int, after: str, calls: int, admitted: int
) -> None:
    """Calls are counted from before the change, wherever the windows have a unit and length in common."""
    provider = FakeProvider()
    assert await use(k, k.instance(provider, limits=before), used) == used
    k.time.ms += later_ms
    assert await use(k, k.instance(provider, limits=after), calls) == admitted
    assert k.without_ttl() == []


@pytest.mark.parametrize(
    ("before", "after", "admitted"),
    [
        pytest.param("1000 tokens/day", "9/day", 9, id="tokens become calls"),
        pytest.param("9/day", "1000 tokens/day", 10, id="calls become tokens"),
        pytest.param("1000 tokens/day", "1000 tokens/day,90/minute", 6, id="a window of calls comes"),
        pytest.param("1000 tokens/day", "1000 tokens/day@America/Los_Angeles", 6, id="a zone comes"),
        pytest.param("1000 tokens/day", "1000 tokens/day@Asia/Kathmandu", 6, id="a zone off the half hour"),
        pytest.param("1000 tokens/minute,1000/day", "800 tokens/minute,9/day", 4, id="lowered"),
        pytest.param("1000 tokens/minute", "70000 tokens/minute,9/day", 9, id="raised to another width"),
        pytest.param("700 tokens/minute,700 tokens/hour", "70000 tokens/minute,700 tokens/hour", 3, id="the hour's"),
    ],
)
async def test_a_changed_budget_of_tokens(k: Kit, before: str, after: str, admitted: int) -> None:
    """Four calls of 100 tokens before the change, twelve after it: no unit is ever read as the other."""
    provider = FakeProvider()
    assert await use(k, k.instance(provider, limits=before), 4, 100) == 4
    assert await use(k, k.instance(provider, limits=after), 12, 100) == admitted


@pytest.mark.parametrize(
    "texts",
    [
        pytest.param(("14/minute,60/day", "200/minute,60/day", "14/minute,60/day"), id="there and back"),
        pytest.param(("9/minute,60/day", "60/day", "100/minute,60/day", "9/minute,60/day"), id="three changes"),
        pytest.param(("60/day", "60/day@Asia/Kathmandu", "60/day", "9/hour,60/day"), id="by way of another head"),
        pytest.param(("9/minute,60/day", "99/minute,60/day") * 4, id="to and fro"),
    ],
)
async def test_several_changes_in_a_day(k: Kit, texts: tuple[str, ...]) -> None:
    """Five calls under each setting, an hour apart: each is counted once, in whatever order the layouts come."""
    provider, used = FakeProvider(), 0
    for text in texts:
        made = k.instance(provider, limits=text)
        assert await use(k, made, 5) == 5
        used += 5
        assert (await left(k, made))["day"] == 60 - used
        k.time.ms += HOUR_MS
    assert await use(k, k.instance(provider, limits=texts[-1].replace("60/day", f"{used}/day")), 3) == 0


async def test_a_zone_that_comes_and_goes(k: Kit) -> None:
    """What lies before the zone's midnight goes along as well: it counts again when the zone has gone."""
    provider = FakeProvider()
    assert await use(k, k.instance(provider, limits="99/minute,20/day"), 12) == 12
    k.time.ms += HOUR_MS + 60_000
    # Midnight was a minute ago in Noumea.
    assert await use(k, k.instance(provider, limits="9/minute,20/day@Pacific/Noumea"), 3) == 3
    assert await use(k, k.instance(provider, limits="9/minute,20/day"), 6) == 5


@pytest.mark.parametrize("later_ms", [13 * HOUR_MS, 20 * HOUR_MS], ids=["over midnight", "late the next day"])
async def test_yesterday_goes_along(k: Kit, later_ms: int) -> None:
    """What was counted on the UTC day before still counts in a day that began there."""
    provider = FakeProvider()
    await use(k, k.instance(provider, limits="9/minute,20/day"), 9)
    k.time.ms += later_ms
    made = k.instance(provider, limits="99/minute,20/day")
    assert await use(k, made, 20) == 11
    k.time.ms += 25 * HOUR_MS - later_ms
    assert await use(k, made, 20) == 9


@pytest.mark.parametrize(
    ("day", "hours"),
    [
        pytest.param("2026-06-10", 24, id="summer"),
        pytest.param("2026-03-08", 23, id="the clocks go forward"),
        pytest.param("2026-11-01", 25, id="the clocks go back"),
    ],
)
@pytest.mark.parametrize("before", ["20/day", "9000/day@America/Los_Angeles", "99/minute,20/day@America/Los_Angeles"])
async def test_a_zone_that_comes_on_a_day_of_another_length(k: Kit, day: str, hours: int, before: str) -> None:
    """Used just after midnight there, changed just before the next: refused to the last minute, whole at midnight."""
    begins = int(datetime.fromisoformat(f"{day}T00:00").replace(tzinfo=ZoneInfo("America/Los_Angeles")).timestamp())
    provider = FakeProvider()
    k.time.ms = begins * 1000 + 60_000
    assert await use(k, k.instance(provider, limits=before), 20) == 20
    k.time.ms = (begins + hours * 3_600) * 1000 - 60_000
    made = k.instance(provider, limits="20/day@America/Los_Angeles")
    refused = await spend(k, made)
    assert not refused.allowed
    assert refused.retry_at_ms == (begins + hours * 3_600) * 1000
    k.time.ms = refused.retry_at_ms
    assert await use(k, made, 21) == 20


# Two settings at one time


@pytest.mark.parametrize(
    ("one", "two"),
    [
        pytest.param("9/minute,20/day", "99/minute,20/day", id="another width"),
        pytest.param("20/day", "20/day@Asia/Kathmandu", id="another zone"),
        pytest.param("20/day", "9/hour,20/day", id="a window more"),
    ],
)
async def test_two_settings_at_one_time(k: Kit, one: str, two: str) -> None:
    """While a deployment replaces another the two admit at most one limit more; who comes later knows of both."""
    provider = FakeProvider()
    old, new = k.instance(provider, limits=one), k.instance(provider, limits=two)
    admitted = await use(k, old, 5)
    for _ in range(10):
        for made in (old, new):
            admitted += await use(k, made, 4)
        k.time.ms += 2 * 60_000 + 65 * 60_000 * ("hour" in two)
    assert 20 <= admitted <= 40
    for text in (one, two, one):
        assert await use(k, k.instance(provider, limits=text), 3) == 0


async def test_the_same_day_at_one_time(k: Kit) -> None:
    """Two settings whose layout is one count as one: a day's limit or zone makes no other."""
    provider = FakeProvider()
    old = k.instance(provider, limits="20/day@America/Los_Angeles")
    new = k.instance(provider, limits="30/day")
    assert [await use(k, made, 6) for made in (old, new) * 2] == [6, 6, 6, 6]
    assert [await use(k, made, 9) for made in (old, new)] == [0, 6]


async def test_many_that_carry_over_at_one_time(k: Kit) -> None:
    """Six new instances at once: whoever is first, and however often it is done, nothing is counted twice."""
    provider = FakeProvider()
    await use(k, k.instance(provider, limits="99/minute,30/day"), 12)
    made = [k.instance(provider, limits="9/minute,30/day") for _ in range(6)]
    k.time.ms += HOUR_MS
    await asyncio.gather(*(spend(k, each) for each in made))
    assert await left(k, made[0]) == {"minute": 3, "day": 12}


# What it costs


async def test_what_a_change_costs(k: Kit) -> None:
    """The first call of the first instance: the other layout's two days, a script for each, the list; then nothing."""
    provider = FakeProvider()
    old = k.instance(provider, limits="9/minute,100/day")
    await use(k, old, 1)
    k.time.ms += 13 * HOUR_MS
    await use(k, old, 2)
    commands = []
    for text in ("99/minute,100/day", "99/minute,100/day"):
        made = k.instance(provider, limits=text)
        for _ in range(3):
            await spend(k, made)
            commands.append([command[0] for sent in made.sent for command in sent])
            made.sent.clear()
    plain = ["MGET", "BITFIELD"]
    carried = ["BITFIELD", "BITFIELD_RO"]
    assert commands[0] == ["MGET", "BITFIELD_RO", "BITFIELD_RO", "EVAL", "EVAL", "SET", *carried, "EXPIRE"]
    assert commands[1:3] == [plain, plain]
    # Another instance finds its layout at the end of the list.
    assert commands[3:] == [["MGET", *carried], plain, plain]


async def test_the_list_of_layouts(k: Kit) -> None:
    """One entry for each layout, the latest last; written once a day, and gone with what it lists."""
    provider = FakeProvider()
    for text in ("9/minute", "99/minute", "9/minute"):
        await use(k, k.instance(provider, limits=text), 2)
    at_s = k.time.ms // 1000
    assert k.server.get(keys.SHAPES) == f'{{"{provider.name}":[["cm8",{at_s}],["cm4",{at_s}]]}}'
    made = k.instance(provider, limits="9/minute")
    for hours in (23, 2, 23, 2):
        k.time.ms += hours * HOUR_MS
        await use(k, made, 1)
    assert k.server.get(keys.SHAPES) == f'{{"{provider.name}":[["cm4",{at_s + 50 * 3_600}]]}}'


@pytest.mark.parametrize("text", ["", "{", "[]", '{"p":1}', '{"p":[1,["cm4"],["cm4","x"],[["cm4"],1]]}', "null", "7"])
async def test_a_list_that_is_not_readable(k: Kit, text: str) -> None:
    """It lists nothing, and is written anew."""
    provider = FakeProvider()
    k.server.set(keys.SHAPES, text.replace('"p"', f'"{provider.name}"'))
    made = k.instance(provider, limits="9/minute")
    assert await use(k, made, 10) == 9
    assert str(k.server.get(keys.SHAPES)).startswith(f'{{"{provider.name}":[["cm4",')


@pytest.mark.parametrize("tag", ["cm5", "xm4", "cm4-", "", "cm4-cw8", "head-cm4"])
async def test_a_layout_of_another_release(k: Kit, tag: str) -> None:
    """A tag that this release does not know is left alone."""
    provider = FakeProvider()
    k.server.set(keys.SHAPES, f'{{"{provider.name}":[["{tag}",{k.time.ms // 1000}]]}}')
    made = k.instance(provider, limits="9/minute")
    assert await use(k, made, 10) == 9


# A reservation whose instance is killed


async def test_a_reservation_that_nobody_corrects(k: Kit) -> None:
    """The instance is killed between reserving 400 tokens and correcting them: they count until they leave."""
    provider = FakeProvider()
    made = k.instance(provider, limits="1000 tokens/minute,2000 tokens/day")
    assert await use(k, made, 1, 400) == 1
    other = k.instance(provider, limits="1000 tokens/minute,2000 tokens/day")
    assert await left(k, other) == {"tokens-minute": 600, "tokens-day": 1_600}
    assert not (await spend(k, other, 601)).allowed
    k.time.ms += 65_000
    assert await left(k, other) == {"tokens-minute": 1_000, "tokens-day": 1_600}
    k.time.ms += 25 * HOUR_MS
    assert await left(k, other) == {"tokens-minute": 1_000, "tokens-day": 2_000}


async def test_a_question_uses_what_was_counted_before(k: Kit) -> None:
    """From the question to the provider: nine before the change, one after it, and no more."""
    provider = FakeProvider()
    for text, calls in (("99/minute,10/day", 9), ("9/minute,10/day", 3)):
        made = k.instance(provider, limits=text)
        for _ in range(calls):
            outcome = await made.whole(k.call(limits="off"))
        k.time.ms += 70_000
    assert provider.asked == 10
    assert not isinstance(outcome.result, Answered)


# Any sequence

SETTINGS = (
    "9/minute,30/day",
    "9/minute,30/day@America/Los_Angeles",
    "40/day@Asia/Kolkata,99/minute",
    "20/day",
    "14/hour,30/day",
    "300/hour,9/minute",
    "300/hour,300/minute,300/day",
    "70000/day,9/minute",
    "500 tokens/minute,30/day",
    "4000 tokens/day,20/hour",
    "90000 tokens/minute,4000 tokens/day@America/New_York",
)
STEPS_MS = (0, 0, 0, 1_000, 30_000, 70_000, 40 * 60_000, 3 * HOUR_MS, 13 * HOUR_MS)


@dataclass
class Record:
    """Every call that was admitted, and by which windows it was counted: what an ideal counter would know."""

    calls: list[tuple[int, int, frozenset[tuple[str, int]]]] = field(default_factory=list)

    def quota(self, windows: tuple[Window, ...], now_ms: int, tokens: int) -> Quota:
        """The verdict on a call."""
        usage = []
        for each in windows:
            buckets: dict[int, int] = {}
            for at_ms, spent, counted in self.calls:
                if (each.unit, each.length_ms) in counted and at_ms // each.bucket_ms in each.covered(now_ms):
                    buckets[at_ms // each.bucket_ms] = buckets.get(at_ms // each.bucket_ms, 0) + each.price(1, spent)
            usage.append(buckets)
        return judge(windows, usage, 1, now_ms, tokens=tokens)


async def _play(front: RedisFront, steps: list[tuple[int, int, int]]) -> None:
    async with kit(front) as k:
        provider, record = FakeProvider(), Record()
        k.time.ms = int(datetime(2026, 11, 1, 3, tzinfo=UTC).timestamp() * 1000)
        made = k.instance(provider, limits=SETTINGS[0])
        for setting, step, tokens in steps:
            k.time.ms += STEPS_MS[step % len(STEPS_MS)]
            if setting < len(SETTINGS):
                made = k.instance(provider, limits=SETTINGS[setting])
            windows = made.chain.links[0].budget.layout.windows
            for _ in range(1 + step % 7):
                expected, quota = record.quota(windows, k.time.ms, tokens), await spend(k, made, tokens)
                assert quota.allowed == expected.allowed
                assert [s.remaining for s in quota.states] == [s.remaining for s in expected.states]
                if quota.allowed:
                    counted = frozenset((each.unit, each.length_ms) for each in windows)
                    record.calls.append((k.time.ms, tokens, counted))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(st.integers(0, 2 * len(SETTINGS)), st.integers(0, 62), st.sampled_from([1, 90, 300])),
        min_size=4,
        max_size=30,
    )
)
def test_any_sequence_of_changes(front: RedisFront, steps: list[tuple[int, int, int]]) -> None:
    """Whatever changes in whatever order: each call is decided as one counter would that had seen all of them."""
    asyncio.run(_play(front, steps))


def test_the_settings_that_are_played_have_several_layouts() -> None:
    """Else the property would show little."""
    assert len({parse_budget(text).tag for text in SETTINGS}) >= 8
