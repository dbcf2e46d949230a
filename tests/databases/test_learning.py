"""What follows from what was read: changed tables are noticed, trends are kept, people are told."""

import pytest

from dev.postgres import Postgres
from lib.base.env import Secret
from lib.base.events import Alerted, CatalogueChanged, DatabaseNoticed
from lib.databases import noticing, trend
from lib.databases.readers.postgres import Direct
from lib.databases.trend import SLOT_MS, Sample
from lib.databases.watching import Databases
from tests.databases.conftest import Site, session, watching
from tests.rig.guard import Rig

pytestmark = pytest.mark.anyio

# ---------------------------------------------------------------- changed tables

SEEN = {
    "a table": "create table ddl_new (id int)",
    "a column": "alter table ddl_t add column b int",
    "a column less": "alter table ddl_t drop column a",
    "a name": "alter table ddl_t rename column a to c",
    "a type": "alter table ddl_t alter column a type bigint",
    "a default": "alter table ddl_t alter column a set default 2",
    "a default less": "alter table ddl_t alter column a drop default",
    "not null": "alter table ddl_t alter column a set not null",
    "a view": "create view ddl_w as select 1 as one",
    "a view anew": "create or replace view ddl_v as select 2 as a",
    "a table's name": "alter table ddl_t rename to ddl_u",
    "a table less": "drop table ddl_t cascade",
    "a schema": "create schema ddl_s",
}
NOT_SEEN = {
    "rows": "insert into ddl_t values (1); delete from ddl_t",
    "statistics": "analyze ddl_t",
    "rewriting": "vacuum full ddl_t",
    "truncating": "truncate ddl_t",
    "a temporary table": "create temporary table ddl_temporary (id int)",
    "a right": "grant select on ddl_t to public",
    "a comment": "comment on table ddl_t is 'x'",
    "an index": "create index on ddl_t (a)",
}


@pytest.mark.parametrize("change", [*SEEN, *NOT_SEEN])
async def test_what_the_catalogue_s_hash_sees(counted: Postgres, change: str) -> None:
    """All that changes what is shown of tables, and nothing that happens all the time."""
    reader = Direct.at(Secret(counted.uri))
    with session(counted, autocommit=True) as connection:
        connection.execute("create table ddl_t (a int default 1)")
        connection.execute("create view ddl_v as select 1 as a")
        before = await reader.rows("catalogue", {}, 9)
        for statement in (SEEN | NOT_SEEN)[change].split("; "):
            connection.execute(statement)
        after = await reader.rows("catalogue", {}, 9)
        for each in ("view ddl_v", "view ddl_w", "table ddl_t", "table ddl_u", "table ddl_new", "schema ddl_s"):
            connection.execute(f"drop {each.replace(' ', ' if exists ')} cascade")
    await reader.aclose()
    assert (before != after) == (change in SEEN)


async def test_a_changed_table_shows(rig: Rig, counted: Postgres) -> None:
    """On every instance after a minute at most and one question to the database, whatever that question is."""
    made, other = watching(rig, counted), watching(rig, counted)
    with session(counted, autocommit=True) as connection:
        connection.execute("create schema shows")
        connection.execute("create table shows.t (a int)")
        path = "/api/columns?schema=shows&table=t"
        assert len((await made.read(path))["columns"]) == 1
        connection.execute("alter table shows.t add column b int")
        assert len((await made.read(path))["columns"]) == 1
        rig.time.later(61)
        # Redis' own time has not moved.
        rig.server.delete(*rig.server.keys("tms-looked:*"))
        await other.read("/api/monitoring/realtime")
        assert len((await made.read(path))["columns"]) == 2
    assert [each.connection for each in other.instance.seen(CatalogueChanged)] == ["shop"]
    assert made.instance.seen(CatalogueChanged) == []


async def test_the_catalogue_is_looked_at_once_a_minute(
    rig: Rig, counted: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By all instances together."""
    made, asked = [watching(rig, counted), watching(rig, counted)], list[str]()
    rows = Direct.rows

    async def noted(self: Direct, statement: str, *given: object) -> object:
        asked.append(statement)
        return await rows(self, statement, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(Direct, "rows", noted)
    for path in ("/api/monitoring/realtime", "/api/monitoring/locks", "/api/schemas"):
        for each in made:
            await each.read(path)
    assert asked.count("catalogue") == 1


async def test_without_redis_an_instance_sees_changes_itself(rig: Rig, counted: Postgres) -> None:
    """Its own memory is what it compares with, and forgets."""
    made = watching(rig, counted, REDIS_ENABLED="false")
    with session(counted, autocommit=True) as connection:
        await made.read("/api/monitoring/realtime")
        connection.execute("create schema seen_alone")
        rig.time.later(61)
        await made.read("/api/monitoring/realtime")
        connection.execute("drop schema seen_alone")
    assert len(made.instance.seen(CatalogueChanged)) == 1


# ---------------------------------------------------------------- trends


async def test_a_trend_is_kept(rig: Rig, counted: Postgres) -> None:
    """A sample each five minutes while somebody looks; what happened between them is shown, on every instance."""
    made, other = watching(rig, counted), watching(rig, counted)
    for _ in range(3):
        # The server tells of a session's commits when it ends.
        with session(counted, autocommit=True) as connection:
            for _ in range(30):
                connection.execute("select 1")
        await made.read("/api/dashboard/metrics")
        rig.time.later(SLOT_MS / 1000)
    found = (await other.read("/api/monitoring/trend?period=1h"))["points"]
    assert [each["reset"] for each in found] == [False, False]
    assert all(each["commitsPerS"] > 0 for each in found)
    (key,) = rig.server.keys("tms-samples:shop:*")
    assert rig.server.pttl(key) > 6 * 86_400_000


async def test_a_trend_survives_a_reset(rig: Rig, counted: Postgres) -> None:
    """What was kept stays, the point after the reset says so, and nothing is negative."""
    made = watching(rig, counted)
    for number in range(3):
        with session(counted, autocommit=True) as connection:
            for _ in range(60 - 20 * number):
                connection.execute("select 1")
            if number == 2:
                connection.execute("select pg_stat_reset()")
        await made.read("/api/dashboard/metrics")
        rig.time.later(SLOT_MS / 1000)
    found = (await made.read("/api/monitoring/trend?period=1h"))["points"]
    assert [each["reset"] for each in found] == [False, True]
    assert all(value >= 0 for each in found for name, value in each.items() if name.endswith("PerS"))


async def test_a_trend_is_one_servers(rig: Rig, counted: Postgres, postgres: Postgres) -> None:
    """Where a connection points to another one, samples begin anew; with another password, or literals, they go on."""
    as_other = counted.uri.replace("postgres:@", "postgres:another-password@")
    shown = {"SHOP_URL": as_other, "DB_SHOW_LITERALS": "true"}
    found = []
    for made in (watching(rig, counted), watching(rig, counted, **shown), watching(rig, postgres)):
        await made.read("/api/dashboard/metrics")
        found.append(len((await made.read("/api/monitoring/trend?period=1h"))["points"]))
        rig.time.later(SLOT_MS / 1000)
    assert found == [0, 1, 0]


async def test_a_trend_without_redis(rig: Rig, counted: Postgres) -> None:
    """There is nothing to keep it in, and the reply says so."""
    found = await watching(rig, counted, REDIS_ENABLED="false").read("/api/monitoring/trend")
    assert (found["points"], len(found["missing"])) == ([], 1)


async def test_the_past_of_a_database_that_is_down(rig: Rig, counted: Postgres) -> None:
    """It is read from Redis: the database's circuit, which has opened, says nothing of that."""
    made = watching(rig, counted, SHOP_URL="postgresql://me@127.0.0.1:9/x")
    for path in ("realtime", "locks", "sessions", "wait-events"):
        assert (await made.get(f"/api/monitoring/{path}")).status_code == 503
    assert (await made.get("/api/monitoring/trend")).status_code == 200


def counted_at(minutes: int, commits: int) -> Sample:
    """A sample with only one counter that moves."""
    return Sample(minutes * 60_000, 3, (commits, 0, 90, 10, 0, 0, 0, None))


def test_a_reset_begins_anew() -> None:
    """A counter that fell was reset: what it shows now is what happened since, and nothing is negative."""
    found = trend.points([counted_at(0, 600), counted_at(5, 900), counted_at(10, 30), counted_at(10, 30)])
    assert [(each["commitsPerS"], each["reset"]) for each in found] == [(1.0, False), (0.1, True)]


def test_samples_are_stored_by_their_time() -> None:
    """What was written over, belongs to another week, or is no sample, is none."""
    now_ms = 10_000 * SLOT_MS
    sample = Sample(now_ms - SLOT_MS, 3, (1, 2, 3, 4, 5, 6, 7, None))
    assert trend.load(trend.dump(sample), now_ms, "1h") == sample
    old = trend.dump(Sample(now_ms - 13 * SLOT_MS, 3, sample.counted))
    assert [trend.load(text, now_ms, "1h") for text in (old, None, "", "[]", "[1,2,3]", "{}")] == [None] * 6
    for period, most in (("1h", 13), ("24h", 289), ("7d", 337)):
        places = trend.places(now_ms, period)
        assert len(set(places)) == len(places) <= most
        assert places[-1] == trend.place(now_ms)


# ---------------------------------------------------------------- what people are told

_NAMES = (
    "commits",
    "rollbacks",
    "blocks_hit",
    "blocks_read",
    "rows_fetched",
    "rows_written",
    "deadlocks",
    "temp_bytes",
)
COUNTED: dict[str, object] = dict.fromkeys(_NAMES, 0)


def lock(pid: int, blocked_by: list[int] | int | None, waiting_s: float | None) -> dict[str, object]:
    """A row of the locks."""
    return {"pid": pid, "blocked_by": blocked_by, "waiting_s": waiting_s}


def test_a_lock_that_is_held() -> None:
    """Longer than 30 s, once for each that holds one; Oracle names one blocker, PostgreSQL several."""
    rows = [
        lock(1, [], None),
        lock(2, [1], 31),
        lock(3, [1], 40),
        lock(4, [9], 29),
        lock(5, 7, 31.0),
        lock(6, None, 99),
        lock(8, [0], 50),
    ]
    told = noticing.of_locks("shop", rows)
    assert [(each.about, each.text[-4:]) for each in told] == [("1", "40 s"), ("7", "31 s"), ("0", "50 s")]
    assert "a prepared transaction" in told[-1].text


@pytest.mark.parametrize(("sessions", "most", "told"), [(89, 100, 0), (90, 100, 1), (100, 100, 1), (5, None, 0)])
def test_sessions_near_the_most(sessions: int, most: int | None, told: int) -> None:
    """From 90 % on."""
    assert len(noticing.of_sessions("shop", [{"sessions": sessions, "most_sessions": most}])) == told


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ((100, 1_000.0), (120, 2_000.0), True),  # 10 ms a call, then 50
        ((100, 1_000.0), (120, 1_980.0), False),  # 49
        ((100, 1_000.0), (119, 2_000.0), False),  # too few calls
        ((19, 190.0), (100, 9_000.0), False),  # too few before
        ((100, 1.0), (200, 11.0), False),  # below a millisecond
        ((100, 1_000.0), (120, 900.0), False),  # reset
        ((100, 1_000.0), (50, 9_000.0), False),  # reset
    ],
)
def test_a_statement_became_slower(before: tuple[int, float], after: tuple[int, float], told: bool) -> None:
    """Five times, over enough calls on both sides."""
    assert bool(noticing.of_statements("shop", {"1": before}, {"1": after, "2": (99, 99.0)})) == told


READ: dict[str, tuple[str, list[list[dict[str, object]]], str]] = {
    "a lock": (
        "locks",
        [[{"pid": 7, "blocked_by": [], "waiting_s": None}, {"pid": 8, "blocked_by": [7], "waiting_s": 31.0}]],
        "7",
    ),
    "sessions": ("realtime", [[{"sessions": 95, "most_sessions": 100}]], ""),
    "sessions, by the dashboard": ("dashboard", [[{"sessions": 95, "most_sessions": 100, **COUNTED}]], ""),
    "a slower statement": (
        "top",
        [[{"id": "5", "calls": 100, "total_ms": 1_000.0}], [{"id": "5", "calls": 120, "total_ms": 2_000.0}]],
        "5",
    ),
    "one that a shorter list lacked": (
        "top",
        [
            [{"id": "5", "calls": 100, "total_ms": 1_000.0}, {"id": "6", "calls": 100, "total_ms": 3_000.0}],
            [{"id": "6", "calls": 110, "total_ms": 3_300.0}],
            [{"id": "6", "calls": 120, "total_ms": 3_600.0}, {"id": "5", "calls": 120, "total_ms": 2_000.0}],
        ],
        "5",
    ),
}


@pytest.mark.parametrize("name", READ)
async def test_it_is_noticed_in_what_is_read(rig: Rig, counted: Postgres, name: str) -> None:
    """Nothing is asked for it: each follows from the rows of a view."""
    made = watching(rig, counted)
    statement, readings, about = READ[name]
    for rows in readings:
        await Databases.of(made.instance.parts).get("shop").learn(made.instance.parts, statement, rows)
    assert [(each.connection, each.about) for each in made.instance.seen(DatabaseNoticed)] == [("shop", about)]


async def test_it_is_told_once(rig: Rig, counted: Postgres) -> None:
    """By one instance, with the numbers and nothing that was read."""
    made: list[Site] = [watching(rig, counted), watching(rig, counted)]
    for each in made:
        each.instance.parts.emit(DatabaseNoticed("shop", "db_lock", "42", "session 42 holds a lock"))
        await each.instance.parts.settle()
    alerts = [alert for each in made for alert in each.instance.seen(Alerted)]
    assert [(each.kind, each.about) for each in alerts] == [("db_lock", "shop:42")]
