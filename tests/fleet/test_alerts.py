"""Alerts from reports to the webhook's door: once for all instances, and the end once."""

from typing import Any

import psycopg
import pytest

from dev.postgres import Postgres
from lib.base.events import Alerted
from tests.rig.fleet import a_fleet, look, report, server
from tests.rig.guard import Rig
from tests.rig.instance import Instance
from tests.rig.supabase import SupabaseStandIn

pytestmark = pytest.mark.anyio


def alerted(*instances: Instance) -> list[tuple[str, str]]:
    """Kind and subject of what was sent."""
    return [(each.kind, each.about) for one in instances for each in one.seen(Alerted)]


@pytest.fixture
def owner(postgres: Postgres, supabase: SupabaseStandIn) -> None:
    """A database in which nothing is recorded."""
    with psycopg.connect(postgres.uri, autocommit=True) as connection:
        connection.execute("truncate public.server_metrics_history, public.server_metrics_hourly")


@pytest.fixture
def instance(rig: Rig) -> Instance:
    return a_fleet(rig, SUPABASE_URL=None, SUPABASE_SERVICE_ROLE_KEY=None)


async def reports(instance: Instance, rig: Rig, count: int, **metrics: Any) -> None:
    """So many reports of one server."""
    for _ in range(count):
        await report(instance, rig, [server("web", **metrics)])
        rig.time.ms += 40_000


@pytest.mark.parametrize("what", ["cpu", "memory", "disk"])
async def test_a_metric_above_the_threshold(instance: Instance, rig: Rig, what: str) -> None:
    """After three reports on end, and when it is over; two are none."""
    await reports(instance, rig, 2, **{what: 95})
    await reports(instance, rig, 1, **{what: 90})
    assert alerted(instance) == []
    await reports(instance, rig, 4, **{what: 90.1})
    assert alerted(instance) == [("server_high", f"seoul/web {what}")]
    await reports(instance, rig, 4, **{what: 10})
    assert alerted(instance)[1:] == [("server_normal", f"seoul/web {what}")]


async def test_threshold_and_reports_are_settings(rig: Rig) -> None:
    """One threshold for all three."""
    instance = a_fleet(rig, ALERT_SERVER_PERCENT="50", ALERT_SERVER_REPORTS="1")
    await reports(instance, rig, 1, cpu=49, memory=51, disk=50)
    assert alerted(instance) == [("server_high", "seoul/web memory")]


async def test_silence_is_told_once_by_all_instances(instance: Instance, rig: Rig) -> None:
    """Whoever reads first tells it; a reporter is one alert, and comes back once."""
    await report(instance, rig, [server("web"), server("db")])
    readers = [a_fleet(rig) for _ in range(3)]
    for _ in range(2):
        rig.time.ms += 600_000
        for each in readers:
            await look(each)
    assert alerted(instance, *readers) == [("server_silent", "reporter seoul")]
    await report(instance, rig, [server("web"), server("db")])
    rig.time.ms += 10_000
    for each in readers:
        await look(each)
    assert alerted(instance, *readers)[1:] == [("server_back", "reporter seoul")]


@pytest.mark.parametrize(("silent_s", "expected"), [(590, []), (900, [("server_back", "reporter seoul")])])
async def test_who_knows_nothing_of_a_silence_tells_its_end(
    rig: Rig, owner: None, silent_s: int, expected: list[tuple[str, str]]
) -> None:
    """The first report after it comes to an instance that has just started: what was recorded shows the gap."""
    await report(a_fleet(rig), rig, [server("web")])
    rig.time.ms += silent_s * 1000
    new = [a_fleet(rig) for _ in range(2)]
    for each in new:
        await report(each, rig, [server("web")])
    assert alerted(*new) == expected


async def test_the_alert_says_what_it_is_about(instance: Instance, rig: Rig) -> None:
    """In a sentence, with the value."""
    await reports(instance, rig, 3, disk=97.5)
    (event,) = instance.seen(Alerted)
    assert event.text == "seoul/web disk was above the threshold in several reports on end (97.5 %)."
