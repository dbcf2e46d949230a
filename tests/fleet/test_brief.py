"""What a model is told of a fleet: the worst first, all that fits, and never more than that."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.fleet.brief import MOST_CHARS, brief, reasons
from lib.fleet.snapshot import Measured, Snapshot
from lib.fleet.state import State, state_of

NOW_MS = 1_763_553_601_000


def measured(name: str, age_s: int = 0, label: str = "", **metrics: Any) -> Measured:
    """One server."""
    figures = {"cpu": 10.0, "memory": 20.0, "disk": 30.0, "network": 1.0, **metrics}
    return Measured(name, label or name, NOW_MS - age_s * 1000, **figures)


def state(*servers: Measured) -> State:
    """How they are now."""
    return state_of([Snapshot("seoul", NOW_MS, NOW_MS, 40, servers)], NOW_MS)


def told(*servers: Measured, **about: Any) -> Any:
    """What is told of them."""
    return brief(state(*servers), **{"at_ms": NOW_MS, "source": "redis", "simulated": False, "percent": 90, **about})


def chars(found: Any) -> int:
    """How long it is as it is sent."""
    return len(json.dumps(found, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"))


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (measured("a"), []),
        (measured("a", cpu=90.0), []),
        (measured("a", cpu=90.1), ["cpu above 90 %"]),
        (measured("a", memory=99.0, disk=99.0, network=9e6), ["memory above 90 %", "disk above 90 %"]),
        (measured("a", cpu=None, memory=None, disk=None), []),
        (measured("a", 200), ["late"]),
        (measured("a", 300, cpu=95.0), ["silent", "cpu above 90 %"]),
    ],
)
def test_why_a_server_is_in_trouble(one: Measured, expected: list[str]) -> None:
    """Its freshness, and what alerts watch."""
    (server,) = state(one).servers
    assert reasons(server, 90) == expected


def test_the_worst_first() -> None:
    """Silent, above the threshold (the highest first), late; the others by id."""
    found = told(
        measured("b"), measured("late", 200), measured("hot", cpu=95), measured("hotter", disk=99.0), measured("x", 999)
    )
    assert [each["id"] for each in found["inTrouble"]] == ["x", "hotter", "hot", "late"]
    assert [each["id"] for each in found["others"]] == ["b"]
    assert found["highest"]["cpu"][0] == {"id": "hot", "value": 95}
    assert found["othersMean"] == {"cpu": 10, "memory": 20, "disk": 30, "network": 1}


def test_a_row() -> None:
    """A name where it says more than the id, a status that is not the usual one, the age; null is not 0."""
    found = told(measured("w", 5, "Web", cpu=None))
    assert found["others"] == [
        {"id": "w", "name": "Web", "cpu": None, "memory": 20, "disk": 30, "network": 1, "ageS": 5, "reporter": "seoul"}
    ]


def test_a_thousand_servers() -> None:
    """Every one in trouble is there, the rest as far as there is room, and the totals are of all."""
    found = told(*(measured(f"server-{n:04}", 999 if n % 25 == 0 else 0) for n in range(1_000)))
    assert len(found["inTrouble"]) == found["inTroubleTotal"] == 40
    assert 0 < len(found["others"]) < found["othersTotal"] == 960
    assert MOST_CHARS * 0.9 < chars(found) <= MOST_CHARS


@given(
    st.lists(
        st.builds(
            measured,
            st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64) | st.just("<" * 64),
            st.sampled_from([0, 200, 999]),
            st.text(st.characters(exclude_categories=["Cs"]), max_size=100) | st.just("<" * 100),
            cpu=st.none() | st.floats(0, 100).map(lambda each: round(each, 1)),
        ),
        max_size=60,
    )
)
def test_never_longer_than_that(servers: list[Measured]) -> None:
    """Whatever servers are called; what is left out shows in the totals."""
    found = told(*servers)
    assert chars(found) <= MOST_CHARS
    assert found["inTroubleTotal"] + found["othersTotal"] == found["total"] == len({each.id for each in servers})


def test_all_in_trouble() -> None:
    """A thousand with the longest names: the worst that fit, and how many there are."""
    found = told(*(measured(f"{n:064}", 999, "서" * 100) for n in range(1_000)))
    assert found["inTroubleTotal"] == 1_000
    assert 10 < len(found["inTrouble"]) < 100
    assert chars(found) <= MOST_CHARS
