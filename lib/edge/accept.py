"""The request's ``Accept``: whether a client would rather have an event stream (RFC 9110, section 12.5.1). Pure."""

import re

EVENT_STREAM, JSON = "text/event-stream", "application/json"

_QUALITY = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")


def prefers_events(header: str) -> bool:
    """Whether an event stream is wanted more than JSON; a client that likes both as well gets JSON."""
    header = header.lower()
    if "text/" not in header:
        return False
    ranges = [_range(each) for each in header.split(",")]
    return _quality(ranges, EVENT_STREAM) > _quality(ranges, JSON)


def _range(text: str) -> tuple[str, float]:
    """A media range and its quality; what is no quality says nothing."""
    media, *parameters = (part.strip() for part in text.split(";"))
    found = next((match for each in parameters if (match := _QUALITY.fullmatch(each.replace(" ", "")))), None)
    return media, float(found[1]) if found else 1.0


def _quality(ranges: list[tuple[str, float]], media: str) -> float:
    """By the most precise range that covers it; 0 where none does."""
    for wanted in (media, f"{media.partition('/')[0]}/*", "*/*"):
        if found := [quality for each, quality in ranges if each == wanted]:
            return max(found)
    return 0.0
