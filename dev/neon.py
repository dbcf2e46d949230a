"""A small stand-in for Neon's SQL over HTTP, over a real PostgreSQL: batches of statements, and their errors.

    POST /sql    {"queries": [{"query": "select $1", "params": ["a"]}, ...]} in one transaction

It speaks what `lib/databases/readers/neon.py` asks, and nothing else of Neon: one connection string, taken from the
header, has to be the one that it was made with.
"""

import hmac
from typing import Any

import psycopg
from psycopg.rows import dict_row
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp


def neon_app(postgres_uri: str, connection_string: str) -> ASGIApp:
    """The stand-in as an ASGI app: who knows `connection_string` asks the server at `postgres_uri`."""

    async def sql(request: Request) -> Response:
        given = request.headers.get("neon-connection-string", "")
        if not hmac.compare_digest(given.encode(), connection_string.encode()):
            return JSONResponse({"message": "password authentication failed", "code": None}, 401)
        queries = (await request.json())["queries"]
        read_only = request.headers.get("neon-batch-read-only") == "true"
        try:
            return JSONResponse({"results": await _run(postgres_uri, queries, read_only=read_only)})
        except psycopg.Error as error:
            return JSONResponse({"message": str(error), "code": error.sqlstate}, 400)

    return Starlette(routes=[Route("/sql", sql, methods=["POST"])])


async def _run(uri: str, queries: list[dict[str, Any]], *, read_only: bool) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    async with await psycopg.AsyncConnection.connect(uri) as connection:
        await connection.set_read_only(read_only)
        async with connection.transaction():
            for each in queries:
                cursor = psycopg.AsyncRawCursor(connection, row_factory=dict_row)
                # As Neon does: prepared, so that a text with two statements is refused.
                await cursor.execute(each["query"], each["params"], prepare=True)
                found.append({"rows": await cursor.fetchall(), "rowCount": cursor.rowcount})
    return found
