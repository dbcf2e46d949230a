"""Calendar months in UTC, as vendors bill them."""

from datetime import UTC, datetime
from functools import lru_cache

_DAY_MS = 86_400_000


def month_of(now_ms: int) -> str:
    """The calendar month, as it is named in keys: ``2026-11``."""
    return _of_day(now_ms // _DAY_MS)[0]


def month_ends_ms(now_ms: int) -> int:
    """The first millisecond of the next calendar month."""
    return _of_day(now_ms // _DAY_MS)[1]


@lru_cache(maxsize=8)
def _of_day(day: int) -> tuple[str, int]:
    """The month of a day since 1970, and when it ends: every request asks several times, mostly of today."""
    at = datetime.fromtimestamp(day * _DAY_MS / 1000, UTC)
    year, month = (at.year + 1, 1) if at.month == 12 else (at.year, at.month + 1)
    return at.strftime("%Y-%m"), int(datetime(year, month, 1, tzinfo=UTC).timestamp() * 1000)
