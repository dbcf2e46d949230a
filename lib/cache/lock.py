"""Single flight across instances: a lock of a few seconds in Redis, ``SET key owner NX PX lease``.

A request that misses takes the lock together with the provider's budget, in the same round trip. Whoever gets it
computes, and renews the lock at two thirds of its lease while the work goes on. The others look again, at growing
intervals, until the value is there, nobody computes it any more, or their own time is up.

The owner's text names the epochs under which it computes: a lock from before an invalidation is ignored. A lock is not
released when its value is stored. The entry names the owner that stored it, and such a lock is over: that costs no
command. A lock whose work failed is released.
"""

from collections.abc import Sequence

from ..base.values import dataclass
from ..redis import keys
from ..redis.op import Op, Reply, Script, as_int, as_text


@dataclass(frozen=True, slots=True)
class LockRules:
    """``lease_ms``: how long a lock outlives an instance that was killed."""

    lease_ms: int = 10_000

    @property
    def renew_s(self) -> float:
        """When a lock is renewed, in seconds after it was taken or last renewed."""
        return self.lease_ms * 2 / 3000

    @property
    def left_ms(self) -> float:
        """What is left of a lock at least when its holder's work ends."""
        return self.lease_ms / 3


def owner(generation: str, request_id: str) -> str:
    """What the lock holds: the epochs as one word, and the request that computes."""
    return f"{generation}|{request_id}"


def claim(key: str, me: str, rules: LockRules) -> Op[bool]:
    """Take the lock, or learn that another request holds it: 1 command."""
    command = ("SET", keys.lock(key), me, "NX", "PX", rules.lease_ms)
    return Op((command,), lambda replies: as_text(replies[0]) == "OK")


_REPLACE = Script(
    2,
    """\
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1""",
)


def replace(key: str, held: str, me: str, rules: LockRules) -> Op[bool]:
    """Take the lock from one that is over: 1 command, billed as 3 with those inside."""
    command = ("EVAL", _REPLACE, 1, keys.lock(key), held, me, rules.lease_ms)
    return Op((command,), lambda replies: as_int(replies[0]) == 1)


def renew(key: str, me: str, rules: LockRules) -> Op[bool]:
    """Hold the lock for another lease; whether it is still ours: 2 commands.

    Where it is another's by now, that one's lease is lengthened once, which does no harm.
    """
    commands = (("PEXPIRE", keys.lock(key), rules.lease_ms), ("GET", keys.lock(key)))
    return Op(commands, lambda replies: as_text(replies[1]) == me)


# Compare and delete: a lock that ran out meanwhile belongs to somebody else.
_RELEASE = Script(2, "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0")


def release(key: str, me: str) -> Op[int]:
    """Free the lock if it is still ours: 1 command, billed as 3 with those inside."""

    def read(replies: Sequence[Reply]) -> int:
        return as_int(replies[0])

    return Op((("EVAL", _RELEASE, 1, keys.lock(key), me),), read)


def wait_s(look: int, rules: LockRules, jitter: float) -> float:
    """How long to wait before the given look (0 the first): a 300th of a lease, then twice as long each time, at most a
    quarter of a lease. ``jitter`` in [0, 1) lengthens each by up to a quarter, so that followers do not look at once.
    """
    base_ms = min(rules.lease_ms / 300 * 2.0 ** min(look, 16), rules.lease_ms / 4)
    return base_ms * (1 + jitter / 4) / 1000
