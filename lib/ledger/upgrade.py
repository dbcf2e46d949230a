"""The month's Redis commands as version 0.1 counted them, for the month in which 0.2 takes over.

0.1 counts in ``ledger:1:{month}``, whose places are others. Without its figure the steps of ``redis/thrift.py`` would
begin anew in the middle of a month. Delete this file with 0.3 (docs/decisions/0011-ledger-places.md).
"""

from collections.abc import Sequence

from ..redis import keys
from ..redis.op import Op, Reply, as_int, as_list

_COMMANDS, _VENDOR_TOTAL, _VENDOR_COUNTED, _VENDOR_AT = 1, 15, 16, 17
"""Numbers of 48-bit places in 0.1's string."""


def commands(month: str) -> Op[int]:
    """The month's commands in 0.1's string, 0 where there is none: 1 command."""
    numbers = (_COMMANDS, _VENDOR_TOTAL, _VENDOR_COUNTED, _VENDOR_AT)
    gets = [part for number in numbers for part in ("GET", "u48", f"#{number}")]

    def read(replies: Sequence[Reply]) -> int:
        counted, vendor_total, vendor_counted, vendor_at = (as_int(each) for each in as_list(replies[0], len(numbers)))
        return vendor_total + max(0, counted - vendor_counted) if vendor_at else counted

    return Op((("BITFIELD_RO", keys.ledger_1(month), *gets),), read)
