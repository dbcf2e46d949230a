"""What a deployment's Redis might hold, for each state that the page is looked at in."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import redis as redis_py

from dev.faults import Fault, Faults
from lib.base.calendar import month_ends_ms, month_of
from lib.breaker import stored
from lib.breaker.circuit import Circuit
from lib.ledger import places, table
from lib.ledger.batches import RECENT, Batch, Moved, Notable
from lib.redis import keys

PROVIDERS = ("cloud-run", "gemini", "groq")
CALLERS = [hashlib.sha256(bytes([number])).hexdigest()[:32] for number in range(12)]


def now_ms() -> int:
    """The present."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Busy:
    """A month of traffic."""

    commands: int
    """Of the month; the last day has some of them."""
    an_hour: int
    fails: bool

    def write(self, server: redis_py.Redis) -> None:
        """Put it into Redis: the last 30 days by hour, the last hour, and the totals."""
        at_ms, ops = now_ms(), dict[str, list[tuple[table.Place, int]]]()
        for back in range(30 * 24):
            hour_ms = at_ms - back * table.HOUR_MS
            busy = 40 + (back * 37) % 90
            failed = busy // 20 if self.fails else 0
            found = {"serve": busy * 2, "compute": busy, "refuse": busy // 3, "fail": failed, "cached": busy * 2}
            found |= {"commands": self.an_hour, "redis_us": busy * 3 * 4_200, "redis_timed": busy * 3}
            found |= {"request_ms": busy * 3 * 320, "calls.gemini": busy // 10, "calls.groq": busy // 2}
            found |= {"vcpu_ms": busy * 190, "status.2xx": busy * 3, "status.429": busy // 3, "status.5xx": failed}
            found |= {"route.ai/supervisor": busy * 2, "route.v1/chat/completions": busy, "route.other": busy // 3}
            for month in table.months(hour_ms):
                ops.setdefault(month, []).extend(
                    (table.hour_place(name, hour_ms, month), n) for name, n in found.items()
                )
        month = month_of(at_ms)
        for back, five_ms in enumerate(reversed(table.last_five_minutes(at_ms))):
            busy = 3 + (back * 5) % 11
            fives = {"serve": busy * 2, "compute": busy, "refuse": back % 3, "fail": int(self.fails and back % 5 == 4)}
            fives |= {"status.2xx": busy * 3, "status.429": fives["refuse"], "status.5xx": fives["fail"]}
            fives |= {"route.ai/supervisor": busy * 2, "route.v1/chat/completions": busy, "route.other": back % 3}
            fives |= {"calls.gemini": busy // 3, "calls.groq": busy // 2, "calls.cloud-run": 1}
            ops[month] += [(table.five_minute_place(name, five_ms, month), n) for name, n in fives.items()]
        ops[month] += [(table.place(name), n) for name, n in self._totals().items()]
        for each, values in ops.items():
            fields = server.bitfield(keys.ledger(each))
            for (kind, offset), value in values:
                fields = fields.set(kind, offset, value)
            fields.execute()

    def _totals(self) -> dict[places.Name, int]:
        totals: dict[places.Name, int] = {places.COMMANDS: self.commands, ("vcpu_ms", "cloud-run"): 71_234_000}
        totals |= {("data", "menu", "redis"): 8_000, ("data", "menu", "origin"): 2_000, ("data", "other", "failed"): 12}
        totals |= {("data", "rankings", "memory"): 1_500, ("data", "rankings", "stale"): 20}
        totals |= {("data_saved_bytes", "menu"): 12_300_000, ("data_saved_bytes", "rankings"): 640_000}
        totals |= {("caches", "hit"): 41_000, ("caches", "stale"): 120, ("caches", "collapsed"): 900}
        for ms, count in ((60.0, 900), (900.0, 400)):
            for place, each in places.HTTP_DURATION.counts(ms, "ai/supervisor"):
                totals[place] = totals.get(place, 0) + each * count
            for place, each in places.PROVIDER_DURATION.counts(ms * 3, "gemini"):
                totals[place] = totals.get(place, 0) + each * count
        totals[places.REDIS_DURATION.names()[1]] = 5_000
        totals[places.GUARD_DURATION.names()[0]] = 5_000
        return totals


def circuits(server: redis_py.Redis, open_for_s: Mapping[str, int]) -> None:
    """Open circuits."""
    at_ms = now_ms()
    for name, seconds in open_for_s.items():
        opened = Circuit("open", 3, until_ms=at_ms + seconds * 1000, since_ms=at_ms - 600_000, reason="timeout")
        server.set(keys.circuit(name), stored.dump(opened))


def activity(server: redis_py.Redis) -> None:
    """Callers, notable requests of every kind, and alerts of every kind."""
    at_ms = now_ms()
    batch = Batch(at_ms - 3_600_000)
    for place, caller in enumerate(CALLERS):
        batch.callers.add(caller, 900 // (place + 1))
    kinds = (
        ("failed", 502, "server: 500", "gemini", ""),
        ("failed_over", 200, "computed", "groq", "gemini;timeout, groq;answered"),
        ("slow", 200, "computed", "cloud-run", ""),
    )
    for number in range(12):
        kind, status, reason, provider, attempts = kinds[number % 3]
        at_s = at_ms // 1000 - 12_000 + 900 * number
        batch.requests.append(
            Notable(
                at_s,
                kind,  # type: ignore[arg-type] # one of them
                "/api/ai/supervisor",
                status,
                reason,
                900 * (number + 1),
                CALLERS[number][::-1],
                CALLERS[number % 5],
                provider,
                "miss",
                attempts,
            )
        )
    for number, (name, state) in enumerate(MOVED):
        batch.circuits.append(Moved(at_ms // 1000 - 3_000 + 600 * number, name, state, "connection"))
    server.lpush(RECENT.key, batch.text())
    for back, (kind, about) in enumerate(reversed(ALERTS)):
        at_s = at_ms // 1000 - 40_000 + 3_000 * back
        server.lpush(keys.ALERTS, json.dumps({"kind": kind, "about": about, "at": at_s}))


MOVED = [
    (keys.circuit_of_origin("billing"), "open"),
    (keys.circuit_of_origin("stock"), "probing"),
    (keys.circuit_of_app("send mail"), "closed"),
    (keys.circuit_of_app("재고"), "suspect"),
]
ALERTS = [
    ("circuit_open", "gemini"),
    ("circuit_closed", "groq"),
    ("circuit_open", "groq"),
    ("redis_month", "1"),
    ("runs_out", "gemini requests"),
    ("mode", "supabase"),
    ("error_rate", ""),
    ("redis_slow", ""),
    ("hit_ratio", ""),
    ("db_lock", "prod"),
    ("db_sessions", "day"),
    ("server_silent", "reporter seoul"),
    ("server_silent", "seoul/web-1"),
    ("server_high", "seoul/web-1 memory"),
    ("circuit_open", keys.circuit_of_origin("billing")),
    ("circuit_closed", keys.circuit_of_app("재고 확인")),
    ("something_new", "x"),
]


def fine(server: redis_py.Redis) -> None:
    """Traffic, and nothing wrong."""
    Busy(commands=120_000, an_hour=60, fails=False).write(server)
    activity(server)


def ending(commands: int, an_hour: int, *, fails: bool) -> Busy:
    """The month's commands end before it does, however near that is: then more are used in an hour."""
    hours_left = (month_ends_ms(now_ms()) - now_ms()) / table.HOUR_MS
    return Busy(commands, max(an_hour, int((500_000 - commands) / hours_left * 2)), fails)


def short(server: redis_py.Redis) -> None:
    """The month's commands end early."""
    ending(470_000, 2_500, fails=False).write(server)


def degraded(server: redis_py.Redis) -> None:
    """Two of three providers rest, some requests failed, and the month's commands end early."""
    ending(412_345, 4_000, fails=True).write(server)
    circuits(server, {"gemini": 3_600, "groq": 3_600})
    activity(server)


def down(server: redis_py.Redis) -> None:
    """No provider can be called."""
    Busy(commands=120_000, an_hour=60, fails=True).write(server)
    circuits(server, dict.fromkeys(PROVIDERS, 600))


def empty(server: redis_py.Redis) -> None:
    """A new deployment."""


type Seed = Callable[[redis_py.Redis], None]

STATES: dict[str, Seed] = {
    "fine": fine,
    "short": short,
    "degraded": degraded,
    "down": down,
    "empty": empty,
    "redis-down": fine,
}
"""Each state that the page is looked at in, and what Redis holds then."""


def prepare(state: str, server: redis_py.Redis, faults: Faults) -> None:
    """Bring Redis into a state."""
    faults.clear()
    server.flushall()
    STATES[state](server)
    if state == "redis-down":
        faults.set(Fault(kind="refuse"))
