"""Servers that report, for the page to show: their last reports in Redis, and their past in Supabase."""

import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
import redis as redis_py
from playwright.sync_api import Locator, expect

from lib.fleet.scenarios import Scenario, Simulation, Template, dump
from lib.fleet.snapshot import Measured, Snapshot, pack
from lib.redis import keys
from tests.browser.conftest import Visit
from tests.browser.seeds import now_ms

TOLD_S = 120
"""When the reporters were told to report again: online below 6 minutes, silent from 10 minutes on."""
KINDS = ("Web", "App", "Cache", "Database", "Worker")
LATE_S, SILENT_S = 420, 1_500


def measured(number: int, *, age_s: float = 3, **figures: float | None) -> Measured:
    """One server with figures of its own, none of them high unless a test says so."""
    wave = math.sin(number)
    found: dict[str, float | None] = {
        "cpu": round(35 + 30 * wave, 1),
        "memory": round(45 + 25 * math.cos(number * 3), 1),
        "disk": round(20 + number * 7 % 60, 1),
        "network": round(5 + 4 * wave, 2),
        **figures,
    }
    kind = KINDS[number % len(KINDS)]
    at_ms = now_ms() - round(age_s * 1000)
    return Measured(f"{kind.lower()}-{number}", f"{kind} {number}", at_ms, **found)


def some(count: int) -> list[Measured]:
    """So many; of each hundred 2 are silent, 3 late and 5 high, where there are ten at least one of each."""
    if count < 100:
        special: dict[int, dict[str, Any]] = {
            4: {"age_s": SILENT_S},
            2: {"age_s": LATE_S},
            7: {"cpu": 97.3, "disk": 91},
        }
        return [measured(number, **special.get(number, {})) for number in range(count)]
    found = []
    for number in range(count):
        at = number % 100
        if at in (7, 57):
            found.append(measured(number, age_s=SILENT_S + number))
        elif at in (12, 44, 78):
            found.append(measured(number, age_s=LATE_S))
        elif at in (3, 23, 43, 63, 83):
            found.append(measured(number, **{("cpu", "memory", "disk")[number % 3]: 90 + number % 10}))
        else:
            found.append(measured(number))
    return found


def report(server: redis_py.Redis, servers: Sequence[Measured], reporter: str = "seoul") -> None:
    """The last report of a reporter, as an instance would have stored it."""
    at_ms = now_ms()
    server.hset(keys.SERVERS, keys.reporter(reporter), pack(Snapshot(reporter, at_ms, at_ms, TOLD_S, tuple(servers))))


def scenario(server: redis_py.Redis, name: Scenario, count: int = 11, minutes: int = 12) -> None:
    """A scenario that has run for so many minutes."""
    kinds = ("web", "app", "cache", "database", "worker")
    templates = tuple(
        Template(f"{kinds[n % 5]}-{n}", f"Simulated {kinds[n % 5]} {n}", kinds[n % 5], 20 + n % 30, 50, 40, 100)
        for n in range(count)
    )
    started_ms = now_ms() - minutes * 60_000
    text = dump(Simulation(1, name, 1, started_ms, started_ms + 3_600_000, templates))
    server.hset(keys.SERVERS, keys.SIMULATION, text)


def record(
    owner: psycopg.Connection[Any],
    servers: Sequence[Measured],
    *,
    hours: int = 48,
    days: int = 0,
    gap: range = range(0),
) -> None:
    """The last hours by five minutes, days before them by hour; ``gap``: five minutes, counted back, without a row."""
    now_s = time.time_ns() // 1_000_000_000
    fives = [now_s // 300 * 300 - back * 300 for back in range(hours * 12) if back not in gap]
    whole = [now_s // 3600 * 3600 - back * 3600 for back in range(hours, days * 24)]
    with owner.cursor() as cursor:
        for table, times in (("history (reporter, slot, metrics)", fives), ("hourly (reporter, hour, metrics)", whole)):
            for at_s in times:
                _insert(cursor, table, at_s, _past(servers, at_s))


def _insert(cursor: psycopg.Cursor[Any], table: str, at_s: int, metrics: Mapping[str, Any]) -> None:
    cursor.execute(
        f"insert into public.server_metrics_{table} values ('seoul', to_timestamp(%s), %s)",  # noqa: S608 - ours
        (at_s, json.dumps(metrics)),
    )


def _past(servers: Sequence[Measured], at_s: int) -> dict[str, list[float | None]]:
    """Figures that end where the servers are now."""
    day = math.sin(2 * math.pi * at_s / 86_400)
    found: dict[str, list[float | None]] = {}
    for place, each in enumerate(servers):
        # Nothing was recorded of it since it fell silent.
        if each.at_ms // 1000 < at_s:
            continue
        noise = 8 * math.sin(at_s / 900 + place * 5) + 5 * math.sin(at_s / 333 + place)
        cpu = min(100, max(0, (each.cpu or 0) * 0.8 + 10 * day + noise))
        found[each.id] = [round(cpu, 1), each.memory, each.disk, each.network]
    return found


def see(visit: Visit, about: str = "") -> None:
    """Go to the view with the token, and wait until it shows something."""
    visit.page.goto(f"{visit.served.url}/#fleet{about}")
    visit.enter()
    expect(visit.page.locator(".fleet .redis, .fleet .trouble:visible").first).to_be_visible()
    expect(visit.page.get_by_text(re.compile("^(Loading…|불러오는 중…)$"))).to_have_count(0)


def tiles(visit: Visit) -> Locator:
    """The servers that are shown."""
    return visit.page.locator(".servers > li")


def names(visit: Visit) -> list[str]:
    """Those of the servers that are shown, in their order."""
    return tiles(visit).locator("h3 a").all_inner_texts()


def reads(visit: Visit) -> int:
    """How often the fleet was asked for."""
    return visit.served.asked.count("/api/dashboard")
