"""What is asked of Oracle: the ``V$`` views, a statement for each view of ours, with texts as its parameters.

Columns have the names of PostgreSQL's statements, so that all that follows is the same. Never run against a server.
"""

from collections.abc import Mapping

from .postgres import Statement

_OTHERS = "s.type = 'USER' and s.sid <> sys_context('userenv', 'sid') and nvl(s.program, ' ') <> 'breakwater'"

_SESSION = """s.sid as pid, s.username as "USER", sys_context('userenv', 'db_name') as database,
  s.program as application, lower(s.status) as state, s.last_call_et as statement_s,
  case when s.taddr is not null then s.last_call_et end as transaction_s"""

_NUMBERS = """
select q.sql_id as id, sum(q.executions) as calls, sum(q.elapsed_time) / 1000 as total_ms, null as max_ms,
  sum(q.rows_processed) as "ROWS", sum(q.buffer_gets) as blocks_hit, sum(q.disk_reads) as blocks_read,
  sum(sum(q.elapsed_time)) over () / 1000 as all_ms
from v$sqlarea q
group by q.sql_id
"""

_SYSTEM = """(select value from v$sysstat where name = '{}')"""

STATEMENTS: Mapping[str, Statement] = {
    "sessions": Statement(
        f"select {_SESSION}, s.wait_class as wait_kind, s.event as wait, s.blocking_session as blocked_by, "
        f"q.sql_text as query from v$session s left join v$sqlarea q on q.sql_id = s.sql_id "
        f"where {_OTHERS} order by s.status, s.sid fetch first 501 rows only"
    ),
    "locks": Statement(
        f"select {_SESSION}, case when s.blocking_session is not null then s.seconds_in_wait end as waiting_s, "
        f's.blocking_session as blocked_by, s.event as "MODE", s.wait_class as kind, null as relation, '
        f"q.sql_text as query from v$session s left join v$sqlarea q on q.sql_id = s.sql_id "
        f"where s.blocking_session is not null or s.sid in "
        f"(select blocking_session from v$session where blocking_session is not null) "
        f"order by s.sid fetch first 501 rows only"
    ),
    "waits": Statement(
        "select e.wait_class as kind, e.event as wait, e.total_waits as waits, e.time_waited / 100 as waited_s "
        "from v$system_event e where e.wait_class <> 'Idle' order by e.time_waited desc fetch first 50 rows only"
    ),
    "realtime": Statement(
        "select count(*) as sessions, sum(case when s.status = 'ACTIVE' then 1 else 0 end) as active, "
        "sum(case when s.status = 'INACTIVE' and s.taddr is not null then 1 else 0 end) as idle_in_transaction, "
        "sum(case when s.blocking_session is not null then 1 else 0 end) as waiting, 0 as hidden, "
        "nvl(max(case when s.taddr is not null then s.last_call_et end), 0) as longest_transaction_s, "
        "(select to_number(value) from v$parameter where name = 'sessions') as most_sessions "
        f"from v$session s where {_OTHERS}"
    ),
    "dashboard": Statement(
        f"select {_SYSTEM.format('user commits')} as commits, {_SYSTEM.format('user rollbacks')} as rollbacks, "
        f"{_SYSTEM.format('session logical reads')} as blocks_hit, {_SYSTEM.format('physical reads')} as blocks_read, "
        "null as rows_fetched, null as rows_written, null as deadlocks, null as temp_bytes, null as reset_s, "
        "(select (sysdate - startup_time) * 86400 from v$instance) as up_s, "
        "(select version from v$instance) as version, "
        "(select to_number(value) from v$parameter where name = 'sessions') as most_sessions, "
        f"(select count(*) from v$session s where {_OTHERS}) as sessions, "
        f"(select count(*) from v$session s where s.status = 'ACTIVE' and {_OTHERS}) as active, 0 as hidden from dual"
    ),
    "top": Statement(
        f"select * from ({_NUMBERS}) numbers order by total_ms desc fetch first to_number(:p_limit) rows only",
        ("limit",),
    ),
    "one": Statement(f"select * from ({_NUMBERS}) numbers where id = :p_id", ("id",)),
    "texts": Statement(
        "select q.sql_id as id, q.sql_text as query from v$sqlarea q "
        "where instr(',' || :p_ids || ',', ',' || q.sql_id || ',') > 0",
        ("ids",),
    ),
    "schemas": Statement(
        "select u.username as name, u.username as owner, "
        "(select count(*) from all_tables t where t.owner = u.username) as tables from all_users u "
        "order by u.username fetch first 1001 rows only"
    ),
    "tables": Statement(
        "select t.table_name as name, 'r' as kind, t.num_rows as \"ROWS\", count(*) over () as found, "
        "null as dead_rows, null as sequential_scans, null as index_scans, null as vacuumed_s, "
        "case when :p_sizes = '1' then (select sum(g.bytes) from user_segments g "
        "where g.segment_name = t.table_name) end as bytes "
        "from all_tables t where t.owner = :p_schema order by t.table_name "
        "offset 50 * (to_number(:p_page) - 1) rows fetch next 50 rows only",
        ("schema", "page", "sizes"),
    ),
    "columns": Statement(
        "select c.column_name as name, c.data_type as type, case c.nullable when 'N' then 1 else 0 end as required, "
        "case when c.default_length is null then 0 else 1 end as has_default, c.column_id as position "
        "from all_tab_columns c where c.owner = :p_schema and c.table_name = :p_table order by c.column_id",
        ("schema", "table"),
    ),
    "health": Statement(
        "select version, sys_context('userenv', 'session_user') as role, 1 as sees_all, 1 as has_statements "
        "from v$instance"
    ),
    "catalogue": Statement(
        "select to_char(max(last_ddl_time), 'YYYYMMDDHH24MISS') || ':' || count(*) as hash from all_objects "
        "where object_type in ('TABLE', 'VIEW', 'MATERIALIZED VIEW')"
    ),
}
