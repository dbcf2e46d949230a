"""How a database was used over time, from samples of its counters that are kept apart from them.

A sample is what was counted until then. Between two of them lies what happened; where a counter fell, the statistics
were reset meanwhile, and what was counted since is all that is known.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from ..base.values import dataclass

SLOT_MS = 5 * 60_000
"""A sample each five minutes while somebody watches."""
SLOTS = 2_016
"""A week of them; then the oldest is written over."""
_MOST_POINTS = 336
_COUNTERS = (
    *("commits", "rollbacks", "blocks_hit", "blocks_read"),
    *("rows_fetched", "rows_written", "deadlocks", "temp_bytes"),
)
PERIODS: Mapping[str, int] = {"1h": 12, "24h": 288, "7d": SLOTS}
"""Their slots."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Counters at a time, and how many sessions there were."""

    at_ms: int
    sessions: int
    counted: tuple[int | None, ...]


def sample_of(row: Mapping[str, Any], at_ms: int) -> Sample:
    """A sample of what the dashboard's statement has read."""
    return Sample(at_ms, int(row["sessions"]), tuple(row[name] for name in _COUNTERS))


def place(at_ms: int) -> int:
    """Where the sample of a time lies."""
    return at_ms // SLOT_MS % SLOTS


def places(now_ms: int, period: str) -> list[int]:
    """Where the samples of a period lie, the oldest first; of a week every sixth."""
    count = PERIODS[period]
    step = -(-count // _MOST_POINTS)
    last = now_ms // SLOT_MS
    return [slot % SLOTS for slot in range(last - count + step, last + 1) if slot % step == 0 or slot == last]


def dump(sample: Sample) -> str:
    """As it is stored."""
    return json.dumps([sample.at_ms, sample.sessions, *sample.counted], separators=(",", ":"))


def load(text: str | None, now_ms: int, period: str) -> Sample | None:
    """The sample that a text stores; None where it is none, or of another time."""
    try:
        at_ms, sessions, *counted = json.loads(text or "")
        sample = Sample(int(at_ms), int(sessions), tuple(counted))
    except (ValueError, TypeError):
        return None
    is_whole = len(counted) == len(_COUNTERS)
    return sample if is_whole and now_ms - PERIODS[period] * SLOT_MS <= sample.at_ms <= now_ms + SLOT_MS else None


def points(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """What happened a second between each two samples; ``reset`` where the statistics began anew meanwhile."""
    found = []
    for before, after in pairwise(samples):
        seconds = (after.at_ms - before.at_ms) / 1000
        if seconds <= 0:
            continue
        pairs = list(zip(before.counted, after.counted, strict=True))
        grown = [_grown(a, b) for a, b in pairs]
        reset = any(a is not None and b is not None and b < a for a, b in pairs)
        values = dict(zip(_COUNTERS, grown, strict=True))
        blocks = (values["blocks_hit"] or 0) + (values["blocks_read"] or 0)
        found.append(
            {
                "at": after.at_ms // 1000,
                "sessions": after.sessions,
                "commitsPerS": _per(values["commits"], seconds),
                "rollbacksPerS": _per(values["rollbacks"], seconds),
                "rowsFetchedPerS": _per(values["rows_fetched"], seconds),
                "rowsWrittenPerS": _per(values["rows_written"], seconds),
                "deadlocks": values["deadlocks"],
                "hitRatio": round((values["blocks_hit"] or 0) / blocks, 4) if blocks else None,
                "reset": reset,
            }
        )
    return found


def _grown(before: int | None, after: int | None) -> int | None:
    if before is None or after is None:
        return None
    return after - before if after >= before else after


def _per(count: int | None, seconds: float) -> float | None:
    return None if count is None else round(count / seconds, 3)
