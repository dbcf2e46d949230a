"""Neon's SQL over HTTP: a read-only transaction in one request, which needs no connection and no package.

The connection string goes in a header, as with Neon's own driver.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ...base.env import Secret
from ...base.values import dataclass
from ...data.body import parsed
from ...data.origins.port import OriginFailed
from ...data.origins.wire import json_of
from ..postgres import STATEMENTS, as_json
from .port import Row

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

_LIMITS = (
    "select set_config('statement_timeout', '2s', true), set_config('lock_timeout', '200ms', true), "
    "set_config('application_name', 'breakwater', true)"
)


@dataclass(frozen=True, slots=True, eq=False)
class Neon:
    """See :class:`~.port.Reader`. ``endpoint``: where it listens, if not at ``https://<host>/sql``."""

    url: Secret
    client: "Callable[[], httpx.AsyncClient]"
    endpoint: str = ""

    @property
    def address(self) -> str:
        """Where it is asked."""
        return self.endpoint or f"https://{urlsplit(self.url.value).hostname}/sql"

    async def rows(self, statement: str, arguments: Mapping[str, str], left_s: float) -> Sequence[Row]:
        """Run a statement."""
        wanted = STATEMENTS[statement]
        rows = await self._run(as_json(wanted.text), [arguments[name] for name in wanted.parameters], left_s)
        # The driver's protocol leaves it to the client whether JSON comes parsed.
        found: Any = rows[0]["rows"] if rows else None
        found = json.loads(found) if isinstance(found, str) else found
        if not isinstance(found, list):
            raise OriginFailed("protocol", "the reply has no rows")
        return found

    async def explain(self, query: str, left_s: float) -> object:
        """``explain (format json)``; what is not one statement is refused by the server as well."""
        (found,) = await self._run(f"explain (format json) {query}", [], left_s)
        plan = found["QUERY PLAN"]
        return json.loads(plan) if isinstance(plan, str) else plan

    async def check(self, left_s: float) -> None:
        """``select 1``."""
        await self._run("select 1 as one", [], left_s)

    async def aclose(self) -> None:
        """Nothing is open."""

    async def _run(self, query: str, parameters: Sequence[str], left_s: float) -> Sequence[Row]:
        body = {"queries": [{"query": _LIMITS, "params": []}, {"query": query, "params": parameters}]}
        headers = {"neon-connection-string": self.url.value, "neon-batch-read-only": "true"}
        sent = await json_of(
            self.client(), "POST", self.address, left_s, headers=headers, body=body, secret=True, sql=True
        )
        match parsed(sent.content):
            case {"results": [_, {"rows": list(rows)}]}:
                return rows
        raise OriginFailed("protocol", "the reply has no rows")
