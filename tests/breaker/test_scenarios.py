"""Attacks and outages, played on the real circuits in simulated time. ``docs/circuits.md`` has the tables."""

import pytest

from lib.breaker.circuit import BreakerPolicy
from tests.breaker.simulated import (
    HANGS,
    REFUSED,
    STATUS_429,
    STATUS_500,
    STATUS_503,
    TIMEOUT_S,
    Fails,
    Load,
    World,
    attackers,
    good,
    one_user,
)

KINDS = {"500": STATUS_500, "timeout": HANGS, "429": STATUS_429, "503": STATUS_503}
SECONDS = 400.0


@pytest.mark.parametrize("instances", [1, 2, 4])
@pytest.mark.parametrize("per_s", [0, 0.2, 1, 4])
@pytest.mark.parametrize("addresses", [1, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_an_attacker_closes_nothing_for_others(kind: str, addresses: int, per_s: float, instances: int) -> None:
    """CASE 31: questions that fail, from 1 or 4 addresses within their limits; every good request is answered."""
    world = World(seed=7, instances=instances)
    world.run(attackers(addresses, KINDS[kind], SECONDS), good(per_s, SECONDS))
    assert (world.refused, world.failed, world.opened) == ([], [], [])
    assert len(world.answered) > per_s * SECONDS / 2 or not per_s
    assert world.checks <= 8
    assert len(next(iter(world.shared.texts.values()), "")) < 500


OUTAGE_S, BACK_S = 100.0, 400.0
SEEDS = range(4)


@pytest.mark.parametrize(
    ("fails", "load", "most_failed", "opens_s", "recovers_s"),
    [
        pytest.param(REFUSED, one_user(700), 3, 10, 62, id="refused, one user"),
        pytest.param(REFUSED, good(4, 700), 3, 3, 62, id="refused, 4 a second"),
        pytest.param(STATUS_503, one_user(700), 3, 10, 62, id="503, one user"),
        pytest.param(STATUS_503, good(4, 700), 5, 4, 62, id="503, 4 a second"),
        pytest.param(STATUS_500, one_user(700), 4, 12, 62, id="500, one user"),
        pytest.param(STATUS_500, good(1, 700), 6, 8, 62, id="500, 1 a second"),
        pytest.param(STATUS_500, good(4, 700), 11, 4, 62, id="500, 4 a second"),
        pytest.param(STATUS_429, one_user(800), 1, 6, 310, id="429 for everybody, one user"),
        pytest.param(HANGS, one_user(900), 3, 215, 75, id="hangs, one user"),
        pytest.param(HANGS, good(1, 700), 0, 40, 75, id="hangs, 1 a second"),
        pytest.param(HANGS, good(4, 700), 0, 32, 75, id="hangs, 4 a second"),
    ],
)
def test_an_outage_is_noticed(fails: Fails, load: Load, most_failed: int, opens_s: float, recovers_s: float) -> None:
    """CASE 31: a backend that is really down is given up after a few calls, and found again once it is back.

    The means of four runs: calls that failed before the opening, the time until it, and the time from the end of the
    outage until the first answer.
    """
    failed, opened, recovered = 0, 0.0, 0.0
    for seed in SEEDS:
        world = World(seed, trouble=lambda at_s: fails if OUTAGE_S <= at_s < BACK_S else None).run(load)
        opened_s = min(world.opened)
        failed += len([came_s for came_s in world.failed if came_s + fails.after_s < opened_s])
        opened += opened_s - OUTAGE_S
        answered_s = min(came_s for came_s in world.answered if came_s >= BACK_S)
        recovered += answered_s - BACK_S
        assert world.circuit.state == "closed"
        # While the first request waited for the check, the others were still refused.
        assert not [came_s for came_s in world.refused if came_s > answered_s + 1]
    assert failed <= most_failed * len(SEEDS)
    assert opened <= opens_s * len(SEEDS)
    assert recovered <= recovers_s * len(SEEDS)


@pytest.mark.parametrize("instances", [1, 3])
def test_an_outage_during_an_attack(instances: int) -> None:
    """The attacker's failures count no more, so that they hide no outage: it opens as if nobody attacked."""
    world = World(seed=5, instances=instances)
    world.trouble = lambda at_s: STATUS_500 if OUTAGE_S <= at_s < BACK_S else None
    world.run(attackers(4, STATUS_500, 700), good(1, 700))
    opened_s = min(world.opened)
    assert opened_s > OUTAGE_S
    assert opened_s - OUTAGE_S < 15
    assert not [came_s for came_s in world.refused if came_s < OUTAGE_S]
    assert min(came_s for came_s in world.answered if came_s >= BACK_S) - BACK_S < 75


@pytest.mark.parametrize("crowd", [10, 50])
@pytest.mark.parametrize("fails", [REFUSED, STATUS_503], ids=["refused", "503"])
def test_a_crowd_that_fails_at_once(crowd: int, fails: Fails) -> None:
    """Calls that fail at the same moment cost a few swaps and one check, not one each."""

    async def load(world: World) -> None:
        for number in range(crowd):
            world.begin(world.request(f"caller-{number}"))

    world = World(seed=1, trouble=lambda at_s: fails).run(load)
    assert world.circuit.state == "open"
    assert len(world.failed) == crowd
    assert world.checks == (0 if fails is REFUSED else 1)
    assert world.shared.swaps <= 6


def test_random_failures_are_no_outage() -> None:
    """A tenth of all calls fails, whoever calls: nobody is refused for it by the shared circuit."""
    world = World(seed=11, policy=BreakerPolicy())
    world.trouble = lambda at_s: STATUS_500 if world.random.random() < 0.1 else None
    world.run(good(4, 600))
    assert len(world.refused) <= 0.01 * len(world.answered)


def test_without_a_check_five_callers_open() -> None:
    """Four addresses do not close a source that cannot be checked; a real outage still does."""
    world = World(seed=2, checked=False).run(attackers(4, STATUS_500, SECONDS), good(1, SECONDS))
    assert (world.refused, world.opened) == ([], [])
    world = World(seed=2, checked=False, trouble=lambda at_s: STATUS_500 if OUTAGE_S <= at_s < BACK_S else None)
    world.run(good(1, 700))
    assert 0 < min(world.opened) - OUTAGE_S < 15
    assert len([came_s for came_s in world.failed if came_s < min(world.opened)]) <= 8
    assert min(came_s for came_s in world.answered if came_s >= BACK_S) - BACK_S < 65


def test_a_call_that_hangs_is_no_reason_to_open() -> None:
    """Questions that take a minute, of a few callers, cost checks, and refuse nobody."""
    slow = Fails("soft", "timeout", TIMEOUT_S)
    world = World(seed=4, instances=2).run(attackers(3, slow, SECONDS), good(1, SECONDS))
    assert (world.refused, world.failed, world.opened) == ([], [], [])
