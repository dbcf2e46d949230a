"""The offset to the store's clock (CASES 13 and 37): bounds, the clamped estimate, when the store is asked, jumps."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.redis.offset import MOVED_MS, Offset

START = 1_795_000_000_000.0
HOUR_MS = 3_600_000.0


def measured(offset: Offset, true_ms: float, now: float, out_ms: float = 10.0, back_ms: float = 10.0) -> None:
    """One round trip that carries TIME, if one is due."""
    if offset.asks(now):
        offset.timed(now + out_ms + true_ms, now, now + out_ms + back_ms)


@pytest.mark.parametrize(
    ("true_ms", "out_ms", "back_ms", "estimate", "moved"),
    [
        pytest.param(0.0, 300.0, 20.0, 0, 0, id="a good clock stays as it is, however slow the reply"),
        pytest.param(5.0, 10.0, 10.0, 0, 0, id="within what is possible"),
        pytest.param(100.0, 10.0, 20.0, 80, 0, id="moved by no more than is needed"),
        pytest.param(-100.0, 10.0, 20.0, -90, 0, id="backwards"),
        pytest.param(2_000.0, 10.0, 20.0, 1_980, 1, id="2 s behind"),
        pytest.param(-6_000.0, 10.0, 20.0, -5_990, 1, id="6 s ahead"),
        pytest.param(HOUR_MS, 10.0, 20.0, 3_599_980, 1, id="an hour behind"),
        pytest.param(-HOUR_MS, 10.0, 20.0, -3_599_990, 1, id="an hour ahead"),
    ],
)
def test_a_first_measurement(true_ms: float, out_ms: float, back_ms: float, estimate: int, moved: int) -> None:
    """The estimate is clamped into the interval, from 0; a move of a quarter of a second is told."""
    offset = Offset()
    measured(offset, true_ms, START, out_ms, back_ms)
    assert (offset.ms, offset.moves) == (estimate, moved)


@given(
    st.floats(-HOUR_MS, HOUR_MS),
    st.lists(st.tuples(st.floats(0, 120_000), st.floats(0.1, 400), st.floats(0.1, 400)), min_size=1, max_size=40),
)
def test_the_true_offset_is_never_excluded(true_ms: float, trips: list[tuple[float, float, float]]) -> None:
    """Whatever the two ways of each round trip take, the estimate is off by no more than the narrowest of them."""
    offset, now, narrowest = Offset(), START, float("inf")
    for pause_ms, out_ms, back_ms in trips:
        now += pause_ms
        if offset.asks(now):
            offset.timed(now + out_ms + true_ms, now, now + out_ms + back_ms)
            narrowest = min(narrowest, out_ms + back_ms)
        # 40 ppm of everything that has passed; milliseconds are rounded.
        assert abs(offset.ms - true_ms) <= narrowest + (now - START) * 40e-6 + 1.5
        now += out_ms + back_ms


@pytest.mark.parametrize("clock_ms", [5.0, 300.0, 2_000.0, HOUR_MS])
def test_the_error_after_the_second_reply(clock_ms: float) -> None:
    """At most 122 ms off, for round trips of 4 to 120 ms and a first one of up to 1 s."""
    chance = random.Random(37)  # noqa: S311 - latencies, not secrets
    worst = 0.0
    for _ in range(2_000):
        offset, true_ms = Offset(), chance.uniform(-clock_ms, clock_ms)
        measured(offset, true_ms, START, chance.uniform(2, 900), chance.uniform(2, 40))
        measured(offset, true_ms, START + 1_500, chance.uniform(2, 80), chance.uniform(2, 40))
        worst = max(worst, abs(offset.ms - true_ms))
    assert worst <= 122


def asked_at(offset: Offset, times: list[float], width_ms: float) -> list[float]:
    """The times at which a round trip of a width carried TIME."""
    found = []
    for each in times:
        if offset.asks(START + each):
            found.append(each)
            offset.timed(START + each + width_ms / 2, START + each, START + each + width_ms)
    return found


@pytest.mark.parametrize(
    ("width_ms", "times", "asked"),
    [
        pytest.param(20.0, [0.0, 100.0, 10_000.0, 1_700_000.0], [0.0], id="narrow at once"),
        pytest.param(150.0, [0.0, 1_000.0, 2_000.0, 90_000.0], [0.0, 1_000.0], id="the second as well"),
        pytest.param(
            400.0, [0.0, 1_000.0, 30_000.0, 70_000.0, 80_000.0], [0.0, 1_000.0, 70_000.0], id="wide for good: a minute"
        ),
        pytest.param(20.0, [0.0, 1_799_000.0, 1_801_000.0, 1_802_000.0], [0.0, 1_801_000.0], id="every half hour"),
        pytest.param(20.0, [0.0, -7_200_000.0], [0.0, -7_200_000.0], id="the local clock was set back"),
    ],
)
def test_when_the_store_is_asked(width_ms: float, times: list[float], asked: list[float]) -> None:
    """TIME costs a command: twice an instance and every half hour, where round trips are short."""
    assert asked_at(Offset(), times, width_ms) == asked


def test_everything_that_is_sent_before_the_first_reply_asks() -> None:
    """What a new instance sends at once is counted by a clock that nobody has checked; later, one at a time."""
    offset = Offset()
    assert [offset.asks(START), offset.asks(START + 1)] == [True, True]
    offset.timed(START + 500.0, START, START + 200.0)
    assert [offset.asks(START + 300), offset.asks(START + 301)] == [True, False]
    offset.untimed(START + 400)
    assert offset.asks(START + 401)


def test_a_store_that_does_not_say() -> None:
    """Where TIME is refused it is asked for again in half an hour."""
    offset = Offset()
    assert offset.asks(START)
    offset.untimed(START, refused=True)
    assert not offset.asks(START + 1_000)
    assert offset.asks(START + 1_800_000)
    assert offset.ms == 0


def test_a_clock_that_jumps() -> None:
    """It is believed once two measurements, a second apart, agree; one alone may be a machine's pause."""
    offset = Offset()
    measured(offset, 0.0, START)
    offset.says(START + 3_600_500.0, START + 500.0, START + 520.0)
    measured(offset, HOUR_MS, START + 1_000)
    assert (offset.ms, offset.asks(START + 1_500)) == (0, False)
    measured(offset, HOUR_MS, START + 2_100)
    assert (offset.ms, offset.moves) == (3_599_990, 1)
    assert not offset.asks(START + 10_000)


def test_a_pause_is_no_jump() -> None:
    """A second measurement that agrees with what was known makes the first forgotten."""
    offset = Offset()
    measured(offset, 0.0, START)
    offset.says(START + 90_000.0, START + 500.0, START + 520.0)
    measured(offset, -700.0, START + 1_000)
    measured(offset, 0.0, START + 2_100)
    assert (offset.ms, offset.moves) == (0, 0)
    assert not offset.asks(START + 10_000)


@pytest.mark.parametrize(
    ("date_ms", "asks"),
    [
        pytest.param(0.0, False, id="the same second"),
        pytest.param(-1_900.0, False, id="a second and a bit early"),
        pytest.param(-2_100.0, True, id="too early"),
        pytest.param(1_000.0, False, id="a second late"),
        pytest.param(1_100.0, True, id="too late"),
        pytest.param(HOUR_MS, True, id="an hour"),
    ],
)
def test_a_date_only_makes_suspicious(date_ms: float, asks: bool) -> None:
    """It may be a proxy's: where it excludes the estimate by a second the store is asked, and nothing else changes."""
    offset = Offset()
    measured(offset, 0.0, START)
    assert not offset.looks(offset.dated)
    assert offset.looks(START + 5_000)
    offset.says(START + 5_000 + date_ms, START + 5_000, START + 5_020)
    assert (offset.asks(START + 5_100), offset.ms) == (asks, 0)


def test_a_date_that_is_always_wrong_costs_a_command_a_minute() -> None:
    """The time was asked for because of it, and was right: for a minute it is not asked again."""
    offset, asked = Offset(), 0
    for second in range(601):
        now = START + second * 1_000
        if offset.asks(now):
            asked += 1
            offset.timed(now + 10, now, now + 20)
        offset.says(now - 5_000, now, now + 20)
    assert asked <= 12


def test_a_move_is_a_quarter_of_a_second() -> None:
    """What is counted again: a smaller correction is within what clocks may differ by."""
    for off_ms, moves in ((MOVED_MS - 50, 0), (MOVED_MS + 50, 1)):
        offset = Offset()
        measured(offset, off_ms, START, 1.0, 1.0)
        assert offset.moves == moves
