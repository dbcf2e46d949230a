"""What a budget of tokens has left: of a day by the clock and of any 24 hours, by the half hour."""

from datetime import UTC, datetime

import pytest

from lib.ai.budgets import Budget
from lib.ledger import allowances
from lib.ledger import reading as readings
from lib.ledger.places import SUPABASE_AT, SUPABASE_BYTES
from lib.ledger.table import hour_place, place
from lib.limits.grammar import parse_budget
from lib.limits.window import window

HOUR_MS = 3_600_000
HALF_HOUR_MS = HOUR_MS // 2


def at(hour: int, minute: int = 0, day: int = 14) -> int:
    """A time of November 2025, in milliseconds."""
    return int(datetime(2025, 11, day, hour, minute, tzinfo=UTC).timestamp() * 1000)


def bucket(hour: int, minute: int = 0, day: int = 14) -> int:
    """The half hour of that time."""
    return at(hour, minute, day) // HALF_HOUR_MS


NOW_MS = at(12, 10)
ROLLING, BY_THE_CLOCK = window("day", 10_000, "tokens"), window("day", 10_000, "tokens", "Asia/Kolkata")


@pytest.mark.parametrize(
    ("counted", "used", "resets_ms", "runs_out_ms"),
    [
        pytest.param({}, 0, None, None, id="nothing used"),
        pytest.param({bucket(12): 1_000}, 1_000, at(13, day=15), NOW_MS + 9 * HOUR_MS, id="a first hour counts as one"),
        pytest.param({bucket(2): 5_000}, 5_000, at(3, day=15), NOW_MS + 610 * 60_000, id="since the first use"),
        pytest.param({bucket(14, day=13): 2_000, bucket(2): 3_000}, 5_000, at(3, day=15), None, id="a rate that lasts"),
        pytest.param({bucket(11): 10_000}, 10_000, at(12, day=15), NOW_MS, id="used up"),
        pytest.param({bucket(11, day=13): 9_000}, 0, None, None, id="more than 24 hours ago"),
        pytest.param({bucket(12, day=13): 9_000}, 9_000, at(13), None, id="the oldest half hour that counts"),
    ],
)
def test_any_24_hours(counted: dict[int, int], used: int, resets_ms: int | None, runs_out_ms: int | None) -> None:
    """What leaves the window makes room; the rate is that of the hours since the first use."""
    found = allowances.tokens("openai", ROLLING, counted, NOW_MS)
    assert (found.service, found.unit, found.period, found.limit) == ("openai", "tokens", "24 hours", 10_000)
    assert (found.used, found.resets_at_ms, found.runs_out_at_ms) == (used, resets_ms, runs_out_ms)


def test_a_day_by_the_clock() -> None:
    """From midnight there, here at 18:30 UTC, to the half hour: what was used before does not count."""
    counted = {bucket(18, day=13): 7_000, bucket(18, 30, day=13): 400, bucket(12): 600}
    found = allowances.tokens("openai", BY_THE_CLOCK, counted, NOW_MS)
    assert (found.used, found.period, found.resets_at_ms) == (1_000, "day, Asia/Kolkata", at(18, 30))
    assert found.runs_out_at_ms is None


@pytest.mark.parametrize(
    ("zone", "calls_at", "used"),
    [
        pytest.param("Asia/Kolkata", at(18, 20, day=13), 5, id="its midnight lies within this hour"),
        pytest.param("Asia/Kolkata", at(18, 40, day=13), 5, id="after it"),
        pytest.param("Asia/Kolkata", at(17, 59, day=13), 0, id="an hour before"),
        pytest.param("Asia/Kathmandu", at(18, 20, day=13), 5, id="a quarter past"),
        pytest.param("America/Los_Angeles", at(7, 59), 0, id="a whole hour, before"),
        pytest.param("America/Los_Angeles", at(8), 5, id="a whole hour, after"),
    ],
)
def test_calls_of_a_day_by_the_clock(zone: str, calls_at: int, used: int) -> None:
    """The ledger counts by the hour: none of the day's calls is missing, wherever its midnight lies."""
    counted = readings.empty(NOW_MS).plus({hour_place("calls.gemini", calls_at, "2025-11"): 5})
    assert allowances.calls(counted, "gemini", window("day", 225, zone=zone)).used == used


def test_storage_that_was_not_measured_is_not_known() -> None:
    """Before the month's first daily job nobody knows what Supabase holds: that is not nothing."""
    empty = readings.empty(NOW_MS)
    assert not allowances.storage(empty, 500).known
    measured = empty.plus({place(SUPABASE_AT): NOW_MS // 1000, place(SUPABASE_BYTES): 7 << 20})
    found = allowances.storage(measured, 500)
    assert (found.known, found.used, found.as_of_ms) == (True, 7, NOW_MS)


def test_each_window_finds_its_own_counts() -> None:
    """Days of calls and of tokens each have a row, minutes have none; what nobody has read is not known."""
    budget = Budget(parse_budget("5/minute,100/day,900 tokens/minute,10000 tokens/day"))
    wanted = [("a", budget), ("b", budget)]
    by_name = {each.name: place for place, each in enumerate(budget.layout.windows)}
    usage = tuple({bucket(12): 250} if place == by_name["tokens-day"] else {} for place in by_name.values())
    found = allowances.ledger(readings.empty(NOW_MS), 500_000, wanted, {}, {"a": usage}, None)
    rows = [(each.service, each.unit, each.used, each.known) for each in found[1:]]
    assert sorted(rows) == [
        ("a", "tokens", 250, True),
        ("b", "tokens", 0, False),
        ("other", "requests", 0, True),
        ("other", "requests", 0, True),
    ]
