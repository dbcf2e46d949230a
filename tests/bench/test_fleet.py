"""The figures of servers: a month by arithmetic, and their form."""

import pytest

from bench.fleet_figures import month, sections
from bench.report import _table


@pytest.mark.parametrize(("edge_s", "runs", "percent"), [(30, 86_400, 4.0), (60, 43_200, 2.0)])
def test_a_month_follows_from_the_header(edge_s: int, runs: int, percent: float) -> None:
    """50 tabs, each minute; the edge asks once in the time for which it may keep a reply."""
    found = month(f"public, max-age=0, s-maxage={edge_s}, stale-while-revalidate=60")
    assert found["polls"] == found["edge requests, tabs always visible"] == 2_160_000
    assert (found["function runs at most"], found["function runs, percent of polls"]) == (runs, percent)
    assert found["edge requests, visible 8 hours on 22 days"] == 528_000
    assert found["commands of a reporter while somebody looks"] == 64_800


def test_the_table() -> None:
    """A line for a report, a read and a read anew of each size, the customers' scheme in brackets."""
    one = {"commands": 1, "bytes from redis": 2_000, "bytes to redis": 3_000, "p50 ms": 4, "p95 ms": 5, "cpu ms": 6}
    ours, theirs = dict.fromkeys(("report", "read", "read anew"), one), dict.fromkeys(("report", "read"), one)
    found = {
        "10 servers": {"breakwater": ours, "customers' scheme": theirs},
        "Supabase, 1,000 servers": {"MB": 7.5},
        "a month": {"polls": 2_160_000},
    }
    lines = sections(found, _table)
    assert "| read anew, 10 servers | 1.0 (1.0) | 4.0 (4.0) | 5.0 (5.0) | 6.0 (6.0) | 2.0 (2.0) | 3.0 (3.0) |" in lines
    assert [each for each in lines if each.startswith("| report, ")]
    assert "| polls | 2,160,000 |" in lines
