"""What histories of servers take in PostgreSQL, what a month costs by arithmetic, and the figures as Markdown."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import psycopg

from lib.fleet.pace import LOOKED_AT_S, UNWATCHED_S

MONTH_S, TABS = 30 * 86_400, 50

type Table = Callable[[Sequence[str], Iterable[Sequence[object]]], list[str]]


def sizes(uri: str, servers: Callable[[int, int], list[dict[str, Any]]]) -> dict[str, float]:
    """What 1,000 servers of one reporter take in Supabase: a day of rows, the rest by multiplication."""
    with psycopg.connect(uri, autocommit=True) as owner:
        owner.execute("truncate public.server_metrics_history, public.server_metrics_hourly")
        for slot in range(288):
            metrics = {e["id"]: [e["cpu"], e["memory"], e["disk"], e["network"]] for e in servers(1_000, slot)}
            owner.execute("select public.breakwater_fleet_record('r0', %s, %s)", (slot * 300_000, json.dumps(metrics)))
        began = time.perf_counter()
        owner.execute("select public.breakwater_fleet_sweep(86400000)")
        rolled_ms = (time.perf_counter() - began) * 1000
        # A history of a day, as the database's now would have it.
        owner.execute("update public.server_metrics_history set slot = slot + (now() - to_timestamp(86400))")
        owner.execute("vacuum full public.server_metrics_history")
        began = time.perf_counter()
        owner.execute("select public.breakwater_fleet_history('server-0001', '24h')")
        read_ms = (time.perf_counter() - began) * 1000
        raw, hourly = (
            _number(owner, f"select pg_total_relation_size('public.server_metrics_{name}')")
            for name in ("history", "hourly")
        )
    return {
        "bytes a server and five minutes": round(raw / 288_000, 1),
        "bytes a server and hour": round(hourly / 24_000, 1),
        "7 days of five minutes, MB": round(raw * 7 / 1e6, 1),
        "90 days of hours, MB": round(hourly * 90 / 1e6, 1),
        "rolling a day up, ms": round(rolled_ms),
        "reading a day of one server, ms": round(read_ms, 1),
    }


def _number(owner: psycopg.Connection[Any], query: str) -> int:
    row = owner.execute(query.encode()).fetchone()
    return int(row[0]) if row else 0


def month(cache_control: str) -> dict[str, float]:
    """50 tabs that poll each minute, and one reporter, for 30 days; the edge keeps a reply as its header says."""
    edge_s = int(re.findall(r"s-maxage=(\d+)", cache_control)[0])
    polls, runs = TABS * MONTH_S // 60, MONTH_S // edge_s
    return {
        "polls": polls,
        "the edge keeps a reply for, s": edge_s,
        "function runs at most": runs,
        "function runs, percent of polls": round(runs * 100 / polls, 1),
        "edge requests, tabs always visible": polls,
        "edge requests, visible 8 hours on 22 days": TABS * 22 * 8 * 60,
        "commands of a reporter while somebody looks": MONTH_S // LOOKED_AT_S,
        "commands of a reporter otherwise": MONTH_S // UNWATCHED_S,
    }


def sections(found: dict[str, Any], table: Table) -> list[str]:
    """The figures as Markdown."""
    rows = []
    for name, both in found.items():
        if not name.endswith(" servers") or name.startswith("Supabase"):
            continue
        ours, theirs = both["breakwater"], both["customers' scheme"]
        for what, beside in (("report", "report"), ("read", "read"), ("read anew", "read")):
            one, other = ours[what], theirs[beside]
            cells = [_beside(one, other, key) for key in ("commands", "p50 ms", "p95 ms", "cpu ms")]
            sizes = [_beside(one, other, f"bytes {way} redis", 1e-3) for way in ("from", "to")]
            rows.append([f"{what}, {name}", *cells, *sizes])
    stored, monthly = found["Supabase, 1,000 servers"], found["a month"]
    intro = (
        "A report of 1,000 servers at most, and a read of all, over the routes; in brackets the customers' scheme: 3 "
        "`HSET`s a server and report, `SMEMBERS` and 3 `HGETALL`s a server and read, in one pipeline without HTTP, "
        "signature or limit. A read's limit is two of its commands. *Anew*: of a report that the instance has not "
        "seen. Over TCP, everything in one process."
    )
    return [
        "## Servers",
        "",
        intro,
        "",
        *table(["", "commands", "p50 ms", "p95 ms", "CPU ms", "KB from Redis", "KB to Redis"], rows),
        "",
        "What Supabase keeps of 1,000 servers; a month of 50 tabs that poll each minute, by the measured `s-maxage`:",
        "",
        *table(["", ""], [[name, f"{value:,}"] for name, value in {**stored, **monthly}.items()]),
    ]


def _beside(one: Mapping[str, float], other: Mapping[str, float], key: str, times: float = 1) -> str:
    return f"{one[key] * times:,.1f} ({other[key] * times:,.1f})"
