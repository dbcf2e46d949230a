"""The strict windows (CASES 1 to 16 and 18), on a real Redis through the real wire, with time as an argument."""

import multiprocessing
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dev.faults import Fault
from lib.limits import bitfield
from lib.limits.bitfield import Known, Refunded, Tally
from lib.limits.grammar import parse_budget, parse_limits
from lib.limits.judge import Quota, WindowState, judge, too_costly
from lib.limits.window import DAY_MS, SKEW_AHEAD_MS, SKEW_BACK_MS, Layout, Window, window
from lib.redis import keys
from lib.redis.errors import RedisDown
from lib.redis.op import gather
from tests.limits.burst import burst
from tests.limits.fake_bitfield import FakeBitfield
from tests.limits.instance import MIDNIGHT_MS, NOON_MS, TEN_HUNDRED, Instance, Runs, most_in_any, remaining
from tests.rig.redis import Store

MINUTE_MS = 60_000
MINUTE, DAY = TEN_HUNDRED.windows
SMALL = parse_limits("3/minute,7/day")
FEW = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]}


@pytest.fixture(params=["rest", "tcp"])
def transport(request: pytest.FixtureRequest) -> str:
    """Redis over both."""
    return str(request.param)


def ttls(redis: Store, subject: str, now_ms: int) -> dict[int, int]:
    """The TTL in seconds of every key of a subject, by its day relative to now; -1 for none."""
    today = now_ms // DAY_MS
    found = {day: redis.command("TTL", keys.windows(subject, today + day)) for day in range(-3, 4)}
    return {day: ttl for day, ttl in found.items() if isinstance(ttl, int) and ttl != -2}


def counts(redis: Store, subject: str, now_ms: int, layout: Layout = TEN_HUNDRED) -> list[int]:
    """What each window counts, as Redis has it."""
    return [sum(buckets.values()) for buckets in redis.run(bitfield.peek(subject, layout, now_ms)).usage]


# --- single calls -------------------------------------------------------------------------------------------------


def test_ten_pass_and_the_eleventh_is_refused(redis: Store, subject: str) -> None:
    """CASE 1: ten at one time pass with 9..0 left; the refusal says why, until when, and leaves the counts."""
    instance = Instance(redis)
    passed = [instance.call(subject, NOON_MS) for _ in range(10)]
    assert [quota.allowed for quota in passed] == [True] * 10
    assert [remaining(quota)["minute"] for quota in passed] == list(range(9, -1, -1))
    assert [remaining(quota)["day"] for quota in passed] == list(range(99, 89, -1))
    refused = instance.call(subject, NOON_MS)
    assert (refused.allowed, refused.reason) == (False, "minute")
    assert refused.retry_at_ms == NOON_MS + 2_500 + MINUTE_MS + SKEW_BACK_MS
    assert remaining(refused) == {"minute": 0, "day": 90}
    assert counts(redis, subject, NOON_MS) == [10, 10]


def test_a_cost_above_the_limit(redis: Store, subject: str) -> None:
    """CASE 2: refused without a command, never retryable, nothing spent."""
    with redis.count() as spent:
        refused = Instance(redis).call(subject, NOON_MS, cost=11)
    assert (refused.allowed, refused.reason, refused.retry_at_ms) == (False, "cost_exceeds_limit", None)
    assert spent.commands == 0
    assert ttls(redis, subject, NOON_MS) == {}


def test_a_smaller_cost_fits_where_a_larger_did_not(redis: Store, subject: str) -> None:
    """CASE 3: 8 used, cost 5 refused, then cost 1 passes with 1 left."""
    instance = Instance(redis)
    assert instance.call(subject, NOON_MS, cost=8).allowed
    assert not instance.call(subject, NOON_MS, cost=5).allowed
    passed = instance.call(subject, NOON_MS)
    assert passed.allowed
    assert remaining(passed)["minute"] == 1


def test_a_peek_writes_nothing(redis: Store, subject: str) -> None:
    """CASE 4: no key comes of a peek, and no count changes."""
    instance = Instance(redis)
    assert remaining(instance.peek(subject, NOON_MS)) == {"minute": 10, "day": 100}
    assert ttls(redis, subject, NOON_MS) == {}
    instance.call(subject, NOON_MS, cost=3)
    for _ in range(3):
        assert remaining(instance.peek(subject, NOON_MS)) == {"minute": 7, "day": 97}


@pytest.mark.parametrize("unit", ["minute", "hour", "day"])
def test_a_limit_of_one(redis: Store, subject: str, unit: str) -> None:
    """CASE 5: the first passes, the second does not."""
    instance = Instance(redis, Layout((window(unit, 1),)))
    assert [instance.call(subject, NOON_MS).allowed for _ in range(3)] == [True, False, False]


def test_refusals_do_not_count_for_the_day(redis: Store, subject: str) -> None:
    """CASE 6: after 20 attempts in one minute the day has counted 10."""
    instance = Instance(redis)
    for n in range(20):
        instance.call(subject, NOON_MS + n * 100)
    assert counts(redis, subject, NOON_MS + 2_000) == [10, 10]


def test_the_day_is_used_up(redis: Store, subject: str) -> None:
    """CASE 7: refused for the day's reason and retry time, the minute untouched."""
    instance = Instance(redis)
    for n in range(10):
        assert instance.call(subject, NOON_MS + n * 70_000, cost=10).allowed
    later = NOON_MS + 900_000
    refused = instance.call(subject, later)
    assert (refused.allowed, refused.reason) == (False, "day")
    assert refused.retry_at_ms == NOON_MS + 1_800_000 + DAY_MS + SKEW_BACK_MS
    assert remaining(refused) == {"minute": 10, "day": 0}
    assert counts(redis, subject, later) == [0, 100]


@pytest.mark.parametrize(
    ("first_ms", "idle_ms"),
    [
        pytest.param(NOON_MS, 2 * MINUTE_MS, id="two minutes"),
        pytest.param(NOON_MS, 2 * DAY_MS, id="two days"),
        pytest.param(MIDNIGHT_MS - 1, 2 * MINUTE_MS, id="two minutes over midnight"),
        pytest.param(MIDNIGHT_MS - 1, 2 * DAY_MS, id="two days from midnight"),
    ],
)
def test_idle_for_two_windows(redis: Store, subject: str, first_ms: int, idle_ms: int) -> None:
    """CASE 11: the full limit is back."""
    instance = Instance(redis)
    instance.call(subject, first_ms, cost=10)
    left = remaining(instance.peek(subject, first_ms + idle_ms))
    assert left["minute"] == 10
    assert left["day"] == (100 if idle_ms >= 2 * DAY_MS else 90)


# --- retry times and strictness -----------------------------------------------------------------------------------

# Around every boundary that the rule has, and in between. A trace is drawn as bytes, three a call: far faster than
# a list of tuples, and it shrinks as well.
BOUNDARIES_MS = (
    *(0, 0, 0, 1, 2_499, 2_500, 2_501, 5_000, 57_499, 59_999, 60_000, 60_001, 60_500, 64_999, 65_000),
    *(3_600_000, 43_200_000, DAY_MS - MINUTE_MS, DAY_MS - 1, DAY_MS, DAY_MS + 1_802_500),
)
STARTS_MS = st.one_of(
    st.integers(MIDNIGHT_MS - 130_000, MIDNIGHT_MS + 5_000), st.integers(MIDNIGHT_MS, MIDNIGHT_MS + DAY_MS)
)


def step(which: int, fine: int) -> int:
    """How long before a call: at a boundary, within seconds, within a minute, or within a day."""
    if which < 128:
        return BOUNDARIES_MS[which % len(BOUNDARIES_MS)]
    return (fine * 37, fine * 263, fine * 337_501)[which % 3]


def steps(drawn: bytes, costs: tuple[int, ...] = (1, 1, 1, 2, 3)) -> list[tuple[int, int]]:
    """How long before each call, and its cost."""
    return [
        (step(which, fine), costs[cost % len(costs)]) for which, fine, cost in zip(*[iter(drawn)] * 3, strict=False)
    ]


TRACES = st.tuples(STARTS_MS, st.binary(min_size=15, max_size=33).map(steps))
type Trace = tuple[int, list[tuple[int, int]]]


def admitted_of(redis: Runs, subject: str, trace: Trace, layout: Layout = SMALL) -> list[tuple[int, int]]:
    """Time and cost of what passed."""
    instance, (now_ms, calls), admitted = Instance(redis, layout), trace, []
    for step_ms, cost in calls:
        now_ms += step_ms
        if instance.call(subject, now_ms, cost).allowed:
            admitted.append((now_ms, cost))
    return admitted


def assert_strict(admitted: list[tuple[int, int]], layout: Layout = SMALL) -> None:
    for each in layout.windows:
        assert most_in_any(admitted, each.length_ms) <= each.limit


@settings(max_examples=10_000, **FEW)  # type: ignore[arg-type]
@given(TRACES)
def test_never_more_than_the_limit(trace: Trace) -> None:
    """CASE 9: no closed minute or day holds more, at random times, over midnight too (on the fake)."""
    assert_strict(admitted_of(FakeBitfield(), "s", trace))


@settings(max_examples=120, **FEW)  # type: ignore[arg-type]
@given(TRACES)
def test_never_more_than_the_limit_on_redis(redis: Store, subjects: Callable[[], str], trace: Trace) -> None:
    """CASE 9, on the real Redis, which also decides each call as the fake does."""
    admitted = admitted_of(redis, subjects(), trace)
    assert_strict(admitted)
    assert admitted == admitted_of(FakeBitfield(), "s", trace)


def full(redis: Runs, subject: str, trace: Trace) -> tuple[int, int, Instance] | None:
    """Calls until one is refused: its time, its cost, and the instance; None if all pass."""
    instance, (now_ms, calls) = Instance(redis, SMALL), trace
    for step_ms, cost in calls:
        now_ms += step_ms
        if not instance.call(subject, now_ms, cost).allowed:
            return now_ms, cost, instance
    return None


# Short steps only, so that nearly every trace ends in a refusal.
CROWDED = st.tuples(
    STARTS_MS,
    st.binary(min_size=12, max_size=24).map(
        lambda drawn: [(ms if ms <= 9_500 else ms % 2_501, cost) for ms, cost in steps(drawn, (1, 2, 3))]
    ),
)


def assert_exact(redis: Runs, subject: str, trace: Trace) -> None:
    found = full(redis, subject, trace)
    if found is None:
        return
    now_ms, cost, instance = found
    retry_at = instance.call(subject, now_ms, cost).retry_at_ms
    assert retry_at is not None
    assert retry_at > now_ms
    # Another instance, which remembers nothing, says the same.
    for asked in (instance, Instance(redis, SMALL)):
        assert not asked.call(subject, retry_at - 1, cost).allowed
    assert instance.call(subject, retry_at, cost).allowed


@settings(max_examples=10_000, **FEW)  # type: ignore[arg-type]
@given(CROWDED)
def test_the_retry_time_is_exact(trace: Trace) -> None:
    """CASE 8: refused at t + r - 1, passed at t + r, with no other traffic (on the fake)."""
    assert_exact(FakeBitfield(), "s", trace)


@settings(max_examples=120, **FEW)  # type: ignore[arg-type]
@given(CROWDED)
def test_the_retry_time_is_exact_on_redis(redis: Store, subjects: Callable[[], str], trace: Trace) -> None:
    """CASE 8, on the real Redis."""
    assert_exact(redis, subjects(), trace)


@pytest.mark.parametrize("end_ms", [NOON_MS + MINUTE_MS - 1, MIDNIGHT_MS - 1], ids=["a minute's end", "midnight"])
def test_a_burst_and_a_try_every_ten_milliseconds(end_ms: int) -> None:
    """CASE 10: at most the limit in any window, and the limit is used again and again (on the fake)."""
    instance = Instance(FakeBitfield())
    times = [end_ms] * 12 + list(range(end_ms, end_ms + 130_000, 10))
    admitted = [(at, 1) for at in times if instance.call("s", at).allowed]
    assert_strict(admitted, TEN_HUNDRED)
    assert len(admitted) == 30


def test_a_burst_and_persistent_tries_on_redis(redis: Store, subject: str) -> None:
    """CASE 10, on the real Redis, with a try every 200 ms."""
    instance = Instance(redis)
    times = [MIDNIGHT_MS - 1] * 12 + list(range(MIDNIGHT_MS, MIDNIGHT_MS + 70_000, 200))
    admitted = [(at, 1) for at in times if instance.call(subject, at).allowed]
    assert_strict(admitted, TEN_HUNDRED)
    assert len(admitted) == 20


# --- several instances --------------------------------------------------------------------------------------------


def test_eight_processes(redis: Store, subject: str) -> None:
    """CASE 12: of 100 concurrent calls by 8 processes on one caller exactly 10 pass, and 10 are counted."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(8), context.Queue()
    shares = [13] * 4 + [12] * 4
    processes = [
        context.Process(target=burst, args=(redis.url, redis.upstash.token, subject, share, barrier, results))
        for share in shares
    ]
    for process in processes:
        process.start()
    passed = [results.get(timeout=30) for _ in processes]
    for process in processes:
        process.join(30)
    results.close()
    assert sum(passed) == 10
    assert counts(redis, subject, NOON_MS) == [10, 10]


SKEWED = st.tuples(
    STARTS_MS,
    st.binary(min_size=15, max_size=48).map(
        lambda drawn: [(ms, cost, drawn[3 * n + 2] >> 6) for n, (ms, cost) in enumerate(steps(drawn, (1, 1, 2)))]
    ),
    st.one_of(st.just((0, 250, SKEW_BACK_MS)), st.tuples(*[st.integers(0, SKEW_BACK_MS)] * 3)),
)
type Skewed = tuple[int, list[tuple[int, int, int]], tuple[int, int, int]]


def skewed_admitted(redis: Runs, subject: str, trace: Skewed) -> list[tuple[int, int]]:
    """TRUE time and cost of what passed, by three instances whose clocks differ."""
    true_ms, calls, offsets = trace
    instances, admitted = [Instance(redis, SMALL, offset) for offset in offsets], []
    for step_ms, cost, who in calls:
        true_ms += step_ms
        if instances[who % 3].call(subject, true_ms, cost).allowed:
            admitted.append((true_ms, cost))
    return admitted


@settings(max_examples=2_000, **FEW)  # type: ignore[arg-type]
@given(SKEWED)
def test_clocks_that_differ(trace: Skewed) -> None:
    """CASE 13: clocks up to SKEW_BACK_MS apart, judged in true time, over midnight too (on the fake)."""
    assert_strict(skewed_admitted(FakeBitfield(), "s", trace))


@settings(max_examples=80, **FEW)  # type: ignore[arg-type]
@given(SKEWED)
def test_clocks_that_differ_on_redis(redis: Store, subjects: Callable[[], str], trace: Skewed) -> None:
    """CASE 13, on the real Redis."""
    assert_strict(skewed_admitted(redis, subjects(), trace))


@pytest.mark.parametrize("base_ms", [NOON_MS, MIDNIGHT_MS - SKEW_BACK_MS, MIDNIGHT_MS - 1, MIDNIGHT_MS])
@pytest.mark.parametrize("ahead_first", [True, False], ids=["the fast clock first", "the slow clock first"])
@pytest.mark.parametrize("wait_ms", [0, 1, SKEW_BACK_MS, MINUTE_MS - SKEW_BACK_MS, MINUTE_MS - 1, MINUTE_MS])
def test_two_clocks_at_a_boundary(redis: Store, subject: str, base_ms: int, ahead_first: bool, wait_ms: int) -> None:
    """CASE 13: a burst by one clock and a burst by the other within a closed minute of true time are one limit."""
    slow, fast = Instance(redis), Instance(redis, offset_ms=SKEW_BACK_MS)
    first, second = (fast, slow) if ahead_first else (slow, fast)
    passed = [first.call(subject, base_ms).allowed for _ in range(11)]
    passed += [second.call(subject, base_ms + wait_ms).allowed for _ in range(2)]
    assert sum(passed) == 10


def test_a_clock_an_hour_ahead(redis: Store, subject: str) -> None:
    """CASE 13: what a clock an hour ahead spent locks nobody out, neither now nor once it is gone."""
    Instance(redis, offset_ms=3_600_000).call(subject, NOON_MS, cost=10)
    good = Instance(redis)
    assert [good.call(subject, NOON_MS).allowed for _ in range(11)] == [True] * 10 + [False]
    assert good.call(subject, NOON_MS + 70_000).allowed


def test_a_day_that_another_instance_still_writes_is_not_remembered(redis: Store, subject: str) -> None:
    """A clock just past midnight reads yesterday again while a slower one may still be in it."""
    fast, slow = Instance(redis, offset_ms=SKEW_BACK_MS), Instance(redis)
    fast.call(subject, MIDNIGHT_MS - 1)
    for n in range(9):
        slow.call(subject, MIDNIGHT_MS - 9 + n)
    assert not fast.call(subject, MIDNIGHT_MS + SKEW_BACK_MS).allowed


# --- midnight -----------------------------------------------------------------------------------------------------


def test_yesterday_counts_today(redis: Store, subject: str) -> None:
    """What was spent before midnight counts in the minute and the day after it."""
    instance = Instance(redis)
    assert instance.call(subject, MIDNIGHT_MS - 1_000, cost=9).allowed
    for asked in (instance, Instance(redis)):
        assert remaining(asked.peek(subject, MIDNIGHT_MS + 1_000)) == {"minute": 1, "day": 91}
        assert remaining(asked.peek(subject, MIDNIGHT_MS + DAY_MS - 1)) == {"minute": 10, "day": 91}


def test_the_day_before_yesterday_counts_just_after_midnight(redis: Store, subject: str) -> None:
    """Just after 00:00 a day reaches back beyond yesterday's beginning; from its leaving time on no more."""
    instance = Instance(redis)
    instance.call(subject, MIDNIGHT_MS - 1, cost=10)
    next_midnight = MIDNIGHT_MS + DAY_MS
    for asked in (instance, Instance(redis)):
        assert remaining(asked.peek(subject, next_midnight + 100))["day"] == 90
        assert remaining(asked.peek(subject, next_midnight + SKEW_BACK_MS - 1))["day"] == 90
        assert remaining(asked.peek(subject, next_midnight + SKEW_BACK_MS))["day"] == 100


def test_tomorrow_counts_just_before_midnight(redis: Store, subject: str) -> None:
    """At 23:59:59 the first bucket of tomorrow is read too, which a faster clock may have filled."""
    Instance(redis, offset_ms=SKEW_AHEAD_MS).call(subject, MIDNIGHT_MS - 1_000, cost=10)
    assert ttls(redis, subject, MIDNIGHT_MS - 1_000).keys() == {1}
    assert not Instance(redis).call(subject, MIDNIGHT_MS - 1_000).allowed
    assert Instance(redis).call(subject, MIDNIGHT_MS - SKEW_AHEAD_MS - 1).allowed


@pytest.mark.parametrize(
    ("now_ms", "layout", "days"),
    [
        pytest.param(NOON_MS, TEN_HUNDRED, [0, -1], id="noon"),
        pytest.param(MIDNIGHT_MS, TEN_HUNDRED, [0, -2, -1], id="midnight"),
        pytest.param(MIDNIGHT_MS + SKEW_BACK_MS, TEN_HUNDRED, [0, -1], id="midnight and the skew"),
        pytest.param(MIDNIGHT_MS - SKEW_AHEAD_MS, TEN_HUNDRED, [0, -1, 1], id="the skew before midnight"),
        pytest.param(NOON_MS, parse_limits("10/minute"), [0], id="a minute at noon"),
        pytest.param(MIDNIGHT_MS + 60_499, parse_limits("10/minute"), [0, -1], id="a minute after midnight"),
        pytest.param(MIDNIGHT_MS + 60_500, parse_limits("10/minute"), [0], id="a minute later"),
        pytest.param(MIDNIGHT_MS + 3_600_499, parse_limits("10/hour"), [0, -1], id="an hour after midnight"),
    ],
)
def test_the_days_that_are_read(now_ms: int, layout: Layout, days: list[int]) -> None:
    """Only the days that a window reaches into are asked for, a command each."""
    commands = bitfield.spend("s", layout, 1, now_ms).commands
    today = now_ms // DAY_MS
    assert [command[1] for command in commands] == [keys.windows("s", today + day) for day in days]
    assert [command[0] for command in commands] == ["BITFIELD"] + ["BITFIELD_RO"] * (len(days) - 1)


# --- time to live -------------------------------------------------------------------------------------------------


def assert_ttl(redis: Store, subject: str, now_ms: int) -> None:
    """Every key lives, and long enough to be read as long as a window can reach into it."""
    found = ttls(redis, subject, now_ms)
    assert found
    for day, ttl_s in found.items():
        still_read_until = (now_ms // DAY_MS + day + 2) * DAY_MS + SKEW_AHEAD_MS
        assert 0 < still_read_until - now_ms <= ttl_s * 1000
        assert ttl_s <= 3 * DAY_MS // 1000


@pytest.mark.parametrize("now_ms", [NOON_MS, MIDNIGHT_MS - 1, MIDNIGHT_MS], ids=["noon", "just before", "midnight"])
@pytest.mark.parametrize(
    "costs", [(1,), (2,), (10, 1), (1, 1, 1), (8, 5)], ids=["one", "two", "refused", "several", "refused by cost"]
)
def test_every_key_has_a_ttl(redis: Store, subject: str, now_ms: int, costs: tuple[int, ...]) -> None:
    """CASE 11: whatever the first calls are, and with one EXPIRE only."""
    instance = Instance(redis)
    with redis.count() as spent:
        for cost in costs:
            instance.call(subject, now_ms, cost)
    assert spent.executed.get("expire", 1) == 1
    assert_ttl(redis, subject, now_ms)


def test_a_refund_that_comes_first_asks_for_a_ttl(redis: Store, subject: str) -> None:
    """CASE 11: a refund that finds its key gone makes it anew, empty, and says so; a later one has made nothing."""
    refund = bitfield.refund(subject, TEN_HUNDRED, 1, NOON_MS, (True, True))
    assert redis.run(refund) == Refunded(made_key=True)
    assert counts(redis, subject, NOON_MS) == [0, 0]
    assert redis.run(refund) == Refunded(made_key=False)
    # Whoever made it may have died before it set the TTL: the next call does.
    Instance(redis).call(subject, NOON_MS)
    assert_ttl(redis, subject, NOON_MS)


def test_a_crash_before_the_ttl(redis: Store, subject: str) -> None:
    """CASE 11: the instance that made the key dies before EXPIRE; the next call sets it."""
    redis.run(bitfield.spend(subject, TEN_HUNDRED, 1, NOON_MS))
    assert ttls(redis, subject, NOON_MS) == {0: -1}
    Instance(redis).call(subject, NOON_MS)
    assert_ttl(redis, subject, NOON_MS)


@pytest.mark.parametrize("lost", [2, 3, 8, 20])
def test_several_crashes_before_the_ttl(redis: Store, subject: str, lost: int) -> None:
    """CASE 11: several calls in a row reach Redis but lose their replies; the next one that does not sets the TTL."""
    for _ in range(lost):
        redis.run(bitfield.spend(subject, TEN_HUNDRED, 1, NOON_MS))
    Instance(redis).call(subject, NOON_MS)
    assert_ttl(redis, subject, NOON_MS)


def test_a_key_made_anew_within_the_day(redis: Store, subject: str) -> None:
    """CASE 11: an instance that set the TTL once sets it again after a reset, or an empty Redis, took the key."""
    instance = Instance(redis)
    instance.call(subject, NOON_MS)
    redis.run(bitfield.reset(subject, NOON_MS))
    instance.call(subject, NOON_MS)
    assert_ttl(redis, subject, NOON_MS)


@pytest.mark.parametrize(
    ("touch", "confirmed", "ttl_day", "needed"),
    [
        pytest.param(1, False, -1, True, id="new"),
        pytest.param(2, False, -1, True, id="perhaps new: the first may have died"),
        pytest.param(15, False, -1, True, id="written often, by nobody who is known to have set it"),
        pytest.param(2, True, -1, False, id="another instance has set it"),
        pytest.param(15, True, -1, False, id="another instance has set it, long ago"),
        pytest.param(2, False, NOON_MS // DAY_MS, False, id="this instance has set it"),
        pytest.param(2, False, NOON_MS // DAY_MS - 1, True, id="it was yesterday's key"),
        pytest.param(2, True, NOON_MS // DAY_MS - 1, False, id="yesterday's, but another has set today's"),
        pytest.param(1, True, NOON_MS // DAY_MS, True, id="new again"),
        pytest.param(1, False, NOON_MS // DAY_MS, True, id="new again, and told so by nobody"),
    ],
)
def test_when_a_key_needs_a_ttl(touch: int, confirmed: bool, ttl_day: int, needed: bool) -> None:
    """A key that this very command made always needs one; another does until somebody is known to have set it."""
    tally = Tally(({}, {}), (True, True), touch, confirmed, Known(ttl_day=ttl_day))
    assert bitfield.needs_ttl(tally, NOON_MS) is needed


def test_an_instance_that_set_the_ttl_says_so(redis: Store, subject: str) -> None:
    """The second call of the one that set it confirms it; from then on no other instance sets it again."""
    first, other = Instance(redis), Instance(redis)
    first.call(subject, NOON_MS)
    assert not redis.run(bitfield.peek(subject, TEN_HUNDRED, NOON_MS)).confirmed
    first.call(subject, NOON_MS)
    assert redis.run(bitfield.peek(subject, TEN_HUNDRED, NOON_MS)).confirmed
    with redis.count() as spent:
        other.call(subject, NOON_MS)
    assert "expire" not in spent.executed
    assert spent.round_trips == 1


# --- callers ------------------------------------------------------------------------------------------------------

ODD = ["a", "a*", "a:b", "{x}", "}", "a b", "\r\nDEL a", "x" * 10_000, "호출자", "호출", "*", ""]


def test_odd_subjects_stay_apart(redis: Store, subject: str) -> None:
    """CASE 14: none touches another, and resetting one resets one."""
    odd, instance = [f"{subject}{name}" for name in ODD], Instance(redis)
    for n, each in enumerate(odd):
        assert instance.call(each, NOON_MS, cost=n % 10 + 1).allowed
    left = [100 - (n % 10 + 1) for n in range(len(odd))]
    assert [remaining(instance.peek(each, NOON_MS))["day"] for each in odd] == left
    redis.run(bitfield.reset(odd[1], NOON_MS))
    left[1] = 100
    assert [remaining(Instance(redis).peek(each, NOON_MS))["day"] for each in odd] == left


@pytest.mark.parametrize("ago_ms", [0, DAY_MS, DAY_MS + 43_200_000], ids=["today", "yesterday", "before yesterday"])
def test_a_reset_forgets_all_days(redis: Store, subject: str, ago_ms: int) -> None:
    """CASE 14: every day that a window could reach into goes, in one command."""
    Instance(redis).call(subject, NOON_MS - ago_ms, cost=10)
    with redis.count() as spent:
        redis.run(bitfield.reset(subject, NOON_MS))
    assert spent.commands == 1
    assert ttls(redis, subject, NOON_MS) == {}


# --- broken values and replies ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", [("RPUSH", "x"), ("SADD", "x"), ("HSET", "f", "x")], ids=["a list", "a set", "a hash"]
)
@pytest.mark.parametrize("day", [0, -1], ids=["today", "yesterday"])
def test_a_wrong_type(redis: Store, subject: str, command: tuple[str, ...], day: int) -> None:
    """CASE 15: an error that names a refused command, not a crash and not an admission."""
    name, *rest = command
    redis.command(name, keys.windows(subject, NOON_MS // DAY_MS + day), *rest)
    with pytest.raises(RedisDown, match="WRONGTYPE") as error:
        Instance(redis).call(subject, NOON_MS)
    assert error.value.kind == "command"


def test_a_wrong_type_that_was_reset(redis: Store, subject: str) -> None:
    """CASE 15: a reset cures it."""
    redis.command("RPUSH", keys.windows(subject, NOON_MS // DAY_MS), "x")
    redis.run(bitfield.reset(subject, NOON_MS))
    assert Instance(redis).call(subject, NOON_MS).allowed


@pytest.mark.parametrize(
    ("value", "allowed"),
    [
        pytest.param(b"", True, id="empty"),
        pytest.param(b"garbage", False, id="short: it lies in the first hours' buckets of the day"),
        pytest.param(b"\x00" * 97 + b"garbage", True, id="longer: it lies in the first seconds' buckets of the tail"),
        pytest.param(b"\xff" * 20_000, False, id="all full"),
        pytest.param(b"\x00" * 40_000, True, id="zeros, too long"),
    ],
)
def test_a_corrupt_value(redis: Store, subject: str, value: bytes, allowed: bool) -> None:
    """CASE 15: it counts as whatever its bits say; never a crash, and never more than the limit passes."""
    redis.upstash.direct.set(keys.windows(subject, NOON_MS // DAY_MS), value)
    instance = Instance(redis)
    quotas = [instance.call(subject, NOON_MS) for _ in range(12)]
    assert sum(quota.allowed for quota in quotas) <= 10
    assert quotas[0].allowed is allowed
    refused = quotas[-1]
    assert not refused.allowed
    assert refused.retry_at_ms is not None
    assert refused.retry_at_ms > NOON_MS
    assert all(state.remaining >= 0 for state in refused.states)


@pytest.mark.parametrize("fault", ["drop", "cut"])
def test_a_lost_reply(redis: Store, subject: str, fault: str) -> None:
    """CASE 16: executed and lost: one more is spent, nothing is sent again, nobody is admitted twice."""
    instance = Instance(redis)
    assert instance.call(subject, NOON_MS).allowed
    redis.upstash.faults.set(Fault(kind=fault, times=1))  # type: ignore[arg-type]
    with redis.count() as spent, pytest.raises(RedisDown):
        instance.call(subject, NOON_MS)
    assert spent.round_trips == 1
    assert sum(instance.call(subject, NOON_MS).allowed for _ in range(12)) == 8
    assert counts(redis, subject, NOON_MS) == [10, 10]


# --- commands -----------------------------------------------------------------------------------------------------


def test_command_gate(redis: Store, subject: str) -> None:
    """CASE 18: first sight 1 + yesterday + TTL, admitted 1, refused 2, another instance's first sight 2."""
    instance, other = Instance(redis), Instance(redis)
    billed = []
    for asked in (instance, instance, other, other):
        with redis.count() as spent:
            assert asked.call(subject, NOON_MS).allowed
        billed.append(spent.commands)
    # The other instance reads yesterday too, and sees by the touch count that the TTL is set.
    assert billed == [3, 1, 2, 1]
    instance.call(subject, NOON_MS, cost=6)
    with redis.count() as spent:
        assert not instance.call(subject, NOON_MS).allowed
    assert (spent.commands, spent.round_trips) == (2, 2)
    assert spent.executed in ({"bitfield": 2}, {})


def test_a_day_of_calls_reads_yesterday_once(redis: Store, subject: str) -> None:
    """CASE 18: a finished day is read once an instance; the next day costs its own first sight and TTL."""
    instance = Instance(redis, parse_limits("100/minute,1000/day"))
    with redis.count() as today:
        for n in range(20):
            instance.call(subject, NOON_MS + n * 60_000)
    with redis.count() as tomorrow:
        for n in range(20):
            instance.call(subject, NOON_MS + DAY_MS + n * 60_000)
    assert (today.commands, tomorrow.commands) == (22, 22)


def test_an_operation_is_one_round_trip(redis: Store, subjects: Callable[[], str]) -> None:
    """Operations join: any number of them go together."""
    ops = [bitfield.spend(subjects(), TEN_HUNDRED, 1, NOON_MS) for _ in range(5)]
    with redis.count() as spent:
        tallies = redis.run(gather(ops))
    assert (spent.round_trips, spent.commands) == (1, 10)
    assert all(judge(TEN_HUNDRED.windows, tally.usage, 1, NOON_MS, tally.added).allowed for tally in tallies)


# --- layouts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "bits"),
    [(1, 4), (15, 4), (16, 8), (255, 8), (256, 16), (65_535, 16), (65_536, 32), ((1 << 32) - 1, 32)],
)
def test_widths(redis: Store, subject: str, limit: int, bits: int) -> None:
    """A bucket is as wide as its limit needs, a day's at least 16 bits; the whole limit fits in, and not one more."""
    layout = Layout((window("minute", limit), window("hour", limit), window("day", limit)))
    assert [each.bits for each in layout.windows] == [bits, bits, max(bits, 16)]
    instance = Instance(redis, layout)
    assert instance.call(subject, NOON_MS, cost=limit).allowed
    assert not instance.call(subject, NOON_MS).allowed
    assert counts(redis, subject, NOON_MS, layout) == [limit] * 3


@pytest.mark.parametrize(
    "limits",
    [
        pytest.param("3/minute", id="a minute"),
        pytest.param("20/hour", id="an hour"),
        pytest.param("300/day", id="a day"),
        pytest.param("3/minute,20/hour,300/day", id="all"),
        pytest.param("300/day,20/hour,70000/minute", id="in another order"),
    ],
)
@pytest.mark.parametrize("now_ms", [NOON_MS, MIDNIGHT_MS - 1, MIDNIGHT_MS], ids=["noon", "day's last", "day's first"])
def test_layouts(redis: Store, subject: str, limits: str, now_ms: int) -> None:
    """Windows of a layout do not run into each other, at the ends of the day either; the tightest one decides."""
    layout = parse_limits(limits)
    instance, least = Instance(redis, layout), min(parse_limits(limits).windows, key=lambda each: each.limit)
    assert instance.call(subject, now_ms, cost=least.limit).allowed
    assert counts(redis, subject, now_ms, layout) == [least.limit] * len(layout.windows)
    refused = instance.call(subject, now_ms)
    assert refused.reason == least.name
    assert counts(redis, subject, now_ms, layout) == [least.limit] * len(layout.windows)


def test_windows_of_a_layout_do_not_overlap() -> None:
    """Every bucket of every window has bits of its own, and the touch counter too."""
    layout = parse_limits("255/minute,15/hour,65535/day")
    taken = set(range(4))
    for which, each in enumerate(layout.windows):
        for at in range(0, DAY_MS, each.bucket_ms):
            _, offset = layout.spots(MIDNIGHT_MS + at)[which]
            bits = set(range(offset, offset + each.bits))
            assert not bits & taken
            taken |= bits


@pytest.mark.parametrize(
    ("before", "after", "cost", "passes"),
    [
        pytest.param("10/minute", "12/minute", 2, True, id="raised: the rest passes"),
        pytest.param("10/minute", "12/minute", 3, False, id="raised: not more than the rest"),
        pytest.param("10/minute", "5/minute", 1, False, id="lowered below what is spent"),
        pytest.param("10/minute", "11/minute", 1, True, id="raised by one"),
        pytest.param("10/day", "300/day", 290, True, id="a day raised beyond eight bits: the rest passes"),
        pytest.param("10/day", "300/day", 291, False, id="a day raised: not more than the rest"),
        pytest.param("300/day", "10/day", 1, False, id="a day lowered"),
        pytest.param("10/minute,20/day", "20/day", 20, True, id="the minute goes: a new day"),
        pytest.param("10/minute", "10/minute,100/day", 1, False, id="a day comes: the minute stays"),
        pytest.param("10/hour,11/minute", "11/minute,10/hour", 1, False, id="in another order"),
        pytest.param("10/minute,100/day", "200/minute,100/day", 100, True, id="another width: a new day"),
        pytest.param("100/hour", "100/minute", 100, True, id="another length: begins anew"),
    ],
)
def test_a_limit_changed_between_calls(
    redis: Store, subject: str, before: str, after: str, cost: int, passes: bool
) -> None:
    """Counts stay as long as the layout does, and are never misread by another; remaining is never below zero."""
    for text, calls in ((before, 10), (after, cost)):
        layout = parse_limits(text)
        quota = Instance(redis, layout).call(f"{subject}-{layout.tag}", NOON_MS, calls)
    assert quota.allowed is passes
    assert all(state.remaining >= 0 for state in quota.states)


LIMITS = ("10/minute", "10/minute,100/day", "300/day", "200/minute,100/day", "20/hour,300/day", "12/minute,70000/day")


@settings(max_examples=60, **FEW)  # type: ignore[arg-type]
@given(st.lists(st.tuples(st.sampled_from(LIMITS), st.integers(0, 5), st.integers(1, 9)), min_size=2, max_size=20))
def test_any_sequence_of_changed_limits(
    redis: Store, subjects: Callable[[], str], calls: list[tuple[str, int, int]]
) -> None:
    """CASE 33: of a caller each layout decides as if it were alone: nothing that is due is lost by a change."""
    subject, now_ms, record = subjects(), MIDNIGHT_MS - MINUTE_MS, dict[str, list[tuple[int, int, set[str]]]]()
    for text, step, cost in calls:
        now_ms += (0, 1_000, 30_000, 70_000, 3_600_000, 40_000_000)[step]
        layout = parse_limits(text)
        counted = record.setdefault(layout.tag, [])
        usage = [
            {
                at: sum(c for then, c, names in counted if each.name in names and then // each.bucket_ms == at)
                for at in {then // each.bucket_ms for then, _, _ in counted} & set(each.covered(now_ms))
            }
            for each in layout.windows
        ]
        expected = judge(layout.windows, usage, cost, now_ms)
        quota = Instance(redis, layout).call(f"{subject}-{layout.tag}", now_ms, cost)
        assert (quota.allowed, remaining(quota)) == (expected.allowed, remaining(expected))
        if quota.allowed:
            counted.append((now_ms, cost, {each.name for each in layout.windows}))


def test_the_retry_time_after_a_limit_was_lowered(redis: Store, subject: str) -> None:
    """CASE 8: exact even when more was admitted, under the former limit, than the present one allows."""
    earlier, lowered = Instance(redis, parse_limits("10/minute")), Instance(redis, parse_limits("5/minute"))
    for n in range(10):
        assert earlier.call(subject, NOON_MS + n * 5_000).allowed
    now_ms = NOON_MS + 50_000
    retry_at = lowered.call(subject, now_ms).retry_at_ms
    assert retry_at is not None
    assert not lowered.call(subject, retry_at - 1).allowed
    assert lowered.call(subject, retry_at).allowed


def test_a_changed_width_is_another_layout() -> None:
    """A tag tells the minutes' and hours' windows and widths apart, so that old counts are never misread."""
    tags = [parse_limits(text).tag for text in ("10/minute", "15/minute", "16/minute", "10/hour", "10/minute,9/day")]
    assert tags == ["cm4", "cm4", "cm8", "ch4", "cm4"]


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        pytest.param("225/day", "head", id="a day alone"),
        pytest.param("225/day@America/Los_Angeles", "head", id="of a zone"),
        pytest.param("225/day@Asia/Kolkata", "head", id="of a zone on a half hour"),
        pytest.param("225/day@Australia/Lord_Howe", "head", id="whose summer time is half an hour"),
        pytest.param("225/day@Asia/Kathmandu", "cq16", id="of a zone off the half hour"),
        pytest.param("90000 tokens/day@Pacific/Chatham", "tq32", id="tokens, of a zone off the half hour"),
        pytest.param("65535/day,4294967295 tokens/day", "head", id="the most that fits"),
        pytest.param("65536/day", "cd32", id="one more"),
        pytest.param("9 tokens/minute,100/hour,9/minute,5/day", "cm4-ch8-tm4", id="in any order"),
        pytest.param("100/hour,5 tokens/day,9/minute,9 tokens/minute", "cm4-ch8-tm4", id="in another order"),
    ],
)
def test_a_tag_names_what_is_not_in_the_head(text: str, tag: str) -> None:
    """A day's limit and zone never change the tag, up to what the head can hold and where its buckets lie."""
    assert parse_budget(text).tag == tag


def test_the_layout_of_a_key_is_pinned() -> None:
    """Keys live longer than releases: where a count lies does not change by accident (bits from the beginning)."""
    caller = parse_limits("10/minute,100/hour,100/day")
    assert caller.offsets == (776 + 4_608, 776, 8)
    budget = parse_budget("10/minute,100/hour,100/day,9 tokens/minute,9 tokens/day")
    assert budget.offsets == (2_312 + 4_608, 2_312, 8, 2_312 + 4_608 + 34_560 * 4, 776)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: window("minute", 0), id="a limit of none"),
        pytest.param(lambda: window("minute", -1), id="a negative limit"),
        pytest.param(lambda: window("minute", 1 << 32), id="a limit beyond 32 bits"),
        pytest.param(lambda: window("week", 1), id="an unknown length"),
        pytest.param(lambda: Window("w", 1, DAY_MS + 1, 1_000), id="longer than a day"),
        pytest.param(lambda: Window("w", 1, 60_000, 7_000), id="buckets that do not divide the day"),
        pytest.param(lambda: Window("w", 1, 1_000, 2_000), id="a bucket longer than its window"),
    ],
)
def test_windows_that_cannot_be(make: Callable[[], Window]) -> None:
    """Refused when they are made."""
    with pytest.raises(ValueError, match=r"limit|window|length"):
        make()


def test_an_unlimited_layout() -> None:
    """Without windows everything passes, and there is no tightest one."""
    quota = judge((), (), 1, NOON_MS)
    assert (quota.allowed, quota.states, quota.tightest) == (True, (), None)


# --- the verdict, as a pure function ------------------------------------------------------------------------------

NOW_BUCKET = NOON_MS // MINUTE.bucket_ms
NOW_HALF_HOUR = NOON_MS // DAY.bucket_ms
MINUTE_ENDS = NOON_MS + 2_500 + MINUTE_MS + SKEW_BACK_MS
DAY_ENDS = NOON_MS + 1_800_000 + DAY_MS + SKEW_BACK_MS


@pytest.mark.parametrize(
    ("minute", "day", "cost", "added", "allowed", "reason", "left", "retry_at"),
    [
        pytest.param({}, {}, 1, None, True, "admitted", (9, 99), None, id="nothing counted"),
        pytest.param({}, {}, 0, None, True, "admitted", (10, 100), None, id="a peek at nothing"),
        pytest.param(
            {NOW_BUCKET: 1}, {NOW_HALF_HOUR: 1}, 1, (True, True), True, "admitted", (9, 99), None, id="counted"
        ),
        pytest.param(
            {NOW_BUCKET: 11},
            {NOW_HALF_HOUR: 11},
            1,
            (True, True),
            False,
            "minute",
            (0, 90),
            MINUTE_ENDS,
            id="one too many",
        ),
        pytest.param(
            {NOW_BUCKET: 10},
            {NOW_HALF_HOUR: 100},
            1,
            None,
            False,
            "day",
            (0, 0),
            DAY_ENDS,
            id="both full: the longer one is named",
        ),
        pytest.param(
            {NOW_BUCKET - 4: 6, NOW_BUCKET: 4},
            {NOW_HALF_HOUR: 10},
            6,
            None,
            False,
            "minute",
            (0, 90),
            MINUTE_ENDS - 10_000,
            id="as soon as the oldest leaves",
        ),
        pytest.param(
            {NOW_BUCKET - 4: 6, NOW_BUCKET: 4},
            {NOW_HALF_HOUR: 10},
            7,
            None,
            False,
            "minute",
            (0, 90),
            MINUTE_ENDS,
            id="a larger cost waits longer",
        ),
        pytest.param(
            {NOW_BUCKET - 4: 10, NOW_BUCKET: 5},
            {NOW_HALF_HOUR: 15},
            1,
            (True, True),
            False,
            "minute",
            (0, 86),
            MINUTE_ENDS - 10_000,
            id="others' refunds under way do not lengthen the wait",
        ),
        pytest.param(
            {NOW_BUCKET: 15}, {NOW_HALF_HOUR: 9}, 1, (False, True), False, "minute", (0, 92), MINUTE_ENDS, id="overflow"
        ),
    ],
)
def test_judge(
    minute: dict[int, int],
    day: dict[int, int],
    cost: int,
    added: tuple[bool, bool] | None,
    allowed: bool,
    reason: str,
    left: tuple[int, int],
    retry_at: int | None,
) -> None:
    """The verdict with its reason, what is left, and when to try again."""
    quota = judge(TEN_HUNDRED.windows, (minute, day), cost, NOON_MS, added)
    assert (quota.allowed, quota.reason, quota.retry_at_ms) == (allowed, reason, retry_at)
    assert tuple(state.remaining for state in quota.states) == left


def test_judge_refuses_what_never_fits() -> None:
    """CASE 2: a cost above the limit does not pass by an empty window."""
    assert not judge(TEN_HUNDRED.windows, ({}, {}), 11, NOON_MS).allowed


@pytest.mark.parametrize(
    ("cost", "refused"), [(10, False), (11, True), (100, True), (101, True)], ids=["fits", "minute", "both", "day"]
)
def test_too_costly(cost: int, refused: bool) -> None:
    """A cost that no window can hold is known without asking."""
    quota = too_costly(TEN_HUNDRED.windows, cost, NOON_MS)
    assert (quota is not None) is refused


@pytest.mark.parametrize(
    ("minute", "day", "name"),
    [
        pytest.param(10, 100, "minute", id="nothing spent"),
        pytest.param(6, 50, "minute", id="fewer calls left, though a larger share"),
        pytest.param(1, 50, "minute", id="fewer calls and a smaller share"),
        pytest.param(10, 5, "day", id="the day nearly over"),
        pytest.param(10, 0, "day", id="the day is over"),
        pytest.param(0, 0, "day", id="both used up: the longer one"),
    ],
)
def test_the_tightest_window(minute: int, day: int, name: str) -> None:
    """The window that will refuse first: the one with the fewest calls left."""
    states = (WindowState(MINUTE, minute, 0), WindowState(DAY, day, 0))
    tightest = Quota(True, "admitted", states).tightest
    assert tightest is not None
    assert tightest.window.name == name


def test_reset_time(redis: Store, subject: str) -> None:
    """The whole limit is back exactly at the reset time."""
    instance = Instance(redis)
    instance.call(subject, NOON_MS)
    state = instance.call(subject, NOON_MS + 30_000).states[0]
    assert remaining(instance.peek(subject, state.reset_at_ms - 1))["minute"] < 10
    assert remaining(instance.peek(subject, state.reset_at_ms))["minute"] == 10
