"""The figures of watched databases as Markdown. Computes nothing but the form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

type Table = Callable[[Sequence[str], Iterable[Sequence[object]]], list[str]]

_LOAD = {
    "a_second": ("a second", "{:g}"),
    "p50": ("p50 ms", "{:.1f}"),
    "p95": ("p95 ms", "{:.1f}"),
    "longest": ("longest ms", "{:,.0f}"),
    "failed": ("not answered", "{:,}"),
    "cpu_ms": ("CPU ms a request", "{:.2f}"),
    "queries": ("views asked of the database", "{:,}"),
    "database_ms_a_minute": ("its ms a minute", "{:,.0f}"),
}


def sections(found: Mapping[str, Any], table: Table) -> list[str]:
    """The part's section of the report."""
    load, texts = found["load"], found["texts"]
    rows = [[name, *(form.format(each[key]) for key, (_, form) in _LOAD.items())] for name, each in load.items()]
    names = list(load)
    watching = [
        [each["watchers"], *(f"{each[name]['queries_a_minute']:g} / {_ms(each[name])}" for name in names)]
        for each in found["watching"]
    ]
    targets = [
        [each["what"], each["target"], each["found"], "yes" if each["met"] else "**no**"] for each in found["targets"]
    ]
    return [
        "## Watched databases",
        "",
        f"{found['users']} users ask for views of a watched PostgreSQL at random, {found['rate']:g} requests a second in "
        f"all for {found['load_s']:g} s, of three instances over HTTP, with Redis over TCP; everything on this one machine, "
        "the users too. Times are from when a request was due, first instances and first readings included. Beside it the "
        "same requests to functions that ask the database each time, with the same statements. The database itself says "
        "what it was asked (`pg_stat_statements`), all statements of a role in its ms.",
        "",
        *table(["", *(head for head, _ in _LOAD.values())], rows),
        "",
        f"Watchers who have the page open for {found['watch_s']:g} s and ask for six views every {found['poll_s']:g} s; "
        "views asked of the database a minute / its ms a minute, beginning with nothing kept:",
        "",
        *table(["watchers", *names], watching),
        "",
        f"The 100 statements that take most time, of a server with {texts['megabytes']:g} MB of texts, read from it each "
        f"time: p50 {texts['p50']:g} ms, p95 {texts['p95']:g} ms, longest {texts['longest']:g} ms of {texts['reads']}. A query for their texts as "
        f"well takes {texts['with_texts_p50']:g} ms.",
        "",
        *table(["target", "", "found", "met"], targets),
    ]


def _ms(each: Mapping[str, Any]) -> str:
    return f"{each['database_ms_a_minute']:,.0f} ms"
