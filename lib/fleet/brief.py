"""What a model is told of a fleet: every server in trouble in full, the others as far as there is room; bounded."""

import json
from collections.abc import Callable, Iterable, Sequence

from ..ai.question import Json
from .snapshot import METRICS
from .state import Server, State, counts_of, iso
from .watch import WATCHED

MOST_CHARS = 12_000
"""A brief is no longer than this as JSON."""
_HIGHEST = 3
_NOTE = (
    "All servers at one time. inTrouble: the worst first, with reasons; others: those that are well. Either list may be"
    " shorter than its total. highest: of all servers. cpu, memory, disk: percent; network: Mbit/s; ageS: seconds since"
    " it was measured; null: not measured. source none: nothing is known of any server. simulated: none of them exists."
)


def reasons(server: Server, percent: float) -> list[str]:
    """Why a server is in trouble; nothing where it is well. ``percent``: the threshold of alerts."""
    found = [] if server.status == "online" else [str(server.status)]
    for what in WATCHED:
        value: float | None = getattr(server.measured, what)
        if value is not None and value > percent:
            found.append(f"{what} above {percent:g} %")
    return found


def brief(state: State, *, at_ms: int, source: str, simulated: bool, percent: float) -> dict[str, Json]:
    """The fleet at one time. ``source`` as the dashboard names it; ``none``: nothing is known of it."""
    why = {each.measured.id: reasons(each, percent) for each in state.servers}
    troubled = sorted((each for each in state.servers if why[each.measured.id]), key=_badness)
    well = [each for each in state.servers if not why[each.measured.id]]
    found: dict[str, Json] = {
        "note": _NOTE,
        "at": iso(at_ms),
        "source": source,
        "simulated": simulated,
        "total": len(state.servers),
        "counts": counts_of(state.servers),
        "namedByTwoReporters": len(state.conflicts),
        "inTroubleTotal": len(troubled),
        "inTrouble": [],
        "highest": {what: _highest(state.servers, what) for what in METRICS},
        "othersTotal": len(well),
        "othersMean": {what: _mean(well, what) for what in METRICS},
        "others": [],
    }
    room = MOST_CHARS - len(_text(found))
    found["inTrouble"], room = _fitting(
        troubled, lambda each: {**_row(each, at_ms), "reasons": why[each.measured.id]}, room
    )
    found["others"], _ = _fitting(well, lambda each: _row(each, at_ms), room)
    return found


def _badness(server: Server) -> tuple[int, float, str]:
    """The worst first: silent, then above the threshold, then late."""
    rank = {"silent": 0, "online": 1, "late": 2}[server.status]
    values = [value for value in (getattr(server.measured, what) for what in WATCHED) if value is not None]
    return rank, -max(values, default=0.0), server.measured.id


def _row(server: Server, at_ms: int) -> dict[str, Json]:
    measured = server.measured
    named: dict[str, Json] = {"id": measured.id}
    if measured.name != measured.id:
        named["name"] = measured.name
    if server.status != "online":
        named["status"] = server.status
    figures: dict[str, Json] = dict(zip(METRICS, measured.metrics, strict=True))
    return {**named, **figures, "ageS": max(0, (at_ms - measured.at_ms) // 1000), "reporter": server.reporter}


def _fitting(
    servers: Iterable[Server], row: Callable[[Server], dict[str, Json]], most_chars: int
) -> tuple[list[Json], int]:
    """As many rows as fit, from the first one on, and the characters that are left."""
    found, left = list[Json](), most_chars
    for each in servers:
        made = row(each)
        left -= len(_text(made)) + 1
        if left < 0:
            break
        found.append(made)
    return found, max(0, left)


def _highest(servers: Sequence[Server], what: str) -> list[Json]:
    known = [(getattr(each.measured, what), each.measured.id) for each in servers]
    ranked = sorted(((value, name) for value, name in known if value is not None), key=lambda pair: (-pair[0], pair[1]))
    return [{"id": name, "value": value} for value, name in ranked[:_HIGHEST]]


def _mean(servers: Sequence[Server], what: str) -> float | None:
    values = [value for value in (getattr(each.measured, what) for each in servers) if value is not None]
    return round(sum(values) / len(values), 1) if values else None


def _text(value: Json) -> str:
    """As it is sent; "<" takes six characters there (``ai/attached.py``)."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
