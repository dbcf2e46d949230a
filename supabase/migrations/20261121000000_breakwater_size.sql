-- What the free tier's 500 MB are held against. Read by the daily job, which also keeps a project from being paused for
-- want of use.

create or replace function public.breakwater_size()
returns bigint
language sql
stable
security invoker
set search_path = ''
as $$
  select pg_catalog.pg_database_size(pg_catalog.current_database())
$$;

comment on function public.breakwater_size() is 'The size of this database in bytes.';

revoke all on function public.breakwater_size() from public, anon, authenticated;
grant execute on function public.breakwater_size() to service_role;
