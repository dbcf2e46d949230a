"""Adding to Redis what was admitted elsewhere while it was away: the part of the return that Redis holds.

Beside a day's buckets lies a note of how much of each came from Supabase. With it the addition is a statement
("Supabase has admitted 3 in this bucket, ever"), not an increment: whichever instance makes it, however often and in
whatever order, the bucket counts each call once. What Redis admitted itself is a bucket less its note. For a Redis that
has lost its data, the highest such count that any instance knows is restored. docs/failure-modes.md derives the bound.
"""

from collections.abc import Sequence

from ..base.values import dataclass
from ..redis import keys
from ..redis.op import Command, Op, Reply, UnreadableReply, as_list, as_text, gather, ignored
from .bitfield import set_ttl
from .window import DAY_MS, SKEW_AHEAD_MS, Buckets, Layout, Usage

_SETTLED = "settled"
"""The field of today's note that names the last outage that is over for this subject."""


@dataclass(frozen=True, slots=True)
class Given:
    """How much of each bucket came from Supabase, and which outage was the last to be settled."""

    usage: Usage
    settled_ms: int = 0


def days(layout: Layout, now_ms: int) -> range:
    """Every UTC day that a window reaches into at ``now_ms``; only today where there is no window."""
    oldest = min((each.covered(now_ms).start * each.bucket_ms for each in layout.windows), default=now_ms)
    return range(oldest // DAY_MS, (now_ms + SKEW_AHEAD_MS) // DAY_MS + 1)


def read(subject: str, layout: Layout, now_ms: int) -> Op[Given]:
    """What came from Supabase so far: 1 command a day."""
    spans = list(days(layout, now_ms))
    commands = tuple(("HGETALL", keys.given(subject, day)) for day in spans)
    by_name = {_name(each.length_ms, each.unit): place for place, each in enumerate(layout.windows)}
    covered = [each.covered(now_ms) for each in layout.windows]

    def answer(replies: Sequence[Reply]) -> Given:
        found: list[dict[int, int]] = [{} for _ in layout.windows]
        settled_ms = 0
        for reply in replies:
            if not isinstance(reply, list):
                raise UnreadableReply(f"expected a list, got {type(reply).__name__}")
            items = [as_text(each) or "" for each in as_list(reply, len(reply))]
            for name, value in zip(items[::2], items[1::2], strict=True):
                window, _, index = name.partition(":")
                place = by_name.get(window)
                if not value.isdecimal():
                    raise UnreadableReply("expected a count, got other text")
                if name == _SETTLED:
                    settled_ms = max(settled_ms, int(value))
                elif place is not None and index.isdecimal() and int(index) in covered[place]:
                    found[place][int(index)] = int(value)
        return Given(tuple(found), settled_ms)

    return Op(commands, answer)


# Redis' own share of a bucket is at least what was carried, and more by what this instance alone admitted; Supabase's
# share is what Supabase says, never less than before.
_RESTORE = """\
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
return #have"""


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
    by_day: dict[int, list[str | int]] = {}
    for each, offset, *sources in zip(layout.windows, layout.offsets, spent, carried, alone, strict=True):
        per_day = DAY_MS // each.bucket_ms
        for index in sorted({index for source in sources for index, count in source.items() if count}):
            arguments = by_day.setdefault(index // per_day, [])
            arguments += [f"u{each.bits}", offset + index % per_day * each.bits]
            arguments += [f"{_name(each.length_ms, each.unit)}:{index}"]
            arguments += [source.get(index, 0) for source in sources]
    commands: list[Command] = []
    for day, arguments in by_day.items():
        ((_, _, seconds),) = set_ttl(subject, now_ms, day).commands
        spots = (keys.windows(subject, day), keys.given(subject, day))
        commands.append(("EVAL", _RESTORE, 2, *spots, seconds, *arguments))
    return Op(tuple(commands), ignored)


def settle_for_good(subject: str, outage_ms: int, now_ms: int) -> Op[list[None]]:
    """Note that nobody counts this subject elsewhere any more, for all instances: 2 commands."""
    day = now_ms // DAY_MS
    note = Op((("HSET", keys.given(subject, day), _SETTLED, outage_ms),), ignored)
    ((_, _, seconds),) = set_ttl(subject, now_ms, day).commands
    return gather([note, Op((("EXPIRE", keys.given(subject, day), seconds),), ignored)])


def lasts(layout: Layout, outage_ms: int, now_ms: int) -> bool:
    """Whether a call that was admitted before ``outage_ms`` may still count."""
    return any(outage_ms // each.bucket_ms >= each.covered(now_ms).start for each in layout.windows)


def less(a: Sequence[Buckets], b: Sequence[Buckets]) -> Usage:
    """Bucket by bucket, what ``a`` holds beyond ``b``."""
    return tuple({i: n for i, n in ((i, x[i] - y.get(i, 0)) for i in x) if n > 0} for x, y in zip(a, b, strict=True))


def holds(a: Sequence[Buckets], b: Sequence[Buckets]) -> bool:
    """Whether every bucket of ``a`` holds at least what ``b`` does."""
    return not any(less(b, a))


def _name(length_ms: int, unit: str) -> str:
    return f"{length_ms}{unit[0]}"
