"""``Accept``: JSON, unless an event stream is preferred."""

import pytest

from lib.edge.accept import prefers_events


@pytest.mark.parametrize(
    ("header", "events"),
    [
        pytest.param("", False, id="nothing"),
        pytest.param("*/*", False, id="anything"),
        pytest.param("application/json", False, id="JSON"),
        pytest.param("text/event-stream", True, id="events"),
        pytest.param("TEXT/Event-Stream", True, id="in capitals"),
        pytest.param("application/json, text/event-stream", False, id="both"),
        pytest.param("text/event-stream, application/json", False, id="both, in the other order"),
        pytest.param("text/event-stream, application/json;q=0.9", True, id="events rather than JSON"),
        pytest.param("text/event-stream;q=0.9, application/json", False, id="JSON rather than events"),
        pytest.param("text/event-stream; q = 0.5, application/json ; q=0.4", True, id="white space"),
        pytest.param("text/event-stream;q=0", False, id="no events at all"),
        pytest.param("text/event-stream;q=0.000, */*;q=0.1", False, id="anything but events"),
        pytest.param("text/event-stream, */*", False, id="anything as well as events"),
        pytest.param("text/event-stream, */*;q=0.5", True, id="anything, events first"),
        pytest.param("text/*;q=0.8, application/*;q=0.7", True, id="by the type alone"),
        pytest.param("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False, id="a browser"),
        pytest.param("text/event-stream;charset=utf-8", True, id="another parameter"),
        pytest.param("text/event-stream;q=2", True, id="no quality"),
        pytest.param("text/event-streams", False, id="another type"),
        pytest.param(",;,q=1,", False, id="nothing that can be read"),
        pytest.param("x/y;q=0.1," * 2_000 + "text/event-stream", True, id="long"),
    ],
)
def test_preference(header: str, *, events: bool) -> None:
    """By quality, the most precise range first; a tie is JSON."""
    assert prefers_events(header) is events
