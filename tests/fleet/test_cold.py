"""What Supabase keeps: once in five minutes, for a week in full and for 90 days by hour."""

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from dev.postgres import Postgres
from tests.rig.callers import a_caller
from tests.rig.clock import NOON_MS
from tests.rig.fleet import a_fleet, look, report, server, servers
from tests.rig.guard import Rig
from tests.rig.instance import Instance, together
from tests.rig.supabase import SupabaseStandIn

pytestmark = pytest.mark.anyio

HOUR_S, DAY_S = 3_600, 86_400


@pytest.fixture
def owner(postgres: Postgres, supabase: SupabaseStandIn) -> Iterator[psycopg.Connection[Any]]:
    """The database itself, with nothing recorded."""
    with psycopg.connect(postgres.uri, autocommit=True) as connection:
        connection.execute("truncate public.server_metrics_history, public.server_metrics_hourly")
        # One time for the whole test: the hour may change meanwhile.
        connection.execute("select set_config('test.now_s', extract(epoch from now())::bigint::text, false)")
        yield connection


@pytest.fixture
def instance(rig: Rig, owner: psycopg.Connection[Any]) -> Instance:
    return a_fleet(rig)


def recorded(owner: psycopg.Connection[Any]) -> list[tuple[str, int, Any]]:
    """Reporter, second and metrics of each row."""
    query = (
        "select reporter, extract(epoch from slot)::bigint, metrics from public.server_metrics_history order by 1, 2"
    )
    return owner.execute(query).fetchall()


def record(owner: psycopg.Connection[Any], age_s: int, metrics: dict[str, Any], reporter: str = "seoul") -> None:
    """A row of so many seconds before the database's now."""
    owner.execute(
        "insert into public.server_metrics_history values "
        "(%s, to_timestamp((current_setting('test.now_s')::bigint - %s) / 300 * 300), %s)",
        (reporter, age_s, json.dumps(metrics)),
    )


async def test_five_minutes_are_recorded_once(instance: Instance, rig: Rig, owner: psycopg.Connection[Any]) -> None:
    """Each reporter's first report of them, after the reply; however many instances take reports at once."""
    instances = [instance, *(a_fleet(rig) for _ in range(3))]
    await together([report(each, rig, [server("web", cpu=1)]) for each in instances])
    rig.time.ms += 30_000
    await report(instance, rig, [server("web", cpu=2)])
    await report(instance, rig, [server("db", memory=None)], reporter="busan")
    slot_s = NOON_MS // 300_000 * 300
    assert recorded(owner) == [
        ("busan", slot_s, {"db": [12.5, None, 61.2, 3.25]}),
        ("seoul", slot_s, {"web": [1, 40, 61.2, 3.25]}),
    ]
    assert rig.supabase.stats()["rpc_calls"]["breakwater_fleet_record"] == 5
    rig.time.ms += 300_000
    await report(instance, rig, [server("web", cpu=3)])
    assert recorded(owner)[-1] == ("seoul", slot_s + 300, {"web": [3, 40, 61.2, 3.25]})


async def test_recording_costs_no_redis_command(instance: Instance, rig: Rig) -> None:
    """The report itself is the one."""
    rig.forget_counts()
    await report(instance, rig, servers(100))
    assert rig.commands() == {"hset": 1}


async def test_what_was_not_measured_is_not_recorded(
    instance: Instance, rig: Rig, owner: psycopg.Connection[Any]
) -> None:
    """A server that its reporter could not reach has a gap, not its last figures again."""
    await report(instance, rig, [server("web", age=299), server("db", age=300)])
    assert list(recorded(owner)[0][2]) == ["web"]


async def test_supabase_is_away(instance: Instance, rig: Rig, owner: psycopg.Connection[Any]) -> None:
    """The reply does not change, and the next report of these five minutes is recorded."""
    rig.supabase.fault("status", status=503)
    assert (await report(instance, rig, [server("web", cpu=1)])).status_code == 200
    assert recorded(owner) == []
    rig.supabase.clear()
    rig.time.ms += 30_000
    await report(instance, rig, [server("web", cpu=2)])
    assert recorded(owner)[0][2] == {"web": [2, 40, 61.2, 3.25]}


async def history(instance: Instance, query: str = "", name: str = "web") -> Any:
    """The history of a server."""
    reply = await look(instance, f"/api/servers/{name}/history{query}")
    assert reply.status_code in (200, 400), reply.text
    return reply.json() if reply.status_code == 200 else reply.status_code


async def test_a_history(instance: Instance, owner: psycopg.Connection[Any]) -> None:
    """Points of five minutes for an hour and a day; of hours beyond; the mean where two reporters name a server."""
    for age_s, cpu in ((600, 10), (2 * HOUR_S, 20), (2 * DAY_S, 30), (8 * DAY_S, 40)):
        record(owner, age_s, {"web": [cpu, 50, None, 1], "db": [99, 99, 99, 99]})
    record(owner, 600, {"web": [30, 50, 7, 1]}, reporter="busan")
    assert [each["cpu"] for each in await history(instance, "?range=1h")] == [20]
    day = await history(instance)
    assert [(each["cpu"], each["memory"], each["disk"]) for each in day] == [(20, 50, None), (20, 50, 7)]
    assert day[1]["at"] - day[0]["at"] == 2 * HOUR_S - 600
    assert [each["cpu"] for each in await history(instance, "?range=7d")] == [30, 20, 20]
    assert [each["cpu"] for each in await history(instance, "?range=90d")] == [40, 30, 20, 20]
    assert await history(instance, name="nobody") == []


async def hour(instance: Instance) -> Any:
    """The last hour of all servers."""
    reply = await look(instance, "/api/dashboard/history")
    assert reply.status_code == 200, reply.text
    return reply.json()


async def test_the_last_hour_of_all(instance: Instance, owner: psycopg.Connection[Any]) -> None:
    """Thirteen steps of five minutes, as whole percents; gaps are null; the mean where two reporters name a server."""
    for age_s, cpu in ((2 * HOUR_S, 99), (1800, 10), (1500, 20.4), (0, 30)):
        record(owner, age_s, {"web": [cpu, 50, None, 1], "db": [None, 99, 99, 99]})
    record(owner, 1800, {"web": [30, 50, 7, 1], "재고": [7, 1, 1, 1]}, reporter="busan")
    found = await hour(instance)
    now_s: Any = owner.execute("select current_setting('test.now_s')::bigint").fetchone()

    def points(by_age: dict[int, int]) -> list[int | None]:
        steps = {((now_s[0] - age_s) // 300 * 300 - found["at"]) // 300: cpu for age_s, cpu in by_age.items()}
        return [steps.get(step) for step in range(13)]

    assert found["step"] == 300
    assert found["cpu"] == {
        "web": points({1800: 20, 1500: 20, 0: 30}),
        "db": points({}),
        "재고": points({1800: 7}),
    }


async def test_the_last_hour_of_nobody(instance: Instance) -> None:
    """Nothing was recorded: there is no server, and it is remembered as any value is."""
    assert (await hour(instance))["cpu"] == {}


async def test_the_last_hour_is_one_read_however_many_servers(
    instance: Instance, rig: Rig, owner: psycopg.Connection[Any]
) -> None:
    """Of 1,000 servers it is one call of Supabase, is kept, and is read for the caller's limit and one command."""
    for age_s in range(0, HOUR_S, 300):
        record(owner, age_s, {f"server-{n:04}": [n % 100, 1, 1, 1] for n in range(1_000)})
    before = await hour(instance)
    assert len(before["cpu"]) == 1_000
    other = a_fleet(rig)
    rig.forget_counts()
    assert await hour(other) == before
    spent = rig.commands()
    assert spent.pop("mget") == 1
    assert set(spent) <= {"bitfield", "expire"}
    assert rig.supabase.stats()["rpc_calls"]["breakwater_fleet_hour"] == 1


async def test_the_last_hour_is_for_viewers(instance: Instance) -> None:
    """As the dashboard is."""
    reply = await instance.http.get("/api/dashboard/history", headers={"x-forwarded-for": a_caller()})
    assert reply.status_code == 401


@pytest.mark.parametrize("query", ["?range=2h", "?range=", "?since=1"])
async def test_an_unknown_range(instance: Instance, query: str) -> None:
    """Is refused."""
    assert await history(instance, query) == 400


async def test_a_history_is_for_viewers(instance: Instance) -> None:
    """As the dashboard is."""
    reply = await instance.http.get("/api/servers/web/history", headers={"x-forwarded-for": a_caller()})
    assert reply.status_code == 401


async def sweep(owner: psycopg.Connection[Any]) -> int:
    """As the daily job does, at the test's now."""
    row = owner.execute("select breakwater_fleet_sweep(current_setting('test.now_s')::bigint * 1000)").fetchone()
    assert row is not None
    return int(row[0])


async def test_the_sweep(instance: Instance, rig: Rig, owner: psycopg.Connection[Any]) -> None:
    """Whole hours are rolled up once, what is too old goes, and the histories stay the same."""
    for n in range(12):
        record(owner, 2 * DAY_S + n * 300, {"web": [n, 50, 60, 1]})
    record(owner, 8 * DAY_S, {"web": [40, None, 60, 1]})
    record(owner, 91 * DAY_S, {"web": [50, 50, 60, 1]})
    record(owner, 0, {"web": [1, 1, 1, 1]})
    before = await history(instance, "?range=90d")
    while await sweep(owner):
        pass
    assert len(recorded(owner)) == 13
    hours = owner.execute("select metrics -> 'web' from public.server_metrics_hourly order by hour").fetchall()
    assert hours[0] == ([40, None, 60, 1, 40, None],)
    assert max(each[0][4] for each in hours[1:]) == 11
    rig.server.flushall()
    assert await history(a_fleet(rig), "?range=90d") == before
    assert len(before) == len(hours) + 1


async def test_an_hour_is_not_deleted_before_it_is_rolled_up(owner: psycopg.Connection[Any]) -> None:
    """However long the daily job has not run: 48 hours a call."""
    for hour in range(60):
        record(owner, 10 * DAY_S + hour * HOUR_S, {"web": [hour, 0, 0, 0]})
    await sweep(owner)
    assert len(recorded(owner)) == 12
    await sweep(owner)
    assert recorded(owner) == []
    row = owner.execute("select count(*), sum((metrics -> 'web' ->> 0)::numeric) from server_metrics_hourly").fetchone()
    assert row == (60, sum(range(60)))


async def test_a_reporter_of_no_servers_holds_nobody_up(owner: psycopg.Connection[Any]) -> None:
    """However many hours it has reported none: what others have recorded is rolled up with the first call."""
    for hour in range(60):
        record(owner, 6 * DAY_S + hour * HOUR_S, {}, reporter="idle")
    record(owner, DAY_S, {"web": [1, 2, 3, 4]})
    await sweep(owner)
    rolled = owner.execute("select reporter from server_metrics_hourly").fetchall()
    assert rolled == [("seoul",)]


async def test_the_daily_job_sweeps_and_notices(instance: Instance, rig: Rig, owner: psycopg.Connection[Any]) -> None:
    """Even where nobody looks: rows are rolled up, and a reporter that has stopped is alerted to."""
    owner.execute("select set_config('test.now_s', %s, false)", (str(NOON_MS // 1000),))
    record(owner, 2 * DAY_S, {"web": [1, 2, 3, 4]})
    await report(a_fleet(rig, SUPABASE_URL=None, SUPABASE_SERVICE_ROLE_KEY=None), rig, [server("web")])
    rig.time.ms += 3_600_000
    daily = a_fleet(rig, CRON_SECRET="cron-secret-for-these-tests")
    headers = {"authorization": "Bearer cron-secret-for-these-tests"}
    assert (await daily.http.get("/api/cron/daily", headers=headers)).status_code == 200
    assert rig.supabase.stats()["rpc_calls"]["breakwater_fleet_sweep"] == 2
    assert rig.server.keys("alert:server_silent:*")


async def test_only_the_service_role_may(supabase: SupabaseStandIn, owner: psycopg.Connection[Any]) -> None:
    """Neither anonymous nor signed-in users read or write what servers report."""
    for role in ("anon", "authenticated"):
        for statement in (
            "select * from public.server_metrics_history",
            "select * from public.server_metrics_hourly",
            "select public.breakwater_fleet_record('x', 1, '{}')",
            "select public.breakwater_fleet_sweep(1)",
            "select public.breakwater_fleet_history('x', '1h')",
            "select public.breakwater_fleet_hour()",
        ):
            with owner.transaction(force_rollback=True):
                owner.execute(psycopg.sql.SQL("set local role {}").format(psycopg.sql.Identifier(role)))
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    owner.execute(statement)
