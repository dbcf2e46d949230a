-- Coming back to Redis: who has to be told of what, so that one instance settles an outage for everybody.
--
-- Beside the first version's functions, which go on for instances of release 0.1. The rows of breakwater_windows are
-- shared. docs/decisions/0022-coming-back.md has the reasons.

alter table public.breakwater_windows
  add column if not exists given integer not null default 0,
  add column if not exists given_fence bigint not null default 0;

comment on column public.breakwater_windows.given is 'How much of spent Redis was given, as far as it was acknowledged.';
comment on column public.breakwater_windows.given_fence is 'The return with which that was.';

create table if not exists public.breakwater_owed (
  subject text primary key,
  layout text not null,
  changed bigint not null default 0,
  given bigint not null default 0,
  gen text,
  expires_at_ms bigint not null
);

comment on table public.breakwater_owed is
  'Subjects that calls were admitted of while Redis was away: Redis lacks them while changed exceeds given.';
comment on column public.breakwater_owed.layout is 'Where the buckets lie in Redis, in the words of whoever gives them.';
comment on column public.breakwater_owed.changed is 'Counts the admitted calls of the subject.';
comment on column public.breakwater_owed.given is 'The value of changed that Redis was last given.';
comment on column public.breakwater_owed.gen is 'The name of the data in Redis that it was given to: other data lack it.';

create index if not exists breakwater_owed_expires_at_ms on public.breakwater_owed (expires_at_ms);

create table if not exists public.breakwater_back (
  one boolean primary key default true check (one),
  n bigint not null default 0
);

comment on table public.breakwater_back is 'One row: how often an instance has come back to Redis.';

insert into public.breakwater_back default values on conflict do nothing;

alter table public.breakwater_owed enable row level security;
alter table public.breakwater_back enable row level security;
revoke all on table public.breakwater_owed, public.breakwater_back from public, anon, authenticated, service_role;
grant select, insert, update, delete on table public.breakwater_owed to service_role;
grant select, update on table public.breakwater_back to service_role;


create or replace function public.breakwater_spend_2(
  p_subject text,
  p_layout text,
  p_windows jsonb,
  p_cost integer,
  p_now_ms bigint,
  p_behind_ms bigint,
  p_ahead_ms bigint,
  p_floor jsonb default '[]',
  p_noted jsonb default '[]',
  p_settled bigint default -1,
  p_alone jsonb default '[]'
)
returns jsonb
language plpgsql
volatile
security invoker
set search_path = ''
as $$
declare
  v_result jsonb;
  v_fence bigint;
begin
  if p_cost is null or p_cost not between 0 and 1000000 then
    raise exception 'p_cost: 0 to 1000000, got %', coalesce(p_cost::text, 'null') using errcode = '22023';
  end if;
  if p_layout is null or length(p_layout) > 400 then
    raise exception 'p_layout: up to 400 characters, got %', coalesce(length(p_layout)::text, 'null')
      using errcode = '22023';
  end if;
  if p_settled is null then
    raise exception 'p_settled: a number, got null' using errcode = '22023';
  end if;
  perform public.breakwater_check(p_subject, p_windows, p_now_ms, p_behind_ms, p_floor, p_alone);
  perform public.breakwater_check(p_subject, p_windows, p_now_ms, p_ahead_ms, p_noted, '[]');

  -- One subject at a time: two calls that read before either writes would both pass. A lock on rows could not do it,
  -- because a subject's first call has no row to lock. The locks are statements of their own because a statement sees
  -- what was committed before it began. They go with the transaction. A peek decides nothing and need not wait.
  --
  -- The first lock is the fence: whoever comes back to Redis takes it exclusively, so that each call is either committed
  -- before and listed, or reads the new number and is told that it has to be given to Redis by whoever made it.
  if p_cost > 0 then
    perform pg_advisory_xact_lock_shared(hashtextextended('breakwater fence', 0));
    perform pg_advisory_xact_lock(hashtextextended('breakwater:' || p_subject, 0));
  end if;
  select b.n into v_fence from public.breakwater_back as b;

  with span as (
    -- The buckets that each window covers, both ends included and counted in full: a call admitted by a clock that is
    -- behind this caller's by p_behind_ms or ahead of it by p_ahead_ms, and no more, lies between them. They have to
    -- cover the time that a call takes to get here as well.
    select w.position,
           w.window_ms,
           w.bucket_ms,
           w.max_calls,
           p_now_ms / w.bucket_ms * w.bucket_ms as current_ms,
           (p_now_ms - w.window_ms - p_behind_ms) / w.bucket_ms * w.bucket_ms as first_ms,
           (p_now_ms + p_ahead_ms) / w.bucket_ms * w.bucket_ms as last_ms
      from rows from (
        jsonb_to_recordset(p_windows) as (window_ms bigint, bucket_ms bigint, "limit" bigint)
      ) with ordinality as w(window_ms, bucket_ms, max_calls, position)
  ), excepted as (
    -- What of the caller's reading it knows to have come from here; its floor is without it.
    select s.position, (pair.value ->> 0)::bigint as start_ms, max((pair.value ->> 1)::integer) as calls
      from jsonb_to_recordset(p_noted) as o(window_ms bigint, buckets jsonb)
      join span as s using (window_ms)
     cross join lateral jsonb_array_elements(o.buckets) as pair
     group by s.position, (pair.value ->> 0)::bigint
  ), told as (
    -- What the caller last saw Redis hold, less what it saw come from here, less what else had come from here by then:
    -- what a settlement gave is part of the caller's reading if the caller had heard that it was over. Where that is not
    -- known nothing is taken off, so that the floor is too high rather than too low.
    select s.position,
           b.start_ms,
           greatest(0, max(b.calls - case
             when t.given_fence <= p_settled then greatest(t.given - coalesce(e.calls, 0), 0)
             else 0
           end)) as carried
      from jsonb_to_recordset(p_floor) as f(window_ms bigint, buckets jsonb)
      join span as s using (window_ms)
     cross join lateral (
       select (pair.value ->> 0)::bigint as start_ms, (pair.value ->> 1)::integer as calls
         from jsonb_array_elements(f.buckets) as pair
     ) as b
      left join excepted as e on e.position = s.position and e.start_ms = b.start_ms
      left join public.breakwater_windows as t
        on t.subject = p_subject
       and t.window_ms = s.window_ms
       and t.bucket_start_ms = b.start_ms
     where b.start_ms between s.first_ms and s.last_ms
       and b.calls > 0
     group by s.position, b.start_ms
  ), alone as (
    -- What the caller had to admit by itself while nobody answered: counted whatever comes of this call.
    select s.position, (pair.value ->> 0)::bigint as start_ms, sum((pair.value ->> 1)::integer) as calls
      from jsonb_to_recordset(p_alone) as o(window_ms bigint, buckets jsonb)
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
        select position, start_ms, calls, 0 from alone
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
           -- As long as any clock may count it, and one that is ahead deletes it.
           c.start_ms + s.bucket_ms + s.window_ms + p_behind_ms + p_ahead_ms
      from (
        select position, start_ms, spent, 0 as carried from paid
        union all
        select position, start_ms, 0, carried from told where p_cost > 0
        union all
        select position, start_ms, calls, 0 from alone where p_cost > 0
      ) as c
      join span as s using (position)
     group by s.window_ms, s.bucket_ms, c.start_ms
        on conflict (subject, window_ms, bucket_start_ms) do update
       set spent = t.spent + excluded.spent,
           carried = greatest(t.carried, excluded.carried),
           expires_at_ms = greatest(t.expires_at_ms, excluded.expires_at_ms)
     where excluded.spent > 0
        or excluded.carried > t.carried
  ), listed_for_redis as (
    -- Redis has not been given this yet; breakwater_return lists it.
    insert into public.breakwater_owed as o (subject, layout, changed, expires_at_ms)
    select p_subject, p_layout, 1, max(c.start_ms + s.bucket_ms + s.window_ms + p_behind_ms + p_ahead_ms)
      from (
        select position, start_ms from paid
        union all
        select position, start_ms from alone where p_cost > 0
      ) as c
      join span as s using (position)
    having count(*) > 0 and p_layout <> ''
        on conflict (subject) do update
       set layout = excluded.layout,
           changed = o.changed + 1,
           expires_at_ms = greatest(o.expires_at_ms, excluded.expires_at_ms)
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
  select jsonb_build_object('allowed', v.allowed, 'fence', v_fence, 'windows', listed.windows)
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

comment on function public.breakwater_spend_2(
  text, text, jsonb, integer, bigint, bigint, bigint, jsonb, jsonb, bigint, jsonb
) is
  'Admits p_cost calls of a subject if every window has room for them, or refuses and spends nothing. '
  'p_windows: [{window_ms, bucket_ms, limit}]. p_cost 0 only looks. p_layout: where Redis keeps the '
  'buckets; empty where it need not know. '
  'p_floor: [{window_ms, buckets: [[start_ms, count]]}], what Redis itself was last seen to have admitted: the higher '
  'count holds. p_noted: the same of what the reading was known to hold of calls admitted here, already taken off; '
  'p_settled: the last return that was over then. p_alone: what the caller admitted from memory and tells for the first '
  'time: it is added. Returns {allowed, fence, windows: [{window_ms, buckets: [[start_ms, count]], spent: [[start_ms, '
  'count]]}]} as it stands after the decision; fence counts the returns, spent is what was admitted here.';


create or replace function public.breakwater_return(
  p_gen text,
  p_begin boolean,
  p_now_ms bigint,
  p_done jsonb default '[]',
  p_after text default '',
  p_limit integer default 200
)
returns jsonb
language plpgsql
volatile
security invoker
set search_path = ''
as $$
declare
  v_fence bigint;
  v_key bigint;
  v_listed jsonb;
begin
  if p_gen is null or length(p_gen) not between 1 and 100 then
    raise exception 'p_gen: 1 to 100 characters, got %', coalesce(length(p_gen)::text, 'null') using errcode = '22023';
  end if;
  if p_limit is null or p_limit not between 1 and 1000 then
    raise exception 'p_limit: 1 to 1000, got %', coalesce(p_limit::text, 'null') using errcode = '22023';
  end if;
  if jsonb_typeof(p_done) is distinct from 'array' then
    raise exception 'p_done: an array of {subject, changed}, got %', left(coalesce(p_done::text, 'null'), 400)
      using errcode = '22023';
  end if;

  -- Waits for every call that is being counted; whoever comes later reads the new number. It is a statement of its own,
  -- so that what is listed below is all that was committed before.
  if p_begin then
    perform pg_advisory_xact_lock(hashtextextended('breakwater fence', 0));
    update public.breakwater_back as b set n = b.n + 1;
  end if;
  select b.n into v_fence from public.breakwater_back as b;

  if p_done <> '[]' then
    -- In one order for everybody, so that no two wait for each other.
    for v_key in
      select distinct hashtextextended('breakwater:' || d.subject, 0) as key
        from jsonb_to_recordset(p_done) as d(subject text)
       order by key
    loop
      perform pg_advisory_xact_lock(v_key);
    end loop;
    -- Where nothing was admitted since, the rows hold just what Redis was given.
    update public.breakwater_windows as w
       set given = w.spent, given_fence = v_fence
      from jsonb_to_recordset(p_done) as d(subject text, changed bigint)
      join public.breakwater_owed as o on o.subject = d.subject and o.changed = d.changed
     where w.subject = d.subject
       and w.given <> w.spent;
    update public.breakwater_owed as o
       set given = greatest(o.given, d.changed), gen = p_gen
      from jsonb_to_recordset(p_done) as d(subject text, changed bigint)
     where o.subject = d.subject
       and o.changed >= d.changed;
  end if;

  -- Along the primary key: the table holds no more than was admitted in the last day.
  select coalesce(jsonb_agg(
           jsonb_build_object(
             'subject', page.subject,
             'layout', page.layout,
             'changed', page.changed,
             'buckets', page.buckets
           )
           order by page.subject
         ), '[]')
    into v_listed
    from (
      select o.subject, o.layout, o.changed, counted.buckets
        from public.breakwater_owed as o
       cross join lateral (
         select coalesce(jsonb_agg(jsonb_build_array(w.window_ms, w.bucket_start_ms, w.spent, w.carried)), '[]') as buckets
           from public.breakwater_windows as w
          where w.subject = o.subject
            and w.expires_at_ms > p_now_ms
       ) as counted
       where o.subject > p_after
         and (o.changed > o.given or o.gen is distinct from p_gen)
         and o.expires_at_ms > p_now_ms
       order by o.subject
       limit p_limit
    ) as page;
  return jsonb_build_object('fence', v_fence, 'subjects', v_listed);
end;
$$;

comment on function public.breakwater_return(text, boolean, bigint, jsonb, text, integer) is
  'Part of coming back to Redis, whose data is named p_gen. p_begin: calls that are counted from now on are told so by '
  'a higher fence. p_done: [{subject, changed}] that Redis was given. Returns {fence, subjects: [{subject, layout, '
  'changed, buckets: [[window_ms, start_ms, spent, carried]]}]}: the next subjects after p_after that Redis lacks calls of.';


create or replace function public.breakwater_forget(p_subject text)
returns integer
language plpgsql
volatile
security invoker
set search_path = ''
as $$
declare
  v_deleted integer;
begin
  v_deleted := public.breakwater_reset(p_subject);
  delete from public.breakwater_owed as o where o.subject = p_subject;
  return v_deleted;
end;
$$;

comment on function public.breakwater_forget(text) is 'Forgets one subject; returns how many counts it had.';


create or replace function public.breakwater_clean(p_now_ms bigint, p_limit integer default 5000)
returns integer
language plpgsql
volatile
security invoker
set search_path = ''
as $$
declare
  -- As in breakwater_sweep: the database's clock has to agree.
  v_before_ms constant bigint := least(p_now_ms, floor(extract(epoch from clock_timestamp()) * 1000)::bigint);
  v_windows integer;
  v_owed integer;
begin
  if p_now_ms is null or p_limit is null or p_limit not between 1 and 100000 then
    raise exception 'p_now_ms and p_limit: a time and 1 to 100000' using errcode = '22023';
  end if;
  with expired as materialized (
    select w.subject, w.window_ms, w.bucket_start_ms
      from public.breakwater_windows as w
     where w.expires_at_ms <= v_before_ms
     order by w.expires_at_ms
     limit p_limit
       for update skip locked
  )
  delete from public.breakwater_windows as w
   using expired as e
   where w.subject = e.subject
     and w.window_ms = e.window_ms
     and w.bucket_start_ms = e.bucket_start_ms;
  get diagnostics v_windows = row_count;
  with expired as materialized (
    select o.subject
      from public.breakwater_owed as o
     where o.expires_at_ms <= v_before_ms
     order by o.expires_at_ms
     limit p_limit
       for update skip locked
  )
  delete from public.breakwater_owed as o using expired as e where o.subject = e.subject;
  get diagnostics v_owed = row_count;
  return v_windows + v_owed;
end;
$$;

comment on function public.breakwater_clean(bigint, integer) is
  'Deletes what no clock needs any more, at most p_limit rows of each table; returns how many. For the daily job.';


revoke all on function
  public.breakwater_spend_2(text, text, jsonb, integer, bigint, bigint, bigint, jsonb, jsonb, bigint, jsonb),
  public.breakwater_return(text, boolean, bigint, jsonb, text, integer),
  public.breakwater_forget(text),
  public.breakwater_clean(bigint, integer)
from public, anon, authenticated;
grant execute on function
  public.breakwater_spend_2(text, text, jsonb, integer, bigint, bigint, bigint, jsonb, jsonb, bigint, jsonb),
  public.breakwater_return(text, boolean, bigint, jsonb, text, integer),
  public.breakwater_forget(text),
  public.breakwater_clean(bigint, integer)
to service_role;
