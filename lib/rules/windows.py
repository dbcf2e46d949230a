"""Strict sliding windows in one Redis command.

A window is cut into buckets of equal length, aligned to the UTC day. One key holds one subject's day: a touch counter,
then, for each window, an array with one small unsigned integer a bucket. ``BITFIELD`` increments the current bucket of
every window and reads all buckets that the windows cover, atomically, as one billed command.

The rule. At time ``t`` a window of length ``W`` counts, in full, every bucket from the one that holds
``t - W - SKEW_MS`` to the one that holds ``t + SKEW_MS``. A call admitted at any true time within the closed interval
``[t - W, t]`` by an instance whose clock differs by at most ``SKEW_MS`` lies in one of them, so no closed window ever
holds more than the limit. The price: a call counts for longer than ``W``, by at most ``SKEW_MS`` and one bucket.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lib.rules import keys
from lib.rules.op import Command, Op, Reply, as_int, as_list, ignored

DAY_MS = 86_400_000
SKEW_MS = 2_500
"""How far two instances' clocks may differ without a window ever holding more than its limit."""

_TOUCH = "u4"
_TOUCH_BITS = 4
_PACK_BITS = 48
"""Buckets are read in packs of up to 48 bits: fewer parts than one ``GET`` a bucket, and exact in any JSON parser."""

type Buckets = Mapping[int, int]
"""Count by bucket index (``time_ms // bucket_ms``); empty buckets are left out."""


@dataclass(frozen=True, slots=True)
class Window:
    """At most ``limit`` calls in any closed interval of ``length_ms``, counted in buckets of ``bucket_ms``."""

    name: str
    limit: int
    length_ms: int
    bucket_ms: int

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ValueError(f"a limit is at least 1, not {self.limit}")
        if self.length_ms > DAY_MS or DAY_MS % self.bucket_ms or self.bucket_ms > self.length_ms:
            raise ValueError("a window is at most a day, and its buckets divide the day")

    @property
    def bits(self) -> int:
        """The width of a bucket: the least that holds the limit."""
        return next(bits for bits in (4, 8, 16, 32) if self.limit < 1 << bits)

    def covered(self, now_ms: int) -> range:
        """The bucket indexes that count at ``now_ms``, oldest first."""
        oldest = (now_ms - self.length_ms - SKEW_MS) // self.bucket_ms
        return range(oldest, (now_ms + SKEW_MS) // self.bucket_ms + 1)

    def leaves_at(self, bucket: int) -> int:
        """The first millisecond at which ``bucket`` no longer counts."""
        return (bucket + 1) * self.bucket_ms + self.length_ms + SKEW_MS


_UNITS = {"minute": (60_000, 2_500), "hour": (3_600_000, 150_000), "day": (DAY_MS, 1_800_000)}


def window(unit: str, limit: int) -> Window:
    """A window of one ``minute``, ``hour`` or ``day``. Raises ValueError for another unit or a limit below 1."""
    if unit not in _UNITS:
        raise ValueError(f"unknown unit {unit!r}: use minute, hour or day")
    length_ms, bucket_ms = _UNITS[unit]
    if limit >= 1 << 32:
        raise ValueError("a limit is below 4294967296")
    return Window(unit, limit, length_ms, bucket_ms)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each window's buckets lie in a day's key. The fewest buckets come first: they keep quiet keys short."""

    windows: tuple[Window, ...]
    offsets: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        at, offsets = 8, dict.fromkeys(self.windows, 0)
        for each in sorted(self.windows, key=lambda w: w.bucket_ms, reverse=True):
            offsets[each] = at
            at += -(-DAY_MS // each.bucket_ms * each.bits // 8) * 8
        object.__setattr__(self, "offsets", tuple(offsets[each] for each in self.windows))

    @property
    def tag(self) -> str:
        """Names the layout; part of the subject, so that a changed width never misreads old counts."""
        return "-".join(f"{each.length_ms}.{each.bucket_ms}.{each.bits}" for each in self.windows)

    def spots(self, now_ms: int) -> list[tuple[str, int]]:
        """Type and bit offset of the bucket of ``now_ms`` for each window."""
        at = now_ms % DAY_MS
        return [
            (f"u{each.bits}", offset + at // each.bucket_ms * each.bits)
            for each, offset in zip(self.windows, self.offsets, strict=True)
        ]

    def packs(self, day: int, now_ms: int) -> list["_Pack"]:
        """The reads that fetch every bucket of ``day`` that counts at ``now_ms``."""
        packs = []
        for which, (each, offset) in enumerate(zip(self.windows, self.offsets, strict=True)):
            per_day, per_pack = DAY_MS // each.bucket_ms, _PACK_BITS // each.bits
            covered, first = each.covered(now_ms), day * per_day
            low, high = max(covered.start - first, 0), min(covered.stop - first, per_day)
            for at in range(low, high, per_pack):
                count = min(per_pack, high - at)
                packs.append(_Pack(which, first + at, count, each.bits, offset + at * each.bits))
        return packs


@dataclass(frozen=True, slots=True)
class _Pack:
    """A run of neighbouring buckets, read as one unsigned integer, the first bucket in its highest bits."""

    which: int
    first: int
    count: int
    bits: int
    offset: int

    @property
    def part(self) -> Command:
        return ("GET", f"u{self.count * self.bits}", self.offset)

    def unpack(self, value: int) -> Iterable[tuple[int, int]]:
        mask = (1 << self.bits) - 1
        for k in range(self.count):
            if found := value >> self.bits * (self.count - 1 - k) & mask:
                yield self.first + k, found


type Usage = tuple[Buckets, ...]
"""What each window has counted, in the order of the windows."""


@dataclass(frozen=True, slots=True)
class Known:
    """What an instance remembers of a subject: buckets of finished days, and the day whose TTL it has seen set.

    A finished day never changes but for refunds, which only lower it, so it is read once.
    """

    days: Mapping[int, Usage] = field(default_factory=dict)
    ttl_day: int = -1


@dataclass(frozen=True, slots=True)
class Tally:
    """One subject's counts right after a call has been added to them."""

    usage: Usage
    added: tuple[bool, ...]
    """Which windows took the increment; one that did not was at its width's end, far over its limit."""
    touch: int
    known: Known


def _days(layout: Layout, now_ms: int) -> list[int]:
    """The UTC days other than today that a window reaches into at ``now_ms``."""
    today = now_ms // DAY_MS
    longest = max(each.length_ms for each in layout.windows)
    low, high = (now_ms - longest - SKEW_MS) // DAY_MS, (now_ms + SKEW_MS) // DAY_MS
    # Half an hour's bucket may begin before the reach of its window; it is read in full with the day it lies in.
    return [day for day in range(low, high + 1) if day != today]


def spend(subject: str, layout: Layout, cost: int, now_ms: int, known: Known | None = None) -> Op[Tally]:
    """Add ``cost`` to every window and read what they hold then: 1 command, and 1 for each other day not yet known.

    Atomic. What comes of it is for :func:`judge`; a refused call is taken back with :func:`refund`.
    """
    known = known or Known()
    today = now_ms // DAY_MS
    parts: list[str | int] = ["BITFIELD", keys.windows(subject, today)]
    parts += ["OVERFLOW", "SAT", "INCRBY", _TOUCH, 0, 1, "OVERFLOW", "FAIL"]
    for kind, offset in layout.spots(now_ms):
        parts += ["INCRBY", kind, offset, cost]
    return _read(subject, layout, now_ms, known, parts, increments=len(layout.windows))


def peek(subject: str, layout: Layout, now_ms: int, known: Known | None = None) -> Op[Tally]:
    """Read every window without writing anything or creating a key."""
    parts: list[str | int] = ["BITFIELD_RO", keys.windows(subject, now_ms // DAY_MS), "GET", _TOUCH, 0]
    return _read(subject, layout, now_ms, known or Known(), parts, increments=0)


def _read(
    subject: str, layout: Layout, now_ms: int, known: Known, parts: list[str | int], *, increments: int
) -> Op[Tally]:
    today = now_ms // DAY_MS
    own = layout.packs(today, now_ms)
    for pack in own:
        parts += pack.part
    commands: list[Command] = [tuple(parts)]
    other = _days(layout, now_ms)
    unread = [(day, packs) for day in other if day not in known.days and (packs := layout.packs(day, now_ms))]
    for day, packs in unread:
        read_only: list[str | int] = ["BITFIELD_RO", keys.windows(subject, day)]
        for pack in packs:
            read_only += pack.part
        commands.append(tuple(read_only))

    def read(replies: Sequence[Reply]) -> Tally:
        items = as_list(replies[0], 1 + increments + len(own))
        usage: list[dict[int, int]] = [{} for _ in layout.windows]
        _fill(usage, own, items[1 + increments :])
        days = {day: buckets for day, buckets in known.days.items() if day in other}
        for (day, packs), reply in zip(unread, replies[1:], strict=True):
            found: list[dict[int, int]] = [{} for _ in layout.windows]
            _fill(found, packs, as_list(reply, len(packs)))
            # A day is finished once no clock within the skew can still be in it.
            if now_ms >= (day + 1) * DAY_MS + SKEW_MS:
                days[day] = tuple(found)
            _merge(usage, found)
        for day in other:
            if day in known.days:
                _merge(usage, _still_covered(layout, known.days[day], now_ms))
        added = tuple(item is not None for item in items[1 : 1 + increments])
        return Tally(tuple(usage), added, as_int(items[0]), Known(days, known.ttl_day))

    return Op(tuple(commands), read)


def _still_covered(layout: Layout, usage: Usage, now_ms: int) -> list[Buckets]:
    ranges = [each.covered(now_ms) for each in layout.windows]
    return [
        {index: count for index, count in buckets.items() if index in covered}
        for buckets, covered in zip(usage, ranges, strict=True)
    ]


def _fill(usage: list[dict[int, int]], packs: Sequence[_Pack], values: Sequence[Reply]) -> None:
    for pack, value in zip(packs, values, strict=True):
        if number := as_int(value):
            usage[pack.which].update(pack.unpack(number))


def _merge(usage: list[dict[int, int]], more: Sequence[Buckets]) -> None:
    for mine, theirs in zip(usage, more, strict=True):
        mine.update(theirs)


def refund(subject: str, layout: Layout, cost: int, now_ms: int, added: tuple[bool, ...]) -> Op[int]:
    """Take a refused call back out of the windows that took it, at the ``now_ms`` it was added; yields the touch count.

    1 command. A count never falls below zero, whatever was lost before.
    """
    parts: list[str | int] = ["BITFIELD", keys.windows(subject, now_ms // DAY_MS)]
    parts += ["OVERFLOW", "SAT", "INCRBY", _TOUCH, 0, 1]
    taken = [spot for spot, was_added in zip(layout.spots(now_ms), added, strict=True) if was_added]
    for kind, offset in taken:
        parts += ["INCRBY", kind, offset, -cost]
    return Op((tuple(parts),), lambda replies: as_int(as_list(replies[0], 1 + len(taken))[0]))


def needs_ttl(touch: int, known: Known, now_ms: int) -> bool:
    """Whether the day's key may be without a TTL: it is new, or whoever made it may have died before setting it."""
    return touch <= 2 and known.ttl_day != now_ms // DAY_MS


def set_ttl(subject: str, now_ms: int) -> Op[None]:
    """Let the day's key live until no window can reach into it: 1 command."""
    day = now_ms // DAY_MS
    seconds = ((day + 2) * DAY_MS + 1_800_000 - now_ms) // 1000 + 1
    return Op((("EXPIRE", keys.windows(subject, day), seconds),), ignored)


def reset(subject: str, now_ms: int) -> Op[None]:
    """Forget a subject: 1 command."""
    day = now_ms // DAY_MS
    return Op((("DEL", *(keys.windows(subject, each) for each in range(day - 2, day + 2))),), ignored)


@dataclass(frozen=True, slots=True)
class WindowState:
    """What a caller may know of one window: calls left, and when the whole limit is back."""

    window: Window
    remaining: int
    reset_at_ms: int


@dataclass(frozen=True, slots=True)
class Quota:
    """The limiter's verdict on one call."""

    allowed: bool
    reason: str
    """``admitted``, ``cost_exceeds_limit``, or the name of the window that refuses longest."""
    states: tuple[WindowState, ...]
    retry_at_ms: int | None = None
    """The first millisecond at which the same call passes if nobody else calls; None: never, or not refused."""

    @property
    def tightest(self) -> WindowState | None:
        """The window that will refuse first."""
        return min(self.states, key=lambda s: (s.remaining / s.window.limit, -s.window.length_ms), default=None)


def too_costly(windows: Sequence[Window], cost: int, now_ms: int) -> Quota | None:
    """The refusal of a cost that no window could ever hold; decided without asking anyone."""
    if all(cost <= each.limit for each in windows):
        return None
    return Quota(False, "cost_exceeds_limit", tuple(WindowState(each, each.limit, now_ms) for each in windows))


def judge(
    windows: Sequence[Window], usage: Sequence[Buckets], cost: int, now_ms: int, added: Sequence[bool] | None = None
) -> Quota:
    """Admit or refuse a call of ``cost`` that ``usage`` already contains in the windows marked in ``added``.

    Without ``added`` nothing has been counted yet (a peek, or a store that decided by itself).
    """
    added = added if added is not None else [False] * len(windows)
    before = [
        _without_ghosts(each, buckets)
        for each, buckets in zip(windows, without(windows, usage, cost, now_ms, added), strict=True)
    ]
    frees = [_free_at(each, buckets, cost, now_ms) for each, buckets in zip(windows, before, strict=True)]
    retry_at = max(frees, default=now_ms)
    # An increment that overflowed needs no case of its own: its bucket alone is then beyond the limit.
    allowed = retry_at <= now_ms
    states = tuple(
        _state(each, buckets, cost if allowed else 0, now_ms) for each, buckets in zip(windows, before, strict=True)
    )
    if allowed:
        return Quota(True, "admitted", states)
    slowest = max(zip(frees, windows, strict=True), key=lambda pair: pair[0])[1]
    return Quota(False, slowest.name, states, retry_at)


def without(
    windows: Sequence[Window], usage: Sequence[Buckets], cost: int, now_ms: int, added: Sequence[bool]
) -> tuple[Buckets, ...]:
    """The usage before a call of ``cost`` was added at ``now_ms`` to the windows marked in ``added``."""
    before = []
    for each, buckets, mine in zip(windows, usage, added, strict=True):
        index = now_ms // each.bucket_ms
        before.append({**buckets, index: buckets[index] - cost} if mine and index in buckets else buckets)
    return tuple(before)


def _without_ghosts(each: Window, buckets: Buckets) -> Buckets:
    """Leave out what can only be refused calls whose refund is under way.

    Admitted calls never exceed the limit, so the excess is made of refused ones, and these lie in the newest buckets.
    """
    excess = sum(buckets.values()) - each.limit
    if excess <= 0:
        return buckets
    kept = dict(buckets)
    for index in sorted(kept, reverse=True):
        ghosts = min(excess, kept[index])
        kept[index] -= ghosts
        excess -= ghosts
    return kept


def _free_at(each: Window, buckets: Buckets, cost: int, now_ms: int) -> int:
    """The first time from ``now_ms`` on at which ``cost`` more fits, if nothing else comes."""
    total, free_at = sum(buckets.values()), now_ms
    for index in sorted(buckets):
        if total + cost <= each.limit:
            break
        total -= buckets[index]
        free_at = each.leaves_at(index)
    return free_at


def _state(each: Window, buckets: Buckets, spent: int, now_ms: int) -> WindowState:
    newest = max((index for index, count in buckets.items() if count > 0), default=None)
    if spent:
        newest = max(newest or 0, now_ms // each.bucket_ms)
    reset_at = now_ms if newest is None else each.leaves_at(newest)
    return WindowState(each, max(0, each.limit - sum(buckets.values()) - spent), reset_at)
