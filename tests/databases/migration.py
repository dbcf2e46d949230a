"""The migration that gives Supabase a function for each statement, as it follows from the statements."""

from dev.postgres import MIGRATIONS
from lib.databases.postgres import STATEMENTS, as_json

FILE = MIGRATIONS / "20261128000000_breakwater_watch.sql"

_HEAD = """-- What Breakwater asks of a database that it watches through Supabase (lib/databases/postgres.py): each
-- function is one statement that only reads, for the service role alone. PostgREST takes the time limits over.
--
-- Statements need `create extension pg_stat_statements with schema extensions`. To see what other roles do:
-- `grant pg_read_all_stats to postgres`.

-- pg_stat_statements may not be there yet.
set local check_function_bodies = off;
"""
_FUNCTION = """
create or replace function public.breakwater_watch_{name}({parameters}) returns jsonb
language sql stable security definer
set search_path = pg_catalog, extensions, pg_temp
set statement_timeout = '2s'
set lock_timeout = '200ms'
as $watch$
{body}
$watch$;
revoke all on function public.breakwater_watch_{name}({types}) from public, anon, authenticated;
grant execute on function public.breakwater_watch_{name}({types}) to service_role;
"""


def text() -> str:
    """The file."""
    found = _HEAD
    for name, statement in STATEMENTS.items():
        parameters = ", ".join(f"p_{each} text" for each in statement.parameters)
        types = ", ".join("text" for _ in statement.parameters)
        found += _FUNCTION.format(name=name, parameters=parameters, types=types, body=as_json(statement.text))
    return found


if __name__ == "__main__":
    FILE.write_text(text())
