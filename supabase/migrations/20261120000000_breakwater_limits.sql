-- The limits' second home: strict sliding windows for the time in which Redis is away.
--
-- Times are milliseconds since 1970 by the caller's clock, so that a decision is a function of its arguments. A window
-- is counted in buckets; a bucket that it touches counts in full. Everything here is for the service role alone.

create table if not exists public.breakwater_windows (
  subject text not null,
  window_ms bigint not null,
  bucket_start_ms bigint not null,
  spent integer not null default 0 check (spent >= 0),
  carried integer not null default 0 check (carried >= 0),
  expires_at_ms bigint not null,
  primary key (subject, window_ms, bucket_start_ms)
);

comment on table public.breakwater_windows is
  'Calls counted while Redis is away: one row for a subject, a window and a bucket of it.';
comment on column public.breakwater_windows.subject is 'Whose calls: route group and caller, as the guard names them.';
comment on column public.breakwater_windows.spent is
  'Admitted here, ever. Redis notes how much of it it was given, so that giving it twice changes nothing.';
comment on column public.breakwater_windows.carried is
  'Admitted by Redis itself, as far as an instance knew: the highest of what was told. Adds to spent.';
comment on column public.breakwater_windows.expires_at_ms is 'From here on no clock within the skew needs the row.';

create index if not exists breakwater_windows_expires_at_ms on public.breakwater_windows (expires_at_ms);

-- Supabase grants new tables and functions in public to the API's roles by default; row level security without a policy
-- would hide the rows, but not the fact that the table is there.
alter table public.breakwater_windows enable row level security;
revoke all on table public.breakwater_windows from public, anon, authenticated, service_role;
grant select, insert, update, delete on table public.breakwater_windows to service_role;


create or replace function public.breakwater_sweep(p_subject text, p_now_ms bigint)
returns integer
language plpgsql
volatile
security invoker
set search_path = ''
as $$
declare
  -- A caller whose clock runs ahead must not delete what others still count: the database's clock has to agree.
  v_before_ms constant bigint := least(p_now_ms, floor(extract(epoch from clock_timestamp()) * 1000)::bigint);
  v_deleted integer;
begin
  -- Rows that another transaction holds are skipped, and this is the last thing that a transaction does: whoever holds
  -- such rows waits for nobody, so no cycle of waiting can form. The limit bounds the work of one call; a materialized
  -- expression runs once, where a subquery could be run again and pass the limit.
  with own as materialized (
    select w.subject, w.window_ms, w.bucket_start_ms
      from public.breakwater_windows as w
     where w.subject = p_subject
       and w.expires_at_ms <= v_before_ms
       for update skip locked
  ), others as materialized (
    select w.subject, w.window_ms, w.bucket_start_ms
      from public.breakwater_windows as w
     where w.expires_at_ms <= v_before_ms
       and w.subject <> p_subject
     order by w.expires_at_ms
     limit 50
       for update skip locked
  )
  delete from public.breakwater_windows as w
   using (select * from own union all select * from others) as expired
   where w.subject = expired.subject
     and w.window_ms = expired.window_ms
     and w.bucket_start_ms = expired.bucket_start_ms;
  get diagnostics v_deleted = row_count;
  return v_deleted;
end;
$$;

comment on function public.breakwater_sweep(text, bigint) is
  'Deletes the expired rows of one subject and at most 50 others; returns how many. Part of spending.';


create or replace function public.breakwater_check(
  p_subject text,
  p_windows jsonb,
  p_now_ms bigint,
  p_skew_ms bigint,
  p_floor jsonb,
  p_owed jsonb
)
returns void
language plpgsql
immutable
security invoker
set search_path = ''
as $$
declare
  v_name text;
  v_told jsonb;
begin
  if p_subject is null or length(p_subject) not between 1 and 200 then
    raise exception 'p_subject: 1 to 200 characters, got %', coalesce(length(p_subject)::text, 'null')
      using errcode = '22023';
  end if;
  if p_now_ms is null or p_now_ms not between 1000000000000 and 9999999999999 then
    raise exception 'p_now_ms: milliseconds since 1970, 2001 to 2286, got %', coalesce(p_now_ms::text, 'null')
      using errcode = '22023';
  end if;
  if p_skew_ms is null or p_skew_ms not between 0 and 3600000 then
    raise exception 'p_skew_ms: 0 to 3600000, got %', coalesce(p_skew_ms::text, 'null') using errcode = '22023';
  end if;

  -- jsonb_typeof first: the length of anything but an array is an error of its own.
  if jsonb_typeof(p_windows) is distinct from 'array' or jsonb_array_length(p_windows) not between 1 and 8 then
    raise exception 'p_windows: an array of 1 to 8 windows' using errcode = '22023';
  end if;
  -- Every element must pass the path's filter, in which a missing or mistyped field is not an error but a failure.
  if jsonb_array_length(jsonb_path_query_array(p_windows, 'strict $[*] ? (
       @.window_ms >= 1 && @.window_ms <= 34560000000 && @.window_ms.floor() == @.window_ms
       && @.bucket_ms >= 1 && @.bucket_ms <= @.window_ms && @.bucket_ms.floor() == @.bucket_ms
       && @.window_ms / @.bucket_ms <= 1000
       && @.limit >= 0 && @.limit <= 1000000000 && @.limit.floor() == @.limit)')) < jsonb_array_length(p_windows) then
    raise exception 'p_windows: each needs whole numbers, window_ms (1 to 400 days), bucket_ms (window_ms / 1000 to '
      'window_ms) and limit (0 to 1000000000), got %', left(p_windows::text, 400) using errcode = '22023';
  end if;
  if (select count(distinct w.value -> 'window_ms') < count(*) from jsonb_array_elements(p_windows) as w) then
    raise exception 'p_windows: each window_ms at most once' using errcode = '22023';
  end if;

  foreach v_name in array array['p_floor', 'p_owed'] loop
    v_told := case v_name when 'p_floor' then p_floor else p_owed end;
    if jsonb_typeof(v_told) is distinct from 'array'
       or jsonb_array_length(jsonb_path_query_array(v_told, 'strict $[*] ? (
            @.window_ms >= 1 && @.buckets.type() == "array")')) < jsonb_array_length(v_told)
       or jsonb_array_length(jsonb_path_query_array(v_told, 'strict $[*].buckets[*] ? (
            @.type() == "array" && @.size() == 2
            && @[0] >= 0 && @[0] <= 9999999999999 && @[0].floor() == @[0]
            && @[1] >= 0 && @[1] <= 1000000000 && @[1].floor() == @[1])'))
          < jsonb_array_length(jsonb_path_query_array(v_told, 'strict $[*].buckets[*]')) then
      raise exception '%: an array of {window_ms, buckets: [[start_ms, count], ...]} in whole numbers, got %',
        v_name, left(v_told::text, 400) using errcode = '22023';
    end if;
    if exists (
      select
        from jsonb_to_recordset(v_told) as f(window_ms bigint, buckets jsonb)
        left join jsonb_to_recordset(p_windows) as w(window_ms bigint, bucket_ms bigint) using (window_ms)
        left join jsonb_array_elements(f.buckets) as b on true
       where w.window_ms is null
          or (b.value ->> 0)::bigint % w.bucket_ms <> 0
    ) then
      raise exception '%: only windows of p_windows, and only starts of their buckets, got %',
        v_name, left(v_told::text, 400) using errcode = '22023';
    end if;
  end loop;
end;
$$;

comment on function public.breakwater_check(text, jsonb, bigint, bigint, jsonb, jsonb) is
  'Raises 22023 and says what to mend if arguments that the other functions share cannot be used.';


create or replace function public.breakwater_spend(
  p_subject text,
  p_windows jsonb,
  p_cost integer,
  p_now_ms bigint,
  p_skew_ms bigint,
  p_floor jsonb default '[]',
  p_owed jsonb default '[]'
)
returns jsonb
language plpgsql
volatile
security invoker
set search_path = ''
as $$
declare
  v_result jsonb;
begin
  if p_cost is null or p_cost not between 0 and 1000000 then
    raise exception 'p_cost: 0 to 1000000, got %', coalesce(p_cost::text, 'null') using errcode = '22023';
  end if;
  perform public.breakwater_check(p_subject, p_windows, p_now_ms, p_skew_ms, p_floor, p_owed);

  -- One subject at a time: two calls that read before either writes would both pass. A lock on rows could not do it,
  -- because a subject's first call has no row to lock. The lock is a statement of its own because a statement sees what
  -- was committed before it began. It goes with the transaction. A peek decides nothing and need not wait.
  if p_cost > 0 then
    perform pg_advisory_xact_lock(hashtextextended('breakwater:' || p_subject, 0));
  end if;

  with span as (
    -- The buckets that each window covers, both ends included and counted in full: a call admitted by a clock that is
    -- off by no more than the skew, in either direction, lies between them. The skew has to cover the time that a call
    -- takes to get here as well.
    select w.position,
           w.window_ms,
           w.bucket_ms,
           w.max_calls,
           p_now_ms / w.bucket_ms * w.bucket_ms as current_ms,
           (p_now_ms - w.window_ms - p_skew_ms) / w.bucket_ms * w.bucket_ms as first_ms,
           (p_now_ms + p_skew_ms) / w.bucket_ms * w.bucket_ms as last_ms
      from rows from (
        jsonb_to_recordset(p_windows) as (window_ms bigint, bucket_ms bigint, "limit" bigint)
      ) with ordinality as w(window_ms, bucket_ms, max_calls, position)
  ), told as (
    -- What the caller last knew from Redis.
    select s.position, b.start_ms, max(b.calls) as carried
      from jsonb_to_recordset(p_floor) as f(window_ms bigint, buckets jsonb)
      join span as s using (window_ms)
     cross join lateral (
       select (pair.value ->> 0)::bigint as start_ms, (pair.value ->> 1)::integer as calls
         from jsonb_array_elements(f.buckets) as pair
     ) as b
     where b.start_ms between s.first_ms and s.last_ms
       and b.calls > 0
     group by s.position, b.start_ms
  ), owed as (
    -- What the caller had to admit by itself while nobody answered: counted whatever comes of this call.
    select s.position, (pair.value ->> 0)::bigint as start_ms, sum((pair.value ->> 1)::integer) as calls
      from jsonb_to_recordset(p_owed) as o(window_ms bigint, buckets jsonb)
      join span as s using (window_ms)
     cross join lateral jsonb_array_elements(o.buckets) as pair
     where (pair.value ->> 0)::bigint between s.first_ms and s.last_ms
       and (pair.value ->> 1)::integer > 0
     group by s.position, (pair.value ->> 0)::bigint
  ), known as (
    select k.position, k.start_ms, sum(k.spent) + max(k.carried) as calls, sum(k.spent) as spent
      from (
        select s.position, t.bucket_start_ms as start_ms, t.spent, t.carried
          from span as s
          join public.breakwater_windows as t
            on t.subject = p_subject
           and t.window_ms = s.window_ms
           and t.bucket_start_ms between s.first_ms and s.last_ms
        union all
        select position, start_ms, 0, carried from told
        union all
        select position, start_ms, calls, 0 from owed
      ) as k
     group by k.position, k.start_ms
  ), verdict as (
    -- Who asks for nothing is not refused, even where a limit was lowered below what is counted.
    select bool_and(p_cost = 0 or total.calls + p_cost <= total.max_calls) as allowed
      from (
        select s.position, s.max_calls, coalesce(sum(k.calls), 0) as calls
          from span as s
          left join known as k using (position)
         group by s.position, s.max_calls
      ) as total
  ), paid as (
    select s.position, s.current_ms as start_ms, p_cost as spent
      from span as s
     cross join verdict as v
     where v.allowed and p_cost > 0
  ), written as (
    -- A refusal pays nothing but keeps what the caller told; a peek keeps nothing.
    insert into public.breakwater_windows as t
           (subject, window_ms, bucket_start_ms, spent, carried, expires_at_ms)
    select p_subject,
           s.window_ms,
           c.start_ms,
           sum(c.spent)::integer,
           max(c.carried),
           -- Twice the skew: once for the clock that wrote, once for the clock that deletes.
           c.start_ms + s.bucket_ms + s.window_ms + 2 * p_skew_ms
      from (
        select position, start_ms, spent, 0 as carried from paid
        union all
        select position, start_ms, 0, carried from told where p_cost > 0
        union all
        select position, start_ms, calls, 0 from owed where p_cost > 0
      ) as c
      join span as s using (position)
     group by s.window_ms, s.bucket_ms, c.start_ms
        on conflict (subject, window_ms, bucket_start_ms) do update
       set spent = t.spent + excluded.spent,
           carried = greatest(t.carried, excluded.carried),
           expires_at_ms = greatest(t.expires_at_ms, excluded.expires_at_ms)
     where excluded.spent > 0
        or excluded.carried > t.carried
  ), after as (
    select a.position, a.start_ms, sum(a.calls) as calls, sum(a.spent) as spent
      from (
        select position, start_ms, calls, spent from known
        union all
        select position, start_ms, spent, spent from paid
      ) as a
     group by a.position, a.start_ms
    having sum(a.calls) > 0
  )
  select jsonb_build_object('allowed', v.allowed, 'windows', listed.windows)
    into v_result
    from verdict as v
   cross join (
     select jsonb_agg(
              jsonb_build_object(
                'window_ms', s.window_ms,
                'buckets', coalesce(counted.buckets, '[]'),
                'spent', coalesce(counted.spent, '[]')
              )
              order by s.position
            ) as windows
       from span as s
       left join (
         select position,
                jsonb_agg(jsonb_build_array(start_ms, calls) order by start_ms) as buckets,
                jsonb_agg(jsonb_build_array(start_ms, spent) order by start_ms) filter (where spent > 0) as spent
           from after
          group by position
       ) as counted using (position)
   ) as listed;

  if p_cost > 0 then
    perform public.breakwater_sweep(p_subject, p_now_ms);
  end if;
  return v_result;
end;
$$;

comment on function public.breakwater_spend(text, jsonb, integer, bigint, bigint, jsonb, jsonb) is
  'Admits p_cost calls of a subject if every window has room for them, or refuses and spends nothing. '
  'p_windows: [{window_ms, bucket_ms, limit}]. p_cost 0 only looks. '
  'p_floor: [{window_ms, buckets: [[start_ms, count]]}], what Redis itself was last known to have admitted: the higher '
  'count holds. p_owed: the same of what the caller admitted by itself and tells for the first time: it is added. '
  'Returns {allowed, windows: [{window_ms, buckets: [[start_ms, count]], spent: [[start_ms, count]]}]} as it stands after '
  'the decision; spent is what of it was admitted here.';


create or replace function public.breakwater_reset(p_subject text)
returns integer
language plpgsql
volatile
security invoker
set search_path = ''
as $$
declare
  v_deleted integer;
begin
  perform pg_advisory_xact_lock(hashtextextended('breakwater:' || p_subject, 0));
  delete from public.breakwater_windows as w where w.subject = p_subject;
  get diagnostics v_deleted = row_count;
  return v_deleted;
end;
$$;

comment on function public.breakwater_reset(text) is 'Forgets one subject; returns how many rows it had.';


revoke all on function
  public.breakwater_sweep(text, bigint),
  public.breakwater_check(text, jsonb, bigint, bigint, jsonb, jsonb),
  public.breakwater_spend(text, jsonb, integer, bigint, bigint, jsonb, jsonb),
  public.breakwater_reset(text)
from public, anon, authenticated;
grant execute on function
  public.breakwater_sweep(text, bigint),
  public.breakwater_check(text, jsonb, bigint, bigint, jsonb, jsonb),
  public.breakwater_spend(text, jsonb, integer, bigint, bigint, jsonb, jsonb),
  public.breakwater_reset(text)
to service_role;
