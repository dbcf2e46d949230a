"""Single flight across instances: who computes an answer, and how long the others wait for it.

An answer belongs to one caller, so concurrent misses of one answer come from one caller, whose windows every one of
them writes anyway. The same command leaves a note of what was asked, and when, in a slot beside the windows, and yields
the note that was there before: whoever finds none that is recent leads. It costs nothing.

Everybody leaves it, also whoever is served from the cache: it says something only while no entry is there. A leader
that stores no answer takes its note back. When it crashes, the note is void after a lease.

Where the note does not say who leads (a takeover; an entry that is there but too old; no windows to write), a lock
does, ``SET key owner NX PX lease``, sent along with the provider's budget. It is left to run out when the answer has
been stored: whoever looks finds the answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ..limits.bitfield import Mark
from ..limits.window import DAY_MS, SLOTS
from ..redis import keys
from ..redis.op import Op, Reply, as_int, as_text

_TIME_BITS = 27
"""Holds a millisecond of the day; the rest of a slot holds part of the question's hash."""


@dataclass(frozen=True, slots=True)
class FlightRules:
    """A leader has ``lease_ms`` before another may compute as well; followers look at most ``polls`` times."""

    lease_ms: int = 15_000
    polls: int = 6


def note(query_hash: str, now_ms: int) -> Mark:
    """The note that a question leaves. Two questions in one slot overwrite each other: the worst is a call too many."""
    number = int(query_hash, 16)
    fingerprint = number >> 8 & (1 << 48 - _TIME_BITS) - 1
    return Mark(number % SLOTS, fingerprint << _TIME_BITS | now_ms % DAY_MS)


def erased(mark: Mark) -> Mark:
    """What takes a note back."""
    return Mark(mark.slot, 0)


def is_flying(slot: int | None, mark: Mark, now_ms: int, rules: FlightRules) -> bool:
    """Whether the note in a slot is of the same question as ``mark``, and recent."""
    if slot is None or slot >> _TIME_BITS != mark.value >> _TIME_BITS:
        return False
    asked_ms = slot & (1 << _TIME_BITS) - 1
    # By any clock: one that is ahead must not keep others waiting for longer than a lease.
    return abs(now_ms % DAY_MS - asked_ms) < rules.lease_ms


def owner(request_id: str, epochs: Sequence[int]) -> str:
    """What the lock holds. With the epochs, so that an invalidation frees waiters from a leader of before."""
    return f"{'.'.join(map(str, epochs))}|{request_id}"


def is_locked(lock: str | None, epochs: Sequence[int]) -> bool:
    """Whether somebody holds the lock of the answer that is wanted now."""
    return lock is not None and lock.startswith(owner("", epochs))


def claim(answer_key: str, me: str, rules: FlightRules) -> Op[bool]:
    """Become the leader, or learn that there is one: 1 command."""
    command = ("SET", keys.lock(answer_key), me, "NX", "PX", rules.lease_ms)
    return Op((command,), lambda replies: as_text(replies[0]) == "OK")


# Compare and delete: a lock that ran out meanwhile belongs to somebody else.
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


def release(answer_key: str, me: str) -> Op[int]:
    """Free the lock if it is still ours: 1 command, billed as 3 with those inside."""

    def read(replies: Sequence[Reply]) -> int:
        return as_int(replies[0])

    return Op((("EVAL", _RELEASE, 1, keys.lock(answer_key), me),), read)


_REPLACE = """\
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1"""


def replace(answer_key: str, held: str, me: str, rules: FlightRules) -> Op[bool]:
    """Become the leader in the place of one of before an invalidation: 1 command, billed as 3 with those inside."""
    command = ("EVAL", _REPLACE, 1, keys.lock(answer_key), held, me, rules.lease_ms)
    return Op((command,), lambda replies: as_int(replies[0]) == 1)


def waits_ms(rules: FlightRules, jitter: float) -> list[int]:
    """How long to wait before each look, twice as long each time.

    The last but one comes right after a lease has run out, to take over; the last gives whoever took over as long
    again. ``jitter`` in [0, 1) lengthens all by up to a quarter, so that followers do not look, or take over, at once.
    """
    shares = [2**k for k in range(rules.polls)]
    scale = rules.lease_ms * 1.05 / max(1, sum(shares[:-1])) * (1 + jitter / 4)
    return [int(share * scale) for share in shares]
