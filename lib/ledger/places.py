"""Every counter of the ledger, with its number: a line here adds a route, a provider, a reason or an alert.

Numbers are written down, so that nothing depends on the order of lines. A number that is in use stays as it is, and
the number of a retired entry is not used again: running deployments keep counts there. The numbers hold for one layout,
which the key names (``keys.ledger``); another layout takes another key.

More than 300 lines because this is one table, and whoever adds to it has to see what is taken.

``make places`` notes new places in ``tests/ledger/places.golden``. A test fails when a noted place moves.
"""

from collections.abc import Mapping
from enum import Enum, unique

from ..ai.providers import registry
from ..base.values import dataclass
from .histogram import Histogram

type Name = tuple[str, ...]
"""A counter: what is counted, then the values of its labels."""

OTHER = "other"

# The values of the labels. A value that is not listed is counted as the one that `known` falls back to.

ROUTES: Mapping[str, int] = {
    OTHER: 0,
    "ai/supervisor": 1,
    "v1/chat/completions": 2,
    "health": 3,
    "overview": 4,
    "metrics": 5,
    "admin": 6,
    "cron/daily": 7,
    # 8 to 23: data routes.
    "data": 8,
    "cache/invalidate": 9,
    "cache/stats": 10,
    # 24 to 31: the fleet.
    "dashboard": 24,
    "servers": 25,
    "servers/report": 26,
    # 32 to 47: watched databases.
    "connections": 32,
    "monitoring/sessions": 33,
    "monitoring/locks": 34,
    "monitoring/wait-events": 35,
    "monitoring/realtime": 36,
    "monitoring/sql-statistics": 37,
    "monitoring/trend": 38,
    "dashboard/metrics": 39,
    "schemas": 40,
    "tables": 41,
    "columns": 42,
    "llm/analyze": 47,
    "history": 56,
    "activity": 57,
}
"""Paths without ``/api/``."""

TIMED_ROUTES: Mapping[str, str] = {
    OTHER: "_OTHER",
    "ai/supervisor": "POST",
    "v1/chat/completions": "POST",
    "llm/analyze": "POST",
}
"""Guarded routes with their method: their durations are kept, and they count by hour and by five minutes.

All other guarded routes, data routes and those of other programs alike, do so as ``other``."""

PROVIDERS: Mapping[str, int] = {OTHER: 0, **{each.name: each.ledger_id for each in registry.PROVIDERS}}

DECISIONS: Mapping[str, int] = {
    "none": 0,
    "serve": 1,
    "compute": 2,
    "refuse": 3,
    "fail": 4,
    "report": 5,
    "client_left": 6,
}
STATUSES: Mapping[str, int] = {"2xx": 2, "3xx": 3, "4xx": 4, "5xx": 5, "429": 6}
MODES: Mapping[str, int] = {"off": 0, "redis": 1, "supabase": 2, "local": 3}
COUNTING_MODES: Mapping[str, int] = {mode: number for mode, number in MODES.items() if mode != "off"}
CACHES: Mapping[str, int] = {"none": 0, "hit": 1, "stale": 2, "collapsed": 3, "miss": 4, "bypass": 5}
REFUSALS: Mapping[str, int] = {
    OTHER: 0,
    "rate_limited": 1,
    "blocked": 2,
    "circuit_open": 3,
    "budget_spent": 4,
    "not_cached": 5,
    # Nothing was refused: a limit in a dry run would have.
    "dry_run": 6,
    "store_unavailable": 7,
}
ERRORS: Mapping[str, int] = {
    OTHER: 0,
    "timeout": 1,
    "connection": 2,
    "unauthorized": 3,
    "throttled": 4,
    "quota": 5,
    "server": 6,
    "protocol": 7,
    "command": 8,
}
STATES: Mapping[str, int] = {"closed": 0, "open": 1, "suspect": 3, "probing": 4}

_SERVICES: Mapping[str, int] = {**PROVIDERS, "upstash": 16, "supabase": 17}
"""Whatever has an allowance: the providers by their own numbers, which are below 16, then the stores."""


def known(value: str, listed: Mapping[str, object], fallback: str = OTHER) -> str:
    """``value`` if it is listed, else ``fallback``."""
    return value if value in listed else fallback


FAMILIES: Mapping[str, int] = {
    OTHER: 0,
    "rankings": 1,
    "menu": 2,
    "menus": 3,
    "setting": 4,
    "generators": 5,
    "server-history": 32,
    "fleet-hour": 33,
    # 16 to 31: watched databases.
    "connections": 16,
    "sessions": 17,
    "locks": 18,
    "wait-events": 19,
    "realtime": 20,
    "sql-statistics": 21,
    "sql": 22,
    "sql-text": 23,
    "trend": 24,
    "dashboard": 25,
    "schemas": 26,
    "tables": 27,
    "columns": 28,
}
"""Resources of data routes. One that is not listed, such as another program's, counts under ``other``."""
TIERS: Mapping[str, int] = {"memory": 0, "redis": 1, "stale": 2, "collapsed": 3, "origin": 4, "failed": 5}
"""Where a resource's value came from. ``collapsed``: another request's of the same moment, waited for."""
SERVED_TIERS = ("memory", "redis", "stale", "collapsed")
"""Where the origin was not asked for this request."""

# Alerts

_MINUTE_MS = 60_000
_HOUR_MS = 60 * _MINUTE_MS
_DAY_MS = 24 * _HOUR_MS
_ABOUT_NOTHING: Mapping[str, int] = {"": 0}
_ABOUT_OTHERS: Mapping[str, int] = {OTHER: 0}


@unique
class AlertKind(Enum):
    """The kinds of alerts: a number, what an alert can be about, and the period it is sent once in (None: a month).

    Number 0 stands for all that is not listed. A kind about things without numbers of their own, such as servers,
    lists ``other`` alone: each of them is alerted to, and the time of the last one is kept. FREE_ALERT_KINDS has the
    numbers that a new kind may take; RETIRED_ALERT_KINDS those that no kind takes again.
    """

    REDIS_MONTH = (1, {OTHER: 0, "1": 1, "2": 2, "3": 3}, None)
    RUNS_OUT = (2, _SERVICES, _DAY_MS)
    CIRCUIT_OPEN = (3, PROVIDERS, 15 * _MINUTE_MS)
    CIRCUIT_CLOSED = (4, PROVIDERS, 15 * _MINUTE_MS)
    MODE = (5, {OTHER: 0, "redis": 1, "supabase": 2, "local": 3}, 15 * _MINUTE_MS)
    ERROR_RATE = (6, _ABOUT_NOTHING, _HOUR_MS)
    REDIS_SLOW = (7, _ABOUT_NOTHING, _HOUR_MS)
    HIT_RATIO = (8, _ABOUT_NOTHING, _DAY_MS)
    SERVER_SILENT = (12, {OTHER: 0}, _DAY_MS)
    SERVER_BACK = (13, {OTHER: 0}, _DAY_MS)
    SERVER_HIGH = (14, {OTHER: 0}, _DAY_MS)
    SERVER_NORMAL = (15, {OTHER: 0}, _DAY_MS)
    # 20 to 27: watched databases.
    DB_LOCK = (20, _ABOUT_OTHERS, _HOUR_MS)
    DB_SESSIONS = (21, _ABOUT_OTHERS, _HOUR_MS)
    DB_SLOWER = (22, _ABOUT_OTHERS, _DAY_MS)

    def __init__(self, number: int, abouts: Mapping[str, int], period_ms: int | None) -> None:
        self.number = number
        self.abouts = abouts
        self.period_ms = period_ms
        self.label = self.name.lower()
        (self._fallback,) = (about for about, at in abouts.items() if at == 0)

    def counter(self, about: str) -> Name:
        """The place that holds when this was last alerted to, in seconds since the epoch.

        What has a number may be followed by a space and by more, as in ``openai tokens``.
        """
        return ("alert_s", self.label, known(about.partition(" ")[0], self.abouts, self._fallback))


RETIRED_ALERT_KINDS: frozenset[int] = frozenset()
"""Numbers of kinds that are gone: their times may still be in Redis."""
FREE_ALERT_KINDS: frozenset[int] = frozenset((*range(9, 12), *range(16, 20), *range(23, 64)))
"""Numbers that no kind ever had: 23 to 27 are for watched databases, the first of the others for anything else."""

# Histograms

# The bounds that OpenTelemetry's conventions advise for these metrics (in seconds there).
HTTP_DURATION = Histogram("http", (5, 10, 25, 50, 75, 100, 250, 500, 750, 1_000, 2_500, 5_000, 7_500, 10_000))
REDIS_DURATION = Histogram("redis_ms", (1, 5, 10, 50, 100, 500, 1_000, 5_000, 10_000))
PROVIDER_DURATION = Histogram(
    "provider_ms", (10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 5_120, 10_240, 20_480, 40_960, 81_920)
)
GUARD_DURATION = Histogram("guard_ms", (1, 2.5, 5, 10, 25, 50, 100))

# Totals of the month

WRITES: Name = ("writes",)
"""How often this string was written: a new one needs a TTL."""
TIME_FLUSHES: Name = ("time_flushes",)
"""Writes that no commands called for, but time, or requests that cost none."""
COMMANDS: Name = ("redis_commands",)
EARLIER_COMMANDS: Name = ("earlier_commands",)
"""The month's commands that were counted under the layout before (``upgrade.py``)."""
VENDOR_TOTAL: Name = ("vendor_total",)
VENDOR_COUNTED: Name = ("vendor_counted",)
VENDOR_AT: Name = ("vendor_at_s",)
SUPABASE_BYTES: Name = ("supabase_bytes",)
SUPABASE_AT: Name = ("supabase_at_s",)
RPC_CALLS: Name = ("rpc_calls",)

type Axis = tuple[Mapping[str, int], int]
"""A label: its values with their numbers, and how many numbers there is room for. The room never changes."""


@dataclass(frozen=True, slots=True)
class Block:
    """The counters of one name, one for each combination of its labels, in slots that are reserved from ``first`` on.

    The slot of a combination is ``first`` and its numbers, the last label's counting single slots.
    """

    first: int
    name: Name
    axes: tuple[Axis, ...] = ()


_ROUTE: Axis = (ROUTES, 64)
_TIMED_ROUTE: Axis = ({route: ROUTES[route] for route in TIMED_ROUTES}, 64)
_PROVIDER: Axis = (PROVIDERS, 16)
_STATE: Axis = (STATES, 8)
_FAMILY: Axis = (FAMILIES, 64)
_MODE: Axis = (MODES, 8)
_PARTS = 24
"""Room for the parts of a histogram."""
ALERT_KINDS, ALERTS_AT, ABOUTS = 64, 4_864, 32
"""Room for kinds of alerts, and for what each can be about."""

SLOTS = 16_384
"""Room for totals. 7,488 to the end are free: a new block takes the first of them."""

BLOCKS: tuple[Block, ...] = (
    # 0 to 127: counters without labels.
    Block(0, WRITES),
    Block(1, COMMANDS),
    Block(2, ("redis_round_trips",)),
    Block(3, ("redis_slow",)),
    Block(4, RPC_CALLS),
    Block(5, ("supabase_errors",)),
    Block(6, EARLIER_COMMANDS),
    Block(7, VENDOR_TOTAL),
    Block(8, VENDOR_COUNTED),
    Block(9, VENDOR_AT),
    Block(10, SUPABASE_BYTES),
    Block(11, SUPABASE_AT),
    Block(12, TIME_FLUSHES),
    # 128 to 511: counters with one label of a few values.
    Block(128, ("modes",), (_MODE,)),
    Block(136, ("mode_switches",), ((COUNTING_MODES, 8),)),
    Block(144, ("caches",), ((CACHES, 16),)),
    Block(160, ("refusals",), ((REFUSALS, 32),)),
    Block(192, ("redis_errors",), ((ERRORS, 32),)),
    Block(256, (GUARD_DURATION.name,), ((GUARD_DURATION.numbers(), _PARTS),)),
    Block(280, (REDIS_DURATION.name,), ((REDIS_DURATION.numbers(), _PARTS),)),
    # 512 to 1,535: by provider. From 688 to 1,023 there is room for 21 more.
    Block(512, ("provider_calls",), (_PROVIDER,)),
    Block(528, ("provider_failures",), (_PROVIDER,)),
    Block(544, ("vcpu_ms",), (_PROVIDER,)),
    Block(560, ("tokens_in",), (_PROVIDER,)),
    Block(576, ("tokens_out",), (_PROVIDER,)),
    Block(592, ("tokens_cached",), (_PROVIDER,)),
    Block(608, ("cost_micros",), (_PROVIDER,)),
    Block(624, ("saved_tokens_in",), (_PROVIDER,)),
    Block(640, ("saved_tokens_out",), (_PROVIDER,)),
    Block(656, ("saved_tokens_cached",), (_PROVIDER,)),
    Block(672, ("saved_cost_micros",), (_PROVIDER,)),
    Block(1_024, ("circuits",), (_PROVIDER, _STATE)),
    Block(1_152, (PROVIDER_DURATION.name,), (_PROVIDER, (PROVIDER_DURATION.numbers(), _PARTS))),
    # 1,536 to 4,863: by route. 4,608 to the end are free.
    Block(1_536, ("requests",), (_ROUTE, (DECISIONS, 16))),
    Block(2_560, ("statuses",), (_ROUTE, (STATUSES, 8))),
    Block(3_072, (HTTP_DURATION.name,), (_TIMED_ROUTE, (HTTP_DURATION.numbers(), _PARTS))),
    # 4,864 to 6,911: alerts.
    *(Block(ALERTS_AT + kind.number * ABOUTS, ("alert_s", kind.label), ((kind.abouts, ABOUTS),)) for kind in AlertKind),
    # 6,912 to 7,487: data routes.
    Block(6_912, ("data",), (_FAMILY, (TIERS, 8))),
    Block(7_424, ("data_saved_bytes",), (_FAMILY,)),
)

# By time

HOURLY_ROUTES: Mapping[str, int] = {OTHER: 24, "ai/supervisor": 25, "v1/chat/completions": 26}
"""Guarded routes that each hour counts by themselves, with their fields, up to 31; all others count as ``other``."""

OUTCOMES = ("serve", "compute", "refuse", "fail")
"""How guarded requests end, by the numbers 0 to 3 of an hour and of five minutes."""

HOUR_FIELDS: Mapping[str, int] = {
    **{outcome: number for number, outcome in enumerate(OUTCOMES)},
    "commands": 4,
    "vcpu_ms": 5,
    "redis_us": 6,
    "redis_timed": 7,
    "request_ms": 8,
    "rpc_calls": 9,
    "cached": 10,
    "report": 11,
    # 12 and 13: reads of data routes, and those for which no origin was asked.
    "data_reads": 12,
    "data_hits": 13,
    # 16 to 23: guarded requests by status. 24 to 31: by route.
    **{f"status.{status}": 16 + number for status, number in STATUSES.items()},
    **{f"route.{route}": number for route, number in HOURLY_ROUTES.items()},
    # 32 to 47: calls by provider.
    **{f"calls.{provider}": 32 + number for provider, number in PROVIDERS.items()},
}
"""What each hour counts, in 32 bits each. ``redis_us`` is the time of ``redis_timed`` round trips.

``report``: guarded requests that were answered without a cache, such as those of the servers' dashboard.
"""
HOUR_ROOM = 48

FIVE_MINUTE_FIELDS: Mapping[str, int] = {
    **{outcome: number for number, outcome in enumerate(OUTCOMES)},
    # 4 to 10: by status. 12 to 19: by route.
    **{f"status.{status}": 4 + number for status, number in STATUSES.items()},
    **{f"route.{route}": number - 12 for route, number in HOURLY_ROUTES.items()},
    "report": 11,
    # 20 to 35: calls by provider.
    **{f"calls.{provider}": 20 + number for provider, number in PROVIDERS.items()},
}
"""What each five minutes count, of the same things, in 16 bits each; they stop at 65,535."""
FIVE_MINUTE_ROOM = 36
