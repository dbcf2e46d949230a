"""The figures of data routes as Markdown. Computes nothing but the form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

type Table = Callable[[Sequence[str], Iterable[Sequence[object]]], list[str]]

_PATHS = {
    "blocked": "refused a moment ago",
    "refused": "over the limit",
    "memory, no limit": "in the instance's memory, no limit",
    "memory": "in the instance's memory",
    "memory, at once": "likewise, eight at once by one caller",
    "redis, no limit": "in Redis, no limit",
    "redis": "in Redis",
    "304": "in Redis, and the client has it (304)",
    "batch": "a page of eight resources in Redis (each page)",
    "stale": "no longer fresh: served, then refreshed",
    "miss, no limit": "not there, no limit",
    "miss": "not there",
    "first": "not there, and never was",
}
_LOAD = {
    "seconds": ("seconds", "{:g}"),
    "rate": ("reads asked a second", "{:g}"),
    "answered_share": ("answered in time", "{:.2%}"),
    "p50": ("p50 ms", "{:.1f}"),
    "p95": ("p95 ms", "{:.1f}"),
    "longest": ("longest ms", "{:,.0f}"),
    "queries": ("queries", "{:,}"),
    "queries_a_read": ("queries a read", "{:.4f}"),
    "hit_ratio": ("hit ratio", "{:.2%}"),
    "commands_a_read": ("commands a read", "{:.2f}"),
    "round_trips_a_read": ("round trips a read", "{:.2f}"),
    "cpu_ms": ("CPU ms a read", "{:.2f}"),
    "filling_p95": ("while it is filled: p95 ms", "{:,.0f}"),
    "filling_longest": ("longest ms", "{:,.0f}"),
    "filling_queries": ("queries", "{:,}"),
}
_VERDICT = {True: "met", False: "**missed**"}


def sections(data: dict[str, Any], table: Table) -> list[str]:
    """All of it."""
    return [
        "## Data routes",
        "",
        "Eight queries of a PostgreSQL with 300 tables, kept for 15 s to 30 min, read over HTTP from functions under "
        "`vercel_runtime`. **cashews** is its decorator with Redis, a lock and tags; **GET, query, SETEX** the "
        "customers' own scheme; **origin alone** asks the database each time. Queries are counted by a sequence in the "
        "database, commands by Redis.",
        "",
        "Commands / round trips a read, work after the reply included; *no limit* where nobody is counted, else a limit a "
        "caller (cashews' own is a sliding one, and its `lock=True` takes the lock before it looks):",
        "",
        *_paths(data["paths"], table),
        "",
        *_hits(data["hits"], table),
        "",
        *_load(data["load"], table),
        "",
        "What was wanted, and what this run reached:",
        "",
        *table(
            ["", "wanted", "reached", ""],
            [[each["what"], each["wanted"], f"{each['reached']:g}", _VERDICT[each["met"]]] for each in data["targets"]],
        ),
    ]


def _paths(paths: dict[str, Any], table: Table) -> list[str]:
    def cell(name: str, path: str) -> str:
        cost = paths[name].get(path)
        return f"{round(cost['commands'], 2):g} / {round(cost['round_trips'], 2):g}" if cost else ""

    return table(["read", *paths], [[words, *(cell(name, path) for name in paths)] for path, words in _PATHS.items()])


def _hits(hits: dict[str, Any], table: Table) -> list[str]:
    rows = []
    for each in hits["figures"]:
        cells = [f"{each['p50']:.2f}", f"{each['p95']:.2f}", f"{each['cpu']:.2f}"]
        for ratio in ("cpu_to_peer", "cpu_to_limited", "p50_to_peer"):
            low, high = each.get(f"{ratio}_spread", (0, 0))
            cells.append(f"x {each[ratio]:.2f} ({low:.2f} to {high:.2f})" if high else "-")
        rows.append([each["name"], *cells])
    return [
        f"Hits over TCP, one after the other; medians of {hits['rounds']} rounds of {hits['requests_a_round']} in which "
        "all take turns, and of each round's own ratio (in brackets the least and the most). Processor time is the "
        "instance's alone:",
        "",
        *table(
            ["", "p50 ms", "p95 ms", "CPU ms", "CPU to cashews", "CPU to cashews with its limit", "p50 to cashews"],
            rows,
        ),
    ]


def _load(load: dict[str, Any], table: Table) -> list[str]:
    figures = load["figures"]
    rows = [[words, *(form.format(each[what]) for each in figures.values())] for what, (words, form) in _LOAD.items()]
    return [
        f"{load['users']} users on {load['instances']} instances, one subject after the other, over TCP where nothing else is "
        "said (REST at what its stand-in carries beside everything else). "
        f"Times count from when a read was due. The first {load['warm_s']:g} s, in which instances load what they need, "
        "connect, and fill the cache, are apart. Breakwater counts each read against a limit; the others count nothing:",
        "",
        *table(["", *figures], rows),
    ]
