"""Strict windows as operations on one Redis string a subject and day.

A day's string begins with one byte (how often it was written, and whether its TTL is known to be set), then holds an
array of small unsigned counters for each window (:class:`~.window.Layout`). One ``BITFIELD`` adds
a call to the current bucket of every window and reads all buckets that the windows cover, atomically, as one billed
command.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field

from ..base.values import dataclass
from ..redis import keys
from ..redis.op import Command, Op, Reply, as_int, as_list, ignored
from .window import DAY_MS, SKEW_AHEAD_MS, Buckets, Layout, Span, Usage, covering

# The first byte: how often the key was written, and by how many calls whose instance had set its TTL, both up to 15.
_TOUCH: Command = ("u4", 0)
_CONFIRMED: Command = ("u4", 4)


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


def _days(layout: Layout, now_ms: int) -> list[int]:
    """The UTC days other than today that a window reaches into at ``now_ms``."""
    today = now_ms // DAY_MS
    low = min(each.covered(now_ms).start * each.bucket_ms for each in layout.windows) // DAY_MS
    return [day for day in range(low, (now_ms + SKEW_AHEAD_MS) // DAY_MS + 1) if day != today]


def spend(
    subject: str,
    layout: Layout,
    cost: int,
    now_ms: int,
    known: Known | None = None,
    *,
    tokens: int = 0,
) -> Op[Tally]:
    """Add ``cost`` to every window and read what they hold then: 1 command, and 1 for each other day not yet known.

    Atomic. :func:`judge` gives the verdict on the tally; a refused call is taken back with :func:`refund`.
    """
    known = known or Known()
    today = now_ms // DAY_MS
    parts: list[str | int] = ["BITFIELD", keys.windows(subject, today)]
    parts += ["OVERFLOW", "SAT", "INCRBY", *_TOUCH, 1, "INCRBY", *_CONFIRMED, int(known.ttl_day == today)]
    parts += ["OVERFLOW", "FAIL"]
    for each, (kind, offset) in zip(layout.windows, layout.spots(now_ms), strict=True):
        parts += ["INCRBY", kind, offset, each.price(cost, tokens)]
    return _read(subject, layout, now_ms, known, parts, increments=len(layout.windows))


def peek(subject: str, layout: Layout, now_ms: int, known: Known | None = None) -> Op[Tally]:
    """Read every window without writing anything or creating a key."""
    parts: list[str | int] = ["BITFIELD_RO", keys.windows(subject, now_ms // DAY_MS)]
    parts += ["GET", *_TOUCH, "GET", *_CONFIRMED]
    return _read(subject, layout, now_ms, known or Known(), parts, increments=0)


def _read(
    subject: str,
    layout: Layout,
    now_ms: int,
    known: Known,
    parts: list[str | int],
    *,
    increments: int,
) -> Op[Tally]:
    today = now_ms // DAY_MS
    own = layout.spans(today, now_ms)
    for span in own:
        parts += span.parts()
    commands: list[Command] = [tuple(parts)]
    other = _days(layout, now_ms)
    unread = [(day, spans) for day in other if day not in known.days and (spans := layout.spans(day, now_ms))]
    for day, spans in unread:
        read_only: list[str | int] = ["BITFIELD_RO", keys.windows(subject, day)]
        for span in spans:
            read_only += span.parts()
        commands.append(tuple(read_only))

    def read(replies: Sequence[Reply]) -> Tally:
        usage: list[dict[int, int]] = [{} for _ in layout.windows]
        items = _fill(usage, own, replies[0], 2 + increments)
        days = {day: buckets for day, buckets in known.days.items() if day in other}
        for (day, spans), reply in zip(unread, replies[1:], strict=True):
            found: list[dict[int, int]] = [{} for _ in layout.windows]
            _fill(found, spans, reply, 0)
            # A day is finished once no clock within the skew can still be in it.
            if now_ms >= (day + 1) * DAY_MS + SKEW_AHEAD_MS:
                days[day] = tuple(found)
            _merge(usage, found)
        for day in other:
            if day in known.days:
                _merge(usage, covering(layout.windows, known.days[day], now_ms))
        added = tuple(item is not None for item in items[2 : 2 + increments]) or (False,) * len(layout.windows)
        touch, confirmed = as_int(items[0]), as_int(items[1]) > 0
        return Tally(tuple(usage), added, touch, confirmed, Known(days, known.ttl_day))

    return Op(tuple(commands), read)


def _fill(usage: list[dict[int, int]], spans: Sequence[Span], reply: Reply, at: int) -> list[Reply]:
    """Read the spans from a reply, which holds them from ``at`` on; yields its items."""
    items = as_list(reply, at + sum(span.packs for span in spans))
    for span in spans:
        end = at + span.packs
        span.unpack([as_int(item) for item in items[at:end]], usage[span.which])
        at = end
    return items


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
    return Op((tuple(parts),), lambda replies: Refunded(as_int(as_list(replies[0], 1 + taken)[0]) == 1))


def needs_ttl(tally: Tally, now_ms: int) -> bool:
    """Whether the day's key may be without a TTL: it is new, or no instance is known to have set one.

    The instance that created it may have died, and so may the next; one that did set a TTL says so with later calls.
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
