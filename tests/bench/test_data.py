"""The benchmark of data routes in its shortest form: what it counts is counted right, and nothing else is asserted."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from bench.apps.monitoring import TIERS
from bench.data.load import offer, run
from bench.data.paths import Costs, of_breakwater, of_others
from bench.data.readers import Transport, asked, breakwater, origin, prepare, scheme
from bench.data.report import sections
from bench.data.targets import targets
from bench.rig import Rig, rig
from dev.redis_server import available

pytestmark = pytest.mark.skipif(available()[0] == "fakeredis", reason="an imitation of Redis counts nothing")


@pytest.fixture(scope="module")
def parts() -> Iterator[Rig]:
    """Redis, its stand-in, and a PostgreSQL with a few tables."""
    with rig(postgres=True) as made:
        prepare(made, tables=3)
        yield made


def _whole(costs: Costs) -> dict[str, tuple[int, int]]:
    """Without what the ledger adds once in a while."""
    return {path: (int(cost["commands"]), int(cost["round_trips"])) for path, cost in costs.items()}


@pytest.mark.parametrize("transport", ["tcp", "rest"])
def test_what_each_path_costs(parts: Rig, transport: Transport) -> None:
    """Commands and round trips of a read (docs/data.md), the same over both transports."""
    costs = _whole(of_breakwater(parts, transport))
    # How many of those that come at once pay together is up to the machine (tests/limits/test_coalescing.py).
    del costs["memory, at once"]
    assert costs == {
        "blocked": (0, 0),
        "refused": (3, 2),
        "memory": (2, 1),
        "memory, no limit": (0, 0),
        "redis": (2, 1),
        "redis, no limit": (1, 1),
        "304": (2, 1),
        "batch": (2, 1),
        "stale": (6, 3),
        "miss": (4, 3),
        "miss, no limit": (3, 3),
        "first": (6, 4),
    }


def test_what_the_customers_scheme_costs(parts: Rig) -> None:
    """GET; and on a miss a SETEX."""
    with scheme(parts, 2) as readers:
        assert _whole(of_others(parts, readers, "")) == {"redis": (1, 1), "miss": (2, 2)}


def test_queries_are_those_that_reach_the_database(parts: Rig) -> None:
    """Eight for eight values, however many users read them at once on two instances."""
    parts.redis.flushall()
    users, before = 16, asked(parts)
    at_once = [[(0.0, which) for which in range(len(TIERS))] for _ in range(users)]
    with breakwater(parts, 2) as readers:
        took = asyncio.run(offer(readers, at_once, 60))
    assert took.answered == users * len(TIERS)
    assert asked(parts) - before == len(TIERS)


def test_the_database_alone_is_asked_each_time(parts: Rig) -> None:
    """And nothing is asked of Redis."""
    with origin(parts, 2) as readers:
        alone = run(parts, readers, rate=40, seconds=1, warm_s=1)
    assert (alone["queries_a_read"], alone["hit_ratio"], alone["commands_a_read"]) == (1, 0, 0)


FIGURES = {
    "seconds": 60.0,
    "rate": 200.0,
    "answered_share": 1.0,
    "p50": 2.0,
    "p95": 50.0,
    "longest": 99.0,
    "queries": 6,
    "queries_a_read": 0.05,
    "hit_ratio": 0.95,
    "commands_a_read": 2.0,
    "round_trips_a_read": 1.0,
    "cpu_ms": 1.5,
    "filling_p95": 80.0,
    "filling_longest": 90.0,
    "filling_queries": 8,
}


def _found(**figures: float) -> dict[str, Any]:
    def cost(commands: float) -> dict[str, float]:
        return {"commands": commands, "round_trips": 1}

    def hit(name: str, ratio: float) -> dict[str, Any]:
        ratios = dict.fromkeys(("cpu_to_peer", "cpu_to_limited", "p50_to_peer"), ratio)
        spreads = {f"{key}_spread": [ratio, ratio] for key in ratios}
        return {"name": name, "p50": 1.0, "p95": 2.0, "cpu": 1.0, **ratios, **spreads}

    names = ("cashews", "breakwater, in Redis", "breakwater, in Redis, with a limit")
    return {
        "paths": {
            "breakwater, TCP": {"redis": cost(2), "redis, no limit": cost(1)},
            "cashews": {"redis": cost(10), "redis, no limit": cost(5)},
        },
        "hits": {"rounds": 3, "requests_a_round": 36, "figures": [hit(name, 0.9) for name in names]},
        "load": {
            "users": 50,
            "instances": 3,
            "warm_s": 5.0,
            "figures": {
                "origin alone": {**FIGURES, "queries_a_read": 1.0, "hit_ratio": 0.0},
                "cashews": {**FIGURES, "commands_a_read": 5.0},
                "breakwater": {**FIGURES, **figures},
            },
        },
    }


@pytest.mark.parametrize(
    ("figures", "missed"),
    [
        pytest.param({}, set(), id="all met"),
        pytest.param({"p95": 100.1}, {"p95 in ms at 200 reads a second"}, id="too late"),
        pytest.param({"queries_a_read": 0.08}, {"queries that are spared"}, id="too many queries"),
        pytest.param({"hit_ratio": 0.79}, {"hit ratio"}, id="too few hits"),
        pytest.param({"commands_a_read": 2.6}, {"commands a read, to cashews, which counts nobody"}, id="commands"),
    ],
)
def test_targets(figures: dict[str, float], missed: set[str]) -> None:
    """A target is missed by the figure that it is about, and the report says so."""
    found = _found(**figures)
    reached = targets(found)
    assert {each["what"] for each in reached if not each["met"]} == missed
    lines = sections({**found, "targets": reached}, lambda head, rows: [" | ".join(map(str, row)) for row in rows])
    assert sum("**missed**" in line for line in lines) == len(missed)
