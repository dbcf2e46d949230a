"""Simulated servers: functions of template, seed and time; started, stopped and logged; never mixed with real ones."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from dev.postgres import Postgres
from lib.fleet.scenarios import SCENARIOS, Scenario, Simulation, Template, dump, hour, load, simulate, template_of
from lib.fleet.snapshot import Measured
from lib.fleet.state import status_of
from tests.rig.fleet import a_fleet, look, report, server
from tests.rig.guard import Rig
from tests.rig.instance import Instance
from tests.rig.supabase import SupabaseStandIn

MIDNIGHT_MS = 1_763_510_400_000
HOUR_MS = 3_600_000
KINDS = ("web", "app", "cache", "database", "worker")
TEMPLATES = tuple(Template(f"{kind}-{n}", f"{kind} {n}", kind, 30, 50, 40, 100) for kind in KINDS for n in range(3))


def simulation(scenario: Scenario, seed: int = 1) -> Simulation:
    """One that started at three in the afternoon."""
    started_ms = MIDNIGHT_MS + 15 * HOUR_MS
    return Simulation(7, scenario, seed, started_ms, started_ms + 24 * HOUR_MS, TEMPLATES)


def after(scenario: Scenario, minutes: int, seed: int = 1) -> dict[str, Measured]:
    """All servers so many minutes after the start."""
    one = simulation(scenario, seed)
    return {each.id: each for each in simulate(one, one.started_ms + minutes * 60_000).servers}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_same_for_everybody(scenario: Scenario) -> None:
    """Whoever asks, whenever: of one seed and time; another seed has other figures. A text holds it whole."""
    assert after(scenario, 30) == after(scenario, 30)
    assert after(scenario, 30) != after(scenario, 30, seed=2)
    assert load(dump(simulation(scenario))) == simulation(scenario)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_figures_are_possible(scenario: Scenario) -> None:
    """Percents are percents, all day."""
    for minutes in range(0, 1_440, 20):
        for each in after(scenario, minutes).values():
            for value in (each.cpu, each.memory, each.disk):
                assert value is not None
                assert 0 <= value <= 100
            assert each.network is not None
            assert each.network >= 0


def test_the_daily_rhythm() -> None:
    """Busier in the afternoon than at night, every server."""
    day, night = after("baseline", 0), after("baseline", 12 * 60)
    assert all((day[name].cpu or 0) > (night[name].cpu or 0) for name in day)


@pytest.mark.parametrize(("scenario", "what", "minutes"), [("cpu-storm", "cpu", 10), ("disk-fill", "disk", 60)])
def test_a_third_is_hit(scenario: Scenario, what: str, minutes: int) -> None:
    """The seed chooses which; at the start nothing is wrong yet."""
    hit = {name for name, each in after(scenario, minutes).items() if getattr(each, what) > 90}
    assert len(hit) == len(TEMPLATES) // 3
    assert hit != {name for name, each in after(scenario, minutes, seed=3).items() if getattr(each, what) > 90}
    assert not [name for name, each in after(scenario, 0).items() if getattr(each, what) > 90]


def test_the_last_hour_of_a_scenario() -> None:
    """Thirteen steps that end now: quiet before it began, then what it does; nothing of those that are silent."""
    one = simulation("cascade")
    began_ms, cpu = hour(one, one.started_ms + 30 * 60_000)
    assert began_ms == one.started_ms - 30 * 60_000
    assert cpu.keys() == {each.id for each in TEMPLATES}
    assert {len(each) for each in cpu.values()} == {13}
    database, web = cpu["database-0"], cpu["web-0"]
    assert max(each or 0 for each in (*database[:6], *web[:6])) < 60
    assert database[7:] == [98, 98, 98, None, None, None]
    assert [each for each in web[9:] if (each or 0) < 98] == []


def test_a_cascade() -> None:
    """Databases first, then what stands on them; workers are not drawn in; at last the databases fall silent."""
    for minutes, expected in ((5, {"database"}), (8, {"database", "cache"}), (16, {"database", "cache", "app", "web"})):
        hot = {name.partition("-")[0] for name, each in after("cascade", minutes).items() if (each.cpu or 0) > 90}
        assert hot == expected
    one = simulation("cascade")
    now_ms = one.started_ms + 30 * 60_000
    silent = {each.id for each in simulate(one, now_ms).servers if status_of(each.at_ms, 30, now_ms) == "silent"}
    assert silent == {"database-0", "database-1", "database-2"}


def test_silence() -> None:
    """A third reports no more from the start on, and its last figures do not change."""
    one = simulation("silent")
    early, late = after("silent", 20), after("silent", 200)
    silent = {name for name in late if late[name].at_ms == one.started_ms}
    assert len(silent) == len(TEMPLATES) // 3
    assert all(early[name] == late[name] for name in silent)


@pytest.mark.parametrize("text", [None, "", "x", "[]", '[1,"other",1,1,1,[]]', '[1,"silent",1,1,1,[[1]]]'])
def test_what_is_no_simulation(text: str | None) -> None:
    """Is none."""
    assert load(text) is None


@pytest.mark.parametrize("row", [None, {}, {"id": "a", "name": "a", "kind": "web", "cpu": "1"}])
def test_what_is_no_template(row: object) -> None:
    """Is an error."""
    with pytest.raises(ValueError, match="server_templates"):
        template_of(row)


@pytest.fixture
def log(postgres: Postgres, supabase: SupabaseStandIn) -> Iterator[psycopg.Connection[Any]]:
    """The database itself, with an empty log."""
    with psycopg.connect(postgres.uri, autocommit=True) as connection:
        connection.execute("truncate public.scenario_execution_log")
        yield connection


def logged(log: psycopg.Connection[Any]) -> list[Any]:
    """What the log says: scenario, seed, minutes, and whether it was stopped."""
    return log.execute(
        "select scenario, seed, extract(epoch from ends_at - started_at)::int / 60, stopped_at is not null "
        "from scenario_execution_log order by run"
    ).fetchall()


async def act(instance: Instance, **action: Any) -> tuple[int, str]:
    """An admin action: status, and what was done or is wrong."""
    reply = await instance.act(action="simulate", **action)
    body = reply.json()
    return reply.status_code, body.get("done") or body["code"]


async def shown(instance: Instance, query: str = "") -> Any:
    """The dashboard."""
    return (await look(instance, f"/api/dashboard{query}")).json()


@pytest.mark.anyio
async def test_a_scenario_from_start_to_stop(rig: Rig, log: psycopg.Connection[Any]) -> None:
    """Another instance shows it as well; real servers stay among themselves; it is logged."""
    instance = a_fleet(rig)
    await report(instance, rig, [server("real")])
    status, _ = await act(instance, state="started", scenario="cpu-storm", seed=5, minutes=30)
    assert status == 200
    rig.time.ms += 10 * 60_000
    other = a_fleet(rig)
    real, simulated = await shown(other), await shown(other, "?simulated=1")
    assert ([each["id"] for each in real["servers"]], real["simulated"]) == (["real"], False)
    assert real["scenario"]["name"] == simulated["scenario"]["name"] == "cpu-storm"
    assert (simulated["total"], simulated["simulated"]) == (11, True)
    assert "real" not in [each["id"] for each in simulated["servers"]]
    assert sum(each["metrics"]["cpu"] > 90 for each in simulated["servers"]) == 3
    one = (await look(other, "/api/servers/db-1?simulated=1")).json()
    assert (one["server"]["id"], one["simulated"]) == ("db-1", True)
    assert (await look(other, "/api/servers/db-1")).status_code == 404
    hours = [(await look(other, f"/api/dashboard/history{each}")).json()["cpu"] for each in ("", "?simulated=1")]
    assert "db-1" not in hours[0]
    assert hours[1].keys() == {each["id"] for each in simulated["servers"]}
    assert (await look(other, "/api/dashboard/history?simulated=2")).status_code == 400
    assert (await look(other, "/api/dashboard/history?simulated=1", authorization="Bearer x")).status_code == 401
    assert (await act(other, state="started", scenario="silent"))[1] == "invalid_request"
    assert (await act(other, state="stopped"))[1] == "cpu-storm is stopped"
    assert (await shown(other))["scenario"] is None
    assert (await shown(other, "?simulated=1"))["servers"] == []
    assert (await look(other, "/api/dashboard/history?simulated=1")).json()["cpu"] == {}
    assert (await act(other, state="stopped"))[1] == "nothing was running"
    assert logged(log) == [("cpu-storm", 5, 30, True)]


@pytest.mark.anyio
async def test_a_scenario_ends_by_itself(rig: Rig, log: psycopg.Connection[Any]) -> None:
    """And another one can start then."""
    instance = a_fleet(rig)
    await act(instance, state="started", scenario="silent", minutes=1)
    rig.time.ms += 60_000
    assert (await shown(instance))["scenario"] is None
    assert (await act(instance, state="stopped"))[1] == "nothing was running"
    assert (await act(instance, state="started", scenario="cascade", minutes=1))[0] == 200
    assert [(each[0], each[3]) for each in logged(log)] == [("silent", False), ("cascade", False)]


@pytest.mark.anyio
async def test_it_stops_without_its_log(rig: Rig, log: psycopg.Connection[Any]) -> None:
    """Where Supabase is away the scenario stops all the same, and the reply says what the log lacks."""
    instance = a_fleet(rig)
    await act(instance, state="started", scenario="silent", minutes=10)
    rig.supabase.fault(kind="refuse")
    status, said = await act(instance, state="stopped")
    assert (status, said[:54]) == (200, "silent is stopped; its log in Supabase does not say so")
    assert (await shown(instance))["scenario"] is None
    assert rig.server.hget("servers", "simulation") is None


@pytest.mark.anyio
async def test_simulated_servers_are_no_trouble(rig: Rig, log: psycopg.Connection[Any]) -> None:
    """Nobody is alerted to them, and nothing of them is recorded."""
    instance = a_fleet(rig, ALERT_SERVER_REPORTS="1")
    await act(instance, state="started", scenario="silent", minutes=600)
    for _ in range(3):
        rig.time.ms += HOUR_MS
        await shown(instance, "?simulated=1")
    assert rig.server.keys("alert:server*") == []
    assert rig.supabase.stats()["rpc_calls"] == {"breakwater_scenario_begin": 1}


@pytest.mark.anyio
async def test_without_its_stores(rig: Rig) -> None:
    """Templates and the log are in Supabase, what runs is in Redis: without either nothing starts, and it is said."""
    for environ in ({"SUPABASE_URL": None, "SUPABASE_SERVICE_ROLE_KEY": None}, {"REDIS_ENABLED": "false"}):
        assert await act(a_fleet(rig, **environ), state="started") == (503, "store_unavailable")
    assert rig.server.hget("servers", "simulation") is None


@pytest.mark.anyio
@pytest.mark.parametrize("query", ["?simulated=0", "?simulated=", "?simulated=1&simulated=1"])
async def test_a_parameter_that_is_none(rig: Rig, query: str) -> None:
    """Is refused: each would be an edge's own entry."""
    assert (await look(a_fleet(rig), f"/api/dashboard{query}")).status_code == 400
