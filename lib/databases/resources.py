"""The data routes of watched databases: names, keys and lifetimes as the customer's API has them.

Each read names its connection. One that is not configured is 404 before a key is made of it.
"""

import asyncio
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..base.connections import variant_of_all
from ..base.values import dataclass
from ..data.body import Body
from ..data.origins.function import Python
from ..data.origins.port import Choice, Chosen, OriginFailed, Values
from ..data.resource import Query, Resource, Role, Tier
from . import shapes, trend
from .shapes import Shape
from .watching import Databases, Watched, samples

if TYPE_CHECKING:
    from ..parts import Parts

_TIMEOUT_S, _HEALTH_S = 5.0, 2.0
_CONNECTION = Query("", r"(?s).+")
_ID = re.compile(r"-?[A-Za-z0-9]{1,40}")
_VIEWER: tuple[Role, ...] = ("viewer", "admin")


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One view of one database as an origin. See :class:`~..data.origins.port.Origin`."""

    watched: Watched
    shape: Shape
    timeout_s: float = _TIMEOUT_S
    has_check: bool = True

    @property
    def name(self) -> str:
        """All views of a database share its circuit."""
        return self.watched.connection.circuit

    async def fetch(self, parts: "Parts", values: Values, left_s: float) -> Body:
        """Ask the database, and shape what it says."""
        try:
            rows = await self.watched.rows(self.shape.statement, values, left_s)
        except OriginFailed as e:
            if e.kind != "missing" or self.shape.lacking is None:
                raise
            return _body(parts, values, self.shape.lacking)
        found = self.shape.of(rows, values, self.watched.texts)
        await self.watched.learn(parts, self.shape.statement, rows)
        return _body(parts, values, found)

    async def check(self, parts: "Parts") -> None:
        """Whether it answers."""
        await self.watched.reader.check(self.timeout_s)


@dataclass(frozen=True, slots=True, eq=False)
class StatementText(View):
    """The text of one statement, masked; read together with others that are asked for at the same time."""

    async def fetch(self, parts: "Parts", values: Values, left_s: float) -> Body:
        """Ask for it."""
        if not _ID.fullmatch(values["id"]):
            # Texts are read together: it must not have the others fail.
            return Body.of(None)
        try:
            text = await self.watched.text(values["id"], left_s)
        except OriginFailed as e:
            if e.kind != "missing":
                raise
            return _body(parts, values, {"missing": [shapes.EXTENSION]})
        if text is None:
            return Body.of(None)
        shown = self.watched.texts.shown(text)
        return _body(parts, values, {"id": values["id"], "text": shown, "missing": [] if shown else [shapes.GRANT]})


@dataclass(frozen=True, slots=True, eq=False)
class Trend(View):
    """What was sampled over a period; the database itself is not asked."""

    has_check: bool = False

    @property
    def name(self) -> str:
        """A circuit of its own: the past can be read while the database is down, and the other way round."""
        return "samples"

    async def fetch(self, parts: "Parts", values: Values, left_s: float) -> Body:
        """Read the samples."""
        found = trend.points(await samples(parts, self.watched.connection, values["period"]))
        missing = [] if parts.guard.limits.redis else ["Samples are kept in Redis, which is not configured."]
        return _body(parts, values, {"points": found, "everyS": trend.SLOT_MS // 1000, "missing": missing})


def _body(parts: "Parts", values: Values, found: Mapping[str, Any] | None) -> Body:
    if found is None:
        return Body.of(None)
    return Body.of({"connectionId": values["connectionId"], "at": parts.clock.now_ms() // 1000, **found})


def _choice(kind: type[View], shape: Shape) -> Choice:
    def choose(parts: "Parts", values: Values) -> Chosen:
        watched = Databases.of(parts).get(values["connectionId"])
        return Chosen(kind(watched, shape), watched.variant)

    return Choice(choose)


def _resource(
    name: str, key: str, tier: Tier, shape: Shape, kind: type[View] = View, query: Mapping[str, Query] | None = None
) -> Resource:
    return Resource(
        name,
        key=f"tms:{{connectionId}}:{key}",
        tier=tier,
        origin=_choice(kind, shape),
        query={"connectionId": _CONNECTION, **(query or {})},
        roles=_VIEWER,
    )


async def _health(watched: Watched) -> dict[str, Any]:
    """What a connection can do, without its address."""
    connection = watched.connection
    shown = {"id": connection.id, "kind": connection.kind, "label": f"{connection.id} ({connection.kind})"}
    try:
        async with asyncio.timeout(_HEALTH_S):
            row = (await watched.rows("health", {}, _HEALTH_S))[0]
    except Exception as e:  # noqa: BLE001 - whatever is wrong with one of them, the others are shown
        reason = e.kind if isinstance(e, OriginFailed) else "timeout" if isinstance(e, TimeoutError) else "raised"
        missing = [shapes.MIGRATIONS] if (reason, connection.kind) == ("missing", "supabase") else []
        return {**shown, "health": "down", "reason": reason, "missing": missing}
    missing = [] if row["sees_all"] else [f"grant pg_monitor to {row['role']}"]
    missing += [] if row["has_statements"] else [shapes.EXTENSION]
    return {**shown, "health": "limited" if missing else "up", "version": row["version"], "missing": missing}


def _all(parts: "Parts", values: Values) -> Chosen:
    databases = Databases.of(parts)

    async def read(_: Values) -> dict[str, Any]:
        watched = [databases.get(name) for name in databases.connections]
        return {"connections": await asyncio.gather(*map(_health, watched))}

    return Chosen(Python(read, "connections"), variant_of_all(databases.connections.values()))


CONNECTIONS = Resource("connections", key="tms:connections", tier="1m", origin=Choice(_all), roles=_VIEWER)
SESSIONS = _resource("sessions", "sessions", "30s", shapes.SESSIONS)
LOCKS = _resource("locks", "locks", "30s", shapes.LOCKS)
WAITS = _resource("wait-events", "wait-events", "30s", shapes.WAITS)
REALTIME = _resource("realtime", "realtime", "15s", shapes.REALTIME)
_LIMIT = {"limit": Query("100", "[1-9][0-9]?|100")}
TOP = _resource("sql-statistics", "top-sql:{limit}", "1m", shapes.TOP, query=_LIMIT)
ONE = _resource("sql", "sql:{id}", "5m", shapes.ONE)
TEXT = _resource("sql-text", "sql-text:{id}", "24h", shapes.ONE, StatementText)
_PERIOD = {"period": Query("24h", "|".join(trend.PERIODS))}
TREND = _resource("trend", "trend:{period}", "5m", shapes.DASHBOARD, Trend, _PERIOD)
DASHBOARD = _resource("dashboard", "dashboard", "30s", shapes.DASHBOARD)
SCHEMAS = _resource("schemas", "schemas", "1h", shapes.SCHEMAS)
_ANY = r"(?s).+"
_TABLES = {"schema": Query("public", _ANY), "page": Query("1", "[1-9][0-9]{0,3}"), "sizes": Query("0", "[01]")}
TABLES = _resource("tables", "tables:{schema}:{page}:{sizes}", "30m", shapes.TABLES, query=_TABLES)
_COLUMNS = {"schema": Query("public", _ANY), "table": Query("", _ANY)}
COLUMNS = _resource("columns", "columns:{schema}:{table}", "30m", shapes.COLUMNS, query=_COLUMNS)

TABLE = {
    "/api/connections": CONNECTIONS,
    "/api/monitoring/sessions": SESSIONS,
    "/api/monitoring/locks": LOCKS,
    "/api/monitoring/wait-events": WAITS,
    "/api/monitoring/realtime": REALTIME,
    "/api/monitoring/sql-statistics": TOP,
    "/api/monitoring/sql/{id}": ONE,
    "/api/monitoring/sql/{id}/text": TEXT,
    "/api/monitoring/trend": TREND,
    "/api/dashboard/metrics": DASHBOARD,
    "/api/schemas": SCHEMAS,
    "/api/tables": TABLES,
    "/api/columns": COLUMNS,
    # As the customer's clients have them.
    "/api/oracle/schemas": SCHEMAS,
    "/api/oracle/tables": TABLES,
    "/api/oracle/columns": COLUMNS,
}
