"""The figures as Markdown tables. Computes nothing but the form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from bench import databases_report, fleet_figures
from bench.data import report as data_report

_KINDS = ("blocked", "refused", "hit", "miss", "first sight", "fallback")
_KIND_WORDS = {
    "blocked": "refused a moment ago",
    "refused": "over the limit",
    "hit": "in the cache (hit)",
    "miss": "computed (miss)",
    "first sight": "first call of a caller (a miss)",
    "fallback": "Redis out",
}


def markdown(results: dict[str, Any]) -> str:
    """The whole report."""
    lines = [*_head(results["made"])]
    for name, write in (
        ("counts", _counts),
        ("latency", _latency),
        ("network", _network),
        ("accuracy", _accuracy),
        ("throughput", _throughput),
        ("data", lambda data: data_report.sections(data, _table)),
        ("fleet", lambda fleet: fleet_figures.sections(fleet, _table)),
        ("databases", lambda found: databases_report.sections(found, _table)),
    ):
        if name in results:
            lines += ["", *write(results[name])]
    return "\n".join(lines) + "\n"


def _head(made: dict[str, Any]) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    length = "a quick run" if made["quick"] else "a full run"
    return [
        "# Benchmark",
        "",
        f"Measured by `make bench` on {made['at'][:10]} in {length} of {made['seconds']} s; {made['machine']}, "
        f"{made['cores']} cores (load {made['load_before']} from elsewhere at the start), Python {made['python']}, "
        f"Redis: {made['redis']}; {versions}. Every figure is from this one run; run it on your machine for yours.",
        "",
        "Who is compared: **Breakwater**; the **stock libraries**, composed as their documentation has it (two "
        "`SlidingWindow`s, a cached answer, a breaker, each call awaited); the **same in one pipeline**; the same on **Node** "
        "with `@upstash/ratelimit`, `@upstash/redis` and opossum behind a plain server, and its calls *at once*; the **LiteLLM "
        "proxy** with Redis cache and a limit a key; the **Portkey gateway** (its open edition has no limits, and the "
        "build on npm no cache); and the **floor**, a bare function that makes one call on a kept connection (*spared*: "
        "without looking for modules that are not there, and through httpcore, as Breakwater does). All Python functions run "
        f"under `vercel_runtime` with packages {made['packages']}, everything in front of one local backend that answers "
        "at once. Sources: "
        "[bench/](.), raw figures: [results.json](results.json).",
    ]


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    def line(cells: Sequence[object]) -> str:
        return "| " + " | ".join(map(str, cells)) + " |"

    return [line(head), line(["---"] + ["--:"] * (len(head) - 1)), *map(line, rows)]


def _counts(counts: dict[str, Any]) -> list[str]:
    costs, names = counts["costs"], list(counts["costs"])

    def cell(name: str, kind: str) -> str:
        cost = costs[name].get(kind)
        if cost is None:
            return "as over the limit"
        if cost["status"] == 500:
            return "no answer (500)"
        rpc = f" (and {cost['rpc_calls']:g} call to Supabase)" if cost["rpc_calls"] else ""
        return f"{cost['commands']:g} / {cost['round_trips']:g}{rpc}"

    rows = [[_KIND_WORDS[kind], *(cell(name, kind) for name in names)] for kind in _KINDS]
    months = counts["a_month"]
    rates = list(months[names[0]])
    return [
        "## Commands and round trips a request",
        "",
        "Billed commands / round trips to Redis, work after the reply included; counted by Redis's own statistics "
        "(`INFO commandstats`, what runs inside scripts too, as Upstash bills it) and by the HTTP server before it.",
        "",
        *_table(["request", *names], rows),
        "",
        "What 500,000 free commands a month suffice for, by the share of requests that hit:",
        "",
        *_table(
            ["hits", *names],
            [[rate, *(f"{months[name][rate]:,} requests" for name in names)] for rate in rates],
        ),
    ]


def _latency(latency: dict[str, Any]) -> list[str]:
    rows = []
    for each in latency["figures"]:
        to_litellm = (
            f"x {each['cpu_to_litellm']:.2f} / {each['p50_to_litellm']:.2f}" if "cpu_to_litellm" in each else "-"
        )
        rows.append(
            [
                f"{each['name']}, {each['kind']}" if not each["name"].startswith("floor") else each["name"],
                f"{each['p50']:.2f}",
                f"{each['p95']:.2f}",
                f"{each['cpu']:.2f}",
                f"x {each['cpu_to_floor']:.2f} / {each['p50_to_floor']:.2f}",
                to_litellm,
            ]
        )
    memory = ", ".join(f"{name} {mb:.0f} MB" for name, mb in latency["memory_mb"].items())
    return [
        "## Latency and processor time a request",
        "",
        f"Medians of {latency['rounds']} rounds of {latency['requests_a_round']} requests, one after the other on a kept "
        "connection; all subjects take turns within a round, in changing order, and a ratio is the median of each "
        "round's own. Processor time is the measured server's alone (`CLOCK_PROCESS_CPUTIME_ID`), work after the reply "
        "included. Limits are the defaults, so callers take turns. *Blocked*: a caller who was refused a moment ago, and "
        "is refused again from memory; LiteLLM refuses from memory, too, and is compared with that. LiteLLM and Portkey reach Redis "
        "by its own protocol, Breakwater and the stock libraries over REST, as on Vercel: through a server in Python that "
        "stands in for Upstash, whose own time is in every p50 of theirs and of the floor's.",
        "",
        *_table(
            ["", "p50 ms", "p95 ms", "CPU ms", "to the floor (CPU / p50)", "to LiteLLM's same (CPU / p50)"],
            rows,
        ),
        "",
        f"Memory that no other process shares, afterwards: {memory}.",
    ]


def _network(network: dict[str, Any]) -> list[str]:
    delays = list(network["by_delay_ms"])
    cells: dict[tuple[str, str], list[str]] = {}
    for delay in delays:
        for each in network["by_delay_ms"][delay]:
            cells.setdefault((each["name"], each["kind"]), []).append(f"{each['p50']:.1f}")
    rows = [[name if name.startswith("floor") else f"{name}, {kind}", *each] for (name, kind), each in cells.items()]
    return [
        "## With a network to Redis",
        "",
        f"p50 in ms, with so much added to every reply of Redis (held back by a wire between; medians of "
        f"{network['rounds']} rounds of {network['requests_a_round']} requests). Here round trips decide.",
        "",
        *_table(["", *(f"+{delay} ms" for delay in delays)], rows),
        "",
        "![Added latency by distance to Redis](network.svg)",
    ]


def _accuracy(accuracy: dict[str, Any]) -> list[str]:
    names = list(accuracy["rows"][0]["limiters"])
    rows = []
    for each in accuracy["rows"]:
        cells: list[str] = []
        for name in names:
            seen = each["limiters"][name]
            cells += [f"x {seen['worst_to_limit']:.2f}", f"{seen['false_refusal_share']:.1%}"]
        rows.append([f"{each['traffic']}, {each['processes']} process{'es' * (each['processes'] > 1)}", *cells])
    head = [""]
    for name in names:
        head += [f"{name}: worst window", "false refusals"]
    return [
        "## Accuracy",
        "",
        f"{accuracy['limit']} calls a minute. *Worst window*: the most that was admitted in any closed minute, to the "
        "limit. *False refusals*: the share of all calls that was refused though an exact log would have admitted it. "
        "Both limiters meet the same calls at the same times on the same Redis; time is an argument (of Breakwater's "
        "rules, and of the stock library's own script), so minutes pass in milliseconds; with eight processes they pass "
        "20 times as fast as real ones. The attack: silence, a burst just before a window's edge, then a try every "
        "quarter of a second.",
        "",
        *_table(head, rows),
        "",
        "Never above the limit has a price: a call counts for up to 3 seconds longer than its minute, so a caller who "
        "keeps running into the limit gets a little less than the whole of it.",
        "",
        "![Admitted in the last minute, under the boundary attack](accuracy.svg)",
    ]


def _throughput(found: dict[str, Any]) -> list[str]:
    concurrency = [
        [f"{e['name']}, {e['callers']} at once", e["a_second"], f"{e['p95']:.1f}", f"{e['cpu_ms']:.2f}", e["a_core"]]
        for e in found["concurrency"]
    ]
    callers = [
        [f"{e['callers']:,}", f"{e['cpu_ms']:.2f}", f"{e['p50']:.2f}", f"{e['memory_mb']:.1f}"]
        for e in found["callers"]
    ]
    forgotten = found["forgotten"]
    sizes = [
        [f"{e['characters']:,}", f"{e['cpu_ms']:.2f}", f"x {e['cpu_to_smallest']:.2f}"] for e in found["answer_size"]
    ]
    sizes = [[*row, f"{e['p50']:.2f}"] for row, e in zip(sizes, found["answer_size"], strict=True)]
    memory = [[e["time"], f"{e['breakwater']:,}", f"{e['stock']:,}"] for e in found["redis_bytes"]]
    return [
        "## Throughput and growth",
        "",
        "Hits, with the measured server on one core and everything else on the other: Redis's stand-in, the backend and "
        "the callers share that one and are what limits *a second* here. *A core* is what one core of the measured "
        "server suffices for by its processor time (1000 / CPU ms).",
        "",
        *_table(["", "a second", "p95 ms", "CPU ms", "a core"], concurrency),
        "",
        "A hit, after one instance has seen so many callers, one after the other (it remembers 10,000):",
        "",
        *_table(["callers", "CPU ms", "p50 ms", "instance MB"], callers),
        "",
        f"A call of a caller whom the instance does not remember, and Redis does, costs "
        f"x {forgotten['cpu_to_known']:.2f} the processor time and {forgotten['commands_more']:g} more commands.",
        "",
        "A hit by the size of its answer:",
        "",
        *_table(["characters", "CPU ms", "to the smallest", "p50 ms"], sizes),
        "",
        "Bytes in Redis for the windows of one caller who called once, by the time of that call (`MEMORY USAGE`, UTC). "
        "The strict windows' key grows towards the end of the day, whatever the number of calls:",
        "",
        *_table(["called at", "Breakwater", "two stock windows"], memory),
    ]
