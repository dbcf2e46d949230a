"""Watching as it is usually written: each request asks the database, by a pool of the instance.

The same statements as Breakwater's, by the same driver; rows are sent as they come.
"""

import asyncio
import json
import os
from typing import Any

import asyncpg
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench.apps.monitored import BATCH, VIEWS
from lib.databases.postgres import STATEMENTS, as_json

_pools: list[Any] = []
_making = asyncio.Lock()


async def _rows(name: str, given: dict[str, str]) -> str:
    statement = STATEMENTS[name]
    async with _making:
        if not _pools:
            made = asyncpg.create_pool(os.environ["SHOP_URL"], min_size=1, max_size=10, statement_cache_size=0)
            _pools.append(await made)
    arguments = [given[each] for each in statement.parameters]
    return str(await _pools[0].fetchval(as_json(statement.text), *arguments))


async def view(request: Request) -> Response:
    """One view."""
    name, defaults = VIEWS[request.url.path]
    rows = await _rows(name, {**defaults, **dict(request.query_params)})
    return Response(f'{{"rows":{rows}}}', media_type="application/json")


async def batch(request: Request) -> Response:
    """All views of a page."""
    found = {path: json.loads(await _rows(*VIEWS[path])) for path in BATCH.values()}
    return Response(json.dumps(found), media_type="application/json")


app = Starlette(routes=[Route("/api/data", batch), *(Route(path, view) for path in VIEWS)])
