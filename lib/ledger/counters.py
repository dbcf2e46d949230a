"""What is counted across instances: a fixed place for each number in one Redis string a month.

``BITFIELD`` adds to any number of places, and reads any number, as one billed command. Three areas:

- totals of the month, one unsigned 48-bit place each. :data:`TABLE` gives the places: **append only**, never reorder. A
  change that must reorder takes a new number in ``keys.ledger``;
- by hour, for the ledger's rates and the last day; by five minutes, for the last hour.

The slots of a month begin a day before it: on a month's last day they are written to the next month's string as well,
so that one string always holds the last 24 hours.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, lru_cache

from ..base.calendar import month_ends_ms, month_of
from ..limits.window import DAY_MS
from ..redis import keys
from ..redis.op import Command, Op, Reply, as_int, as_list

HOUR_MS = 3_600_000
FIVE_MS = 300_000

ROUTES = (
    *("ai/supervisor", "v1/chat/completions", "health", "overview", "metrics", "admin", "cron/daily"),
    "other",
)
DECISIONS = ("serve", "compute", "refuse", "fail", "report", "client_left", "none")
STATUSES = ("2xx", "3xx", "4xx", "429", "5xx")
MODES = ("redis", "supabase", "local", "off")
CACHES = ("hit", "stale", "collapsed", "miss", "bypass", "none")
REFUSALS = ("rate_limited", "blocked", "circuit_open", "budget_spent", "not_cached", "other")
PROVIDERS = ("cloud-run", "gemini", "groq", "openai", "other")
ERRORS = ("timeout", "connection", "unauthorized", "throttled", "quota", "server", "protocol", "command", "other")
STATES = ("open", "half_open", "closed")

type Name = tuple[str, ...]
"""A counter: what is counted, then of what."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Bounds in milliseconds; a bucket each, one beyond the last, and the sum in microseconds."""

    name: str
    bounds_ms: tuple[float, ...]

    @cache  # noqa: B019 - the instances are the few constants below, and so are the labels
    def names(self, *labels: str) -> tuple[Name, ...]:
        """Its places: the buckets in order, then the sum."""
        buckets = [f"le{bound:g}" for bound in self.bounds_ms] + ["inf", "sum_us"]
        return tuple((self.name, *labels, bucket) for bucket in buckets)

    def counts(self, ms: float, *labels: str) -> tuple[tuple[Name, int], tuple[Name, int]]:
        """What one observation adds."""
        names = self.names(*labels)
        return (names[bisect_left(self.bounds_ms, ms)], 1), (names[-1], round(ms * 1000))


# The bounds that OpenTelemetry's conventions advise for these metrics (in seconds there).
HTTP_DURATION = Histogram("http", (5, 10, 25, 50, 75, 100, 250, 500, 750, 1_000, 2_500, 5_000, 7_500, 10_000))
REDIS_DURATION = Histogram("redis_ms", (1, 5, 10, 50, 100, 500, 1_000, 5_000, 10_000))
PROVIDER_DURATION = Histogram(
    "provider_ms", (10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 5_120, 10_240, 20_480, 40_960, 81_920)
)
GUARD_DURATION = Histogram("guard_ms", (1, 2.5, 5, 10, 25, 50, 100))
TIMED_ROUTES = ("ai/supervisor", "v1/chat/completions")

COMMANDS: Name = ("redis_commands",)
TOUCH: Name = ("touch",)
"""How often this string was written: a new one needs a TTL."""
VENDOR_TOTAL: Name = ("vendor_total",)
VENDOR_COUNTED: Name = ("vendor_counted",)
VENDOR_AT: Name = ("vendor_at_s",)
SUPABASE_BYTES: Name = ("supabase_bytes",)
SUPABASE_AT: Name = ("supabase_at_s",)
RPC_CALLS: Name = ("rpc_calls",)

ALERTS: tuple[tuple[str, str], ...] = (
    *(("redis_month", percent) for percent in ("1", "2", "3")),
    *(("runs_out", service) for service in ("upstash", "cloud-run", "gemini", "groq", "openai", "supabase")),
    *(("circuit_open", provider) for provider in PROVIDERS),
    *(("circuit_closed", provider) for provider in PROVIDERS),
    *(("mode", mode) for mode in ("redis", "supabase", "local")),
    ("error_rate", ""),
    ("redis_slow", ""),
)
"""Every alert there is; the time of the last one of each is kept in the month. Append only, at the end of TABLE too."""

TABLE: tuple[Name, ...] = (
    TOUCH,
    COMMANDS,
    ("redis_round_trips",),
    *(("redis_errors", kind) for kind in ERRORS),
    ("redis_slow",),
    RPC_CALLS,
    ("supabase_errors",),
    VENDOR_TOTAL,
    VENDOR_COUNTED,
    VENDOR_AT,
    SUPABASE_BYTES,
    SUPABASE_AT,
    *(("requests", route, decision) for route in ROUTES for decision in DECISIONS),
    *(("statuses", route, status) for route in ROUTES for status in STATUSES),
    *(("modes", mode) for mode in MODES),
    *(("caches", cache) for cache in CACHES),
    *(("refusals", code) for code in REFUSALS),
    *(("provider_calls", provider) for provider in PROVIDERS),
    *(("provider_failures", provider) for provider in PROVIDERS),
    *(("vcpu_ms", provider) for provider in PROVIDERS),
    *(("circuits", provider, state) for provider in PROVIDERS for state in STATES),
    *(("mode_switches", mode) for mode in MODES[:3]),
    *(name for route in TIMED_ROUTES for name in HTTP_DURATION.names(route)),
    *GUARD_DURATION.names(),
    *REDIS_DURATION.names(),
    *(name for provider in PROVIDERS for name in PROVIDER_DURATION.names(provider)),
    *(("alert_s", kind, about) for kind, about in ALERTS),
)

HOURLY = (
    *("serve", "compute", "refuse", "fail", "commands", "vcpu_ms", "redis_us", "redis_asked", "request_ms"),
    *(f"calls.{provider}" for provider in PROVIDERS),
    *("rpc_calls", "cached"),
)
"""What each hour counts, 32 bits each. Append only, up to 24."""
FIVES = ("serve", "compute", "refuse", "fail")
"""What each five minutes count, 16 bits each; they stop at 65,535."""

_TOTAL_BITS, _HOUR_BITS, _FIVE_BITS = 48, 32, 16
_HOURS_AT = 8_192 * 8
_HOUR_FIELDS = 24
_HOURS = 32 * 24
_FIVES_AT = _HOURS_AT + _HOURS * _HOUR_FIELDS * _HOUR_BITS

type Spot = tuple[str, int]
"""Type and bit offset of one number."""

_TOTALS: Mapping[Name, Spot] = {name: (f"u{_TOTAL_BITS}", at * _TOTAL_BITS) for at, name in enumerate(TABLE)}


def spot(name: Name) -> Spot:
    """Where a month's total lies. Raises KeyError for a name that is not in the table."""
    return _TOTALS[name]


def known(value: str, values: Sequence[str]) -> str:
    """``value`` if it is one of ``values``, else the last of them."""
    return value if value in values else values[-1]


@lru_cache(maxsize=8)
def month_starts_ms(month: str) -> int:
    """The first millisecond of a calendar month."""
    year, _, number = month.partition("-")
    return int(datetime(int(year), int(number), 1, tzinfo=UTC).timestamp() * 1000)


def months(now_ms: int) -> tuple[str, ...]:
    """The strings whose slots hold this moment: the month's, and on its last day the next month's as well."""
    ends_ms = month_ends_ms(now_ms)
    this = month_of(now_ms)
    return (this, month_of(ends_ms)) if now_ms >= ends_ms - DAY_MS else (this,)


def hour_spot(field: str, at_ms: int, month: str) -> Spot:
    """Where a number of the hour of ``at_ms`` lies in a month's string."""
    hour = (at_ms - month_starts_ms(month) + DAY_MS) // HOUR_MS
    return (f"u{_HOUR_BITS}", _HOURS_AT + (hour * _HOUR_FIELDS + HOURLY.index(field)) * _HOUR_BITS)


def five_spot(field: str, at_ms: int, month: str) -> Spot:
    """Where a number of the five minutes of ``at_ms`` lies in a month's string."""
    five = (at_ms - month_starts_ms(month) + DAY_MS) // FIVE_MS
    return (f"u{_FIVE_BITS}", _FIVES_AT + (five * len(FIVES) + FIVES.index(field)) * _FIVE_BITS)


type Totals = defaultdict[Name, int]
type Timed = defaultdict[str, int]


@dataclass(slots=True)
class Counts:
    """What was counted and is not written: cheap to add to, and sorted into places when it is handed over."""

    totals: dict[str, Totals] = field(default_factory=dict)
    """By month."""
    timed: dict[int, Timed] = field(default_factory=dict)
    """By the number of the five minutes: what :data:`HOURLY` counts, and of that what :data:`FIVES` counts as well."""
    _five: int = -1
    _now: tuple[Totals, Timed] = field(init=False, repr=False)

    def at(self, now_ms: int) -> tuple[Totals, Timed]:
        """Where to add what happens now: the month's totals, and what is counted by time."""
        five = now_ms // FIVE_MS
        if five != self._five:
            self._now = self._of(month_of(now_ms), five)
            self._five = five
        return self._now

    def _of(self, month: str, five: int) -> tuple[Totals, Timed]:
        totals = self.totals.setdefault(month, defaultdict(int))
        timed = self.timed.setdefault(five, defaultdict(int))
        if len(self.timed) > _MOST_FIVES:
            # Nothing has been handed over for days: the totals and the last day are kept.
            del self.timed[min(self.timed)]
        return totals, timed

    def add(self, other: "Counts") -> None:
        """Take over what another has counted."""
        for month, totals in other.totals.items():
            _add(self.totals.setdefault(month, defaultdict(int)), totals)
        for five, timed in other.timed.items():
            _add(self.timed.setdefault(five, defaultdict(int)), timed)

    def places(self) -> dict[str, dict[Spot, int]]:
        """What is to be added to each month's string, by place."""
        found = {month: {spot(name): n for name, n in totals.items()} for month, totals in self.totals.items()}
        for five, fields in self.timed.items():
            for month in months(five * FIVE_MS):
                places = found.setdefault(month, {})
                for place, n in _timed(five * FIVE_MS, month, fields):
                    places[place] = places.get(place, 0) + n
        return found


_MOST_FIVES = DAY_MS // FIVE_MS + 2


def _timed(at_ms: int, month: str, fields: Mapping[str, int]) -> Iterator[tuple[Spot, int]]:
    for name, n in fields.items():
        yield hour_spot(name, at_ms, month), n
        if name in FIVES:
            yield five_spot(name, at_ms, month), n


def _add[K](into: dict[K, int], more: Mapping[K, int]) -> None:
    for name, n in more.items():
        into[name] = into.get(name, 0) + n


@dataclass(frozen=True, slots=True)
class Reading:
    """All numbers of a month as they stood at ``now_ms``, with the last 24 hours and the last hour."""

    now_ms: int
    month: str
    values: Mapping[Spot, int]

    def total(self, *name: str) -> int:
        """A total of the month."""
        return self.values.get(spot(name), 0)

    def hours(self, field: str) -> list[int]:
        """The last 24 hours and the present one, oldest first."""
        return [self.values.get(hour_spot(field, at_ms, self.month), 0) for at_ms in hours(self.now_ms)]

    def fives(self, field: str) -> list[int]:
        """The last hour in twelve parts and the present one, oldest first."""
        return [self.values.get(five_spot(field, at_ms, self.month), 0) for at_ms in fives(self.now_ms)]

    @property
    def commands(self) -> int:
        """The month's Redis commands: the vendor's figure and what was counted since, or what was counted."""
        counted = self.total(*COMMANDS)
        if not self.total(*VENDOR_AT):
            return counted
        return self.total(*VENDOR_TOTAL) + max(0, counted - self.total(*VENDOR_COUNTED))

    def plus(self, deltas: Mapping[Spot, int]) -> "Reading":
        """With what has not been written yet."""
        return Reading(self.now_ms, self.month, {s: v + deltas.get(s, 0) for s, v in self.values.items()})


def hours(now_ms: int) -> list[int]:
    """When each of the last 24 hours and the present one began."""
    this = now_ms // HOUR_MS * HOUR_MS
    return [this - back * HOUR_MS for back in range(24, -1, -1)]


def fives(now_ms: int) -> list[int]:
    """When each of the last twelve five minutes and the present ones began."""
    this = now_ms // FIVE_MS * FIVE_MS
    return [this - back * FIVE_MS for back in range(12, -1, -1)]


@lru_cache(maxsize=4)
def _wanted(five: int, month: str) -> tuple[Sequence[Spot], Command]:
    """Every place that a reading in these five minutes covers, and the parts of a BITFIELD that read them."""
    now_ms = five * FIVE_MS
    first_ms = month_starts_ms(month) - DAY_MS
    by_hour = [hour_spot(field, at_ms, month) for at_ms in hours(now_ms) if at_ms >= first_ms for field in HOURLY]
    by_five = [five_spot(field, at_ms, month) for at_ms in fives(now_ms) if at_ms >= first_ms for field in FIVES]
    spots = [*_TOTALS.values(), *by_hour, *by_five]
    return spots, tuple(part for kind, offset in spots for part in ("GET", kind, offset))


def wanted_now(now_ms: int) -> Sequence[Spot]:
    """Every place of the present month that a reading covers."""
    return _wanted(now_ms // FIVE_MS, month_of(now_ms))[0]


def read(now_ms: int) -> Op[Reading]:
    """Read everything, writing nothing: 1 command."""
    month = month_of(now_ms)
    spots, gets = _wanted(now_ms // FIVE_MS, month)

    def answer(replies: Sequence[Reply]) -> Reading:
        values = [as_int(value) for value in as_list(replies[0], len(spots))]
        return Reading(now_ms, month, dict(zip(spots, values, strict=True)))

    return Op((("BITFIELD_RO", keys.ledger(month), *gets),), answer)


@dataclass(frozen=True, slots=True)
class Written:
    """Counts were written. ``reading`` is what stands there now, of the present month; ``touches`` by month."""

    reading: Reading | None
    touches: Mapping[str, int]


def write(deltas: Mapping[str, Mapping[Spot, int]], now_ms: int) -> Op[Written]:
    """Add counts to each month's string and read the present month's: 1 command for each month written to.

    A place that would overflow stays at its highest value.
    """
    month = month_of(now_ms)
    spots, gets = _wanted(now_ms // FIVE_MS, month)
    names = sorted(deltas)
    commands: list[Command] = []
    for each in names:
        # The touch comes first, so that its reply does.
        adds: list[str | int] = ["OVERFLOW", "SAT", "INCRBY", *_TOTALS[TOUCH], 1]
        for (kind, offset), amount in deltas[each].items():
            adds += ["INCRBY", kind, offset, amount]
        commands.append(("BITFIELD", keys.ledger(each), *adds, *(gets if each == month else ())))

    def answer(replies: Sequence[Reply]) -> Written:
        reading, touches = None, {}
        for each, reply in zip(names, replies, strict=True):
            read = len(spots) if each == month else 0
            items = [as_int(item) for item in as_list(reply, 1 + len(deltas[each]) + read)]
            touches[each] = items[0]
            if read:
                reading = Reading(now_ms, month, dict(zip(spots, items[-read:], strict=True)))
        return Written(reading, touches)

    return Op(tuple(commands), answer)


def note(values: Mapping[Name, int], now_ms: int) -> Op[int]:
    """Set totals to what they are known to be: 1 command; yields how often the string was written."""
    parts: list[str | int] = ["OVERFLOW", "SAT", "INCRBY", *_TOTALS[TOUCH], 1]
    for name, value in values.items():
        parts += ["SET", *_TOTALS[name], value]
    command = ("BITFIELD", keys.ledger(month_of(now_ms)), *parts)
    return Op((command,), lambda replies: as_int(as_list(replies[0], 1 + len(values))[0]))


NEW = 3
"""So many first writes each set the TTL: two may die before they do."""


def ttls(touches: Mapping[str, int], now_ms: int) -> Op[None]:
    """Let new strings end with their time: 1 command for each; none as a rule."""
    found = [
        ("EXPIRE", keys.ledger(month), (month_starts_ms(month) + 70 * DAY_MS - now_ms) // 1000)
        for month, touch in touches.items()
        if touch <= NEW
    ]
    return Op(tuple(found), lambda replies: None)
