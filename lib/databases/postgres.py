"""What is asked of PostgreSQL: one read-only statement for each view, with texts as its parameters.

The functions of ``supabase/migrations`` have the same statements word for word; a test compares them.
"""

from collections.abc import Mapping, Sequence

from ..base.values import dataclass
from .literals import HIDDEN

PREAMBLE = (
    "begin read only; set local statement_timeout = '2s'; set local lock_timeout = '200ms'; "
    "set local application_name = 'breakwater'"
)
"""Begins the transaction of each statement: a watcher must neither change, nor wait, nor be mistaken for a user."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement, and the names of its parameters in their order."""

    text: str
    parameters: Sequence[str] = ()


_CLIENTS = """coalesce(a.backend_type, 'client backend') = 'client backend' and a.usesysid is not null
  and a.pid <> pg_backend_pid() and coalesce(a.application_name, '') <> 'breakwater'"""
"""Everybody's sessions but ours. To a role that may not see them, their columns are null.

Where a view shows nothing of such sessions, a row of one of them comes all the same, so that the role can be told.
"""

_SESSIONS = f"""
select a.pid, a.usename::text as "user", a.datname::text as database, a.application_name as application, a.state,
  a.wait_event_type as wait_kind, a.wait_event as wait,
  extract(epoch from clock_timestamp() - a.query_start)::float8 as statement_s,
  extract(epoch from clock_timestamp() - a.xact_start)::float8 as transaction_s,
  case when a.wait_event_type = 'Lock' then pg_blocking_pids(a.pid) else array[]::int[] end as blocked_by,
  a.query
from pg_stat_activity a
where {_CLIENTS}
order by a.state is not distinct from 'idle', a.state, a.pid
limit 501
"""

_LOCKS = f"""
with activity as materialized (
  select pid, usename, usesysid, backend_type, application_name, state, wait_event_type, query_start, xact_start, query
  from pg_stat_activity
), waiting as materialized (
  select pid, pg_blocking_pids(pid) as blocked_by from activity where wait_event_type = 'Lock'
)
select a.pid, a.usename::text as "user", a.application_name as application, a.state,
  extract(epoch from clock_timestamp() - a.xact_start)::float8 as transaction_s,
  case when w.pid is not null then
    extract(epoch from clock_timestamp() - coalesce(l.waitstart, a.query_start))::float8 end as waiting_s,
  coalesce(w.blocked_by, array[]::int[]) as blocked_by, l.mode, l.locktype as kind,
  case when l.database in (0, (select oid from pg_database where datname = current_database()))
    then l.relation::regclass::text end as relation, a.query
from activity a
left join waiting w using (pid)
left join lateral (select * from pg_locks where pid = a.pid and not granted limit 1) l on w.pid is not null
where w.pid is not null or a.pid in (select unnest(blocked_by) from waiting)
  or a.pid = (select min(a.pid) from activity a where a.query = '{HIDDEN}' and {_CLIENTS})
order by w.pid is not null, a.pid
limit 501
"""

_WAITS = f"""
select case when a.state is not null then coalesce(wait_event_type, 'CPU') end as kind,
  coalesce(wait_event, '') as wait, count(*)::int as sessions,
  max(extract(epoch from clock_timestamp() - query_start))::float8 as longest_s
from pg_stat_activity a
where (a.state = 'active' or a.state is null) and {_CLIENTS}
group by 1, 2
order by 3 desc, 1, 2
"""

_REALTIME = f"""
select count(*)::int as sessions, count(*) filter (where state = 'active')::int as active,
  count(*) filter (where state like 'idle in transaction%')::int as idle_in_transaction,
  count(*) filter (where wait_event_type = 'Lock')::int as waiting,
  count(*) filter (where state is null)::int as hidden,
  coalesce(max(extract(epoch from clock_timestamp() - xact_start)), 0)::float8 as longest_transaction_s,
  current_setting('max_connections')::int as most_sessions
from pg_stat_activity a
where {_CLIENTS}
"""

_DASHBOARD = f"""
select d.xact_commit as commits, d.xact_rollback as rollbacks, d.blks_hit as blocks_hit, d.blks_read as blocks_read,
  d.tup_fetched as rows_fetched, d.tup_inserted + d.tup_updated + d.tup_deleted as rows_written, d.deadlocks,
  d.temp_bytes, extract(epoch from d.stats_reset)::float8 as reset_s,
  extract(epoch from clock_timestamp() - pg_postmaster_start_time())::float8 as up_s,
  current_setting('server_version') as version, current_setting('max_connections')::int as most_sessions,
  (select count(*) from pg_stat_activity a where {_CLIENTS})::int as sessions,
  (select count(*) from pg_stat_activity a where a.state = 'active' and {_CLIENTS})::int as active,
  (select count(*) from pg_stat_activity a where a.state is null and {_CLIENTS})::int as hidden
from pg_stat_database d
where d.datname = current_database()
"""

_NUMBERS = """
select s.queryid::text as id, sum(s.calls)::bigint as calls, sum(s.total_exec_time)::float8 as total_ms,
  max(s.max_exec_time)::float8 as max_ms, sum(s.rows)::bigint as rows,
  sum(s.shared_blks_hit)::bigint as blocks_hit, sum(s.shared_blks_read)::bigint as blocks_read,
  sum(sum(s.total_exec_time)) over ()::float8 as all_ms
from pg_stat_statements(false) s
where s.dbid = (select oid from pg_database where datname = current_database())
group by s.queryid
"""

_TOP = f"""
select * from ({_NUMBERS}) numbers
order by id is not null, total_ms desc
limit $1::text::int + 1
"""

_ONE = f"""
select * from ({_NUMBERS}) numbers
where id = $1::text
"""

_TEXTS = f"""
select distinct on (s.queryid) s.queryid::text as id, s.query
from pg_stat_statements s
where s.queryid::text = any(string_to_array($1::text, ','))
order by s.queryid, s.query = '{HIDDEN}'
"""

_SCHEMAS = """
select n.nspname::text as name, pg_get_userbyid(n.nspowner)::text as owner,
  (select count(*) from pg_class c
    where c.relnamespace = n.oid and c.relkind in ('r', 'p', 'v', 'm', 'f'))::int as tables
from pg_namespace n
where n.nspname !~ '^pg_(toast|temp)'
order by n.nspname
limit 1001
"""

_TABLES = """
with page as materialized (
  select c.oid, c.relname, c.relkind, c.reltuples, count(*) over () as found
  from pg_class c
  where c.relnamespace = (select oid from pg_namespace where nspname = $1::text)
    and c.relkind in ('r', 'p', 'v', 'm', 'f')
  order by c.relname
  limit 50 offset 50 * (least($2::text::int, 100000) - 1)
)
select p.relname::text as name, p.relkind::text as kind, p.reltuples::float8 as rows, p.found::int,
  s.n_dead_tup as dead_rows, s.seq_scan as sequential_scans, s.idx_scan as index_scans,
  extract(epoch from s.last_autovacuum)::float8 as vacuumed_s,
  case when $3::text = '1' then pg_total_relation_size(p.oid) end as bytes
from page p
left join pg_stat_all_tables s on s.relid = p.oid
order by p.relname
"""

_COLUMNS = """
select a.attname::text as name, format_type(a.atttypid, a.atttypmod) as type, a.attnotnull as required,
  a.atthasdef as has_default, a.attnum::int as position
from pg_attribute a
join pg_class c on c.oid = a.attrelid
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = $1::text and c.relname = $2::text and a.attnum > 0 and not a.attisdropped
order by a.attnum
"""

_HEALTH = """
select current_setting('server_version') as version, current_user::text as role,
  pg_has_role('pg_read_all_stats', 'usage') as sees_all,
  exists (select from pg_extension where extname = 'pg_stat_statements') as has_statements
"""

_CATALOGUE = """
with relations as materialized (
  select c.oid, c.relnamespace, c.relname, c.relkind
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'p', 'v', 'm', 'f') and c.relpersistence <> 't'
    and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
)
select md5(concat_ws('|',
  (select string_agg(concat_ws(':', oid, relnamespace, relname, relkind), ',' order by oid) from relations),
  (select string_agg(concat_ws(':', a.attrelid, a.attnum, a.xmin), ',' order by a.attrelid, a.attnum)
    from pg_attribute a join relations r on r.oid = a.attrelid where a.attnum > 0),
  (select string_agg(concat_ws(':', w.oid, w.xmin), ',' order by w.oid)
    from pg_rewrite w join relations r on r.oid = w.ev_class),
  (select string_agg(concat_ws(':', oid, nspname), ',' order by oid) from pg_namespace where nspname !~ '^pg_')
)) as hash
"""


def as_json(statement: str) -> str:
    """A statement whose only value is the list of its rows as JSON, so that every way to PostgreSQL yields the same."""
    return f"select coalesce(jsonb_agg(to_jsonb(each_row)), '[]') as rows from ({statement}) each_row"


STATEMENTS: Mapping[str, Statement] = {
    "sessions": Statement(_SESSIONS),
    "locks": Statement(_LOCKS),
    "waits": Statement(_WAITS),
    "realtime": Statement(_REALTIME),
    "dashboard": Statement(_DASHBOARD),
    "top": Statement(_TOP, ("limit",)),
    "one": Statement(_ONE, ("id",)),
    "texts": Statement(_TEXTS, ("ids",)),
    "schemas": Statement(_SCHEMAS),
    "tables": Statement(_TABLES, ("schema", "page", "sizes")),
    "columns": Statement(_COLUMNS, ("schema", "table")),
    "health": Statement(_HEALTH),
    "catalogue": Statement(_CATALOGUE),
}
