"""PostgreSQL as an origin, by one query through a pooler: Neon, Supabase's own, or any other.

One connection an instance, made with the first query: a pooler in transaction mode has many, and an instance serves one
request at a time for most of its life. Nothing is prepared under a name, which such a pooler would not keep.
"""

import asyncio
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...base.env import BadSettings
from ...base.extras import EXTRAS
from ...base.values import dataclass
from ..body import Body
from .port import OriginFailed, Values
from .sqlstate import failure

if TYPE_CHECKING:
    import asyncpg

    from ...base.env import Secret
    from ...parts import Parts


@dataclass(frozen=True, slots=True, eq=False)
class Sql:
    """``Sql("select id, name from menus where id = $1::text::int", ("id",), one=True)``.

    Parameters are bound, never put into the text, and are texts: cast what is none. A row is an object.
    """

    query: str
    parameters: Sequence[str] = ()
    """The parameters of ``$1``, ``$2`` and so on."""
    one: bool = False
    """The value is the first row, absent where there is none; else it is the list of rows."""
    name: str = "postgres"
    timeout_s: float = 5.0
    has_check: bool = True

    def __post_init__(self) -> None:
        """Raises BadSettings where asyncpg is not installed."""
        if lacking := EXTRAS["postgres"].missing("Sql"):
            raise BadSettings(lacking)

    async def fetch(self, parts: "Parts", values: Values, left_s: float) -> Body:
        """Run the query."""
        rows = await Database.of(parts).rows(self.query, [values[name] for name in self.parameters], left_s)
        return Body.of((rows[0] if rows else None) if self.one else rows)

    async def check(self, parts: "Parts") -> None:
        """``select 1``."""
        await Database.of(parts).rows("select 1", (), self.timeout_s)


@dataclass(slots=True, eq=False)
class Database:
    """The connection of an instance."""

    url: "Secret | None"
    before: str = ""
    """Statements that begin a transaction, in which each query then runs; none: a query runs alone."""
    _connection: "asyncpg.Connection[Any] | None" = None
    _lock: asyncio.Lock | None = None

    @classmethod
    def of(cls, parts: "Parts") -> "Database":
        """The PostgreSQL that ``DATABASE_URL`` names."""
        return parts.keep(cls, lambda parts: Database(parts.settings.database_url))

    async def rows(self, query: str, arguments: Sequence[str], left_s: float) -> list[dict[str, Any]]:
        """The rows of a query. Raises OriginFailed."""
        if self.url is None:
            raise OriginFailed("unauthorized", "DATABASE_URL is not set", "ours", sent=False)
        import asyncpg

        self._lock = self._lock or asyncio.Lock()
        try:
            async with asyncio.timeout(left_s), self._lock:
                found = await self._ask(self.url.value, query, arguments)
                return [dict(row) for row in found]
        except TimeoutError as e:
            raise OriginFailed("timeout", f"no answer within {left_s:.1f} s") from e
        except asyncpg.PostgresError as e:
            raise failure(e.sqlstate or "") from e
        except (ValueError, OverflowError) as e:
            # No address that asyncpg takes.
            raise OriginFailed("missing", type(e).__name__, "ours", sent=False) from e
        except (OSError, asyncpg.InterfaceError) as e:
            raise OriginFailed("connection", type(e).__name__, sent=not isinstance(e, ConnectionRefusedError)) from e

    async def _ask(self, url: str, query: str, arguments: Sequence[str]) -> Sequence[Any]:
        connection = self._connection
        if connection is None or connection.is_closed():
            connection = self._connection = await _connected(url)
        try:
            found = await self._answer(connection, query, arguments)
        except BaseException as e:
            if not _leaves_it_usable(e):
                # Its answer, which may still come, would be taken for the next one's.
                connection.terminate()
                self._connection = None
            raise
        return found

    async def _answer(
        self, connection: "asyncpg.Connection[Any]", query: str, arguments: Sequence[str]
    ) -> Sequence[Any]:
        if not self.before:
            found: Sequence[Any] = await connection.fetch(query, *arguments)
            return found
        import asyncpg

        await connection.execute(self.before)
        try:
            found = await connection.fetch(query, *arguments)
        except asyncpg.PostgresError:
            await connection.execute("rollback")
            raise
        await connection.execute("commit")
        return found

    async def aclose(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


async def _connected(url: str) -> "asyncpg.Connection[Any]":
    import asyncpg

    connection = await asyncpg.connect(
        _ours(url), statement_cache_size=0, server_settings={"application_name": "breakwater"}
    )
    for kind in ("json", "jsonb"):
        await connection.set_type_codec(kind, encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    return connection


_OF_OTHER_DRIVERS = frozenset(
    (
        *("channel_binding", "connect_timeout", "fallback_application_name", "gssdelegation", "gssencmode", "hostaddr"),
        *("keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval", "load_balance_hosts"),
        *("require_auth", "requirepeer", "sslcertmode", "sslcompression", "sslsni", "tcp_user_timeout"),
        *("connection_limit", "pgbouncer", "pool_timeout", "schema", "socket_timeout", "supa", "workaround"),
    )
)
"""Parameters that libpq, Prisma and hosts have in addresses. asyncpg would send them as settings, and be refused."""


def _ours(url: str) -> str:
    """An address without what is for other drivers alone."""
    address, _, query = url.partition("?")
    kept = [each for each in query.split("&") if each and each.partition("=")[0] not in _OF_OTHER_DRIVERS]
    return f"{address}?{'&'.join(kept)}" if kept else address


def _leaves_it_usable(error: BaseException) -> bool:
    """Whether the server has answered with an error, after which the connection goes on."""
    import asyncpg

    return isinstance(error, asyncpg.PostgresError) and not isinstance(error, asyncpg.PostgresConnectionError)
