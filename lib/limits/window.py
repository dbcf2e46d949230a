"""Strict sliding windows: what they cover, and where their buckets lie in a day's string.

A window is cut into buckets of equal length, aligned to the UTC day; ``bitfield.py`` keeps them in Redis. The string
begins with a head that is the same for all (:class:`Layout`), so that a changed limit finds what was counted before it.

The rule. At time ``t`` a window of length ``W`` counts, in full, every bucket from the one that holds
``t - W - SKEW_BACK_MS`` to the one that holds ``t + SKEW_AHEAD_MS``. A call admitted at any true time within the closed
interval ``[t - W, t]`` lies in one of them if the clock of the instance that admitted it was behind this one's by at
most ``SKEW_BACK_MS``, or ahead of it by at most ``SKEW_AHEAD_MS``; so no closed window ever holds more than the limit.
The price: a call counts for longer than ``W``, by at most ``SKEW_BACK_MS`` and one bucket. To look ahead costs nothing.
Instances count by the store's time, which each knows to a tenth of a second or so (``redis/offset.py``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import UTC, datetime, timedelta
from typing import Literal

from ..base.values import dataclass

DAY_MS = 86_400_000
SKEW_BACK_MS = 500
"""So far another instance's clock may be behind without a window ever holding more than its limit."""
SKEW_AHEAD_MS = 2_500
"""So far it may be ahead."""

HALF_HOUR_MS = 1_800_000
_DAY_BITS = {"calls": 16, "tokens": 32}
"""The least width of a day's bucket: a day's limit, unlike a minute's, never changes where its buckets lie."""
_DAYS_AT = {"calls": 8, "tokens": 8 + 48 * 16}
"""Where the two days lie in the head, in bits."""
_TAIL_AT = {False: 8 + 48 * 16, True: 8 + 48 * 16 + 48 * 32}
"""Where the tail begins, in bits; true for budgets, whose head also holds a day of tokens."""
_PACK_BITS = 48
"""Buckets are read in packs of up to 48 bits: fewer parts than one ``GET`` a bucket, and exact in any JSON parser."""

type Buckets = Mapping[int, int]
"""Count by bucket index (``time_ms // bucket_ms``); empty buckets are left out."""


type Unit = Literal["calls", "tokens"]


@dataclass(frozen=True, slots=True)
class Window:
    """At most ``limit`` calls in any closed interval of ``length_ms``, counted in buckets of ``bucket_ms``.

    ``bits`` is the width of a bucket: the least that holds the limit, and for a day at least that of the head. With a
    ``zone`` it is a calendar day there instead: its whole limit is back at midnight, daylight saving included. A window
    of ``tokens`` counts these instead of calls.
    """

    name: str
    limit: int
    length_ms: int
    bucket_ms: int
    unit: Unit = "calls"
    zone: str | None = None
    bits: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ValueError(f"a limit is at least 1, not {self.limit}")
        if self.length_ms > DAY_MS or DAY_MS % self.bucket_ms or self.bucket_ms > self.length_ms:
            raise ValueError("a window is at most a day, and its buckets divide the day")

        least = _DAY_BITS[self.unit] if self.length_ms == DAY_MS else 4
        bits = next(bits for bits in (4, 8, 16, 32) if self.limit < 1 << bits and bits >= least)
        object.__setattr__(self, "bits", bits)

    @property
    def in_head(self) -> bool:
        """Whether its buckets lie in the head of the string, where every day's do that has such buckets."""
        return (self.length_ms, self.bucket_ms, self.bits) == (DAY_MS, HALF_HOUR_MS, _DAY_BITS[self.unit])

    def covered(self, now_ms: int) -> range:
        """The bucket indexes that count at ``now_ms``, oldest first."""
        oldest = now_ms - self.length_ms - SKEW_BACK_MS if self.zone is None else _midnight(now_ms, self.zone, 0)
        return range(oldest // self.bucket_ms, (now_ms + SKEW_AHEAD_MS) // self.bucket_ms + 1)

    def leaves_at(self, bucket: int) -> int:
        """The first millisecond at which ``bucket`` no longer counts."""
        if self.zone is not None:
            return _midnight(bucket * self.bucket_ms, self.zone, 1)
        return (bucket + 1) * self.bucket_ms + self.length_ms + SKEW_BACK_MS

    def price(self, cost: int, tokens: int) -> int:
        """What a call of ``cost`` calls and ``tokens`` tokens takes from this window."""
        return cost if self.unit == "calls" else tokens


def _midnight(at_ms: int, zone: str, days: int) -> int:
    """The midnight in ``zone`` that began the day of ``at_ms``, or the one ``days`` later."""
    # Needed by budgets with a zone only, and not cheap to import.
    from zoneinfo import ZoneInfo

    local = datetime.fromtimestamp(at_ms / 1000, ZoneInfo(zone))
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0) + timedelta(days=days)
    return int(midnight.timestamp() * 1000)


_LENGTHS = {"minute": (60_000, 2_500), "hour": (3_600_000, 150_000), "day": (DAY_MS, HALF_HOUR_MS)}
_QUARTER_MS = 900_000
"""The buckets of a calendar day whose midnight does not lie on a half hour: Nepal's, the Chatham Islands'."""
TAGS = {(60_000, 2_500): "m", (3_600_000, 150_000): "h", (DAY_MS, HALF_HOUR_MS): "d", (DAY_MS, _QUARTER_MS): "q"}
"""What a window's length and buckets are called in a tag."""


def window(length: str, limit: int, unit: Unit = "calls", zone: str | None = None) -> Window:
    """A window of one ``minute``, ``hour`` or ``day``; with a ``zone``, the calendar day there.

    Raises ValueError for another length, a limit below 1, or an unknown zone.
    """
    if length not in _LENGTHS:
        raise ValueError(f"unknown length {length!r}: use minute, hour or day")
    length_ms, bucket_ms = _LENGTHS[length]
    if zone is not None:
        if length != "day":
            raise ValueError("a time zone goes with a day")
        try:
            is_off = _is_off_the_half_hour(zone)
        except (KeyError, ValueError, OSError):
            # zoneinfo opens a file of this name: it may be missing, a folder, or no zone.
            raise ValueError("not a time zone: write for example 'America/Los_Angeles'") from None
        if is_off:
            bucket_ms = _QUARTER_MS
    if limit >= 1 << 32:
        raise ValueError("a limit is below 4294967296")
    name = length if unit == "calls" else f"{unit}-{length}"
    return Window(name, limit, length_ms, bucket_ms, unit, zone)


def _is_off_the_half_hour(zone: str) -> bool:
    """Whether the zone's midnight lies between two half hours, in summer or in winter of this decade or the next."""
    days = (datetime(year, month, 1, tzinfo=UTC) for year in range(2025, 2040) for month in (1, 7))
    return any(_midnight(int(day.timestamp()) * 1000, zone, 0) % HALF_HOUR_MS for day in days)


@dataclass(frozen=True, slots=True)
class Span:
    """Neighbouring buckets of one window on one day, all of which count: ``count`` from the index ``first`` on.

    They are read in packs, each as one unsigned integer, with the earliest bucket in its highest bits.
    """

    which: int
    first: int
    count: int
    bits: int
    offset: int

    def parts(self) -> list[str | int]:
        """The parts of a BITFIELD that read it."""
        bits, offset = self.bits, self.offset
        size = _PACK_BITS // bits
        whole, rest = divmod(self.count, size)
        step, parts = size * bits, list[str | int]()
        kind = f"u{step}"
        for at in range(offset, offset + whole * step, step):
            parts += ("GET", kind, at)
        if rest:
            parts += ("GET", f"u{rest * bits}", offset + whole * step)
        return parts

    @property
    def packs(self) -> int:
        """How many integers the parts yield."""
        return -(-self.count // (_PACK_BITS // self.bits))

    def unpack(self, values: Sequence[int], into: dict[int, int]) -> None:
        """Put the count of each bucket that is not empty to its index."""
        bits, size = self.bits, _PACK_BITS // self.bits
        mask, end, first = (1 << bits) - 1, self.first + self.count, self.first
        for value in values:
            if rest := value:
                # From the last bucket back to the first that is not empty.
                index = min(first + size, end) - 1
                while rest:
                    if found := rest & mask:
                        into[index] = found
                    rest >>= bits
                    index -= 1
            first += size


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each window's buckets lie in a day's string.

    After the first byte comes the head, which is the same for every layout: 48 half hours of calls in 16 bits each, and
    for a ``budget`` 48 of tokens in 32 bits each. A day lies there whatever its limit, with and without a zone: a zone
    changes which buckets count, not where they lie. Behind it follow, as the tail, all other windows, those with the
    fewest buckets first, which keeps quiet keys short.
    """

    windows: tuple[Window, ...]
    budget: bool = False
    offsets: tuple[int, ...] = field(init=False)
    tag: str = field(init=False)
    """Names the tail: unit, length and width of each window (``cm4-ch16``), or ``head`` where there is none. It is part
    of the subject, so that no count is ever read as another window's."""
    names: str = field(init=False)
    """The windows in their order, without their limits: a usage belongs to one such order (``minute,day``)."""
    limits: str = field(init=False)
    """The same with their limits, of which a refusal is one (``10 minute,100 day``)."""

    def __post_init__(self) -> None:
        at, offsets = _TAIL_AT[self.budget], dict[Window, int]()
        tail = [each for each in self.windows if not each.in_head or (each.unit == "tokens" and not self.budget)]
        for each in sorted(tail, key=lambda w: (-w.bucket_ms, w.unit)):
            offsets[each] = at
            at += -(-DAY_MS // each.bucket_ms * each.bits // 8) * 8
        names = [
            f"{each.unit[0]}{TAGS[each.length_ms, each.bucket_ms]}{each.bits}"
            for each in sorted(tail, key=lambda w: (w.unit, w.bucket_ms))
        ]
        found = tuple(offsets.get(each, _DAYS_AT[each.unit]) for each in self.windows)
        object.__setattr__(self, "offsets", found)
        object.__setattr__(self, "tag", "-".join(names) or "head")
        object.__setattr__(self, "names", ",".join(each.name for each in self.windows))
        object.__setattr__(self, "limits", ",".join(f"{each.limit} {each.name}" for each in self.windows))

    def spots(self, now_ms: int) -> list[tuple[str, int]]:
        """Type and bit offset of the bucket of ``now_ms`` for each window."""
        at = now_ms % DAY_MS
        return [
            (f"u{each.bits}", offset + at // each.bucket_ms * each.bits)
            for each, offset in zip(self.windows, self.offsets, strict=True)
        ]

    def spans(self, day: int, now_ms: int) -> list[Span]:
        """The buckets of ``day`` that count at ``now_ms``."""
        spans = []
        for which, (each, offset) in enumerate(zip(self.windows, self.offsets, strict=True)):
            per_day = DAY_MS // each.bucket_ms
            covered, first = each.covered(now_ms), day * per_day
            low, high = max(covered.start - first, 0), min(covered.stop - first, per_day)
            if low < high:
                spans.append(Span(which, first + low, high - low, each.bits, offset + low * each.bits))
        return spans


type Usage = tuple[Buckets, ...]
"""What each window has counted, in the order of the windows."""


def covering(windows: Sequence[Window], usage: Sequence[Buckets], now_ms: int) -> Usage:
    """The part of a remembered usage that still counts at ``now_ms``."""
    ranges = [each.covered(now_ms) for each in windows]
    return tuple(
        {index: count for index, count in buckets.items() if index in covered}
        for buckets, covered in zip(usage, ranges, strict=True)
    )


def plus(a: Sequence[Buckets], b: Sequence[Buckets]) -> Usage:
    """Bucket by bucket, the sum of two usages."""
    return tuple({i: x.get(i, 0) + y.get(i, 0) for i in x.keys() | y.keys()} for x, y in zip(a, b, strict=True))


def highest(a: Sequence[Buckets], b: Sequence[Buckets]) -> Usage:
    """Bucket by bucket, the greater of two usages."""
    return tuple({i: max(x.get(i, 0), y.get(i, 0)) for i in x.keys() | y.keys()} for x, y in zip(a, b, strict=True))


def empty(windows: Sequence[Window]) -> Usage:
    """No usage at all."""
    return ({},) * len(windows)


def of_one_call(windows: Sequence[Window], cost: int, tokens: int, now_ms: int) -> Usage:
    """One call, as usage."""
    prices = [(each, each.price(cost, tokens)) for each in windows]
    return tuple({now_ms // each.bucket_ms: price} if price else {} for each, price in prices)


def of_calls(windows: Sequence[Window]) -> list[int]:
    """The places of the windows that count calls, not tokens."""
    return [place for place, each in enumerate(windows) if each.unit == "calls"]


def spread(windows: Sequence[Window], places: Sequence[int], usage: Usage) -> Usage:
    """The usage of the windows at some places as a usage of all windows."""
    by_place = dict(zip(places, usage, strict=True))
    return tuple(by_place.get(place, {}) for place in range(len(windows)))
