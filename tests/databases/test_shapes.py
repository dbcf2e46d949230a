"""What a page is told of rows, whatever they are like."""

import json
from typing import Any

import pytest

from lib.base.encode import to_json
from lib.databases import shapes
from lib.databases.literals import HIDDEN
from lib.databases.shapes import GRANT, MOST, MOST_SCHEMAS, Texts

TEXTS = Texts("postgres", shows_literals=False)


def lock(pid: int, *blocked_by: int) -> dict[str, Any]:
    """A session that waits for others, or for nobody."""
    return {"pid": pid, "blocked_by": list(blocked_by), "query": "select 1"}


def tree(found: dict[str, Any]) -> Any:
    """The pids alone."""
    return {each["pid"]: tree({"blockers": each["blocks"]}) for each in found["blockers"]}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], {}),
        ([lock(1), lock(2, 1), lock(3, 1)], {1: {2: {}, 3: {}}}),
        ([lock(1), lock(2, 1), lock(3, 2)], {1: {2: {3: {}}}}),
        ([lock(1), lock(2), lock(3, 1, 2)], {1: {3: {}}, 2: {}}),
        # A queue for one row: each also waits for those before it.
        ([lock(1), lock(2, 1), lock(3, 2), lock(4, 2, 3), lock(5, 2, 3, 4)], {1: {2: {3: {}, 4: {}, 5: {}}}}),
        ([lock(2, 9)], {9: {2: {}}}),
        # A transaction that is prepared, of no session.
        ([lock(2, 0)], {0: {2: {}}}),
        ([lock(1, 2), lock(2, 1), lock(3, 2)], {1: {2: {3: {}}}}),
        ([lock(1, 1)], {1: {}}),
    ],
)
def test_who_blocks_whom(rows: list[dict[str, Any]], expected: Any) -> None:
    """Everybody who waits is shown once, below whom they wait for; also where sessions wait for each other."""
    found = shapes.locks(rows, {}, TEXTS)
    assert (tree(found), found["waiting"]) == (expected, sum(bool(each["blocked_by"]) for each in rows))


def test_a_long_queue() -> None:
    """One behind the other, as many as there are rows: all of it is shown, and is JSON."""
    rows = [lock(0), *(lock(n, n - 1) for n in range(1, MOST))]
    found = json.loads(to_json(shapes.locks(rows, {}, TEXTS)))
    depth, each = 0, found["blockers"][0]
    while each["blocks"]:
        depth, each = depth + 1, each["blocks"][0]
    assert (depth, found["more"], found["waiting"]) == (MOST - 1, False, MOST - 1)


def test_what_is_hidden() -> None:
    """A session that the role may not see into is no blocker, and the role is told; if it does block, it is shown."""
    hidden = {**lock(1), "query": HIDDEN}
    found = shapes.locks([hidden], {}, TEXTS)
    assert (found["blockers"], found["missing"]) == ([], [GRANT])
    found = shapes.locks([hidden, lock(2, 1)], {}, TEXTS)
    assert (tree(found), found["missing"]) == ({1: {2: {}}}, [GRANT])
    waits = shapes.waits([{"kind": None, "wait": "", "sessions": 3}, {"kind": "CPU", "wait": ""}], {}, TEXTS)
    assert ([each["kind"] for each in waits["waits"]], waits["missing"]) == (["CPU"], [GRANT])


@pytest.mark.parametrize("count", [0, MOST, MOST + 1])
def test_a_list_that_is_cut(count: int) -> None:
    """Says so."""
    rows = [{**lock(n), "query": None} for n in range(count)]
    for found in (shapes.sessions(rows, {}, TEXTS), shapes.locks(rows, {}, TEXTS)):
        assert found["more"] == (count > MOST)
    assert len(shapes.sessions(rows, {}, TEXTS)["sessions"]) == min(count, MOST)
    schemas = shapes.schemas([{"name": str(n)} for n in range(MOST_SCHEMAS + 1)], {}, TEXTS)
    assert (len(schemas["schemas"]), schemas["more"]) == (MOST_SCHEMAS, True)
