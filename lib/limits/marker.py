"""The marker of an outage: one small text in Redis that says whether somebody settles one, and what was settled last.

    owner|until|generation|settled

``owner`` is whoever gives Redis what was admitted elsewhere, until its lease ends; ``later-60`` where Supabase was
away, so that the next try is due at ``until``; empty when nothing is left to do. ``generation`` names the data in this
Redis: a Redis that has lost its data has lost the name as well. ``settled`` is the number of the last return that is
over, as Supabase counts them. Moved by compare-and-swap only.
"""

from collections.abc import Sequence
from dataclasses import replace

from ..base.values import dataclass
from ..redis import keys
from ..redis.op import Op, Reply, Script, as_int, as_list, as_text
from .window import DAY_MS

LEASE_MS = 15_000
"""How long one instance may take for a part of the settlement; then another one goes on."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 60, 600
_KEPT_MS = 3 * DAY_MS
"""Longer than anything that was admitted elsewhere can count, with room for clocks."""
_LATER = "later-"
UNKNOWN = -1
"""The number of the last return where Redis does not say."""


@dataclass(frozen=True, slots=True)
class Marker:
    """What the text says; the default is that of a Redis without one."""

    owner: str = ""
    until_ms: int = 0
    generation: str = ""
    settled: int = UNKNOWN

    @property
    def text(self) -> str:
        """As it stands in Redis."""
        return f"{self.owner}|{self.until_ms}|{self.generation}|{self.settled}"

    @property
    def is_postponed(self) -> bool:
        """Whether the settlement waits for Supabase."""
        return self.owner.startswith(_LATER)

    def holds(self, now_ms: int) -> bool:
        """Whether the owner's time is not over; one that no lease can have is the work of a wrong clock."""
        longest_ms = 2 * (_LONGEST_WAIT_S * 1000 if self.is_postponed else LEASE_MS)
        return bool(self.owner) and now_ms < self.until_ms <= now_ms + longest_ms

    def claimed(self, owner: str, generation: str, now_ms: int) -> "Marker":
        """The same in the hands of an owner; ``generation`` names the data if they have no name yet."""
        return Marker(owner, now_ms + LEASE_MS, self.generation or generation, self.settled)

    def renewed(self, now_ms: int) -> "Marker":
        """The same with a new lease."""
        return replace(self, until_ms=now_ms + LEASE_MS)

    def over(self, settled: int) -> "Marker":
        """Everything of this return was given."""
        return Marker("", 0, self.generation, settled)

    def postponed(self, waited_s: int, now_ms: int) -> "Marker":
        """To be tried again, after twice the time that the last try was waited for."""
        wait_s = min(2 * waited_s, _LONGEST_WAIT_S) if waited_s else _FIRST_WAIT_S
        return Marker(f"{_LATER}{wait_s}", now_ms + wait_s * 1000, self.generation, self.settled)

    @property
    def waited_s(self) -> int:
        """What this try was waited for; 0 for the first one."""
        return _number(self.owner.removeprefix(_LATER), 0) if self.is_postponed else 0


def parse(text: str | None) -> Marker:
    """Read a text; one of another shape says nothing."""
    match (text or "").split("|"):
        case [owner, until, generation, settled]:
            return Marker(owner, _number(until, 0), generation, _number(settled, UNKNOWN))
    return Marker()


def _number(text: str, otherwise: int) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else otherwise


_SWAP = Script(
    2,
    """\
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return {0, redis.call('GET', KEYS[1]) or ''} end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return {1, ARGV[2]}""",
)


def swap(read: str | None, new: Marker) -> Op[tuple[bool, str]]:
    """Replace the text if it still is the one that was read: billed as 3. Yields whether it was, and what it is now."""

    def answer(replies: Sequence[Reply]) -> tuple[bool, str]:
        done, text = as_list(replies[0], 2)
        return as_int(done) == 1, as_text(text) or ""

    return Op((("EVAL", _SWAP, 1, keys.OUTAGE, read or "", new.text, _KEPT_MS),), answer)
