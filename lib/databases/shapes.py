"""What is replied of a watched database: rows, made into what a page shows. Names of times end in their unit."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..base.values import dataclass
from .literals import HIDDEN, Dialect, masked

type Row = Mapping[str, Any]
type Values = Mapping[str, str]

GRANT = "This role does not see what others do: grant pg_monitor (or pg_read_all_stats) to it."
EXTENSION = (
    "Statements are not counted there: list pg_stat_statements in shared_preload_libraries, restart, and run "
    "'create extension pg_stat_statements' in a schema of this role's search_path; through Supabase, apply the "
    "migrations as well."
)
MIGRATIONS = "Its functions are not there: apply supabase/migrations."


@dataclass(frozen=True, slots=True)
class Texts:
    """How statements are shown."""

    dialect: Dialect
    shows_literals: bool

    def shown(self, text: str | None) -> str | None:
        """A text without its literals, unless they are to be shown; None where nobody may see it."""
        if text is None or text == HIDDEN:
            return None
        return text if self.shows_literals else masked(text, self.dialect)


@dataclass(frozen=True, slots=True)
class Shape:
    """A view: its statement, and what becomes of its rows. ``lacking``: the reply where it reads what is missing."""

    statement: str
    of: Callable[[Sequence[Row], Values, Texts], dict[str, Any] | None]
    lacking: Mapping[str, Any] | None = None


def _pids(blocked_by: object) -> list[int]:
    if isinstance(blocked_by, list):
        return sorted(set(blocked_by))
    return [] if blocked_by is None else [int(str(blocked_by))]


def _session(row: Row, texts: Texts) -> dict[str, Any]:
    names = ("user", "database", "application", "state", "wait_kind", "wait")
    return {
        "pid": row["pid"],
        **{_camel(name): row.get(name) for name in names},
        "statementS": _rounded(row.get("statement_s")),
        "transactionS": _rounded(row.get("transaction_s")),
        "blockedBy": _pids(row["blocked_by"]),
        "query": texts.shown(row["query"]),
    }


MOST, MOST_SCHEMAS = 500, 1_000
"""So many rows are shown; statements return one more, by which it is seen that there are more."""


def sessions(rows: Sequence[Row], values: Values, texts: Texts) -> dict[str, Any]:
    """Everybody's session but our own."""
    hidden = any(row["query"] == HIDDEN for row in rows)
    return {
        "sessions": [_session(row, texts) for row in rows[:MOST]],
        "more": len(rows) > MOST,
        "missing": [GRANT] if hidden else [],
    }


def locks(rows: Sequence[Row], values: Values, texts: Texts) -> dict[str, Any]:
    """Who waits for whom: a tree below each session that blocks others and waits for none.

    Who waits for several of them is below the one nearest to the root: those who queue for one row stand side by side.
    Sessions that wait for each other, until the server ends one of them, have no such root: the first of them is taken.
    """
    more, rows = len(rows) > MOST, rows[:MOST]
    by_pid = {row["pid"]: row for row in rows}
    blocks: dict[int, list[int]] = {}
    for row in rows:
        for blocker in _pids(row["blocked_by"]):
            blocks.setdefault(blocker, []).append(row["pid"])
    shown = set[int]()

    def node(pid: int) -> dict[str, Any]:
        shown.add(pid)
        row = by_pid.get(pid)
        own = {"pid": pid} if row is None else _lock(row, texts)
        return {**own, "blocks": []}

    def tree(pid: int) -> dict[str, Any]:
        root = node(pid)
        reached = [root]
        for each in reached:
            each["blocks"] += [node(waits) for waits in blocks.get(each["pid"], ()) if waits not in shown]
            reached += each["blocks"]
        return root

    free = [pid for pid in blocks if not _pids(by_pid[pid]["blocked_by"] if pid in by_pid else None)]
    roots = [tree(pid) for pid in sorted(free)]
    roots += [tree(pid) for pid in sorted(by_pid) if pid not in shown and _pids(by_pid[pid]["blocked_by"])]
    hidden = any(row["query"] == HIDDEN for row in rows)
    waiting = sum(bool(_pids(row["blocked_by"])) for row in rows)
    return {"waiting": waiting, "blockers": roots, "more": more, "missing": [GRANT] if hidden else []}


def _lock(row: Row, texts: Texts) -> dict[str, Any]:
    named = {name: row.get(name) for name in ("user", "application", "state", "mode", "kind", "relation")}
    times = {"transactionS": _rounded(row.get("transaction_s")), "waitingS": _rounded(row.get("waiting_s"))}
    return {"pid": row["pid"], **named, **times, "query": texts.shown(row["query"])}


def waits(rows: Sequence[Row], values: Values, texts: Texts) -> dict[str, Any]:
    """What sessions wait for. PostgreSQL tells what is so now, Oracle what was since it started."""
    since_start = any("waits" in row for row in rows)
    known = [row for row in rows if row["kind"] is not None]
    found = [{_camel(name): _rounded(value) for name, value in row.items()} for row in known]
    missing = [GRANT] if len(known) < len(rows) else []
    return {"waits": found, "of": "start" if since_start else "now", "missing": missing}


def numbers(rows: Sequence[Row], values: Values, texts: Texts) -> dict[str, Any] | None:
    """The figures of one row; None where there is none."""
    if not rows:
        return None
    hidden = rows[0].get("hidden")
    own = {_camel(name): _rounded(value) for name, value in rows[0].items() if name != "hidden"}
    return {**own, "missing": [GRANT] if hidden else []}


def statements(rows: Sequence[Row], values: Values, texts: Texts) -> dict[str, Any]:
    """The statements that take most time, with their share of it: numbers only, as texts cost 400 times as much."""
    known = [row for row in rows if row["id"] is not None][: int(values["limit"])]
    return {
        "statements": [_statement(row) for row in known],
        "missing": [GRANT] if any(row["id"] is None for row in rows) else [],
    }


def statement(rows: Sequence[Row], values: Values, texts: Texts) -> dict[str, Any] | None:
    """One statement's figures; None where it is not known."""
    return {**_statement(rows[0]), "missing": []} if rows else None


def _statement(row: Row) -> dict[str, Any]:
    total, calls, every = row["total_ms"] or 0, row["calls"] or 0, row["all_ms"] or 0
    blocks = (row["blocks_hit"] or 0) + (row["blocks_read"] or 0)
    return {
        # 64 bits: more than a number in JSON holds everywhere.
        "id": str(row["id"]),
        "calls": calls,
        "totalMs": _rounded(total),
        "meanMs": _rounded(total / calls) if calls else None,
        "maxMs": _rounded(row["max_ms"]),
        "rows": row["rows"],
        "share": round(total / every, 4) if every else None,
        "blocksRead": row["blocks_read"],
        "hitRatio": round((row["blocks_hit"] or 0) / blocks, 4) if blocks else None,
    }


def schemas(rows: Sequence[Row], values: Values, texts: Texts) -> dict[str, Any]:
    """All schemas but PostgreSQL's temporary ones."""
    return {"schemas": [dict(row) for row in rows[:MOST_SCHEMAS]], "more": len(rows) > MOST_SCHEMAS, "missing": []}


PAGE = 50
"""Tables on a page."""
_KINDS = {"r": "table", "p": "partitioned table", "v": "view", "m": "materialized view", "f": "foreign table"}


def tables(rows: Sequence[Row], values: Values, texts: Texts) -> dict[str, Any] | None:
    """One page of a schema's tables, sizes where they were asked for; None where there is no such page."""
    if not rows and values["page"] != "1":
        # How many there are is told by the rows.
        return None
    found = [
        {
            "name": row["name"],
            "kind": _KINDS.get(row["kind"], row["kind"]),
            # -1: never counted.
            "rows": None if row["rows"] is None or row["rows"] < 0 else round(row["rows"]),
            "deadRows": row["dead_rows"],
            "sequentialScans": row["sequential_scans"],
            "indexScans": row["index_scans"],
            "vacuumedAt": _rounded(row["vacuumed_s"]),
            **({"bytes": row["bytes"]} if values["sizes"] == "1" else {}),
        }
        for row in rows
    ]
    every = rows[0]["found"] if rows else 0
    return {"tables": found, "page": int(values["page"]), "pages": -(-every // PAGE), "found": every, "missing": []}


def columns(rows: Sequence[Row], values: Values, texts: Texts) -> dict[str, Any] | None:
    """A table's columns; None where there is no such table."""
    if not rows:
        return None
    found = [
        {
            "name": row["name"],
            "type": row["type"],
            "required": bool(row["required"]),
            "hasDefault": bool(row["has_default"]),
        }
        for row in rows
    ]
    return {"columns": found, "missing": []}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return "".join([first, *(each.capitalize() for each in rest)])


def _rounded(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value


SESSIONS = Shape("sessions", sessions)
LOCKS = Shape("locks", locks)
WAITS = Shape("waits", waits)
REALTIME = Shape("realtime", numbers)
DASHBOARD = Shape("dashboard", numbers)
TOP = Shape("top", statements, {"statements": [], "missing": [EXTENSION]})
ONE = Shape("one", statement, {"missing": [EXTENSION]})
SCHEMAS = Shape("schemas", schemas)
TABLES = Shape("tables", tables)
COLUMNS = Shape("columns", columns)
