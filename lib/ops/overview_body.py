"""A snapshot of the overview as JSON for the page."""

from collections.abc import Mapping, Sequence

from ..breaker.circuit import Circuit
from ..edge.page_replies import (
    AlertBody,
    AllowanceBody,
    BreakdownBody,
    CircuitBody,
    FlushBody,
    HitRateBody,
    OverviewBody,
    ProviderCostBody,
    QuantilesBody,
    SeriesBody,
    SliceBody,
)
from ..ledger import places
from ..ledger.allowances import Allowance
from ..ledger.histogram import Histogram
from ..ledger.ledger import FLUSH_AFTER_S
from ..ledger.places import AlertKind
from ..ledger.reading import Reading
from ..ledger.table import last_five_minutes, last_hours
from . import data_reads
from .history import By, fields_by
from .overview import Snapshot


def body(snapshot: Snapshot) -> OverviewBody:
    """The snapshot as JSON."""
    reading = snapshot.reading
    hours, fives = last_hours(reading.now_ms), last_five_minutes(reading.now_ms)
    by_hour = {name: reading.by_hour(name) for name in places.HOUR_FIELDS}
    by_five = {name: reading.by_five_minutes(name) for name in places.FIVE_MINUTE_FIELDS}
    hour, day = {k: sum(v) for k, v in by_five.items()}, {k: sum(v) for k, v in by_hour.items()}
    providers = [name for name, _ in snapshot.circuits]
    cached_hour = sum(by_hour["cached"][-2:])
    answered_hour = sum(sum(by_hour[name][-2:]) for name in ("serve", "compute"))
    alerts: list[AlertBody] = [
        {"kind": kind.label, "about": about, "at": at}
        for kind in AlertKind
        for about in kind.abouts
        if (at := reading.total(*kind.counter(about)))
    ]
    all_day = [sum(counts) for counts in zip(*(by_hour[name] for name in places.OUTCOMES), strict=True)]
    flush: FlushBody = {"commands": snapshot.flush_commands, "seconds": round(FLUSH_AFTER_S)}
    return {
        "at": snapshot.at_ms // 1000,
        "source": snapshot.source,
        "freshFor": snapshot.fresh_s,
        "mode": snapshot.mode,
        "thrift": snapshot.thrift,
        "allowances": [_allowance(each) for each in snapshot.ledger],
        "hour": [_slice(at, by_five, place) for place, at in enumerate(fives)],
        "day": [_slice(at, by_hour, place) for place, at in enumerate(hours)],
        "hourBy": _by(by_five, providers),
        "dayBy": _by(by_hour, providers),
        "saved": {
            "calls": {
                "hour": cached_hour,
                "day": day["cached"],
                "month": sum(reading.total("caches", state) for state in ("hit", "stale", "collapsed")),
            }
        },
        "hitRate": {
            "hour": _share(cached_hour, answered_hour),
            "day": _share(day["cached"], day["serve"] + day["compute"]),
        },
        "errorRate": _failed(hour, day),
        "latency": {
            "request": quantiles(reading, places.HTTP_DURATION, [(route,) for route in places.TIMED_ROUTES]),
            "redis": quantiles(reading, places.REDIS_DURATION),
            "guard": quantiles(reading, places.GUARD_DURATION),
            "redisByHour": _means(by_hour["redis_us"], by_hour["redis_timed"], 1000),
            "requestByHour": _means(by_hour["request_ms"], all_day, 1),
            "providers": {
                name: quantiles(reading, places.PROVIDER_DURATION, [(places.known(name, places.PROVIDERS),)])
                for name, _ in snapshot.circuits
            },
        },
        "costs": [_cost(snapshot, name, priced=priced) for name, priced in snapshot.providers],
        "dataReads": data_reads.body(reading),
        "circuits": [_circuit(name, circuit) for name, circuit in snapshot.circuits],
        "alerts": sorted(alerts, key=lambda each: -each["at"]),
        "flush": flush,
    }


def _means(sums: Sequence[int], counts: Sequence[int], unit: int) -> list[float | None]:
    return [round(total / count / unit, 2) if count else None for total, count in zip(sums, counts, strict=True)]


def _by(by: Mapping[str, Sequence[int]], providers: Sequence[str]) -> BreakdownBody:
    def series(kind: By) -> list[SeriesBody]:
        return [{"name": shown, "counts": list(by[name])} for name, shown in fields_by(kind, providers).items()]

    return {"status": series("status"), "route": series("route"), "provider": series("provider")}


def _allowance(each: Allowance) -> AllowanceBody:
    found: AllowanceBody = {
        "service": each.service,
        "unit": each.unit,
        "period": each.period,
        "limit": each.limit,
        "used": each.used if each.known else None,
        "left": each.left if each.known else None,
        "percent": round(each.share * 100, 1) if each.known else None,
        "resetsAt": _seconds(each.resets_at_ms),
        "runsOutAt": _seconds(each.runs_out_at_ms),
        "source": each.source,
    }
    if each.as_of_ms is not None:
        found["asOf"] = each.as_of_ms // 1000
    return found


def _cost(snapshot: Snapshot, provider: str, *, priced: bool) -> ProviderCostBody:
    """What a provider's answers cost; unknown where this instance has no reading of Redis."""
    known = snapshot.source != "instance"

    def total(name: str) -> int | None:
        return snapshot.reading.total(name, provider) if known else None

    def amount(name: str) -> float | None:
        return snapshot.reading.total(name, provider) / 1_000_000 if known and priced else None

    return {
        "provider": provider,
        "tokensIn": total("tokens_in"),
        "tokensOut": total("tokens_out"),
        "tokensCached": total("tokens_cached"),
        "amount": amount("cost_micros"),
        "savedTokensIn": total("saved_tokens_in"),
        "savedTokensOut": total("saved_tokens_out"),
        "savedTokensCached": total("saved_tokens_cached"),
        "savedAmount": amount("saved_cost_micros"),
    }


def _slice(at_ms: int, by: Mapping[str, Sequence[int]], place: int) -> SliceBody:
    return {
        "at": at_ms // 1000,
        "serve": by["serve"][place],
        "compute": by["compute"][place],
        "refuse": by["refuse"][place],
        "fail": by["fail"][place],
    }


def _failed(hour: Mapping[str, int], day: Mapping[str, int]) -> HitRateBody:
    of = ("serve", "compute", "report", "fail")
    return {
        "hour": _share(hour["fail"], sum(hour[name] for name in of)),
        "day": _share(day["fail"], sum(day[name] for name in of)),
    }


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def _seconds(at_ms: int | None) -> int | None:
    return None if at_ms is None else at_ms // 1000


def _circuit(provider: str, circuit: Circuit) -> CircuitBody:
    closed = circuit.state == "closed"
    return {
        "provider": provider,
        "state": circuit.state,
        "failures": circuit.failures,
        "reason": circuit.reason,
        "since": None if closed else circuit.since_ms // 1000,
        "until": None if closed else circuit.until_ms // 1000,
    }


def quantiles(reading: Reading, histogram: Histogram, labels: Sequence[tuple[str, ...]] = ((),)) -> QuantilesBody:
    """Median and p95, from the buckets of all ``labels`` together."""
    rows = [[reading.total(*name) for name in histogram.names(*each)[:-1]] for each in labels]
    buckets = [sum(column) for column in zip(*rows, strict=True)]
    return {"p50": _quantile(histogram.bounds_ms, buckets, 0.5), "p95": _quantile(histogram.bounds_ms, buckets, 0.95)}


def _quantile(bounds_ms: Sequence[float], buckets: Sequence[int], share: float) -> float | None:
    """Where a share of the observations lies, evenly spread within a bucket; the last bound for what is beyond it."""
    wanted, below, low = share * sum(buckets), 0, 0.0
    if not wanted:
        return None
    for bound, count in zip(bounds_ms, buckets, strict=False):
        if below + count >= wanted:
            return round(low + (bound - low) * (wanted - below) / count, 2)
        below, low = below + count, bound
    return float(bounds_ms[-1])
