-- The last hour of all servers in one read, for the page's grid: by server id, its mean CPU in each five minutes as whole
-- percents, null where nothing was recorded. The thirteenth step is the one that runs.
create or replace function public.breakwater_fleet_hour()
returns jsonb
language sql
stable
security invoker
set search_path = ''
as $$
  with steps as (
    select n, pg_catalog.date_bin('5 minutes', pg_catalog.now(), 'epoch') + (n - 12) * interval '5 minutes' as slot
    from pg_catalog.generate_series(0, 12) n
  ),
  points as (
    select m.key as server, s.n, pg_catalog.round(pg_catalog.avg((m.value ->> 0)::numeric)) as cpu
    from steps s
    join public.server_metrics_history h on h.slot = s.slot
    cross join lateral pg_catalog.jsonb_each(h.metrics) m
    group by 1, 2
  )
  select pg_catalog.jsonb_build_object(
    'at', (select pg_catalog.date_part('epoch', slot)::bigint from steps where n = 0),
    'step', 300,
    'cpu', (
      select coalesce(pg_catalog.jsonb_object_agg(server, cpu), '{}')
      from (
        select named.server, pg_catalog.jsonb_agg(p.cpu order by s.n) as cpu
        from (select distinct server from points) named
        cross join steps s
        left join points p on p.server = named.server and p.n = s.n
        group by 1
      ) by_server))
$$;

revoke all on function public.breakwater_fleet_hour() from public, anon, authenticated;
grant execute on function public.breakwater_fleet_hour() to service_role;
