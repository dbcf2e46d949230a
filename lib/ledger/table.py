"""Where each number lies in a month's string.

The string has three areas: totals of the month in slots of 48 bits; a row for each hour, for rates and the last day; a
row for each five minutes, for the last hour. ``places.py`` has the numbers of slots and fields.

The rows of a month begin a day before it. On a month's last day they are written to the next month's string as well, so
that one string always holds the last 24 hours. At a month's end a string has 888 KiB.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise, product
from math import prod

from ..base.calendar import month_ends_ms, month_of
from ..limits.window import DAY_MS
from .places import (
    ALERT_KINDS,
    BLOCKS,
    FIVE_MINUTE_FIELDS,
    FIVE_MINUTE_ROOM,
    HOUR_FIELDS,
    HOUR_ROOM,
    SLOTS,
    AlertKind,
    Block,
    Name,
)

HOUR_MS = 3_600_000
FIVE_MINUTES_MS = 300_000

type Place = tuple[str, int]
"""Type and bit offset of one number, as BITFIELD takes them."""

_DAYS = 32
TOTAL_BITS, HOUR_BITS, FIVE_MINUTE_BITS = 48, 32, 16
HOURS_AT = SLOTS * TOTAL_BITS
FIVE_MINUTES_AT = HOURS_AT + _DAYS * (DAY_MS // HOUR_MS) * HOUR_ROOM * HOUR_BITS


def lay_out(blocks: Iterable[Block]) -> dict[Name, int]:
    """The slot of every counter. Raises ValueError where two share a slot, or one has no room."""
    slots: dict[Name, int] = {}
    ranges: list[tuple[int, int, Name]] = []
    for block in blocks:
        rooms = [room for _, room in block.axes]
        ranges.append((block.first, block.first + prod(rooms), block.name))
        for values, room in block.axes:
            check(".".join(block.name), values, room)
        for labels in product(*(values.items() for values, _ in block.axes)):
            slot = 0
            for (_, number), room in zip(labels, rooms, strict=True):
                slot = slot * room + number
            slots[*block.name, *(value for value, _ in labels)] = block.first + slot
    ranges.sort()
    for (_, end, name), (first, _, other) in pairwise(ranges):
        if first < end:
            raise ValueError(f"{'.'.join(other)} begins at slot {first}; {'.'.join(name)} has the slots before {end}")
    if ranges and (ranges[0][0] < 0 or ranges[-1][1] > SLOTS):
        raise ValueError(f"there are slots from 0 to {SLOTS - 1} only")
    return slots


def check(what: str, numbers: Mapping[str, int], room: int) -> None:
    """Raise ValueError where two values share a number, or one has no room."""
    for value, number in numbers.items():
        if not 0 <= number < room:
            raise ValueError(f"{what}: {value!r} has number {number}; there is room for 0 to {room - 1}")
    if len(set(numbers.values())) != len(numbers):
        raise ValueError(f"{what}: two values have the same number: {dict(numbers)}")


check("alerts", {kind.label: kind.number for kind in AlertKind}, ALERT_KINDS)
check("hour", HOUR_FIELDS, HOUR_ROOM)
check("five minutes", FIVE_MINUTE_FIELDS, FIVE_MINUTE_ROOM)
TOTALS: Mapping[Name, Place] = {name: (f"u{TOTAL_BITS}", slot * TOTAL_BITS) for name, slot in lay_out(BLOCKS).items()}
"""The places that are in use."""


def place(name: Name) -> Place:
    """Where a month's total lies. Raises KeyError for a name without a number."""
    return TOTALS[name]


def hour_place(field: str, at_ms: int, month: str) -> Place:
    """Where a number of the hour of ``at_ms`` lies in a month's string."""
    hour = (at_ms - month_starts_ms(month) + DAY_MS) // HOUR_MS
    return (f"u{HOUR_BITS}", HOURS_AT + (hour * HOUR_ROOM + HOUR_FIELDS[field]) * HOUR_BITS)


def five_minute_place(field: str, at_ms: int, month: str) -> Place:
    """Where a number of the five minutes of ``at_ms`` lies in a month's string."""
    row = (at_ms - month_starts_ms(month) + DAY_MS) // FIVE_MINUTES_MS
    number = FIVE_MINUTE_FIELDS[field]
    return (f"u{FIVE_MINUTE_BITS}", FIVE_MINUTES_AT + (row * FIVE_MINUTE_ROOM + number) * FIVE_MINUTE_BITS)


@lru_cache(maxsize=8)
def month_starts_ms(month: str) -> int:
    """The first millisecond of a calendar month."""
    year, _, number = month.partition("-")
    return int(datetime(int(year), int(number), 1, tzinfo=UTC).timestamp() * 1000)


def months(now_ms: int) -> tuple[str, ...]:
    """The strings whose rows hold this moment: the month's, and on its last day the next month's as well."""
    ends_ms = month_ends_ms(now_ms)
    this = month_of(now_ms)
    return (this, month_of(ends_ms)) if now_ms >= ends_ms - DAY_MS else (this,)


def last_hours(now_ms: int) -> list[int]:
    """When each of the last 24 hours and the present one began, oldest first."""
    this = now_ms // HOUR_MS * HOUR_MS
    return [this - back * HOUR_MS for back in range(24, -1, -1)]


def last_five_minutes(now_ms: int) -> list[int]:
    """When each of the last twelve five minutes and the present ones began, oldest first."""
    this = now_ms // FIVE_MINUTES_MS * FIVE_MINUTES_MS
    return [this - back * FIVE_MINUTES_MS for back in range(12, -1, -1)]


@lru_cache(maxsize=4)
def places_read(interval: int, month: str) -> tuple[Place, ...]:
    """All places that a reading covers within five minutes (``now_ms // FIVE_MINUTES_MS``)."""
    now_ms, first_ms = interval * FIVE_MINUTES_MS, month_starts_ms(month) - DAY_MS
    hours = [at_ms for at_ms in last_hours(now_ms) if at_ms >= first_ms]
    fives = [at_ms for at_ms in last_five_minutes(now_ms) if at_ms >= first_ms]
    return (
        *TOTALS.values(),
        *(hour_place(field, at_ms, month) for at_ms in hours for field in HOUR_FIELDS),
        *(five_minute_place(field, at_ms, month) for at_ms in fives for field in FIVE_MINUTE_FIELDS),
    )
