"""What Supabase keeps of the fleet: every five minutes a row for each reporter, and what becomes of old rows."""

from typing import TYPE_CHECKING, Any

from ..base.events import StoreFailed
from ..data.body import parsed
from ..data.origins.port import OriginFailed
from ..data.origins.supabase import address_of
from ..data.origins.wire import json_of
from .fleet import Fleet, tell
from .snapshot import Snapshot
from .state import status_of
from .watch import SILENT, Change

if TYPE_CHECKING:
    from ..parts import Parts

SLOT_MS = 300_000
_WAIT_S = 5.0
_SWEEPS = 20
"""So many times old rows are rolled up at most: what is left goes the next day."""


async def record(parts: "Parts", snapshot: Snapshot, *, new: bool) -> None:
    """Record a report, the first of its five minutes that this instance sees. Another instance's changes nothing.

    A server that was not measured in these five minutes is left out: its history has a gap. ``new``: this instance knew
    nothing of the reporter. Then only the record shows whether it has been silent.
    """
    fleet, slot_ms = Fleet.of(parts), snapshot.at_ms // SLOT_MS * SLOT_MS
    if parts.settings.supabase_key is None or fleet.recorded.get(snapshot.reporter) == slot_ms:
        return
    fleet.recorded[snapshot.reporter] = slot_ms
    rows = {each.id: each.metrics for each in snapshot.servers if each.at_ms > snapshot.at_ms - SLOT_MS}
    arguments = {"p_reporter": snapshot.reporter, "p_slot_ms": slot_ms, "p_metrics": rows}
    try:
        before_ms = await call(parts, "breakwater_fleet_record", arguments)
    except OriginFailed as e:
        # The next report tries again.
        fleet.recorded.pop(snapshot.reporter, None)
        parts.emit(StoreFailed("supabase", "report", str(e)))
        return
    if new and isinstance(before_ms, int):
        # At the latest it was heard of when those five minutes ended.
        status = status_of(before_ms + SLOT_MS, snapshot.interval_s, snapshot.at_ms)
        tell(parts, snapshot.reporter, [Change("", SILENT, began=False)] if status == SILENT else ())


async def sweep(parts: "Parts") -> int:
    """Roll whole hours up and delete what is old; yields how many rows that were. Raises OriginFailed."""
    done = 0
    for _ in range(_SWEEPS):
        more = await call(parts, "breakwater_fleet_sweep", {"p_now_ms": parts.clock.now_ms()})
        if not isinstance(more, int):
            raise OriginFailed("protocol", "breakwater_fleet_sweep replied in another shape than the migration's")
        done += more
        if not more:
            break
    return done


async def call(parts: "Parts", function: str, arguments: dict[str, Any]) -> object:
    """Call one of the migration's functions. Raises OriginFailed."""
    url, headers = address_of(parts)
    parts.ledger.called()
    reply = await json_of(
        parts.client.get(),
        "POST",
        f"{url}/rest/v1/rpc/{function}",
        _WAIT_S,
        headers=headers,
        body=arguments,
        secret=True,
    )
    return parsed(reply.content)
