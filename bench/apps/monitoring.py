"""What every application that is measured on data routes reads: eight queries of a database's figures, by name and id.

Imports nothing of ours, so that the applications of others can use it in environments of their own.
"""

import asyncio
import json
import os
from typing import Any

TIERS = ("15s", "30s", "30s", "1m", "1m", "5m", "5m", "30m")
"""For how long each of the eight is fresh."""
SECONDS = {"15s": 15, "30s": 30, "1m": 60, "5m": 300, "30m": 1_800}
TABLES = 300
QUERY = "select * from bench_sizes($1)"
SCHEMA = """
create sequence bench_asked;
create function bench_sizes(id text) returns table (name text, bytes bigint) language sql as $$
  select nextval('bench_asked');
  select c.relname, pg_total_relation_size(c.oid) from pg_class c
  where c.relkind in ('r', 'i') and length(id) > 0 order by 2 desc limit 50
$$;
"""
"""The query, and a sequence that counts how often it was asked: one that no cache and no client can miss."""
CONNECTIONS = 10
"""So many an instance, for those who ask the database by a pool: asyncpg's default."""

_pools: list[Any] = []
_making = asyncio.Lock()


async def body(item: str) -> str:
    """One query's rows as JSON, by a pool of this process."""
    import asyncpg

    async with _making:
        if not _pools:
            _pools.append(await asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=1, max_size=CONNECTIONS))
    return json.dumps([dict(row) for row in await _pools[0].fetch(QUERY, item)])
