"""Databases to be watched: PostgreSQL 16 or later behind Supabase's stand-in, and 18 with its statements counted."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import httpx
import psycopg
import pytest

from dev.neon import neon_app
from dev.postgres import Postgres
from dev.serve import ThreadedServer
from tests.rig.clock import until
from tests.rig.door import an_instance, client
from tests.rig.guard import Rig
from tests.rig.instance import Instance

TOKEN = "admin-token-of-this-test"
AS_ADMIN = {"authorization": f"Bearer {TOKEN}"}
ARGUMENTS = {
    "limit": "5",
    "id": "1",
    "ids": "1,2",
    "schema": "pg_catalog",
    "table": "pg_class",
    "page": "1",
    "sizes": "1",
}
"""For every statement."""


@pytest.fixture(scope="session")
def neon(counted: Postgres) -> Iterator[str]:
    """The address of Neon's stand-in over the same server."""
    with ThreadedServer(neon_app(counted.uri, NEON)) as server:
        yield f"{server.url}/sql"


NEON = "postgresql://me:neon-secret@ep-x.neon.test/main"


@dataclass
class Site:
    """An instance that watches, and its routes."""

    instance: Instance

    async def get(self, path: str, connection: str = "shop", **headers: str) -> httpx.Response:
        """GET a path as the admin."""
        joined = "&" if "?" in path else "?"
        address = f"{path}{joined}connectionId={connection}" if connection else path
        async with client(self.instance.app) as http:
            return await http.get(address, headers=headers or AS_ADMIN)

    async def read(self, path: str, connection: str = "shop") -> Any:
        """The value at a path, of this second."""
        reply = await self.get(path, connection)
        assert reply.status_code == 200, reply.text
        return reply.json()


@pytest.fixture
def site(rig: Rig, counted: Postgres) -> Site:
    """Watches the counted server as `shop`, and Supabase's as `prod`."""
    return watching(rig, counted)


def watching(rig: Rig, server: Postgres, **environ: str | None) -> Site:
    """A new instance that watches."""
    given = {"DB_CONNECTIONS": "prod=supabase,shop=postgres:SHOP_URL", "SHOP_URL": server.uri, "ADMIN_TOKEN": TOKEN}
    return Site(an_instance(rig, **{**given, **environ}))


@contextmanager
def session(server: Postgres, name: str = "app", **options: Any) -> Iterator[psycopg.Connection[Any]]:
    """Somebody's session."""
    with psycopg.connect(server.uri, application_name=name, **options) as connection:
        yield connection


@asynccontextmanager
async def blocked(server: Postgres, table: str) -> AsyncIterator[tuple[int, int]]:
    """A session that waits for a row of another one: the blocker's pid and its own."""
    with session(server, "blocker") as holds, session(server, "setup", autocommit=True) as setup:
        setup.execute(f"create table if not exists {table} (id int)")
        setup.execute(f"insert into {table} values (1)")
        holds.execute(f"update {table} set id = 1")
        waits = await asyncpg.connect(server.uri, server_settings={"application_name": "waiter"})
        pid = waits.get_server_pid()
        waiting = asyncio.create_task(waits.execute(f"update {table} set id = 2 where id = 1"))
        query = "select 1 from pg_stat_activity where pid = %s and wait_event_type = 'Lock'"
        await until(lambda: setup.execute(query, (pid,)).fetchone() is not None)
        try:
            yield holds.info.backend_pid, pid
        finally:
            holds.rollback()
            await waiting
            await waits.close()
