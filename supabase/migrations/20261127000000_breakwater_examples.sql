-- What the example data routes read: menus, settings and types of generators, with a few rows to look at.
--
-- They belong to nobody else: delete the tables with the routes in api/read.py. Only service_role reads them; the rows
-- that are public are public by those routes.

create table if not exists public.breakwater_menus (
  id integer primary key,
  category text not null,
  name text not null,
  price integer not null
);

create table if not exists public.breakwater_settings (
  name text primary key,
  value jsonb not null
);

create table if not exists public.breakwater_generator_types (
  id integer primary key,
  name text not null,
  output_per_s integer not null,
  cost integer not null
);

comment on table public.breakwater_menus is 'An example: read by GET /api/cache/menu/{id} and /api/cache/menus/{category}.';
comment on table public.breakwater_settings is 'An example: read by GET /api/cache/setting/{name}.';
comment on table public.breakwater_generator_types is 'An example: read by GET /api/cache/generators.';

create index if not exists breakwater_menus_category on public.breakwater_menus (category);

insert into public.breakwater_menus values
  (1, 'lunch', '비빔밥', 9000),
  (2, 'lunch', '김치찌개', 8500),
  (3, 'lunch', 'Bulgogi', 12000),
  (4, 'drinks', 'Barley tea', 0)
on conflict do nothing;

insert into public.breakwater_settings values
  ('site', '{"title": "Breakwater", "language": "ko"}'),
  ('upgrades', '{"most": 10, "factor": 1.15}')
on conflict do nothing;

insert into public.breakwater_generator_types values
  (1, 'Wind', 5, 100),
  (2, 'Solar', 12, 450),
  (3, 'Tidal', 40, 2000)
on conflict do nothing;

alter table public.breakwater_menus enable row level security;
alter table public.breakwater_settings enable row level security;
alter table public.breakwater_generator_types enable row level security;
revoke all on table public.breakwater_menus, public.breakwater_settings, public.breakwater_generator_types
  from public, anon, authenticated, service_role;
grant select on table public.breakwater_menus, public.breakwater_settings, public.breakwater_generator_types
  to service_role;
