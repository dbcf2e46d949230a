"""Reads and writes a month's string: any number of places in one ``BITFIELD``, which is billed as one command."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from ..base.calendar import month_of
from ..base.values import dataclass
from ..limits.window import DAY_MS
from ..redis import keys
from ..redis.op import Command, Op, Reply, as_int, as_list
from .places import COMMANDS, EARLIER_COMMANDS, VENDOR_AT, VENDOR_COUNTED, VENDOR_TOTAL, WRITES, Name
from .table import (
    FIVE_MINUTES_MS,
    Place,
    five_minute_place,
    hour_place,
    last_five_minutes,
    last_hours,
    month_starts_ms,
    place,
    places_read,
)


@dataclass(frozen=True, slots=True)
class Reading:
    """All numbers of a month as they stood at ``now_ms``, with the last 24 hours and the last hour."""

    now_ms: int
    month: str
    values: Mapping[Place, int]

    def total(self, *name: str) -> int:
        """A total of the month."""
        return self.values.get(place(name), 0)

    def by_hour(self, field: str) -> list[int]:
        """The last 24 hours and the present one, oldest first."""
        return [self.values.get(hour_place(field, at_ms, self.month), 0) for at_ms in last_hours(self.now_ms)]

    def by_five_minutes(self, field: str) -> list[int]:
        """The last hour in twelve parts and the present one, oldest first."""
        begins = last_five_minutes(self.now_ms)
        return [self.values.get(five_minute_place(field, at_ms, self.month), 0) for at_ms in begins]

    @property
    def commands(self) -> int:
        """The month's Redis commands: the vendor's figure and what was counted since, or what was counted."""
        counted = self.total(*COMMANDS)
        if not self.total(*VENDOR_AT):
            return counted + self.total(*EARLIER_COMMANDS)
        return self.total(*VENDOR_TOTAL) + max(0, counted - self.total(*VENDOR_COUNTED))

    def plus(self, counts: Mapping[Place, int]) -> "Reading":
        """This reading with counts that are not written yet."""
        return Reading(self.now_ms, self.month, {at: n + counts.get(at, 0) for at, n in self.values.items()})


def empty(now_ms: int) -> Reading:
    """A reading of nothing: zero everywhere."""
    month = month_of(now_ms)
    return Reading(now_ms, month, dict.fromkeys(places_read(now_ms // FIVE_MINUTES_MS, month), 0))


@lru_cache(maxsize=4)
def _gets(interval: int, month: str) -> Command:
    return tuple(part for kind, offset in places_read(interval, month) for part in ("GET", kind, offset))


def read(now_ms: int) -> Op[Reading]:
    """Read the present month, writing nothing: 1 command."""
    month, interval = month_of(now_ms), now_ms // FIVE_MINUTES_MS
    places = places_read(interval, month)

    def answer(replies: Sequence[Reply]) -> Reading:
        values = [as_int(value) for value in as_list(replies[0], len(places))]
        return Reading(now_ms, month, dict(zip(places, values, strict=True)))

    return Op((("BITFIELD_RO", keys.ledger(month), *_gets(interval, month)),), answer)


@dataclass(frozen=True, slots=True)
class Written:
    """Counts were written: the present month as it stands now if it was read, and how often each string was written."""

    reading: Reading | None
    writes: Mapping[str, int]


# The first part of every write counts it, so that its reply comes first. A place that would overflow stays at its
# highest value.
_COUNT_THE_WRITE: Command = ("OVERFLOW", "SAT", "INCRBY", *place(WRITES), 1)


def write(counts: Mapping[str, Mapping[Place, int]], now_ms: int, *, reads: bool = True) -> Op[Written]:
    """Add counts to each month's string, and ``reads`` the present month's: 1 command for each month written to."""
    month, interval = month_of(now_ms), now_ms // FIVE_MINUTES_MS
    places = places_read(interval, month)
    names = sorted(counts)
    commands: list[Command] = []
    for each in names:
        adds = [part for (kind, offset), n in counts[each].items() for part in ("INCRBY", kind, offset, n)]
        gets = _gets(interval, month) if reads and each == month else ()
        commands.append(("BITFIELD", keys.ledger(each), *_COUNT_THE_WRITE, *adds, *gets))

    def answer(replies: Sequence[Reply]) -> Written:
        reading, writes = None, {}
        for each, reply in zip(names, replies, strict=True):
            read = len(places) if reads and each == month else 0
            items = [as_int(item) for item in as_list(reply, 1 + len(counts[each]) + read)]
            writes[each] = items[0]
            if read:
                reading = Reading(now_ms, month, dict(zip(places, items[-read:], strict=True)))
        return Written(reading, writes)

    return Op(tuple(commands), answer)


def set_totals(values: Mapping[Name, int], month: str) -> Op[int]:
    """Set totals to known values: 1 command. Yields how often the month's string was written."""
    sets = [part for name, value in values.items() for part in ("SET", *place(name), value)]
    command = ("BITFIELD", keys.ledger(month), *_COUNT_THE_WRITE, *sets)
    return Op((command,), lambda replies: as_int(as_list(replies[0], 1 + len(values))[0]))


FIRST_WRITES = 3
"""So many first writes of a string each set its TTL: two instances may be killed before they do."""


def expire_new(writes: Mapping[str, int], now_ms: int) -> Op[None]:
    """Give new strings a TTL, 70 days from the start of their month: 1 command for each of them, none as a rule."""
    found = [
        ("EXPIRE", keys.ledger(month), (month_starts_ms(month) + 70 * DAY_MS - now_ms) // 1000)
        for month, number in writes.items()
        if number <= FIRST_WRITES
    ]
    return Op(tuple(found), lambda replies: None)
