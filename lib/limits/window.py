"""Strict sliding windows: what they cover, and where their buckets lie in a day's string.

A window is cut into buckets of equal length, aligned to the UTC day; ``bitfield.py`` keeps them in Redis.

The rule. At time ``t`` a window of length ``W`` counts, in full, every bucket from the one that holds
``t - W - SKEW_BACK_MS`` to the one that holds ``t + SKEW_AHEAD_MS``. A call admitted at any true time within the closed
interval ``[t - W, t]`` lies in one of them if the clock of the instance that admitted it was behind this one's by at
most ``SKEW_BACK_MS``, or ahead of it by at most ``SKEW_AHEAD_MS``; so no closed window ever holds more than the limit.
The price: a call counts for longer than ``W``, by at most ``SKEW_BACK_MS`` and one bucket. To look ahead costs nothing.
Instances count by the store's time, which each knows to a tenth of a second or so (``redis/offset.py``).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from datetime import datetime, timedelta
from typing import Literal

from ..base.values import dataclass
from ..redis.op import Command

DAY_MS = 86_400_000
SKEW_BACK_MS = 500
"""So far another instance's clock may be behind without a window ever holding more than its limit."""
SKEW_AHEAD_MS = 2_500
"""So far it may be ahead."""

_WINDOWS_AT = 8 + 8 * 48
"""Where the windows begin, in bits. The 48 bytes before held notes in release 0.1; they stay reserved, so that both
releases count in the same keys during a deployment."""
_PACK_BITS = 48
"""Buckets are read in packs of up to 48 bits: fewer parts than one ``GET`` a bucket, and exact in any JSON parser."""

type Buckets = Mapping[int, int]
"""Count by bucket index (``time_ms // bucket_ms``); empty buckets are left out."""


type Unit = Literal["calls", "tokens"]


@dataclass(frozen=True, slots=True)
class Window:
    """At most ``limit`` calls in any closed interval of ``length_ms``, counted in buckets of ``bucket_ms``.

    ``bits`` is the width of a bucket: the least that holds the limit. With a ``zone`` it is a calendar day there
    instead: its whole limit is back at midnight, daylight saving included. A window of ``tokens`` counts these instead
    of calls.
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

        object.__setattr__(self, "bits", next(bits for bits in (4, 8, 16, 32) if self.limit < 1 << bits))

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


_LENGTHS = {"minute": (60_000, 2_500), "hour": (3_600_000, 150_000), "day": (DAY_MS, 1_800_000)}
_CALENDAR_BUCKET_MS = 900_000
"""A quarter of an hour: every zone's midnight lies on one."""


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
        _midnight(0, zone, 0)
        bucket_ms = _CALENDAR_BUCKET_MS
    if limit >= 1 << 32:
        raise ValueError("a limit is below 4294967296")
    name = length if unit == "calls" else f"{unit}-{length}"
    return Window(name, limit, length_ms, bucket_ms, unit, zone)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each window's buckets lie in a day's key. The fewest buckets come first: they keep quiet keys short."""

    windows: tuple[Window, ...]
    offsets: tuple[int, ...] = field(init=False)
    tag: str = field(init=False)
    """Names the layout; part of the subject, so that a changed width never misreads old counts."""

    def __post_init__(self) -> None:
        at, offsets = _WINDOWS_AT, dict.fromkeys(self.windows, 0)
        for each in sorted(self.windows, key=lambda w: w.bucket_ms, reverse=True):
            offsets[each] = at
            at += -(-DAY_MS // each.bucket_ms * each.bits // 8) * 8
        tags = [
            f"{each.length_ms}.{each.bucket_ms}.{each.bits}" + (f".{each.zone}" if each.zone else "")
            for each in self.windows
        ]
        object.__setattr__(self, "offsets", tuple(offsets[each] for each in self.windows))
        object.__setattr__(self, "tag", "-".join(tags))

    def spots(self, now_ms: int) -> list[tuple[str, int]]:
        """Type and bit offset of the bucket of ``now_ms`` for each window."""
        at = now_ms % DAY_MS
        return [
            (f"u{each.bits}", offset + at // each.bucket_ms * each.bits)
            for each, offset in zip(self.windows, self.offsets, strict=True)
        ]

    def packs(self, day: int, now_ms: int) -> list["Pack"]:
        """The reads that fetch every bucket of ``day`` that counts at ``now_ms``."""
        packs = []
        for which, (each, offset) in enumerate(zip(self.windows, self.offsets, strict=True)):
            per_day, per_pack = DAY_MS // each.bucket_ms, _PACK_BITS // each.bits
            covered, first = each.covered(now_ms), day * per_day
            low, high = max(covered.start - first, 0), min(covered.stop - first, per_day)
            for at in range(low, high, per_pack):
                count = min(per_pack, high - at)
                packs.append(Pack(which, first + at, count, each.bits, offset + at * each.bits))
        return packs


@dataclass(frozen=True, slots=True)
class Pack:
    """A run of neighbouring buckets, read as one unsigned integer, the first bucket in its highest bits."""

    which: int
    first: int
    count: int
    bits: int
    offset: int

    @property
    def part(self) -> Command:
        """The part of a BITFIELD that reads it."""
        return ("GET", f"u{self.count * self.bits}", self.offset)

    def unpack(self, value: int) -> Iterable[tuple[int, int]]:
        """Index and count of each bucket in it that is not empty."""
        mask = (1 << self.bits) - 1
        for k in range(self.count):
            if found := value >> self.bits * (self.count - 1 - k) & mask:
                yield self.first + k, found


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
