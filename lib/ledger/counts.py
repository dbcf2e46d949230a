"""What this instance has counted and not written yet. Adding is cheap: places are looked up when it is written."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import field

from ..base.calendar import month_of
from ..base.values import dataclass
from ..limits.window import DAY_MS
from .places import FIVE_MINUTE_FIELDS, Name
from .table import FIVE_MINUTES_MS, Place, five_minute_place, hour_place, months, place

type Totals = defaultdict[Name, int]
type Timed = defaultdict[str, int]

_MOST_INTERVALS = DAY_MS // FIVE_MINUTES_MS + 2


@dataclass(slots=True)
class Counts:
    """Counts by month, and by five minutes."""

    totals: dict[str, Totals] = field(default_factory=dict)
    """By month."""
    timed: dict[int, Timed] = field(default_factory=dict)
    """By the number of the five minutes: the fields of an hour, some of which five minutes have as well."""
    _interval: int = -1
    _now: tuple[Totals, Timed] = field(init=False, repr=False)

    def at(self, now_ms: int) -> tuple[Totals, Timed]:
        """Where to add what happens now: the month's totals, and the counts by time."""
        interval = now_ms // FIVE_MINUTES_MS
        if interval != self._interval:
            self._now = self._of(month_of(now_ms), interval)
            self._interval = interval
        return self._now

    def _of(self, month: str, interval: int) -> tuple[Totals, Timed]:
        totals = self.totals.setdefault(month, defaultdict(int))
        timed = self.timed.setdefault(interval, defaultdict(int))
        if len(self.timed) > _MOST_INTERVALS:
            # Nothing could be written for days: the totals and the last day are kept.
            del self.timed[min(self.timed)]
        return totals, timed

    def add(self, other: "Counts") -> None:
        """Add all counts of another."""
        for month, totals in other.totals.items():
            _add(self.totals.setdefault(month, defaultdict(int)), totals)
        for interval, timed in other.timed.items():
            _add(self.timed.setdefault(interval, defaultdict(int)), timed)

    def months(self) -> set[str]:
        """The months whose strings are written to: counts of the month before, too, where they were not written yet."""
        by_time = (month for interval in self.timed for month in months(interval * FIVE_MINUTES_MS))
        return {*self.totals, *by_time}

    def places(self) -> dict[str, dict[Place, int]]:
        """What to add to each month's string, by place."""
        found = {month: {place(name): n for name, n in totals.items()} for month, totals in self.totals.items()}
        for interval, fields in self.timed.items():
            for month in months(interval * FIVE_MINUTES_MS):
                places = found.setdefault(month, {})
                for at, n in _timed(interval * FIVE_MINUTES_MS, month, fields):
                    places[at] = places.get(at, 0) + n
        return found


def _timed(at_ms: int, month: str, fields: Mapping[str, int]) -> Iterator[tuple[Place, int]]:
    for name, n in fields.items():
        yield hour_place(name, at_ms, month), n
        if name in FIVE_MINUTE_FIELDS:
            yield five_minute_place(name, at_ms, month), n


def _add[K](into: dict[K, int], more: Mapping[K, int]) -> None:
    for name, n in more.items():
        into[name] = into.get(name, 0) + n
