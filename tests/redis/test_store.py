"""How Redis answered an instance last, from calls that went well and calls that did not."""

import pytest

from lib.redis.errors import Kind
from lib.redis.store import Contact


def test_nothing_was_asked() -> None:
    """Then nothing is known."""
    assert Contact().up is None


def test_a_state_begins_once() -> None:
    """Further calls that show the same do not move its beginning; the round trip is the last one's."""
    contact = Contact()
    contact.answered(1.5, 1_000)
    contact.answered(2.5, 2_000)
    assert (contact.up, contact.since_ms, contact.trip_ms) == (True, 1_000, 2.5)
    contact.failed("timeout", 3_000, down=True)
    contact.failed("connection", 4_000, down=True)
    assert (contact.up, contact.since_ms, contact.trip_ms) == (False, 3_000, None)
    assert (contact.error, contact.error_ms) == ("connection", 4_000)
    contact.answered(3.5, 5_000)
    assert (contact.up, contact.since_ms, contact.error, contact.error_ms) == (True, 5_000, "connection", 4_000)


@pytest.mark.parametrize("kind", ["command", "timeout"])
def test_what_says_nothing_of_the_server(kind: Kind) -> None:
    """Is the last error, and changes no state."""
    contact = Contact()
    contact.failed(kind, 500, down=False)
    assert (contact.up, contact.error) == (None, kind)
    contact.answered(1.5, 1_000)
    contact.failed(kind, 2_000, down=False)
    assert (contact.up, contact.since_ms, contact.trip_ms, contact.error_ms) == (True, 1_000, 1.5, 2_000)
