"""How often reporters are told to report, and how often Redis is read: by whether somebody looks, and by the month."""

LOOKED_AT_S, UNWATCHED_S = 40, 120
_WATCHED_FOR_MS = 300_000
_SLOWER = (1, 2, 4, 15)
"""By the thrift step."""
_MEMORY_MS = (5_000, 15_000, 30_000, 120_000)
"""For how long an instance shows what it has read, by the thrift step."""


def interval_s(since_looked_ms: int | None, thrift_step: int) -> int:
    """When to report again. ``since_looked_ms``: since this instance last served a reader; None, it never has."""
    looked_at = since_looked_ms is not None and since_looked_ms < _WATCHED_FOR_MS
    base_s = LOOKED_AT_S if looked_at else UNWATCHED_S
    return min(600, base_s * _SLOWER[thrift_step])


def memory_ms(thrift_step: int) -> int:
    """For how long what was read is shown without reading it again."""
    return _MEMORY_MS[thrift_step]
