-- What is kept of servers' metrics: a row for each reporter and five minutes for 7 days, for each reporter and hour for 90.
--
-- One row holds all servers of a reporter: a row for each server would fill the free tier's 500 MB within a month.

create table if not exists public.server_metrics_history (
  reporter text not null,
  slot timestamptz not null,
  metrics jsonb not null,
  primary key (reporter, slot)
);

create table if not exists public.server_metrics_hourly (
  reporter text not null,
  hour timestamptz not null,
  metrics jsonb not null,
  primary key (reporter, hour)
);

comment on table public.server_metrics_history is
  'By server id: cpu, memory and disk in percent, network in Mbit/s; null: not measured. Written once in five minutes.';
comment on table public.server_metrics_hourly is
  'By server id: the means of the same in an hour, then the highest cpu and memory.';

-- The first report of several instances stands. Returns when the five minutes began that were recorded of this reporter
-- before; null where there are none, or where these were recorded already, so that one caller alone learns of a gap.
create or replace function public.breakwater_fleet_record(p_reporter text, p_slot_ms bigint, p_metrics jsonb)
returns bigint
language sql
security invoker
set search_path = ''
as $$
  with written as (
    insert into public.server_metrics_history (reporter, slot, metrics)
    values (p_reporter, pg_catalog.to_timestamp(p_slot_ms / 1000.0), p_metrics)
    on conflict do nothing
    returning slot
  )
  select (pg_catalog.date_part('epoch', pg_catalog.max(h.slot)) * 1000)::bigint
  from written w join public.server_metrics_history h on h.reporter = p_reporter and h.slot < w.slot
$$;

-- Rolls up at most 48 whole hours and deletes what is too old; returns how many rows were written and deleted.
-- Rows of five minutes stay until their hour is rolled up, however old they are.
create or replace function public.breakwater_fleet_sweep(p_now_ms bigint)
returns integer
language plpgsql
security invoker
set search_path = ''
as $$
declare
  v_now timestamptz := pg_catalog.to_timestamp(p_now_ms / 1000.0);
  v_done integer := 0;
  v_rows integer;
begin
  insert into public.server_metrics_hourly (reporter, hour, metrics)
  select reporter, hour, pg_catalog.jsonb_object_agg(
      server, pg_catalog.jsonb_build_array(cpu, memory, disk, network, cpu_max, memory_max))
  from (
    select h.reporter, h.hour, m.key as server,
      pg_catalog.round(pg_catalog.avg((m.value ->> 0)::numeric), 1) as cpu,
      pg_catalog.round(pg_catalog.avg((m.value ->> 1)::numeric), 1) as memory,
      pg_catalog.round(pg_catalog.avg((m.value ->> 2)::numeric), 1) as disk,
      pg_catalog.round(pg_catalog.avg((m.value ->> 3)::numeric), 2) as network,
      pg_catalog.max((m.value ->> 0)::numeric) as cpu_max,
      pg_catalog.max((m.value ->> 1)::numeric) as memory_max
    from (
      select distinct r.reporter, pg_catalog.date_trunc('hour', r.slot, 'UTC') as hour
      from public.server_metrics_history r
      where r.slot < pg_catalog.date_trunc('hour', v_now, 'UTC')
        -- Of no server there is nothing to roll up: such hours would come first for ever.
        and r.metrics <> '{}'
        and not exists (
          select 1 from public.server_metrics_hourly d
          where d.reporter = r.reporter and d.hour = pg_catalog.date_trunc('hour', r.slot, 'UTC'))
      order by 2
      limit 48
    ) h
    join public.server_metrics_history s
      on s.reporter = h.reporter and s.slot >= h.hour and s.slot < h.hour + interval '1 hour'
    cross join lateral pg_catalog.jsonb_each(s.metrics) m
    group by 1, 2, 3
  ) rolled
  group by 1, 2;
  get diagnostics v_rows = row_count;
  v_done := v_done + v_rows;

  delete from public.server_metrics_history r
  where r.slot < v_now - interval '7 days'
    and (r.metrics = '{}' or exists (
      select 1 from public.server_metrics_hourly d
      where d.reporter = r.reporter and d.hour = pg_catalog.date_trunc('hour', r.slot, 'UTC')));
  get diagnostics v_rows = row_count;
  v_done := v_done + v_rows;

  delete from public.server_metrics_hourly where hour < v_now - interval '90 days';
  get diagnostics v_rows = row_count;
  return v_done + v_rows;
end
$$;

-- One server's points, oldest first: of five minutes for 1h and 24h, of hours for 7d and 90d.
create or replace function public.breakwater_fleet_history(p_server text, p_range text)
returns jsonb
language plpgsql
stable
security invoker
set search_path = ''
as $$
declare
  v_since timestamptz := pg_catalog.now() - case p_range
    when '1h' then interval '1 hour' when '24h' then interval '1 day'
    when '7d' then interval '7 days' when '90d' then interval '90 days' end;
  v_hourly boolean := p_range in ('7d', '90d');
begin
  if v_since is null then
    raise exception 'p_range: 1h, 24h, 7d or 90d' using errcode = '22023';
  end if;
  return (
    with points as (
      select case when v_hourly then pg_catalog.date_trunc('hour', r.slot, 'UTC') else r.slot end as at,
        r.metrics -> p_server as measured
      from public.server_metrics_history r
      where r.slot >= v_since and r.metrics ? p_server
        and not (v_hourly and exists (
          select 1 from public.server_metrics_hourly d
          where d.reporter = r.reporter and d.hour = pg_catalog.date_trunc('hour', r.slot, 'UTC')))
      union all
      select d.hour, d.metrics -> p_server
      from public.server_metrics_hourly d
      where v_hourly and d.hour >= v_since and d.metrics ? p_server
    )
    select coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
      'at', pg_catalog.date_part('epoch', at)::bigint,
      'cpu', cpu, 'memory', memory, 'disk', disk, 'network', network) order by at), '[]')
    from (
      select at,
        pg_catalog.round(pg_catalog.avg((measured ->> 0)::numeric), 1) as cpu,
        pg_catalog.round(pg_catalog.avg((measured ->> 1)::numeric), 1) as memory,
        pg_catalog.round(pg_catalog.avg((measured ->> 2)::numeric), 1) as disk,
        pg_catalog.round(pg_catalog.avg((measured ->> 3)::numeric), 2) as network
      from points group by at
    ) by_time
  );
end
$$;

alter table public.server_metrics_history enable row level security;
alter table public.server_metrics_hourly enable row level security;
revoke all on table public.server_metrics_history, public.server_metrics_hourly
  from public, anon, authenticated, service_role;
grant select, insert, delete on table public.server_metrics_history, public.server_metrics_hourly to service_role;

revoke all on function public.breakwater_fleet_record(text, bigint, jsonb) from public, anon, authenticated;
revoke all on function public.breakwater_fleet_sweep(bigint) from public, anon, authenticated;
revoke all on function public.breakwater_fleet_history(text, text) from public, anon, authenticated;
grant execute on function public.breakwater_fleet_record(text, bigint, jsonb) to service_role;
grant execute on function public.breakwater_fleet_sweep(bigint) to service_role;
grant execute on function public.breakwater_fleet_history(text, text) to service_role;

-- Simulations: what simulated servers are like on a quiet day, and which scenario ran when.

create table if not exists public.server_templates (
  id text primary key,
  name text not null,
  kind text not null check (kind in ('web', 'app', 'cache', 'database', 'worker')),
  cpu double precision not null check (cpu between 0 and 100),
  memory double precision not null check (memory between 0 and 100),
  disk double precision not null check (disk between 0 and 100),
  network double precision not null check (network >= 0)
);

create table if not exists public.scenario_execution_log (
  run bigint generated always as identity primary key,
  scenario text not null,
  seed bigint not null,
  started_at timestamptz not null,
  ends_at timestamptz not null,
  stopped_at timestamptz
);

comment on table public.server_templates is 'Simulated servers on a quiet day: percents, and Mbit/s.';
comment on column public.scenario_execution_log.stopped_at is 'Null where nobody stopped it: it ended at ends_at.';

insert into public.server_templates values
  ('web-1', 'Web 1', 'web', 25, 40, 35, 120), ('web-2', 'Web 2', 'web', 22, 38, 36, 110),
  ('web-3', 'Web 3', 'web', 27, 42, 33, 125), ('app-1', 'App 1', 'app', 40, 55, 45, 60),
  ('app-2', 'App 2', 'app', 38, 57, 44, 58), ('app-3', 'App 3', 'app', 42, 60, 47, 63),
  ('cache-1', 'Cache 1', 'cache', 12, 70, 20, 200), ('db-1', 'Database 1', 'database', 35, 72, 64, 80),
  ('db-2', 'Database 2', 'database', 20, 68, 63, 40), ('worker-1', 'Worker 1', 'worker', 55, 48, 52, 15),
  ('worker-2', 'Worker 2', 'worker', 50, 45, 55, 12)
on conflict do nothing;

create or replace function public.breakwater_scenario_begin(
  p_scenario text, p_seed bigint, p_started_ms bigint, p_ends_ms bigint)
returns jsonb
language sql
security invoker
set search_path = ''
as $$
  with begun as (
    insert into public.scenario_execution_log (scenario, seed, started_at, ends_at)
    values (p_scenario, p_seed, pg_catalog.to_timestamp(p_started_ms / 1000.0), pg_catalog.to_timestamp(p_ends_ms / 1000.0))
    returning run
  )
  select pg_catalog.jsonb_build_object('run', (select run from begun), 'templates', (
    select coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(t) order by t.id), '[]')
    from (select * from public.server_templates order by id limit 1000) t))
$$;

create or replace function public.breakwater_scenario_end(p_run bigint, p_stopped_ms bigint)
returns boolean
language sql
security invoker
set search_path = ''
as $$
  with ended as (
    update public.scenario_execution_log set stopped_at = pg_catalog.to_timestamp(p_stopped_ms / 1000.0)
    where run = p_run and stopped_at is null
    returning true as done
  )
  select coalesce((select done from ended), false)
$$;

alter table public.server_templates enable row level security;
alter table public.scenario_execution_log enable row level security;
revoke all on table public.server_templates, public.scenario_execution_log
  from public, anon, authenticated, service_role;
grant select on table public.server_templates to service_role;
grant select, insert, update on table public.scenario_execution_log to service_role;
revoke all on function public.breakwater_scenario_begin(text, bigint, bigint, bigint) from public, anon, authenticated;
revoke all on function public.breakwater_scenario_end(bigint, bigint) from public, anon, authenticated;
grant execute on function public.breakwater_scenario_begin(text, bigint, bigint, bigint) to service_role;
grant execute on function public.breakwater_scenario_end(bigint, bigint) to service_role;
