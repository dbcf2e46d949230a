"""The last resort: strict windows in memory, at a share of the limit."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.limits.grammar import parse_limits
from lib.limits.local import LocalLimits, share_of
from lib.limits.window import DAY_MS, SKEW_BACK_MS
from tests.limits.instance import MIDNIGHT_MS, NOON_MS, most_in_any, remaining

LIMITS = parse_limits("10/minute,100/day").windows
SMALL = parse_limits("3/minute,7/day").windows


@pytest.mark.parametrize(
    ("share", "limits"),
    [(1, [10, 100]), (0.25, [2, 25]), (0.5, [5, 50]), (0.01, [1, 1]), (0.99, [9, 99])],
)
def test_a_share(share: float, limits: list[int]) -> None:
    """Rounded down, at least 1; lengths and names stay."""
    shared = share_of(LIMITS, share)
    assert [each.limit for each in shared] == limits
    assert [(each.name, each.length_ms) for each in shared] == [(each.name, each.length_ms) for each in LIMITS]


def test_the_share_is_kept() -> None:
    """A quarter of ten is two; the refusal says until when, spends nothing, and ends exactly then."""
    local = LocalLimits(0.25)
    quotas = [local.spend("a", LIMITS, 1, NOON_MS) for _ in range(4)]
    assert [quota.allowed for quota in quotas] == [True, True, False, False]
    retry_at = quotas[-1].retry_at_ms
    assert retry_at == NOON_MS + 2_500 + 60_000 + SKEW_BACK_MS
    assert remaining(quotas[-1]) == {"minute": 0, "day": 23}
    assert not local.spend("a", LIMITS, 1, retry_at - 1).allowed
    assert local.spend("a", LIMITS, 1, retry_at).allowed


def test_callers_stay_apart() -> None:
    """One caller's calls are no other's."""
    local = LocalLimits(0.1)
    assert [local.spend(each, LIMITS, 1, NOON_MS).allowed for each in ("a", "b", "a", "b")] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("cost", [3, 5, 10, 11])
def test_a_cost_above_the_share(cost: int) -> None:
    """CASE 2: refused and never retryable, also when the whole limit would have held it; nothing spent."""
    local = LocalLimits(0.25)
    refused = local.spend("a", LIMITS, cost, NOON_MS)
    assert (refused.allowed, refused.reason, refused.retry_at_ms) == (False, "cost_exceeds_limit", None)
    assert remaining(local.spend("a", LIMITS, 1, NOON_MS)) == {"minute": 1, "day": 24}


def test_a_peek() -> None:
    """A cost of 0 counts nothing."""
    local = LocalLimits(1)
    for _ in range(3):
        assert remaining(local.spend("a", LIMITS, 0, NOON_MS)) == {"minute": 10, "day": 100}


def test_it_is_bounded() -> None:
    """Beyond its size the caller that was least recently admitted is forgotten."""
    local = LocalLimits(0.1, size=2)
    for subject in "abc":
        local.spend(subject, LIMITS, 1, NOON_MS)
    assert [local.spend(subject, LIMITS, 1, NOON_MS).allowed for subject in "cba"] == [False, False, True]


def test_a_clock_that_was_ahead() -> None:
    """CASE 13: what was spent an hour ahead locks nobody out once the clock is right."""
    local = LocalLimits(1)
    local.spend("a", LIMITS, 10, NOON_MS + 3_600_000)
    assert local.spend("a", LIMITS, 10, NOON_MS).allowed


STEPS_MS = st.one_of(
    st.sampled_from([0, 1, 2_500, 57_500, 60_000, 60_001, 65_000, DAY_MS - 1, DAY_MS, DAY_MS + 1_802_500]),
    st.integers(0, 70_000),
)


@settings(max_examples=500, deadline=None)
@given(
    st.integers(MIDNIGHT_MS - 130_000, MIDNIGHT_MS + 5_000),
    st.lists(st.tuples(STEPS_MS, st.integers(1, 3)), min_size=4, max_size=14),
)
def test_never_more_than_the_limit(now_ms: int, calls: list[tuple[int, int]]) -> None:
    """CASE 9: as strict as the stores, over midnight too."""
    local, admitted = LocalLimits(1), []
    for step_ms, cost in calls:
        now_ms += step_ms
        if local.spend("a", SMALL, cost, now_ms).allowed:
            admitted.append((now_ms, cost))
    for each in SMALL:
        assert most_in_any(admitted, each.length_ms) <= each.limit
