"""Hours of the past: a reading of some fields over days or weeks, from the strings of one month or two."""

from collections.abc import Mapping, Sequence

from ..base.calendar import month_of
from ..base.values import dataclass
from ..redis import keys
from ..redis.op import Command, Op, Reply, as_int, as_list
from .table import HOUR_MS, hour_place


@dataclass(frozen=True, slots=True)
class Hours:
    """What each hour counted, oldest first; the last one is the present hour."""

    from_ms: int
    fields: Mapping[str, Sequence[int]]


def read(fields: Sequence[str], hours: int, now_ms: int) -> Op[Hours]:
    """Read the present hour and those before it: 1 command for each month they lie in."""
    last_ms = now_ms // HOUR_MS * HOUR_MS
    times = [last_ms - back * HOUR_MS for back in range(hours - 1, -1, -1)]
    by_month: dict[str, list[int]] = {}
    for at_ms in times:
        by_month.setdefault(month_of(at_ms), []).append(at_ms)

    def gets(month: str) -> Command:
        places = (hour_place(name, at_ms, month) for at_ms in by_month[month] for name in fields)
        return tuple(part for kind, offset in places for part in ("GET", kind, offset))

    def answer(replies: Sequence[Reply]) -> Hours:
        values: list[int] = []
        for at_ms, reply in zip(by_month.values(), replies, strict=True):
            values += [as_int(each) for each in as_list(reply, len(at_ms) * len(fields))]
        return Hours(times[0], {name: values[place :: len(fields)] for place, name in enumerate(fields)})

    return Op(tuple(("BITFIELD_RO", keys.ledger(month), *gets(month)) for month in by_month), answer)
