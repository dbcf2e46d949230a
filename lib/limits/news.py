"""What was changed by hand and every instance has to hear of: one mark in Redis, with a number and the last subjects.

Who was refused is refused from memory until its time, which may be a day away; so a reset has to reach those memories.
The mark is read along with everything that a request reads. An instance whose callers are all refused reads nothing:
it pulls the mark, at most once in 10 s, from an allowance of 40 pulls that fills up again by 45 an hour. So a reset
shows within 10 s to whoever has not been refused for longer than 7 minutes, and within 80 s to everybody, while a
caller that never stops costs 85 commands in its first hour and 45 in each later one.
"""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress

from ..base.values import dataclass
from ..redis import keys
from ..redis.errors import RedisDown
from ..redis.op import Op, Script, as_text, ignored
from ..redis.store import RedisStore

KEPT = 8
"""So many subjects the mark names; who has missed more than these forgets everything."""
PULL_EVERY_MS = 10_000
_ALLOWANCE, _REFILL_AN_HOUR = 40.0, 45.0
_LASTS_MS = 3 * 86_400_000
"""As long as any instance may remember a finished day, or a refusal."""
_TAG = 12
"""So many characters name a subject; who is taken for another is asked about once more."""

# The number begins with the time, so that a mark that was lost does not begin with one that has been seen.
_REPORT = Script(
    2,
    """\
local number, tags = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) (.*)$')
number = math.max(tonumber(number) or 0, tonumber(ARGV[1]))
local kept = {}
for tag in string.gmatch(tags or '', '[^,]+') do kept[#kept + 1] = tag end
for i = 4, #ARGV do kept[#kept + 1] = ARGV[i]; number = number + 1 end
local from = math.max(1, #kept - tonumber(ARGV[2]) + 1)
local text = string.format('%d ', number) .. table.concat(kept, ',', from)
redis.call('SET', KEYS[1], text, 'PX', ARGV[3])
return text""",
)


def report(subjects: Sequence[str], now_ms: int) -> Op[None]:
    """Let every instance forget what it remembers of these subjects: 1 command, billed with the 2 inside."""
    tags = [_tag(subject) for subject in subjects]
    return Op((("EVAL", _REPORT, 1, keys.NEWS, now_ms, KEPT, _LASTS_MS, *tags),), ignored)


PULL: Op[str | None] = Op((("GET", keys.NEWS),), lambda replies: as_text(replies[0]))
"""The mark alone: 1 command."""


@dataclass(slots=True, eq=False)
class News:
    """What an instance has heard."""

    forgets: list[Callable[[Callable[[str], bool]], None]]
    """Each called with a test of subjects: all that is remembered of those is to be forgotten."""
    _number: int = 0
    _read_ms: int = 0
    _allowance: float = _ALLOWANCE
    _filled_ms: int = 0

    def heard(self, text: str | None, now_ms: int) -> Callable[[str], bool]:
        """Learn what Redis holds; yields a test of whether a subject was changed since this instance last looked."""
        self._read_ms = now_ms
        if text is None:
            return _nobody
        number, _, rest = text.partition(" ")
        if not (number.isascii() and number.isdigit()) or len(number) > 15 or int(number) == self._number:
            return _nobody
        tags = tuple(rest.split(","))
        missed = int(number) - self._number
        self._number, before = int(number), self._number
        named = tags[-missed:] if 0 < missed <= len(tags) else tags
        # What is read first is not known to name all that was missed, but little is remembered by then.
        everybody = before and not 0 < missed <= len(tags)
        changed = _everybody if everybody else lambda subject: _tag(subject) in named
        for forget in self.forgets:
            forget(changed)
        return changed

    def may_pull(self, now_ms: int) -> bool:
        """Whether the mark is to be read on its own now; if so, that is taken from the allowance."""
        if abs(now_ms - self._read_ms) < PULL_EVERY_MS:
            return False
        self._allowance = min(
            _ALLOWANCE, self._allowance + max(0, now_ms - self._filled_ms) * _REFILL_AN_HOUR / 3_600_000
        )
        self._filled_ms = now_ms
        if self._allowance < 1:
            return False
        self._allowance -= 1
        self._read_ms = now_ms
        return True

    async def pull(self, redis: RedisStore, now_ms: int, left_s: float) -> None:
        """Read the mark on its own, where it is due. Without an answer what is remembered stands. Raises nothing."""
        if self.may_pull(now_ms):
            with suppress(RedisDown):
                self.heard(await redis.run(PULL, "ask", left_s), now_ms)


def _tag(subject: str) -> str:
    return hashlib.sha256(subject.encode()).hexdigest()[:_TAG]


def _nobody(subject: str) -> bool:
    return False


def _everybody(subject: str) -> bool:
    return True
