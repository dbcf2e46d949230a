"""How the benchmark reads its own measurements: a wrong ruler measures nothing."""

import pytest

from bench.accuracy import LENGTH_MS, LIMIT, Seen, boundary_attack, random_traffic, steady_tries
from lib.limits.grammar import parse_limits
from tests.limits.fake_bitfield import FakeBitfield
from tests.limits.instance import NOON_MS, Instance


def _seen(admitted: list[int], refused: list[int]) -> Seen:
    return Seen([(at, True) for at in admitted] + [(at, False) for at in refused])


@pytest.mark.parametrize(
    ("admitted", "worst"),
    [
        pytest.param([], 0, id="nothing"),
        pytest.param([0, 1, 2], 3, id="all together"),
        pytest.param([0, LENGTH_MS], 2, id="a closed window holds both its ends"),
        pytest.param([0, LENGTH_MS + 1], 1, id="a millisecond apart"),
        pytest.param([LENGTH_MS, 0, 5], 3, id="in any order"),
    ],
)
def test_worst_window(admitted: list[int], worst: int) -> None:
    """The most calls in any closed window."""
    assert _seen(admitted, []).worst() == worst


@pytest.mark.parametrize(
    ("admitted", "refused", "false"),
    [
        pytest.param(list(range(LIMIT)), [LENGTH_MS - 1], 0, id="rightly refused"),
        pytest.param(list(range(LIMIT)), [LENGTH_MS], 0, id="the first still counts at the end of a closed window"),
        pytest.param(list(range(LIMIT)), [LENGTH_MS + 1], 1, id="the first has left"),
        pytest.param(list(range(LIMIT - 1)), [50, 60], 2, id="there was room for one"),
    ],
)
def test_false_refusals(admitted: list[int], refused: list[int], false: int) -> None:
    """A refusal is false when the call fits beside what was admitted in the closed window before it."""
    assert _seen(admitted, refused).false_refusals() == false


def test_the_attack_begins_before_an_edge_and_goes_on_through_the_window() -> None:
    """More than the limit just before the edge, then tries until more than a window later."""
    times = list(boundary_attack(0))
    edge = 2 * LENGTH_MS
    assert sum(at < edge for at in times) > LIMIT
    assert times == sorted(times)
    assert times[-1] > edge + LENGTH_MS


def test_random_traffic_repeats_and_keeps_its_rate() -> None:
    """The same seed gives the same calls, at about the rate asked for."""
    times = list(random_traffic(0, 1.5, 60, seed=7))
    assert times == list(random_traffic(0, 1.5, 60, seed=7))
    assert len(times) == pytest.approx(1.5 * LIMIT * 60, rel=0.15)


@pytest.mark.parametrize("limit", [10, 100])
@pytest.mark.parametrize("every_ms", [100, 1_000])
@pytest.mark.parametrize("phase_ms", [0, 1_900])
def test_what_a_caller_gets_of_its_limit(limit: int, every_ms: int, phase_ms: int) -> None:
    """The price of strictness: who tries at least once a second gets 0.955 of its limit, 0.96 of one of ten."""
    instance, admitted, retry_ms, minutes = Instance(FakeBitfield(), parse_limits(f"{limit}/minute")), 0, 0, 60
    for at in steady_tries(NOON_MS + phase_ms, every_ms, minutes):
        if at >= retry_ms:
            quota = instance.call("s", at)
            admitted += quota.allowed
            retry_ms = quota.retry_at_ms or 0
    best = min(limit, LENGTH_MS // every_ms) * minutes
    assert admitted / best >= (0.96 if limit == 10 else 0.955)
