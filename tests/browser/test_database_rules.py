"""The rules of the database view: how a database is doing, which sessions come first, what has a plan."""

from typing import Any

import pytest

from lib.databases import noticing
from tests.browser.conftest import Visit

UP = {"id": "shop", "kind": "postgres", "health": "up"}


def views(
    realtime: dict[str, Any] | None = None, locks: dict[str, Any] | None = None, code: str = ""
) -> dict[str, Any]:
    """A reading of a quiet database, but for what is given."""
    quiet = {"at": 100, "sessions": 12, "active": 3, "mostSessions": 100, "longestTransactionS": 2, "missing": []}
    read = {"value": None, "error": {"code": code, "status": 503}} if code else {"value": quiet | (realtime or {})}
    return {"realtime": {"error": None, **read}, "locks": {"value": locks or {"waiting": 0, "blockers": []}}}


def waiting(pid: int, seconds: float, *below: dict[str, Any]) -> dict[str, Any]:
    """Somebody who has waited so long."""
    return {"pid": pid, "application": "app", "waitingS": seconds, "blocks": list(below)}


def holder(pid: int, *below: dict[str, Any]) -> dict[str, Any]:
    """Somebody who waits for nobody and holds up others."""
    return {"pid": pid, "application": "", "waitingS": None, "blocks": list(below)}


def locked(*holders: dict[str, Any]) -> dict[str, Any]:
    """The locks with these at the top."""
    return {"waiting": 2, "blockers": list(holders)}


STATES: dict[str, tuple[dict[str, Any] | None, dict[str, Any], str, list[str]]] = {
    "calm": (UP, views(), "fine", ["calm"]),
    "a lock for a moment": (UP, views(locks=locked(holder(1, waiting(2, 5)))), "fine", ["blocked"]),
    "a lock": (UP, views(locks=locked(holder(1, waiting(2, 6)))), "short", ["blocked"]),
    "a long lock, further below": (
        UP,
        views(locks=locked(holder(1, waiting(2, 1, waiting(3, noticing.LONG_WAIT_S + 1))))),
        "degraded",
        ["blocked"],
    ),
    "nearly all sessions": (UP, views({"sessions": 90}), "degraded", ["full"]),
    "many sessions": (UP, views({"sessions": 89}), "fine", ["calm"]),
    "no limit of sessions": (UP, views({"mostSessions": None}), "fine", ["calm"]),
    "an open transaction": (UP, views({"longestTransactionS": 300}), "short", ["open"]),
    "a transaction": (UP, views({"longestTransactionS": 299}), "fine", ["calm"]),
    "seen in part": (UP | {"health": "limited"}, views(), "short", ["limited"]),
    "down, with figures": (UP | {"health": "down", "reason": "timeout"}, views(), "down", ["kept"]),
    "down": (UP | {"health": "down", "reason": "timeout"}, views(code="origin_unavailable"), "down", ["down"]),
    "not read": (UP, views(code="circuit_open"), "down", ["unread"]),
    "a connection nobody lists": (None, views(), "fine", ["calm"]),
    "several, the worst first": (
        UP,
        views({"longestTransactionS": 999, "sessions": 99}, locked(holder(1, waiting(2, 6)))),
        "degraded",
        ["full", "blocked", "open"],
    ),
}


def test_how_it_is_doing(visit: Visit) -> None:
    """The level, and the reasons for it, of every kind of reading."""
    rule = "(cases) => import('/page/database/state.js').then(({ stateOf }) => cases.map((each) => stateOf(...each)))"
    found = visit.page.evaluate(rule, [[connection, read] for connection, read, _, _ in STATES.values()])
    said = [(each["level"], [reason["why"] for reason in each["reasons"]]) for each in found]
    assert dict(zip(STATES, said, strict=True)) == {
        name: (level, reasons) for name, (_, _, level, reasons) in STATES.items()
    }


def test_the_longest_wait_is_told(visit: Visit) -> None:
    """Of several that hold others up, the one for whom somebody waits longest."""
    read = views(locks=locked(holder(1, waiting(2, 7)), holder(3, waiting(4, 9, waiting(5, 40)))))
    rule = "([connection, read]) => import('/page/database/state.js').then(({ stateOf }) => stateOf(connection, read))"
    (reason,) = visit.page.evaluate(rule, [UP, read])["reasons"]
    assert (reason["values"]["pid"], reason["values"]["seconds"]) == (3, 40)


def test_which_sessions_come_first(visit: Visit) -> None:
    """Those that wait, then those that work, then open transactions, each the longest first; the rest at the end."""
    sessions = [
        {"pid": 1, "state": "idle", "blockedBy": [], "statementS": 900, "transactionS": None},
        {"pid": 2, "state": "idle in transaction", "blockedBy": [], "statementS": 1, "transactionS": 5},
        {"pid": 3, "state": "idle in transaction (aborted)", "blockedBy": [], "statementS": 1, "transactionS": 50},
        {"pid": 4, "state": "active", "blockedBy": [], "statementS": 1, "transactionS": 100},
        {"pid": 5, "state": "ACTIVE", "blockedBy": [], "statementS": 2, "transactionS": 2},
        {"pid": 6, "state": "active", "blockedBy": [2], "statementS": 0, "transactionS": 0},
        {"pid": 7, "state": None, "blockedBy": [], "statementS": None, "transactionS": None},
    ]
    rule = """(sessions) => import('/page/database/state.js').then(({ ordered, FILTERS }) => [
        ordered(sessions), ...Object.values(FILTERS).map((fits) => sessions.filter(fits))])"""
    found = [[each["pid"] for each in group] for group in visit.page.evaluate(rule, sessions)]
    everybody = [6, 5, 4, 3, 2, 1, 7]
    assert found[0] == everybody
    assert found[1:] == [[2, 3, 4, 5, 6], [6], [2, 3], [1, 2, 3, 4, 5, 6, 7]]


@pytest.mark.parametrize(
    ("text", "kind", "has"),
    [
        ("select 1 from orders", "postgres", True),
        (" WITH a as (select b from c) select * from a", "neon", True),
        ("select * from orders where id = $1", "postgres", False),
        ("select * from orders where id = ?", "postgres", False),
        ("update orders set a = b", "postgres", False),
        ("selected", "postgres", False),
        ("create role ...", "postgres", False),
        ("select a from b", "supabase", False),
        ("select a from b", "oracle", False),
    ],
)
def test_what_has_a_plan(visit: Visit, text: str, kind: str, has: bool) -> None:
    """One query with all its values, of a database that can be asked for plans."""
    rule = "(given) => import('/page/database/state.js').then(({ hasPlan }) => hasPlan(...given))"
    assert visit.page.evaluate(rule, [text, kind]) is has
