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

-- Returns false where these five minutes were recorded before: the first report of several instances stands.
create or replace function public.breakwater_fleet_record(p_reporter text, p_slot_ms bigint, p_metrics jsonb)
returns boolean
language sql
security invoker
set search_path = ''
as $$
  with written as (
    insert into public.server_metrics_history (reporter, slot, metrics)
    values (p_reporter, pg_catalog.to_timestamp(p_slot_ms / 1000.0), p_metrics)
    on conflict do nothing
    returning true as done
  )
  select coalesce((select done from written), false)
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
