"""What Upstash bills for commands: one each, but for those that are free, and what a script runs inside as well."""

from collections.abc import Sequence

from ..redis.op import Command, Script

_FREE = frozenset({"AUTH", "HELLO", "SELECT", "COMMAND", "CONFIG", "INFO", "PING", "RESET", "QUIT"})
_STOCK_SCRIPT = 5
"""The sliding window of upstash_ratelimit: the script, two GETs, INCRBY and PEXPIRE."""


def billed(commands: Sequence[Command]) -> int:
    """How many commands Upstash counts for these.

    A script's are an upper bound: which way it goes is not known beforehand, and an estimate is better too high.
    """
    return sum(_cost(each) for each in commands)


def _cost(command: Command) -> int:
    name = str(command[0]).upper()
    if name == "EVAL":
        return 1 + command[1].inside if isinstance(command[1], Script) else _STOCK_SCRIPT
    if name == "EVALSHA":
        return _STOCK_SCRIPT
    return 0 if name in _FREE else 1
