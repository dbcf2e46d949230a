"""PostgreSQL directly, best by a pooler's address: one connection an instance, a read-only transaction a statement."""

from collections.abc import Mapping, Sequence

from ...base.env import Secret
from ...base.values import dataclass
from ...data.origins.postgres import Database
from ..postgres import PREAMBLE, STATEMENTS, as_json
from .port import Row


@dataclass(frozen=True, slots=True, eq=False)
class Direct:
    """See :class:`~.port.Reader`."""

    database: Database

    @classmethod
    def at(cls, url: Secret) -> "Direct":
        """A reader of the server at an address."""
        return cls(Database(url, PREAMBLE))

    async def rows(self, statement: str, arguments: Mapping[str, str], left_s: float) -> Sequence[Row]:
        """Run a statement."""
        wanted = STATEMENTS[statement]
        given = [arguments[name] for name in wanted.parameters]
        (found,) = await self.database.rows(as_json(wanted.text), given, left_s)
        rows: list[Row] = found["rows"]
        return rows

    async def explain(self, query: str, left_s: float) -> object:
        """``explain (format json)``; what is not one statement is refused by the server as well."""
        (found,) = await self.database.rows(f"explain (format json) {query}", (), left_s)
        return found["QUERY PLAN"]

    async def check(self, left_s: float) -> None:
        """``select 1``."""
        await self.database.rows("select 1", (), left_s)

    async def aclose(self) -> None:
        """Close the connection."""
        await self.database.aclose()
