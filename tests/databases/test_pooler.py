"""Through a pooler in transaction mode, which gives each transaction whatever connection is free: PgBouncer itself."""

import asyncio
import os
import shutil
import socket
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from dev.postgres import Postgres
from lib.base.env import Secret
from lib.databases.postgres import STATEMENTS
from lib.databases.readers.postgres import Direct
from tests.databases.conftest import ARGUMENTS, session
from tests.rig.clock import until

pytestmark = pytest.mark.anyio

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
SETTINGS = """
[databases]
postgres = host={host} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
"""


@pytest.fixture
async def pooler(counted: Postgres) -> AsyncIterator[str]:
    """The address of one with two connections to the server."""
    if PROGRAM is None:
        pytest.skip("PgBouncer is not installed")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with TemporaryDirectory(prefix="breakwater-") as place:
        settings = Path(place) / "pgbouncer.ini"
        settings.write_text(SETTINGS.format(host=conninfo_to_dict(counted.uri)["host"], port=port))
        # It does not run as root; who runs the server may open its socket.
        owner = counted.directory.owner()
        shutil.chown(place, owner)
        command = [PROGRAM, "-q", *(["-u", owner] if os.geteuid() == 0 else []), str(settings)]
        process = await asyncio.create_subprocess_exec(*command, stdout=DEVNULL, stderr=DEVNULL)
        try:
            await until(lambda: _listens(port))
            yield f"postgresql://postgres:@127.0.0.1:{port}/postgres"
        finally:
            process.terminate()
            await process.wait()


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


async def test_all_statements_of_many_instances(pooler: str, counted: Postgres) -> None:
    """More instances than there are connections, each new to the pooler: nothing of one is lost in another's."""
    readers = [Direct.at(Secret(pooler)) for _ in range(8)]

    async def ask(reader: Direct) -> set[str]:
        return {name for name in STATEMENTS if isinstance(await reader.rows(name, ARGUMENTS, 30), list)}

    assert await asyncio.gather(*map(ask, readers)) == [set(STATEMENTS)] * len(readers)
    with session(counted, "somebody"):
        shown = await readers[0].rows("sessions", {}, 9)
    assert [each["application"] for each in shown] == ["somebody"]
    for each in readers:
        await each.aclose()


async def test_nothing_stays_on_a_shared_connection(pooler: str) -> None:
    """Whoever gets it next may write, and has their own time."""
    reader = Direct.at(Secret(pooler))
    for _ in range(4):
        await reader.rows("health", {}, 9)
        with psycopg.connect(pooler, autocommit=True, prepare_threshold=None) as other:
            row = other.execute("select current_setting('statement_timeout'), current_setting('transaction_read_only')")
            assert row.fetchone() == ("0", "off")
    await reader.aclose()
