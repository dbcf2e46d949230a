"""Which layouts a provider's budget was counted in lately, and how counts get from one layout into another.

A layout's tag is part of its keys, so a changed budget never misreads old counts; but a provider's allowance does not
begin anew because its budget is written differently. The key ``shapes`` therefore lists, for each provider, the tags
that were counted in, the latest last: ``{provider: [[tag, since_s], ...]}``. An instance whose tag is not the last one
carries over what the others counted, before its first call: into each bucket the highest count that any of them has
(``carry_over.py``). A count is never higher than the calls that were made, whoever carries what, in whatever order and
how often; sums would count calls twice after a third change.
"""

import json
import re
from collections.abc import Sequence
from functools import reduce

from ..base.values import dataclass
from ..redis import keys
from ..redis.op import Command, Op, Script, gather, ignored
from . import bitfield
from .bitfield import Known, set_ttl
from .window import DAY_MS, HALF_HOUR_MS, SKEW_AHEAD_MS, TAGS, Buckets, Layout, Unit, Usage, Window, empty, highest

_AGAIN_S = 24 * 3_600
"""An instance notes its tag again when the note is older."""
_LISTED_S = _AGAIN_S + 26 * 3_600
"""So long after its note a tag is listed: a call may be counted for as long as the note is not made again, and then
counts for up to 25.5 hours."""

_NAME = re.compile(r"([ct])([mhdq])(4|8|16|32)")
_LENGTHS = {letter: length for length, letter in TAGS.items()}


@dataclass(frozen=True, slots=True)
class Shapes:
    """What the key holds. Text that is not readable lists nothing."""

    text: str | None

    def lacks(self, group: str, tag: str) -> tuple[str, ...]:
        """The other tags of a group, any of which may hold more than this one does; none if this one is the last."""
        listed = self.tags(group)
        return () if listed[-1:] == (tag,) else tuple(name for name in listed if name != tag)

    def notes(self, group: str, tag: str, now_ms: int) -> bool:
        """Whether a tag is listed, and need not be noted again yet."""
        return any(name == tag and now_ms // 1000 - at_s < _AGAIN_S for name, at_s in self._read().get(group, ()))

    def tags(self, group: str) -> tuple[str, ...]:
        """Every tag of a group that is listed."""
        return tuple(name for name, _ in self._read().get(group, ()))

    def noting(self, group: str, tag: str, now_ms: int) -> Op[None]:
        """Write the list with this tag as the group's last: 1 command. What is lost by a race is noted next time."""
        now_s = now_ms // 1000
        listed = self._read()
        listed[group] = [*((name, at_s) for name, at_s in listed.get(group, ()) if name != tag), (tag, now_s)]
        kept = {
            each: found for each, pairs in listed.items() if (found := [p for p in pairs if now_s - p[1] < _LISTED_S])
        }
        text = json.dumps(kept, separators=(",", ":"))
        return Op((("SET", keys.SHAPES, text, "EX", _LISTED_S),), ignored)

    def _read(self) -> dict[str, list[tuple[str, int]]]:
        try:
            found = json.loads(self.text or "{}")
        except ValueError:
            return {}
        match found:
            case dict():
                return {group: _pairs(pairs) for group, pairs in found.items() if isinstance(group, str)}
        return {}


def _pairs(found: object) -> list[tuple[str, int]]:
    pairs = []
    for each in found if isinstance(found, list) else ():
        match each:
            case [str(tag), int(at_s)]:
                pairs.append((tag, at_s))
    return pairs


def layout_of(tag: str) -> Layout | None:
    """The layout of a budget with this tag; None for a tag that no layout has.

    What it counted a day is in the head, unless the tag names a day in the tail.
    """
    names = [] if tag == "head" else tag.split("-")
    found = [_NAME.fullmatch(name) for name in names]
    windows = []
    for match in found:
        if match is None:
            return None
        unit: Unit = "calls" if match[1] == "c" else "tokens"
        length_ms, bucket_ms = _LENGTHS[match[2]]
        windows.append(Window(match[0], (1 << int(match[3])) - 1, length_ms, bucket_ms, unit))
    units: tuple[Unit, ...] = ("calls", "tokens")
    for unit in units:
        if not any((each.unit, each.length_ms) == (unit, DAY_MS) for each in windows):
            windows.append(Window(unit, 1, DAY_MS, HALF_HOUR_MS, unit))
    return Layout(tuple(windows), budget=True)


def both_days(subject: str, layout: Layout, now_ms: int) -> Op[Usage]:
    """What a layout has counted today and on the whole of the day before: 1 command a day.

    All of it, and not what counts now: a zone that comes later, or goes, finds it in the same buckets.
    """
    today, nothing = now_ms // DAY_MS, empty(layout.windows)
    ends_ms = today * DAY_MS - 1 - SKEW_AHEAD_MS
    now = bitfield.peek(subject, layout, now_ms, Known({today - 1: nothing}))
    before = bitfield.peek(subject, layout, ends_ms, Known({today - 2: nothing}))
    op = gather([now, before])
    return Op(op.commands, lambda replies: highest_of([tally.usage for tally in op.read(replies)], layout))


def converted(usage: Usage, old: Layout, new: Layout, now_ms: int) -> Usage:
    """What was counted in one layout, as usage of the windows of another that have the same unit and length."""
    counted = {(each.unit, each.length_ms): (each, buckets) for each, buckets in zip(old.windows, usage, strict=True)}
    found: list[Buckets] = []
    for each in new.windows:
        before, buckets = counted.get((each.unit, each.length_ms), (each, {}))
        moved: dict[int, int] = {}
        for index, count in buckets.items():
            # Into the bucket in which the old one ends: a call may count longer by it, never shorter.
            place = index
            if before.bucket_ms != each.bucket_ms:
                place = min((index + 1) * before.bucket_ms - 1, now_ms) // each.bucket_ms
            moved[place] = moved.get(place, 0) + count
        found.append(moved)
    return tuple(found)


def highest_of(usages: Sequence[Usage], layout: Layout) -> Usage:
    """Bucket by bucket, the highest of several usages of a layout."""
    return reduce(highest, usages, empty(layout.windows))


_RAISE = Script(
    3,
    """\
local get, add = {'BITFIELD', KEYS[1]}, {'BITFIELD', KEYS[1], 'OVERFLOW', 'SAT'}
for i = 2, #ARGV, 3 do get[#get + 1] = 'GET'; get[#get + 1] = ARGV[i]; get[#get + 1] = ARGV[i + 1] end
local have = redis.call(unpack(get))
for k = 1, #have do
  local i = 3 * k - 1
  local more = tonumber(ARGV[i + 2]) - have[k]
  if more > 0 then
    add[#add + 1] = 'INCRBY'; add[#add + 1] = ARGV[i]; add[#add + 1] = ARGV[i + 1]; add[#add + 1] = more
  end
end
if #add > 4 then redis.call(unpack(add)) end
return redis.call('EXPIRE', KEYS[1], ARGV[1])""",
)


def raised(subject: str, layout: Layout, now_ms: int, usage: Usage) -> Op[None]:
    """Let every bucket hold at least what ``usage`` says: 1 command a day concerned, billed with the 3 inside."""
    by_day: dict[int, list[str | int]] = {}
    for each, offset, buckets in zip(layout.windows, layout.offsets, usage, strict=True):
        per_day = DAY_MS // each.bucket_ms
        for index, count in sorted(buckets.items()):
            arguments = by_day.setdefault(index // per_day, [])
            arguments += [f"u{each.bits}", offset + index % per_day * each.bits, count]
    commands: list[Command] = []
    for day, arguments in by_day.items():
        ((_, _, seconds),) = set_ttl(subject, now_ms, day).commands
        commands.append(("EVAL", _RAISE, 1, keys.windows(subject, day), seconds, *arguments))
    return Op(tuple(commands), ignored)
