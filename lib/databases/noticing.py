"""What of a watched database's figures people should be told: rules, without a connection."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..base.events import DatabaseNoticed

LONG_WAIT_S = 30
"""A lock that somebody has waited for so long."""
_NEAR_PERCENT = 90
_SLOWER, _LEAST_CALLS, _LEAST_MS = 5, 20, 1.0
"""So many times slower than before, over so many calls, and not below a millisecond a call."""
_MOST_KNOWN = 500

type Row = Mapping[str, Any]
type Numbers = Mapping[str, tuple[int, float]]
"""By statement: calls, and milliseconds that they took, since the statistics began."""


def of_locks(connection: str, rows: Sequence[Row]) -> list[DatabaseNoticed]:
    """A lock that is waited for too long, once for each that holds one."""
    longest: dict[str, float] = {}
    for row in rows:
        blockers = row["blocked_by"] if isinstance(row["blocked_by"], list) else [row["blocked_by"]]
        # Without a blocker Oracle has null. 0 is PostgreSQL's for a prepared transaction, which belongs to no session.
        for pid in (each for each in blockers if each is not None):
            longest[str(pid)] = max(longest.get(str(pid), 0), row["waiting_s"] or 0)
    return [
        DatabaseNoticed(connection, "db_lock", pid, f"{_holder(pid)} holds a lock that others wait for since {s:.0f} s")
        for pid, s in longest.items()
        if s > LONG_WAIT_S
    ]


def _holder(pid: str) -> str:
    return "a prepared transaction (pg_prepared_xacts)" if pid == "0" else f"session {pid}"


def of_sessions(connection: str, rows: Sequence[Row]) -> list[DatabaseNoticed]:
    """Nearly as many sessions as the server takes."""
    sessions, most = rows[0]["sessions"], rows[0]["most_sessions"]
    if not most or sessions * 100 < most * _NEAR_PERCENT:
        return []
    return [DatabaseNoticed(connection, "db_sessions", "", f"{sessions} of {most} sessions are in use")]


def numbers_of(rows: Sequence[Row]) -> dict[str, tuple[int, float]]:
    """The numbers of a reading."""
    return {str(row["id"]): (int(row["calls"]), float(row["total_ms"])) for row in rows if row["id"] is not None}


def together(before: Numbers, after: Numbers) -> dict[str, tuple[int, float]]:
    """What is known after another reading: a shorter list, as a page asks for, makes nobody forget the others."""
    others = [(name, each) for name, each in before.items() if name not in after]
    return {**dict(others[-_MOST_KNOWN:]), **after}


def of_statements(connection: str, before: Numbers, after: Numbers) -> list[DatabaseNoticed]:
    """Statements that have lately taken five times what they took on average until then."""
    found = []
    for name, (calls, total_ms) in after.items():
        calls_before, ms_before = before.get(name, (0, 0.0))
        lately = calls - calls_before
        # Fewer than before: the statistics were reset.
        if calls_before < _LEAST_CALLS or lately < _LEAST_CALLS or total_ms < ms_before:
            continue
        usual_ms, now_ms = ms_before / calls_before, (total_ms - ms_before) / lately
        if now_ms >= max(_LEAST_MS, usual_ms * _SLOWER):
            text = f"statement {name} takes {now_ms:.1f} ms a call, and took {usual_ms:.1f} ms before"
            found.append(DatabaseNoticed(connection, "db_slower", name, text))
    return found
