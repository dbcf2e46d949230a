"""What Upstash bills for commands: one each, but for those that are free, and what a script runs inside as well."""

from collections.abc import Sequence

from ..redis.op import Command

_FREE = frozenset({"AUTH", "HELLO", "SELECT", "COMMAND", "CONFIG", "INFO", "PING", "RESET", "QUIT"})
_SCRIPTS = {
    # A circuit's swap, a lock's release or takeover: the script, its GET, and the write where there is one.
    ("EVAL", 1): 3,
    # Adding what was admitted elsewhere: the script, two reads, two writes, two TTLs.
    ("EVAL", 2): 7,
    # The sliding window of upstash_ratelimit: the script, two GETs, INCRBY and PEXPIRE.
    ("EVALSHA", 2): 5,
}
"""The most that a script costs, by how many keys it takes. Whether it writes is not known beforehand, and an estimate
is better too high."""


def billed(commands: Sequence[Command]) -> int:
    """How many commands Upstash counts for these; a script's is an upper bound."""
    return sum(_cost(each) for each in commands)


def _cost(command: Command) -> int:
    name = str(command[0]).upper()
    if name.startswith("EVAL"):
        return _SCRIPTS.get((name, int(command[2])), max(_SCRIPTS.values()))
    return 0 if name in _FREE else 1
