"""The ephemeral cache (CASE 17): real refusals, for a bounded time, cost and number."""

import pytest

from lib.base.bounded import Bounded
from lib.base.events import Mode
from lib.limits.admission import Subject
from lib.limits.blocklist import UNSURE_MS, Blocklist
from lib.limits.grammar import parse_limits
from lib.limits.judge import Quota

NOW = 1_763_553_600_000


def whose(name: str, limits: str = "10/minute,100/day") -> Subject:
    return Subject(name, parse_limits(limits))


def refusal(after_ms: int | None) -> Quota:
    return Quota(False, "minute", (), None if after_ms is None else NOW + after_ms)


@pytest.mark.parametrize(
    ("quota", "later_ms", "blocked"),
    [
        pytest.param(refusal(5_000), 0, True, id="at once"),
        pytest.param(refusal(5_000), 4_999, True, id="until the retry time"),
        pytest.param(refusal(5_000), 5_000, False, id="at the retry time Redis is asked"),
        pytest.param(refusal(86_400_000), 86_399_999, True, id="nearly a day"),
        pytest.param(refusal(86_400_000), 86_400_000, False, id="a day"),
        pytest.param(refusal(None), 0, False, id="a refusal for ever is decided without it"),
        pytest.param(Quota(True, "admitted", (), NOW + 5_000), 0, False, id="no refusal"),
        pytest.param(refusal(0), 0, False, id="over already"),
    ],
)
def test_how_long(quota: Quota, later_ms: int, blocked: bool) -> None:
    """CASE 17: a refusal stands until its retry time."""
    blocklist = Blocklist()
    blocklist.remember(whose("a"), 1, quota, NOW)
    assert blocklist.find(whose("a"), 1, NOW + later_ms) == ((quota, "redis") if blocked else None)


@pytest.mark.parametrize(("mode", "sure"), [("supabase", True), ("local", True), ("redis", False)])
def test_what_may_be_over_sooner(mode: Mode, sure: bool) -> None:
    """A refusal that Redis has not given, or that other refused calls may have caused, is believed for 10 s."""
    blocklist = Blocklist()
    blocklist.remember(whose("a"), 1, refusal(60_000), NOW, mode, sure=sure)
    found = [blocklist.find(whose("a"), 1, NOW + later_ms) for later_ms in (UNSURE_MS - 1, UNSURE_MS)]
    assert found == [(refusal(60_000), mode), None]


def test_refusals_of_several_costs() -> None:
    """A short refusal of a cheap call leaves the longer one of a costly call standing, and none is made shorter."""
    blocklist = Blocklist()
    blocklist.remember(whose("a"), 5, refusal(60_000), NOW)
    blocklist.remember(whose("a"), 1, refusal(5_000), NOW)
    blocklist.remember(whose("a"), 7, refusal(50_000), NOW)
    assert [blocklist.find(whose("a"), cost, NOW) for cost in (1, 5, 7)] == [
        (refusal(5_000), "redis"),
        (refusal(60_000), "redis"),
        (refusal(60_000), "redis"),
    ]
    assert [blocklist.find(whose("a"), cost, NOW + 5_000) is not None for cost in (1, 5)] == [False, True]
    for cost in range(20):
        blocklist.remember(whose("b"), 20 - cost, refusal(60_000 - cost), NOW)
    assert [blocklist.find(whose("b"), cost, NOW) is not None for cost in (1, 4, 20)] == [True, True, True]


@pytest.mark.parametrize(("cost", "blocked"), [(1, False), (4, False), (5, True), (6, True)])
def test_a_cheaper_call_is_not_blocked(cost: int, blocked: bool) -> None:
    """CASE 17: it stands against calls at least as costly, and outlives a cheaper one's question."""
    blocklist = Blocklist()
    blocklist.remember(whose("a"), 5, refusal(5_000), NOW)
    assert (blocklist.find(whose("a"), cost, NOW) is not None) is blocked
    assert blocklist.find(whose("a"), 5, NOW) is not None


def test_others_are_not_blocked() -> None:
    """A refusal is one subject's; forgetting it unblocks this one."""
    blocklist = Blocklist()
    for subject in "ab":
        blocklist.remember(whose(subject), 1, refusal(5_000), NOW)
    blocklist.forget("a")
    blocklist.forget("nobody")
    assert [blocklist.find(whose(subject), 1, NOW) is not None for subject in "abc"] == [False, True, False]


@pytest.mark.parametrize("limits", ["11/minute,100/day", "10/minute,1000/day", "10/minute", "100/minute"])
def test_other_limits_are_not_blocked(limits: str) -> None:
    """What one limit refuses another may admit; whoever is reset is refused by none."""
    blocklist = Blocklist()
    blocklist.remember(whose("a"), 1, refusal(5_000), NOW)
    assert blocklist.find(whose("a", limits), 1, NOW) is None
    blocklist.remember(whose("a", limits), 1, refusal(6_000), NOW)
    assert blocklist.find(whose("a"), 1, NOW) == (refusal(5_000), "redis")
    blocklist.forget("a")
    assert len(blocklist) == 0


def test_what_is_over_is_dropped() -> None:
    """An expired refusal takes no room any more."""
    blocklist = Blocklist()
    blocklist.remember(whose("a"), 1, refusal(5_000), NOW)
    blocklist.find(whose("a"), 1, NOW + 5_000)
    assert len(blocklist) == 0


def test_it_is_bounded() -> None:
    """CASE 17: beyond its size the least recently written goes."""
    blocklist = Blocklist(size=3)
    for subject in "abcad":
        blocklist.remember(whose(subject), 1, refusal(5_000), NOW)
    assert len(blocklist) == 3
    assert [subject for subject in "abcd" if blocklist.find(whose(subject), 1, NOW)] == ["a", "c", "d"]


def test_a_bounded_map() -> None:
    """The map under it and others: put, replace, get, drop."""
    entries: Bounded[str, int] = Bounded(2)
    entries.put("a", 1)
    entries.put("b", 2)
    entries.put("a", 3)
    entries.put("c", 4)
    assert [entries.get(key) for key in "abc"] == [3, None, 4]
    entries.drop("a")
    entries.drop("a")
    assert len(entries) == 1
