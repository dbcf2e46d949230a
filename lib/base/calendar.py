"""Calendar months in UTC, as vendors bill them."""

from datetime import UTC, datetime


def month_of(now_ms: int) -> str:
    """The calendar month, as it is named in keys: ``2026-11``."""
    return datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y-%m")


def month_ends_ms(now_ms: int) -> int:
    """The first millisecond of the next calendar month."""
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    year, month = (now.year + 1, 1) if now.month == 12 else (now.year, now.month + 1)
    return int(datetime(year, month, 1, tzinfo=UTC).timestamp() * 1000)
