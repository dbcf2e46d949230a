"""Oracle by python-oracledb in its thin mode, which needs no client library: one connection an instance.

Imported where ``DB_CONNECTIONS`` names an ``oracle:`` alone. Its tests use a fake driver: it never ran against a
server.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from ...base.env import Secret
from ...base.values import dataclass
from ...data.origins.port import OriginFailed
from ..oracle import STATEMENTS
from .port import Row

_CALL_MS = 2_000
_MOST_ROWS = 1_001
_MISSING = ("ORA-00942", "ORA-01031")
"""No such view, or no right to it: Oracle says the first for both."""
_REFUSED = ("ORA-01017", "ORA-28000", "ORA-01045")


@dataclass(slots=True, eq=False)
class Oracle:
    """See :class:`~.port.Reader`."""

    url: Secret
    _connection: Any = None
    _lock: asyncio.Lock | None = None

    async def rows(self, statement: str, arguments: Mapping[str, str], left_s: float) -> Sequence[Row]:
        """Run a statement."""
        wanted = STATEMENTS[statement]
        return await self._run(wanted.text, {f"p_{name}": arguments[name] for name in wanted.parameters}, left_s)

    async def explain(self, query: str, left_s: float) -> object:
        """Its plans are rows of a table that has to be written: raises OriginFailed."""
        raise OriginFailed("rejected", "plans are not read this way", "ours")

    async def check(self, left_s: float) -> None:
        """``select 1 from dual``."""
        await self._run("select 1 as one from dual", {}, left_s)

    async def aclose(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _run(self, query: str, parameters: Mapping[str, str], left_s: float) -> Sequence[Row]:
        import oracledb

        self._lock = self._lock or asyncio.Lock()
        try:
            async with asyncio.timeout(left_s), self._lock:
                return await self._ask(query, parameters)
        except TimeoutError as e:
            raise OriginFailed("timeout", f"no answer within {left_s:.1f} s") from e
        except oracledb.Error as e:
            raise _failure(e) from e
        except OSError as e:
            raise OriginFailed("connection", type(e).__name__, sent=not isinstance(e, ConnectionRefusedError)) from e

    async def _ask(self, query: str, parameters: Mapping[str, str]) -> Sequence[Row]:
        import oracledb

        if self._connection is None:
            at = urlsplit(self.url.value)
            self._connection = await oracledb.connect_async(
                user=unquote(at.username or ""),
                password=unquote(at.password or ""),
                dsn=f"{at.hostname}:{at.port or 1521}/{at.path.lstrip('/')}",
                program="breakwater",
            )
            self._connection.call_timeout = _CALL_MS
        try:
            with self._connection.cursor() as cursor:
                await cursor.execute("set transaction read only")
                await cursor.execute(query, parameters)
                names = [each[0].lower() for each in cursor.description]
                found = await cursor.fetchmany(_MOST_ROWS)
            await self._connection.rollback()
        except BaseException:
            # Its answer, which may still come, would be taken for the next one's.
            connection, self._connection = self._connection, None
            await connection.close()
            raise
        return [dict(zip(names, row, strict=True)) for row in found]


def _failure(error: Any) -> OriginFailed:
    """By Oracle's number; its text may hold what was asked."""
    code = str(getattr(error.args[0] if error.args else None, "full_code", "")) or type(error).__name__
    if code in _MISSING:
        return OriginFailed("missing", code, "ours")
    if code in _REFUSED:
        return OriginFailed("unauthorized", code, "ours")
    if code in ("DPY-4024", "ORA-03156"):
        return OriginFailed("timeout", code)
    if code.startswith(("DPY-6", "DPY-4011")):
        return OriginFailed("connection", code)
    return OriginFailed("server", code)
