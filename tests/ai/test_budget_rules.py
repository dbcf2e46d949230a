"""What providers' free tiers allow, on the providers' clocks."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from lib.ai import budgets
from lib.ai.budgets import Budget, guess_tokens, used_up
from lib.base.calendar import month_ends_ms, month_of
from lib.limits.grammar import parse_budget
from lib.limits.judge import Quota, judge
from lib.limits.window import Layout, Window

LA = ZoneInfo("America/Los_Angeles")
HOUR_MS = 3_600_000


def ms(text: str, zone: ZoneInfo | None = None) -> int:
    """A moment in milliseconds since the epoch."""
    return int(datetime.fromisoformat(text).replace(tzinfo=zone or UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("9/minute,225/day@America/Los_Angeles", [("minute", 9, None), ("day", 225, "America/Los_Angeles")]),
        ("30/minute, 6000 tokens/minute", [("minute", 30, None), ("tokens-minute", 6000, None)]),
        ("14400/day", [("day", 14400, None)]),
        ("off", []),
    ],
)
def test_limits_as_they_are_configured(text: str, shown: list[tuple[str, int, str | None]]) -> None:
    """Calls and tokens, rolling or by a calendar day."""
    assert [(each.name, each.limit, each.zone) for each in parse_budget(text).windows] == shown


@pytest.mark.parametrize(
    "text", ["", "nine/minute", "9/second", "9/minute@Europe/Paris", "5/day@Mars/Olympus", "1/day,2/day", "0/day"]
)
def test_what_is_no_limit_is_refused(text: str) -> None:
    """With what to write instead."""
    with pytest.raises(ValueError, match=r"write|given once|time zone|at least"):
        parse_budget(text)


def _day() -> Window:
    return parse_budget("225/day@America/Los_Angeles").windows[0]


@pytest.mark.parametrize(
    ("day", "hours"),
    [
        pytest.param("2026-06-10", 24, id="summer"),
        pytest.param("2026-03-08", 23, id="clocks go forward"),
        pytest.param("2026-11-01", 25, id="clocks go back"),
    ],
)
def test_a_day_in_los_angeles_is_counted_from_midnight_to_midnight(day: str, hours: int) -> None:
    """Every half hour of it, of 23, 24 or 25 hours, ends at the same midnight, and nothing counts longer."""
    each, begins = _day(), ms(f"{day}T00:00", LA)
    ends = begins + hours * HOUR_MS
    assert datetime.fromtimestamp(ends / 1000, LA).strftime("%H:%M") == "00:00"
    for at in range(begins, ends, 1_800_000):
        bucket = at // each.bucket_ms
        assert each.leaves_at(bucket) == ends
        assert bucket in each.covered(at)
        assert bucket in each.covered(ends - 1)
        assert bucket not in each.covered(ends)
    assert (begins - 1) // each.bucket_ms not in each.covered(begins)


@pytest.mark.parametrize("day", ["2026-03-08", "2026-11-01", "2026-07-04"])
def test_the_whole_day_is_back_at_midnight_and_not_before(day: str) -> None:
    """225 calls at one minute past midnight: refused until the next midnight there, passed at it."""
    each, begins = _day(), ms(f"{day}T00:01", LA)
    used = [{begins // each.bucket_ms: 225}]
    quota = judge((each,), used, 1, begins + HOUR_MS)
    assert not quota.allowed
    assert quota.retry_at_ms is not None
    assert datetime.fromtimestamp(quota.retry_at_ms / 1000, LA).strftime("%H:%M:%S") == "00:00:00"
    assert quota.retry_at_ms - begins in (HOUR_MS * hours - 60_000 for hours in (23, 24, 25))


def test_a_key_of_a_calendar_day_of_25_hours_is_read_on_both_utc_days() -> None:
    """A bucket of its first hour is read in its last."""
    layout = parse_budget("225/day@America/Los_Angeles")
    begins = ms("2026-11-01T00:00", LA)
    last = begins + 25 * HOUR_MS - 1
    days = {span.first // 48 for day in (begins // 86_400_000, last // 86_400_000) for span in layout.spans(day, last)}
    assert days == {begins // 86_400_000, last // 86_400_000}


@pytest.mark.parametrize(
    ("now", "name", "ends"),
    [
        ("2026-11-30T23:59:59", "2026-11", "2026-12-01T00:00"),
        ("2026-12-31T23:59:59", "2026-12", "2027-01-01T00:00"),
        ("2028-02-29T12:00:00", "2028-02", "2028-03-01T00:00"),
    ],
)
def test_months_are_calendar_months(now: str, name: str, ends: str) -> None:
    """Their name and their end, in UTC."""
    assert month_of(ms(now)) == name
    assert month_ends_ms(ms(now)) == ms(ends)


@pytest.mark.parametrize(
    ("month_s", "used_ms", "spent"),
    [
        (180_000, None, False),
        (180_000, "179999999", False),
        (180_000, "180000000", True),
        (180_000, "a word", False),
        (0, "999999999999", False),
    ],
)
def test_a_months_computing(month_s: int, used_ms: str | None, spent: bool) -> None:
    """Spent when so many seconds have been counted; never where there is no limit."""
    assert used_up(Budget(Layout(()), month_s), used_ms) is spent


def test_a_months_first_use_sets_its_life() -> None:
    """The first use of a month sets the key's life; the others only add."""
    assert budgets.use("cloud-run", 3_000, "2026-11", first=True).commands == (
        ("INCRBY", "used:cloud-run:2026-11", 3000),
        ("EXPIRE", "used:cloud-run:2026-11", 32 * 86_400),
    )
    assert budgets.use("cloud-run", 1, "2026-11", first=False).commands == (("INCRBY", "used:cloud-run:2026-11", 1),)


@pytest.mark.parametrize(
    ("chars", "wish", "tokens"),
    [(300, 50, 150), (300, None, 1_124), (0, True, 1_024), (300, "many", 1_124), (300, -1, 1_124)],
)
def test_tokens_are_guessed_from_the_prompt_and_the_wish(chars: int, wish: object, tokens: int) -> None:
    """A third of the letters, and what may be answered."""
    assert guess_tokens(chars, wish) == tokens


def test_each_choice_may_be_as_long_as_the_wish() -> None:
    """Five answers of 1,000 tokens are not 1,000: a budget would be passed by as many times."""
    assert guess_tokens(300, 1_000, 5) == 100 + 5_000
    assert guess_tokens(300, 1_000, 10**30) == 100 + 128_000


SPENT = Quota(False, "minute", (), 60_000, 60_000)
TOO_MANY_TOKENS = Quota(False, "tokens-day", (), 80_000_000)


@pytest.mark.parametrize(
    ("refusals", "now_ms", "until_ms"),
    [
        pytest.param([], 0, {0: 0, 1_000: 0}, id="nothing is known"),
        pytest.param([(SPENT, 500)], 0, {0: 60_000, 1_000: 60_000}, id="no call is left: whatever it takes"),
        pytest.param([(SPENT, 500)], 60_000, {0: 0}, id="until its time has come"),
        pytest.param([(TOO_MANY_TOKENS, 500)], 0, {499: 0, 500: 80_000_000, 501: 80_000_000}, id="as costly"),
        pytest.param([(TOO_MANY_TOKENS, 500)], 5_000, {500: 0}, id="believed for 5 s"),
        pytest.param(
            [(TOO_MANY_TOKENS, 500), (SPENT, 9)], 0, {0: 60_000, 500: 80_000_000}, id="both: whatever lasts longer"
        ),
        pytest.param([(Quota(False, "cost_exceeds_limit", ()), 500)], 0, {500: 0}, id="that will never fit"),
        pytest.param(
            [(TOO_MANY_TOKENS, tokens) for tokens in (500, 400, 300, 200, 100)], 0, {99: 0, 100: 80_000_000},
            id="four at most, the smallest",
        ),
    ],
)  # fmt: skip
def test_refusals_by_cost(refusals: list[tuple[Quota, int]], now_ms: int, until_ms: dict[int, int]) -> None:
    """CASE 32: what was refused is remembered for calls at least as costly."""
    known: budgets.Refusals = ()
    for quota, tokens in refusals:
        known = budgets.refused(known, quota, tokens, 0)
    assert len(known) <= 4
    assert {tokens: budgets.refused_until_ms(known, tokens, now_ms) for tokens in until_ms} == until_ms


def test_a_refusal_says_whether_tokens_are_the_reason() -> None:
    """CASE 32: judged without tokens as well: refused all the same where no call is left."""
    windows = parse_budget("2/minute,1000 tokens/day").windows
    now_ms = ms("2026-11-25T12:00:01")
    at = [now_ms // each.bucket_ms for each in windows]
    tokens = judge(windows, ({at[0]: 1}, {at[1]: 900}), 1, now_ms, tokens=200)
    assert (tokens.allowed, tokens.reason, tokens.without_tokens_at_ms) == (False, "tokens-day", None)
    calls = judge(windows, ({at[0]: 2}, {at[1]: 900}), 1, now_ms, tokens=200)
    assert (calls.allowed, calls.without_tokens_at_ms) == (False, windows[0].leaves_at(at[0]))


@pytest.mark.parametrize(
    ("budget", "share"),
    [
        pytest.param("off", "off", id="no budget"),
        pytest.param("9/minute", "off", id="none of a day"),
        pytest.param("9/minute,225/day@America/Los_Angeles", "11/day@America/Los_Angeles", id="a twentieth"),
        pytest.param("20/day", "1/day", id="one"),
        pytest.param("19/day", None, id="not one"),
        pytest.param("1000 tokens/day", "off", id="of tokens"),
    ],
)
def test_how_many_checks_a_budget_allows(budget: str, share: str | None) -> None:
    """A twentieth of a day's calls, on the budget's own clock."""
    expected = None if share is None else parse_budget(share)
    allowance = budgets.check_allowance(parse_budget(budget))
    assert (allowance and allowance.windows) == (expected and expected.windows)


def test_when_a_daily_quota_resets() -> None:
    """At midnight in its zone; a day without one does not say."""
    now_ms = ms("2026-11-25T12:00", LA)
    assert budgets.resets_at_ms(parse_budget("225/day@America/Los_Angeles"), now_ms) == ms("2026-11-26T00:00", LA)
    assert budgets.resets_at_ms(parse_budget("9/minute,225/day"), now_ms) is None
