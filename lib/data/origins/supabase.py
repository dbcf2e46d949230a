"""Supabase as an origin, through PostgREST: a function of the database, or rows of a table. Nothing is asked twice."""

from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING

from ...base.values import dataclass
from ..body import Body, parsed
from .port import OriginFailed, Values
from .wire import is_there, json_of

if TYPE_CHECKING:
    from ...parts import Parts


@dataclass(frozen=True, slots=True, eq=False)
class Rpc:
    """``Rpc("breakwater_menu", {"p_id": "id"})``: a function, its arguments by name with the parameter of each.

    The function decides what ``service_role`` may read. What it returns is the value; null is absent.
    """

    function: str
    arguments: Mapping[str, str] = field(default_factory=dict)
    name: str = "supabase"
    timeout_s: float = 5.0
    has_check: bool = True

    async def fetch(self, parts: "Parts", values: Values, left_s: float) -> Body:
        """Call the function."""
        url, headers = address_of(parts)
        parts.ledger.called()
        body = {argument: values[name] for argument, name in self.arguments.items()}
        client = parts.client.get()
        return await json_of(
            client,
            "POST",
            f"{url}/rest/v1/rpc/{self.function}",
            left_s,
            headers=headers,
            body=body,
            secret=True,
            sql=True,
        )

    async def check(self, parts: "Parts") -> None:
        """See :func:`check`."""
        await check(parts, self.timeout_s)


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """``Table("menus", where={"id": "id"}, one=True)``: rows whose columns equal parameters.

    ``one``: the value is the row itself, absent where there is none; else it is the list of rows.
    """

    table: str
    columns: str = "*"
    where: Mapping[str, str] = field(default_factory=dict)
    """Columns, with the parameter that each has to equal."""
    order: str = ""
    """As PostgREST has it: ``position.asc``."""
    most: int = 1_000
    """So many rows at most."""
    one: bool = False
    name: str = "supabase"
    timeout_s: float = 5.0
    has_check: bool = True

    async def fetch(self, parts: "Parts", values: Values, left_s: float) -> Body:
        """Read the rows."""
        url, headers = address_of(parts)
        parts.ledger.called()
        query = {"select": self.columns, "limit": str(1 if self.one else self.most)}
        query |= {column: f"eq.{values[name]}" for column, name in self.where.items()}
        if self.order:
            query["order"] = self.order
        client = parts.client.get()
        found = await json_of(
            client, "GET", f"{url}/rest/v1/{self.table}", left_s, headers=headers, query=query, secret=True, sql=True
        )
        if not self.one:
            return found
        rows = parsed(found.content)
        return Body.of(rows[0] if isinstance(rows, list) and rows else None)

    async def check(self, parts: "Parts") -> None:
        """See :func:`check`."""
        await check(parts, self.timeout_s)


async def check(parts: "Parts", timeout_s: float) -> None:
    """Ask whether PostgREST is there: ``HEAD`` of its root. Raises OriginFailed."""
    url, headers = address_of(parts)
    await is_there(parts.client.get(), f"{url}/rest/v1/", timeout_s, headers)


def address_of(parts: "Parts") -> tuple[str, Mapping[str, str]]:
    """Supabase's address, and the headers that open it. Raises OriginFailed where it is not configured."""
    settings = parts.settings
    if settings.supabase_url is None or settings.supabase_key is None:
        missing = "SUPABASE_URL and SUPABASE_SERVICE_ROLE_KEY are not set"
        raise OriginFailed("unauthorized", missing, "ours", sent=False)
    return settings.supabase_url, headers_with(settings.supabase_key.value)


def headers_with(key: str) -> Mapping[str, str]:
    """The headers that a key is sent in."""
    if key.count(".") == 2:
        return {"apikey": key, "authorization": f"Bearer {key}"}
    # The older keys are tokens. The newer ones (sb_secret_...) are none, and refused where one belongs.
    return {"apikey": key}
