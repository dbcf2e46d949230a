"""The sketch of the busiest callers: who is found for certain, and by how much a count may be wrong."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from lib.ledger.callers import Callers

calls = st.lists(st.integers(0, 40).map(lambda number: f"{number % 7 * number:x}"), max_size=400)


@given(calls)
def test_counts_are_never_too_low_and_too_high_by_the_lowest_at_most(made: list[str]) -> None:
    """Every caller with a counter: between its calls and those plus the lowest count; memory stays bounded."""
    sketch, exact = Callers(size=5), Counter(made)
    for caller in made:
        sketch.add(caller)
    lowest = min(sketch.counts.values(), default=0) if len(sketch.counts) == 5 else 0
    assert len(sketch.counts) <= 5
    assert all(exact[caller] <= count <= exact[caller] + lowest for caller, count in sketch.counts.items())


@given(calls)
def test_whoever_calls_much_has_a_counter(made: list[str]) -> None:
    """More than one call in `size` is enough, in whatever order they come."""
    sketch = Callers(size=5)
    for caller in made:
        sketch.add(caller)
    busy = {caller for caller, count in Counter(made).items() if count * 5 > len(made)}
    assert busy <= sketch.counts.keys()


def test_the_top_is_in_order() -> None:
    """The highest first; equal ones by their hash, so that the order does not change from one look to the next."""
    sketch = Callers()
    for caller in ("b", "a", "c", "c"):
        sketch.add(caller)
    assert sketch.top(2) == [("c", 2), ("a", 1)]
