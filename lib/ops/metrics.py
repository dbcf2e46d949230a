"""The ledger in the Prometheus text format. Imported by its route alone (docs/decisions/0010-metrics-and-ledger.md).

Names and bounds are OpenTelemetry's where its conventions have them, in Prometheus' spelling. Counts are those of all
instances in this calendar month; a new month begins at zero, which Prometheus takes for a restart.

Nothing else may make a counter fall, because whatever it rises to afterwards counts once more. So each count carries
the time at which Redis was read: a scraper drops what an instance says with an older reading than the one it has seen.
Where this instance has never read Redis there are no counts, which is a gap and no fall.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from ..ledger import places
from ..ledger.places import Histogram
from ..ledger.reading import Reading
from .overview import Snapshot, named

CONTENT_TYPE = CONTENT_TYPE_LATEST


def render(snapshot: Snapshot) -> bytes:
    """All metrics."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Ledger(snapshot))
    return generate_latest(registry)


class _Ledger(Collector):
    """One snapshot as metric families."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        if self._snapshot.source != "instance":
            reading, at_s = self._snapshot.reading, self._snapshot.at_ms / 1000
            yield from _counts(reading, at_s)
            yield from _histograms(reading, at_s)
        yield from _circuits(self._snapshot)
        yield from _allowances(self._snapshot)


_COUNTERS = (
    ("requests", "breakwater_requests", "Requests, by route and what was decided.", ("http_route", "decision")),
    ("statuses", "breakwater_responses", "Responses, by route and class of status.", ("http_route", "status")),
    ("modes", "breakwater_admissions", "Guarded requests, by the store that counted them.", ("mode",)),
    ("caches", "breakwater_answers", "Guarded requests, by the state of the cache.", ("cache",)),
    ("refusals", "breakwater_refusals", "Requests that the guard did not let through, by reason.", ("reason",)),
    ("provider_calls", "breakwater_provider_calls", "Calls that were sent to a provider.", ("gen_ai_provider_name",)),
    (
        "provider_failures",
        "breakwater_provider_failures",
        "Calls to a provider that gave no usable answer.",
        ("gen_ai_provider_name",),
    ),
    *(
        (f"{saved}{kind}", f"breakwater_{saved}{name}", f"{text}{of}", ("gen_ai_provider_name",))
        for saved, of in (("", "."), ("saved_", ", of answers that came from the cache."))
        for kind, name, text in (
            ("tokens_in", "input_tokens", "Tokens that went in, as the providers tell them"),
            ("tokens_out", "output_tokens", "Tokens that came out, thinking included"),
            ("tokens_cached", "cached_input_tokens", "Of the input, what the provider had in a cache of its own"),
            ("cost_micros", "cost", "What that cost, in the currency of AI_PRICES"),
        )
    ),
    (
        "circuits",
        "breakwater_circuit_changes",
        "How often a circuit went into a state.",
        ("gen_ai_provider_name", "state"),
    ),
    ("mode_switches", "breakwater_mode_switches", "How often an instance began to count elsewhere.", ("mode",)),
    ("redis_commands", "breakwater_redis_commands", "Commands sent to Redis, as Upstash bills them.", ()),
    ("redis_round_trips", "breakwater_redis_round_trips", "Requests sent to Redis.", ()),
    ("redis_errors", "breakwater_redis_errors", "Round trips to Redis without a usable reply.", ("error_type",)),
    ("redis_slow", "breakwater_redis_slow", "Round trips to Redis slower than REDIS_SLOW_MS.", ()),
    (
        "data",
        "breakwater_data_reads",
        "Reads of data routes, by where the value came from.",
        ("family", "tier"),
    ),
    ("data_saved_bytes", "breakwater_data_saved_bytes", "Bytes that no origin was asked for.", ("family",)),
    ("rpc_calls", "breakwater_supabase_calls", "Calls of the fallback's functions.", ()),
    ("supabase_errors", "breakwater_supabase_errors", "Calls of the fallback's functions that failed.", ()),
)


_PARTS = {"cost_micros": 1_000_000, "saved_cost_micros": 1_000_000}
"""Of what is counted in parts of its unit, how many parts make one."""


def _counts(reading: Reading, at_s: float) -> Iterator[Metric]:
    for kind, name, text, labels in _COUNTERS:
        family = CounterMetricFamily(name, text, labels=labels)
        for values, count in named(reading, kind):
            pairs = zip(labels, values, strict=True)
            shown = [_route(each) if label == "http_route" else each for label, each in pairs]
            family.add_metric(shown, count / _PARTS.get(kind, 1), timestamp=at_s)
        yield family


def _route(route: str) -> str:
    return route if route == "other" else f"/api/{route}"


def _histograms(reading: Reading, at_s: float) -> Iterator[Metric]:
    yield _histogram(
        reading,
        at_s,
        places.HTTP_DURATION,
        "http_server_request_duration_seconds",
        "How long guarded requests took.",
        ("http_request_method", "http_route"),
        [((route,), (method, _route(route))) for route, method in places.TIMED_ROUTES.items()],
    )
    yield _histogram(
        reading,
        at_s,
        places.REDIS_DURATION,
        "db_client_operation_duration_seconds",
        "How long the round trip to Redis took that decides a request.",
        ("db_system_name",),
        [((), ("redis",))],
    )
    yield _histogram(
        reading,
        at_s,
        places.PROVIDER_DURATION,
        "gen_ai_client_operation_duration_seconds",
        "How long whole answers took.",
        ("gen_ai_operation_name", "gen_ai_provider_name"),
        [((provider,), ("chat", provider)) for provider in places.PROVIDERS],
    )
    yield _histogram(
        reading,
        at_s,
        places.GUARD_DURATION,
        "breakwater_guard_duration_seconds",
        "Our own time in a guarded request: neither stores nor providers.",
        (),
        [((), ())],
    )


def _histogram(
    reading: Reading,
    at_s: float,
    histogram: Histogram,
    name: str,
    text: str,
    labels: Sequence[str],
    rows: Sequence[tuple[tuple[str, ...], Sequence[str]]],
) -> Metric:
    family = HistogramMetricFamily(name, text, labels=labels)
    for of, values in rows:
        *counts, sum_us = [reading.total(*each) for each in histogram.names(*of)]
        bounds = [f"{bound / 1000:g}" for bound in histogram.bounds_ms] + ["+Inf"]
        buckets = [(bound, float(sum(counts[: at + 1]))) for at, bound in enumerate(bounds)]
        family.add_metric(list(values), buckets, sum_us / 1e6, timestamp=at_s)
    return family


def _circuits(snapshot: Snapshot) -> Iterator[Metric]:
    family = GaugeMetricFamily(
        "breakwater_circuit_state", "1 for the state that a circuit is in.", labels=("gen_ai_provider_name", "state")
    )
    for provider, circuit in snapshot.circuits:
        for state in places.STATES:
            family.add_metric([provider, state], float(circuit.state == state))
    yield family


def _allowances(snapshot: Snapshot) -> Iterator[Metric]:
    labels = ("service", "unit", "period")

    def gauge(name: str, text: str, value: Callable[[int], float | None]) -> Metric:
        family = GaugeMetricFamily(f"breakwater_allowance_{name}", text, labels=labels)
        for at, each in enumerate(snapshot.ledger):
            found = value(at)
            if found is not None:
                family.add_metric([each.service, each.unit, each.period], found)
        return family

    found = snapshot.ledger
    yield gauge("limit", "What a free tier allows.", lambda at: found[at].limit)
    yield gauge("used", "What of it is used.", lambda at: found[at].used if found[at].known else None)
    yield gauge("reset_timestamp_seconds", "When it resets.", lambda at: _s(found[at].resets_at_ms))
    yield gauge(
        "exhausted_timestamp_seconds",
        "When nothing is left at the present rate; no sample: it lasts until it resets.",
        lambda at: _s(found[at].runs_out_at_ms),
    )
    yield GaugeMetricFamily(
        "breakwater_thrift_step", "The thrift step: 0, Redis is used as usual; 3, not at all.", value=snapshot.thrift
    )
    if snapshot.source != "instance":
        yield GaugeMetricFamily(
            "breakwater_reading_timestamp_seconds", "When the ledger was read.", value=snapshot.at_ms / 1000
        )
    yield GaugeMetricFamily(
        "breakwater_reading_from_redis",
        "1: Redis has just been read; 0: it gives no reply, and the figures are its last or missing.",
        value=float(snapshot.source == "redis"),
    )


def _s(at_ms: int | None) -> float | None:
    return None if at_ms is None else at_ms / 1000
