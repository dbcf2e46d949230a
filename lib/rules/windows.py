"""Strict sliding windows in one Redis command.

A window is cut into buckets of equal length, aligned to the UTC day. One key holds one subject's day: a touch counter,
a few slots that say what the subject asked last (``flight.py``), then, for each window, an array with one small
unsigned integer a bucket. ``BITFIELD`` increments the current bucket of every window and reads all buckets that the
windows cover, atomically, as one billed command.

The rule. At time ``t`` a window of length ``W`` counts, in full, every bucket from the one that holds
``t - W - SKEW_MS`` to the one that holds ``t + SKEW_MS``. A call admitted at any true time within the closed interval
``[t - W, t]`` by an instance whose clock differs by at most ``SKEW_MS`` lies in one of them, so no closed window ever
holds more than the limit. The price: a call counts for longer than ``W``, by at most ``SKEW_MS`` and one bucket.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from lib.rules import keys
from lib.rules.op import Command, Op, Reply, as_int, as_list, ignored

DAY_MS = 86_400_000
SKEW_MS = 2_500
"""How far two instances' clocks may differ without a window ever holding more than its limit."""

# The first byte: how often the key was written, and by how many calls whose instance had set its TTL, both up to 15.
_TOUCH: Command = ("u4", 0)
_CONFIRMED: Command = ("u4", 4)
_SLOTS_AT, SLOTS, _SLOT_BITS = 8, 8, 48
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
        oldest = now_ms - self.length_ms - SKEW_MS if self.zone is None else _midnight(now_ms, self.zone, 0)
        return range(oldest // self.bucket_ms, (now_ms + SKEW_MS) // self.bucket_ms + 1)

    def leaves_at(self, bucket: int) -> int:
        """The first millisecond at which ``bucket`` no longer counts."""
        if self.zone is not None:
            return _midnight(bucket * self.bucket_ms, self.zone, 1)
        return (bucket + 1) * self.bucket_ms + self.length_ms + SKEW_MS

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
        at, offsets = _SLOTS_AT + SLOTS * _SLOT_BITS, dict.fromkeys(self.windows, 0)
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
    """How often the key was written, up to 15."""
    confirmed: bool
    """Whether some instance is known to have set the key's TTL."""
    known: Known
    slot: int | None = None
    """What the slot held before, where one was set."""


def _days(layout: Layout, now_ms: int) -> list[int]:
    """The UTC days other than today that a window reaches into at ``now_ms``."""
    today = now_ms // DAY_MS
    low = min(each.covered(now_ms).start * each.bucket_ms for each in layout.windows) // DAY_MS
    return [day for day in range(low, (now_ms + SKEW_MS) // DAY_MS + 1) if day != today]


@dataclass(frozen=True, slots=True)
class Mark:
    """A value to leave in one of a subject's slots."""

    slot: int
    value: int

    @property
    def part(self) -> Command:
        """The part of a BITFIELD that sets the slot and yields what it held."""
        return ("SET", f"u{_SLOT_BITS}", _SLOTS_AT + self.slot * _SLOT_BITS, self.value)


def spend(
    subject: str,
    layout: Layout,
    cost: int,
    now_ms: int,
    known: Known | None = None,
    *,
    tokens: int = 0,
    mark: Mark | None = None,
) -> Op[Tally]:
    """Add ``cost`` to every window and read what they hold then: 1 command, and 1 for each other day not yet known.

    Atomic. What comes of it is for :func:`judge`; a refused call is taken back with :func:`refund`.
    """
    known = known or Known()
    today = now_ms // DAY_MS
    parts: list[str | int] = ["BITFIELD", keys.windows(subject, today)]
    parts += ["OVERFLOW", "SAT", "INCRBY", *_TOUCH, 1, "INCRBY", *_CONFIRMED, int(known.ttl_day == today)]
    parts += ["OVERFLOW", "FAIL"]
    for each, (kind, offset) in zip(layout.windows, layout.spots(now_ms), strict=True):
        parts += ["INCRBY", kind, offset, each.price(cost, tokens)]
    if mark is not None:
        parts += mark.part
    return _read(subject, layout, now_ms, known, parts, increments=len(layout.windows), marked=mark is not None)


def peek(subject: str, layout: Layout, now_ms: int, known: Known | None = None) -> Op[Tally]:
    """Read every window without writing anything or creating a key."""
    parts: list[str | int] = ["BITFIELD_RO", keys.windows(subject, now_ms // DAY_MS)]
    parts += ["GET", *_TOUCH, "GET", *_CONFIRMED]
    return _read(subject, layout, now_ms, known or Known(), parts, increments=0, marked=False)


def _read(
    subject: str,
    layout: Layout,
    now_ms: int,
    known: Known,
    parts: list[str | int],
    *,
    increments: int,
    marked: bool,
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
        items = as_list(replies[0], 2 + increments + marked + len(own))
        usage: list[dict[int, int]] = [{} for _ in layout.windows]
        _fill(usage, own, items[2 + increments + marked :])
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
                _merge(usage, covering(layout.windows, known.days[day], now_ms))
        added = tuple(item is not None for item in items[2 : 2 + increments])
        slot = as_int(items[2 + increments]) if marked else None
        touch, confirmed = as_int(items[0]), as_int(items[1]) > 0
        return Tally(tuple(usage), added, touch, confirmed, Known(days, known.ttl_day), slot)

    return Op(tuple(commands), read)


def covering(windows: Sequence[Window], usage: Sequence[Buckets], now_ms: int) -> Usage:
    """The part of a remembered usage that still counts at ``now_ms``."""
    ranges = [each.covered(now_ms) for each in windows]
    return tuple(
        {index: count for index, count in buckets.items() if index in covered}
        for buckets, covered in zip(usage, ranges, strict=True)
    )


def _fill(usage: list[dict[int, int]], packs: Sequence[_Pack], values: Sequence[Reply]) -> None:
    for pack, value in zip(packs, values, strict=True):
        if number := as_int(value):
            usage[pack.which].update(pack.unpack(number))


def _merge(usage: list[dict[int, int]], more: Sequence[Buckets]) -> None:
    for mine, theirs in zip(usage, more, strict=True):
        mine.update(theirs)


@dataclass(frozen=True, slots=True)
class Refunded:
    """A refund was written. ``made_key``: the key had gone meanwhile, is new, and needs a TTL."""

    made_key: bool


def refund(
    subject: str,
    layout: Layout,
    cost: int,
    now_ms: int,
    added: Sequence[bool] | None = None,
    *,
    tokens: int = 0,
    mark: Mark | None = None,
) -> Op[Refunded]:
    """Take a call back out of the windows that took it, at the ``now_ms`` it was added.

    1 command. A count never falls below zero, whatever was lost before. Negative amounts add.
    """
    added = added if added is not None else [True] * len(layout.windows)
    parts: list[str | int] = ["BITFIELD", keys.windows(subject, now_ms // DAY_MS)]
    parts += ["OVERFLOW", "SAT", "INCRBY", *_TOUCH, 1]
    taken = 0
    for each, (kind, offset), was_added in zip(layout.windows, layout.spots(now_ms), added, strict=True):
        if was_added and (price := each.price(cost, tokens)):
            parts += ["INCRBY", kind, offset, -price]
            taken += 1
    if mark is not None:
        parts += mark.part
        taken += 1
    return Op((tuple(parts),), lambda replies: Refunded(as_int(as_list(replies[0], 1 + taken)[0]) == 1))


def set_slot(subject: str, mark: Mark, now_ms: int) -> Op[int]:
    """Leave a value in a slot of the key of ``now_ms``; yields what it held: 1 command."""
    command = ("BITFIELD", keys.windows(subject, now_ms // DAY_MS), *mark.part)
    return Op((command,), lambda replies: as_int(as_list(replies[0], 1)[0]))


def get_slot(subject: str, slot: int, now_ms: int) -> Op[int]:
    """What a slot holds: 1 command."""
    at = _SLOTS_AT + slot * _SLOT_BITS
    command = ("BITFIELD_RO", keys.windows(subject, now_ms // DAY_MS), "GET", f"u{_SLOT_BITS}", at)
    return Op((command,), lambda replies: as_int(as_list(replies[0], 1)[0]))


def needs_ttl(tally: Tally, now_ms: int) -> bool:
    """Whether the day's key may be without a TTL: it is new, or nobody is known to have set one.

    Whoever made it may have died before, and so may the next; an instance that did set one says so with later calls.
    """
    return tally.touch == 1 or not (tally.confirmed or tally.known.ttl_day == now_ms // DAY_MS)


def set_ttl(subject: str, now_ms: int, day: int | None = None) -> Op[None]:
    """Let a day's key (today's, if none is named) live until no window can reach into it: 1 command."""
    day = now_ms // DAY_MS if day is None else day
    # A calendar day may have 25 hours, and a bucket is read in full.
    seconds = ((day + 2) * DAY_MS + 7_200_000 - now_ms) // 1000 + 1
    return Op((("EXPIRE", keys.windows(subject, day), seconds),), ignored)


def reset(subject: str, now_ms: int) -> Op[None]:
    """Forget a subject: 1 command."""
    day = now_ms // DAY_MS
    days = range(day - 2, day + 2)
    names = [key(subject, each) for key in (keys.windows, keys.given) for each in days]
    return Op((("DEL", *names),), ignored)


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
        return min(self.states, key=lambda s: (s.remaining, -s.window.length_ms), default=None)


def too_costly(windows: Sequence[Window], cost: int, now_ms: int, *, tokens: int = 0) -> Quota | None:
    """The refusal of a cost that no window could ever hold; decided without asking anyone."""
    if all(each.price(cost, tokens) <= each.limit for each in windows):
        return None
    return Quota(False, "cost_exceeds_limit", tuple(WindowState(each, each.limit, now_ms) for each in windows))


def judge(
    windows: Sequence[Window],
    usage: Sequence[Buckets],
    cost: int,
    now_ms: int,
    added: Sequence[bool] | None = None,
    *,
    tokens: int = 0,
) -> Quota:
    """Admit or refuse a call of ``cost`` that ``usage`` already contains in the windows marked in ``added``.

    Without ``added`` nothing has been counted yet (a peek, or a store that decided by itself).
    """
    if refusal := too_costly(windows, cost, now_ms, tokens=tokens):
        return refusal
    added = added if added is not None else [False] * len(windows)
    before = [
        _without_ghosts(each, buckets, now_ms)
        for each, buckets in zip(windows, without(windows, usage, cost, now_ms, added, tokens=tokens), strict=True)
    ]
    prices = [each.price(cost, tokens) for each in windows]
    frees = [_free_at(each, b, price, now_ms) for each, b, price in zip(windows, before, prices, strict=True)]
    retry_at = max(frees, default=now_ms)
    # An increment that overflowed needs no case of its own: its bucket alone is then beyond the limit.
    allowed = retry_at <= now_ms
    states = tuple(
        _state(each, buckets, price if allowed else 0, now_ms)
        for each, buckets, price in zip(windows, before, prices, strict=True)
    )
    if allowed:
        return Quota(True, "admitted", states)
    slowest = max(zip(frees, windows, strict=True), key=lambda pair: pair[0])[1]
    return Quota(False, slowest.name, states, retry_at)


def without(
    windows: Sequence[Window],
    usage: Sequence[Buckets],
    cost: int,
    now_ms: int,
    added: Sequence[bool],
    *,
    tokens: int = 0,
) -> tuple[Buckets, ...]:
    """The usage before a call of ``cost`` was added at ``now_ms`` to the windows marked in ``added``."""
    before = []
    for each, buckets, mine in zip(windows, usage, added, strict=True):
        index = now_ms // each.bucket_ms
        price = each.price(cost, tokens)
        before.append({**buckets, index: buckets[index] - price} if mine and index in buckets else buckets)
    return tuple(before)


def certain(windows: Sequence[Window], usage: Sequence[Buckets], now_ms: int) -> Usage:
    """The usage without what can only be refused calls on their way out: what may be passed on as a floor."""
    return tuple(_without_ghosts(each, buckets, now_ms) for each, buckets in zip(windows, usage, strict=True))


def plus(a: Sequence[Buckets], b: Sequence[Buckets]) -> Usage:
    """Bucket by bucket, the sum of two usages."""
    return tuple({i: x.get(i, 0) + y.get(i, 0) for i in x.keys() | y.keys()} for x, y in zip(a, b, strict=True))


def highest(a: Sequence[Buckets], b: Sequence[Buckets]) -> Usage:
    """Bucket by bucket, the greater of two usages."""
    return tuple({i: max(x.get(i, 0), y.get(i, 0)) for i in x.keys() | y.keys()} for x, y in zip(a, b, strict=True))


def _without_ghosts(each: Window, buckets: Buckets, now_ms: int) -> Buckets:
    """Leave out what can only be refused calls whose refund is under way.

    Admitted calls never exceed the limit, so the excess is made of refused ones, and these lie in the present bucket;
    what lies before it is left, it may have been admitted under a limit that was higher then.
    """
    excess, index = sum(buckets.values()) - each.limit, now_ms // each.bucket_ms
    ghosts = min(excess, buckets.get(index, 0))
    return {**buckets, index: buckets[index] - ghosts} if ghosts > 0 else buckets


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
