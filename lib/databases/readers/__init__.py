"""How a watched database is asked: PostgreSQL directly, by Neon's HTTP, by Supabase's functions; Oracle."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ...base.connections import Connection
from ...base.env import Secret
from .port import Reader

if TYPE_CHECKING:
    import httpx


def reader_of(
    client: "Callable[[], httpx.AsyncClient]", supabase_key: Secret | None, called: Callable[[], None]
) -> Callable[[Connection], Reader]:
    """What makes the reader of a connection; a kind's module is imported with its first connection."""

    def make(connection: Connection) -> Reader:
        match connection.kind:
            case "supabase":
                from .supabase import Functions

                return Functions(connection.url.value.rstrip("/"), supabase_key or Secret(""), client, called)
            case "postgres":
                from .postgres import Direct

                return Direct.at(connection.url)
            case "neon":
                from .neon import Neon

                return Neon(connection.url, client)
            case "oracle":
                from .oracle import Oracle

                return Oracle(connection.url)

    return make
