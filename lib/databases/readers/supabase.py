"""Supabase's PostgREST: a function for each statement (``supabase/migrations``), for the service role alone."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ...base.env import Secret
from ...base.values import dataclass
from ...data.body import parsed
from ...data.origins.port import OriginFailed
from ...data.origins.supabase import headers_with
from ...data.origins.wire import is_there, json_of
from ..postgres import STATEMENTS
from .port import Row

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx


@dataclass(frozen=True, slots=True, eq=False)
class Functions:
    """See :class:`~.port.Reader`."""

    url: str
    key: Secret
    client: "Callable[[], httpx.AsyncClient]"
    called: "Callable[[], None]"
    """Told of each call, which counts as a call of Supabase's."""

    async def rows(self, statement: str, arguments: Mapping[str, str], left_s: float) -> Sequence[Row]:
        """Call a statement's function."""
        self.called()
        url = f"{self.url}/rest/v1/rpc/breakwater_watch_{statement}"
        body = {f"p_{name}": arguments[name] for name in STATEMENTS[statement].parameters}
        sent = await json_of(
            self.client(), "POST", url, left_s, headers=self._headers, body=body, secret=True, sql=True
        )
        rows = parsed(sent.content)
        if not isinstance(rows, list):
            raise OriginFailed("protocol", "the reply has no rows")
        return rows

    async def explain(self, query: str, left_s: float) -> object:
        """A function that explains any text would run with its owner's rights: raises OriginFailed."""
        raise OriginFailed("rejected", "plans are not read this way", "ours")

    async def check(self, left_s: float) -> None:
        """``HEAD`` of PostgREST's root."""
        await is_there(self.client(), f"{self.url}/rest/v1/", left_s, self._headers)

    async def aclose(self) -> None:
        """Nothing is open."""

    @property
    def _headers(self) -> Mapping[str, str]:
        return headers_with(self.key.value)
