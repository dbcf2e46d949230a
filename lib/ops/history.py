"""What happened over 7 or 30 days, by hour. Read when somebody asks for it, 2 commands at most, and reused a while."""

from collections.abc import Sequence
from dataclasses import field
from typing import Literal, get_args

from ..base.clock import Clock
from ..base.values import dataclass
from ..edge.page_replies import HistoryBody, SeriesBody
from ..edge.problems import Problem
from ..ledger import history, places
from ..ledger.history import Hours
from ..redis.errors import RedisDown
from ..redis.store import RedisStore
from ..redis.thrift import Thrift

type By = Literal["outcome", "status", "route", "provider"]
HOURS = {"7d": 7 * 24 + 1, "30d": 30 * 24 + 1}
"""The ranges, with their hours; the present one is the last."""

_READ_S = 3.0
_FRESH_S = 900


def fields_by(by: By, providers: Sequence[str]) -> dict[str, str]:
    """The fields of an hour that a breakdown has, each with what it counts."""
    if by == "outcome":
        return {name: name for name in places.OUTCOMES}
    if by == "status":
        return {f"status.{status}": status for status in places.STATUSES}
    if by == "route":
        return {f"route.{route}": route for route in places.HOURLY_ROUTES}
    return {
        f"calls.{known}": known for known in dict.fromkeys(places.known(name, places.PROVIDERS) for name in providers)
    }


@dataclass(slots=True)
class History:
    """Reads past hours. One per instance."""

    redis: RedisStore | None
    thrift: Thrift
    clock: Clock
    providers: Sequence[str]
    _read: dict[tuple[str, str], tuple[int, Hours]] = field(default_factory=dict)
    """When a range was read by what, and what it said."""

    def fresh_s(self, now_ms: int) -> int:
        """For how long a reading is reused."""
        return max(_FRESH_S, self.thrift.step(now_ms).read_s)

    async def body(self, wanted: str, by: str) -> HistoryBody:
        """The hours of a range, as they were when Redis gave its last reply. Raises Problem."""
        if wanted not in HOURS:
            raise Problem("invalid_request", f"range: one of {', '.join(HOURS)}")
        if by not in get_args(By.__value__):
            raise Problem("invalid_request", f"by: one of {', '.join(get_args(By.__value__))}")
        names = fields_by(by, self.providers)  # type: ignore[arg-type] # checked above
        now_ms = self.clock.now_ms()
        kept = self._read.get((wanted, by))
        if kept is None or now_ms - kept[0] >= self.fresh_s(now_ms) * 1000:
            try:
                kept = (now_ms, await self._hours(tuple(names), HOURS[wanted], now_ms))
            except RedisDown as e:
                if kept is None:
                    raise Problem("store_unavailable", f"Redis gave no usable reply ({e.kind}). Try again.", 5) from e
            else:
                self._read[wanted, by] = kept
        at_ms, hours = kept
        series: list[SeriesBody] = [
            {"name": shown, "counts": list(hours.fields[name])} for name, shown in names.items()
        ]
        return {"at": at_ms // 1000, "from": hours.from_ms // 1000, "step": 3600, "by": by, "series": series}

    async def _hours(self, names: Sequence[str], hours: int, now_ms: int) -> Hours:
        """Read them. Raises Problem where Redis is switched off, RedisDown where it gives no reply."""
        if self.redis is None:
            raise Problem("store_unavailable", "Redis is switched off, so that nothing of the past is kept.")
        if not names:
            return Hours(now_ms, {})
        return await self.redis.run(history.read(names, hours, now_ms), "read", _READ_S)
