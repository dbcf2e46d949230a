"""Adding to Redis what was admitted elsewhere while it was away: the part of the return that Redis holds.

Beside a day's buckets lies a note of how much of each came from Supabase. With it the addition is a statement
("Supabase has admitted 3 in this bucket, ever"), not an increment: whichever instance makes it, however often and in
whatever order, the bucket counts each call once. What Redis admitted itself is a bucket less its note. For a Redis that
has lost its data, the highest such count that any instance knows is restored. docs/failure-modes.md derives the bound.
"""

from collections.abc import Sequence

from ..base.values import dataclass
from ..redis import keys
from ..redis.op import Command, CommandError, Op, Reply, Script, UnreadableReply, as_list, as_text, ignored
from .bitfield import set_ttl
from .window import DAY_MS, SKEW_AHEAD_MS, Buckets, Layout, Usage


@dataclass(frozen=True, slots=True)
class Place:
    """Where the buckets of one window lie in a day's key: what a giver needs who does not know the limits."""

    length_ms: int
    bucket_ms: int
    bits: int
    offset: int


@dataclass(frozen=True, slots=True)
class Listed:
    """A subject that Redis lacks calls of, as Supabase lists it.

    ``changed`` numbers the state; ``buckets`` are (window's length, start, admitted by Supabase, by Redis at least), in
    milliseconds and calls.
    """

    subject: str
    places: tuple[Place, ...]
    changed: int
    buckets: tuple[tuple[int, int, int, int], ...]


def describe(layout: Layout) -> str:
    """The places of the windows of calls, as a text that Supabase keeps for whoever gives Redis its calls."""
    return "-".join(
        f"{each.length_ms}.{each.bucket_ms}.{each.bits}.{offset}"
        for each, offset in zip(layout.windows, layout.offsets, strict=True)
        if each.unit == "calls"
    )


def parse_places(text: str) -> tuple[Place, ...]:
    """Read a description. Raises ValueError."""
    places = []
    for part in text.split("-"):
        length_ms, bucket_ms, bits, offset = (int(number) for number in part.split("."))
        if min(length_ms, bucket_ms) < 1 or DAY_MS % bucket_ms or bits not in (4, 8, 16, 32) or offset < 0:
            raise ValueError("not the place of a window")
        places.append(Place(length_ms, bucket_ms, bits, offset))
    return tuple(places)


def days(layout: Layout, now_ms: int) -> range:
    """Every UTC day that a window reaches into at ``now_ms``; only today where there is no window."""
    oldest = min((each.covered(now_ms).start * each.bucket_ms for each in layout.windows), default=now_ms)
    return range(oldest // DAY_MS, (now_ms + SKEW_AHEAD_MS) // DAY_MS + 1)


def read(subject: str, layout: Layout, now_ms: int) -> Op[Usage]:
    """How much of each bucket Supabase admitted, as far as Redis was given it: 1 command a day."""
    spans = list(days(layout, now_ms))
    commands = tuple(("HGETALL", keys.given(subject, day)) for day in spans)
    by_name = {_name(each.length_ms, each.unit): place for place, each in enumerate(layout.windows)}
    covered = [each.covered(now_ms) for each in layout.windows]

    def answer(replies: Sequence[Reply]) -> Usage:
        found: list[dict[int, int]] = [{} for _ in layout.windows]
        for reply in replies:
            if not isinstance(reply, list):
                raise UnreadableReply(f"expected a list, got {type(reply).__name__}")
            items = [as_text(each) or "" for each in as_list(reply, len(reply))]
            for name, value in zip(items[::2], items[1::2], strict=True):
                window, _, index = name.partition(":")
                place = by_name.get(window)
                if not value.isdecimal():
                    raise UnreadableReply("expected a count, got other text")
                if place is not None and index.isdecimal() and int(index) in covered[place]:
                    found[place][int(index)] = int(value)
        return tuple(found)

    return Op(commands, answer)


# Redis' own share of a bucket is at least what was carried, and more by what this instance alone admitted; Supabase's
# share is what Supabase says, never less than before.
_RESTORE = Script(
    6,
    """\
local get, names = {'BITFIELD', KEYS[1]}, {'HMGET', KEYS[2]}
for i = 2, #ARGV, 6 do
  get[#get + 1] = 'GET'; get[#get + 1] = ARGV[i]; get[#get + 1] = ARGV[i + 1]; names[#names + 1] = ARGV[i + 2]
end
local have, given = redis.call(unpack(get)), redis.call(unpack(names))
local add, note = {'BITFIELD', KEYS[1], 'OVERFLOW', 'SAT'}, {'HSET', KEYS[2]}
for k = 1, #have do
  local i = 6 * k - 4
  local before = tonumber(given[k] or 0)
  local spent = math.max(before, tonumber(ARGV[i + 3]))
  local own = math.max(have[k] - before + tonumber(ARGV[i + 5]), tonumber(ARGV[i + 4]))
  local more = own + spent - have[k]
  add[#add + 1] = 'INCRBY'; add[#add + 1] = ARGV[i]; add[#add + 1] = ARGV[i + 1]; add[#add + 1] = more
  note[#note + 1] = ARGV[i + 2]; note[#note + 1] = spent
end
redis.call(unpack(add)); redis.call(unpack(note))
redis.call('EXPIRE', KEYS[1], ARGV[1]); redis.call('EXPIRE', KEYS[2], ARGV[1])
return #have""",
)


def restore(
    subject: str,
    layout: Layout,
    now_ms: int,
    *,
    spent: Sequence[Buckets],
    carried: Sequence[Buckets],
    alone: Sequence[Buckets],
) -> Op[None]:
    """Let every bucket hold what was admitted in it: 1 command a day concerned, billed with the 6 inside.

    ``spent``: by Supabase, ever. ``carried``: by Redis, at least. ``alone``: by this instance's memory, not reported
    yet; only this is an increment, so it must be sent once.
    """
    entries = []
    for each, offset, *sources in zip(layout.windows, layout.offsets, spent, carried, alone, strict=True):
        place = Place(each.length_ms, each.bucket_ms, each.bits, offset)
        for index in sorted({index for source in sources for index, count in source.items() if count}):
            counts = tuple(source.get(index, 0) for source in sources)
            entries.append((place, _name(each.length_ms, each.unit), index, counts))
    return Op(_commands(subject, now_ms, entries), ignored)


def restore_listed(listed: Listed, now_ms: int) -> Op[bool]:
    """The same for a subject that Supabase lists; yields whether Redis took it."""
    by_length = {each.length_ms: each for each in listed.places}
    entries = [
        (place, _name(length_ms, "calls"), start_ms // place.bucket_ms, (spent, carried, 0))
        for length_ms, start_ms, spent, carried in sorted(listed.buckets)
        if (place := by_length.get(length_ms)) is not None and spent + carried
    ]
    return tolerant(_commands(listed.subject, now_ms, entries))


def tolerant(commands: tuple[Command, ...]) -> Op[bool]:
    """One subject's gifts among those of others, which a key of a wrong type must not stop: whether Redis took them."""
    return Op(commands, lambda replies: not any(isinstance(each, CommandError) for each in replies))


type _Entry = tuple[Place, str, int, tuple[int, ...]]
"""A bucket: its window's place and name, its index, and what was admitted in it by each source."""


def _commands(subject: str, now_ms: int, entries: Sequence[_Entry]) -> tuple[Command, ...]:
    by_day: dict[int, list[str | int]] = {}
    for place, name, index, counts in entries:
        per_day = DAY_MS // place.bucket_ms
        arguments = by_day.setdefault(index // per_day, [])
        arguments += [f"u{place.bits}", place.offset + index % per_day * place.bits, f"{name}:{index}", *counts]
    commands: list[Command] = []
    for day, arguments in by_day.items():
        ((_, _, seconds),) = set_ttl(subject, now_ms, day).commands
        spots = (keys.windows(subject, day), keys.given(subject, day))
        commands.append(("EVAL", _RESTORE, 2, *spots, seconds, *arguments))
    return tuple(commands)


def less(a: Sequence[Buckets], b: Sequence[Buckets]) -> Usage:
    """Bucket by bucket, what ``a`` holds beyond ``b``."""
    return tuple({i: n for i, n in ((i, x[i] - y.get(i, 0)) for i in x) if n > 0} for x, y in zip(a, b, strict=True))


def holds(a: Sequence[Buckets], b: Sequence[Buckets]) -> bool:
    """Whether every bucket of ``a`` holds at least what ``b`` does."""
    return not any(less(b, a))


def _name(length_ms: int, unit: str) -> str:
    return f"{length_ms}{unit[0]}"
