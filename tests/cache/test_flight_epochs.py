"""Which requests may follow a flight, by the epochs that they have read."""

import pytest

from lib.cache.flights import Epochs, Flight

BEFORE: Epochs = ("all", None, None)
CREATED: Epochs = ("all", "route", "session")
BETWEEN: Epochs = ("all", "route", None)
OTHER: Epochs = ("all", "route", "another")


def flight(epochs: Epochs) -> Flight[str]:
    """A flight outside of any event loop: nobody waits for it."""
    return Flight(epochs, result=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("read", [BEFORE, BETWEEN, CREATED, OTHER])
def test_before_missing_epochs_are_created(read: Epochs) -> None:
    """Nothing is computed yet: whatever a request has read in their places, what is computed is new enough for it."""
    assert flight(BEFORE).is_for(read, 1)


@pytest.mark.parametrize("read", [("changed", None, None), (None, None, None)])
def test_what_was_not_missing_has_to_be_the_same(read: Epochs) -> None:
    """An epoch that was replaced, or lost, since the flight has read it."""
    assert not flight(BEFORE).is_for(read, 1)


@pytest.mark.parametrize(
    ("read", "began_at", "may"),
    [
        (CREATED, 1, True),
        (CREATED, 9, True),
        (BEFORE, 1, True),
        (BEFORE, 9, False),
        (BETWEEN, 1, True),
        (BETWEEN, 9, False),
        (OTHER, 1, False),
        (OTHER, 9, False),
        (("changed", None, None), 1, False),
    ],
)
def test_once_they_are_created(read: Epochs, began_at: float, may: bool) -> None:
    """Who began before may have read them in any state between; who began afterwards has to have read them all."""
    made = flight(BEFORE)
    made.created(CREATED, at=5)
    assert made.is_for(read, began_at) is may


def test_where_redis_created_none() -> None:
    """It went away: the source is asked nevertheless, and who has read a word since may come after an invalidation."""
    made = flight(BEFORE)
    made.created(BEFORE, at=5)
    assert made.is_for(BEFORE, 9)
    assert not made.is_for(CREATED, 9)
