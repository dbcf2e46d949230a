"""What Upstash bills for commands: one each, but for those that are free, and what a script runs inside as well."""

from collections.abc import Sequence

from lib.rules.op import Command

_FREE = frozenset({"AUTH", "HELLO", "SELECT", "COMMAND", "CONFIG", "INFO", "PING", "RESET", "QUIT"})
_SCRIPTS = {
    # Ours (a circuit's swap, a lock's release): the script, its GET, and the write where there is one.
    "EVAL": 3,
    # The sliding window of upstash_ratelimit: the script, two GETs, INCRBY and PEXPIRE.
    "EVALSHA": 5,
}
"""The most that a script costs: whether it writes is not known beforehand, and a bill is better guessed too high."""


def billed(commands: Sequence[Command]) -> int:
    """How many commands Upstash counts for these; a script's is an upper bound."""
    return sum(_SCRIPTS.get(name, 1) for name in (str(each[0]).upper() for each in commands) if name not in _FREE)
