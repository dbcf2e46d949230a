"""Reads the whole ledger and the circuits, in 2 commands at most, and reuses a reading for a while."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Literal

from ..ai.chain import Chain
from ..base.calendar import month_of
from ..base.clock import Clock
from ..base.events import Mode
from ..base.values import dataclass
from ..breaker.circuit import Circuit
from ..edge.replies import (
    AlertBody,
    AllowanceBody,
    CircuitBody,
    HitRateBody,
    OverviewBody,
    ProviderCostBody,
    QuantilesBody,
    SliceBody,
)
from ..ledger import allowances, places
from ..ledger import reading as readings
from ..ledger.allowances import Allowance
from ..ledger.ledger import Ledger
from ..ledger.places import AlertKind, Histogram, Name
from ..ledger.reading import Reading
from ..ledger.table import TOTALS, last_five_minutes, last_hours
from ..limits.limiter import Limits
from ..lookup import Lookup, both
from ..redis import keys
from ..redis.errors import RedisDown
from ..redis.op import join
from ..redis.thrift import Thrift

_READ_S = 2.0


type Source = Literal["redis", "last", "instance"]
"""``last``: Redis gives no reply, and this is what it said last. ``instance``: this instance has no reading of it."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything there is to show, as it was at ``at_ms``."""

    at_ms: int
    """When the figures were read; the present where they are this instance's own."""
    source: Source
    fresh_s: int
    reading: Reading
    circuits: Sequence[tuple[str, Circuit]]
    mode: Mode
    thrift: int
    ledger: Sequence[Allowance]
    providers: Sequence[tuple[str, bool]] = ()
    """The configured providers that have a place in the ledger, and whether ``AI_PRICES`` has a price of theirs."""


@dataclass(slots=True)
class Overview:
    """Reads for both metrics and page. One per instance."""

    chain: Chain
    limits: Limits
    counts: Ledger
    thrift: Thrift
    clock: Clock
    supabase_mb: int | None
    fresh_s: int | None = None
    """How long a reading is reused, instead of the thrift step's own time."""
    _last: tuple[int, int, Reading] | None = None
    """When Redis was read, after how many flushes, and the reading."""
    _down: bool = False
    """Whether it gave no reply when it was asked last."""
    _used: Mapping[str, str | None] = field(default_factory=dict)

    async def snapshot(self, *, with_own: bool = False) -> Snapshot:
        """The present state; read anew when the last reading is too old. Raises nothing.

        ``with_own`` adds what this instance has counted and not flushed, for people. A program that compares two
        replies must not see it, because the next reply may come from another instance.
        """
        now_ms = self.clock.now_ms()
        fresh_s = self.thrift.step(now_ms).read_s if self.fresh_s is None else self.fresh_s
        last = self._last
        if last is None or now_ms - last[0] >= fresh_s * 1000 or last[1] != self.counts.flushes or self._down:
            await self._read(now_ms)
        source: Source = "last" if self._down else "redis"
        if self._last is None or self._last[2].month != month_of(now_ms):
            at_ms, source, reading = now_ms, "instance", readings.empty(now_ms)
        else:
            at_ms, _, reading = self._last
        if with_own:
            reading = reading.plus(self.counts.pending())
        circuits = [(link.name, self.chain.circuits.known(link.name)) for link in self.chain.links]
        found = self.ledger(reading)
        if source == "instance":
            found = [allowances.unknown(each) for each in found]
        return Snapshot(
            at_ms,
            source,
            fresh_s,
            reading,
            circuits,
            self._mode(now_ms),
            self.thrift.number(now_ms),
            found,
            [(each, self.chain.prices.has(each)) for each, _ in circuits if each in places.PROVIDERS],
        )

    def ledger(self, reading: Reading) -> list[Allowance]:
        """What every free tier has left."""
        providers = [(link.name, link.budget) for link in self.chain.links]
        supabase_mb = self.supabase_mb if self.limits.supabase else None
        return allowances.ledger(reading, self.counts.month_commands, providers, self._used, supabase_mb)

    def _mode(self, now_ms: int) -> Mode:
        if self._last is not None and not self._down and self.limits.spares(now_ms) is None:
            return "redis"
        return "supabase" if self.limits.supabase else "local"

    async def _read(self, now_ms: int) -> None:
        redis = self.limits.redis
        if redis is None:
            self._down = True
            return
        step = Lookup((keys.thrift(month_of(now_ms)),), lambda texts: texts[0], lambda: None)
        # What is counted here is written with the same command that reads.
        flush = self.counts.take(1) or readings.read(now_ms)
        wanted = join(flush, both(step, self.chain.lookup(now_ms)).op())
        try:
            reading, (thrift, view) = await redis.run(wanted, "read", _READ_S)
        except RedisDown:
            self._down = True
            return
        if reading is None:
            self._down = True
            return
        self._down = False
        self.thrift.seen(thrift, now_ms)
        self._used = {link.name: used for link, used in zip(self.chain.links, view.used, strict=True)}
        self._last = (now_ms, self.counts.flushes, reading)


# JSON for the page


def body(snapshot: Snapshot) -> OverviewBody:
    """The snapshot as JSON."""
    reading = snapshot.reading
    hours, fives = last_hours(reading.now_ms), last_five_minutes(reading.now_ms)
    by_hour = {name: reading.by_hour(name) for name in places.HOUR_FIELDS}
    by_five = {name: reading.by_five_minutes(name) for name in places.FIVE_MINUTE_FIELDS}
    hour, day = {k: sum(v) for k, v in by_five.items()}, {k: sum(v) for k, v in by_hour.items()}
    cached_hour = sum(by_hour["cached"][-2:])
    answered_hour = sum(sum(by_hour[name][-2:]) for name in ("serve", "compute"))
    alerts: list[AlertBody] = [
        {"kind": kind.label, "about": about, "at": at}
        for kind in AlertKind
        for about in kind.abouts
        if (at := reading.total(*kind.counter(about)))
    ]
    redis_by_hour = zip(by_hour["redis_us"], by_hour["redis_timed"], strict=True)
    return {
        "at": snapshot.at_ms // 1000,
        "source": snapshot.source,
        "freshFor": snapshot.fresh_s,
        "mode": snapshot.mode,
        "thrift": snapshot.thrift,
        "allowances": [_allowance(each) for each in snapshot.ledger],
        "hour": [_slice(at, by_five, place) for place, at in enumerate(fives)],
        "day": [_slice(at, by_hour, place) for place, at in enumerate(hours)],
        "hitRate": {
            "hour": _share(cached_hour, answered_hour),
            "day": _share(day["cached"], day["serve"] + day["compute"]),
        },
        "errorRate": _failed(hour, day),
        "latency": {
            "request": quantiles(reading, places.HTTP_DURATION, [(route,) for route in places.TIMED_ROUTES]),
            "redis": quantiles(reading, places.REDIS_DURATION),
            "guard": quantiles(reading, places.GUARD_DURATION),
            "redisByHour": [round(us / timed / 1000, 2) if timed else None for us, timed in redis_by_hour],
        },
        "costs": [_cost(snapshot, name, priced=priced) for name, priced in snapshot.providers],
        "circuits": [_circuit(name, circuit) for name, circuit in snapshot.circuits],
        "alerts": sorted(alerts, key=lambda each: -each["at"]),
    }


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
    of = ("serve", "compute", "fail")
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


def named(reading: Reading, name: str) -> list[tuple[Name, int]]:
    """All totals of one name, each with the values of its labels."""
    return [(each[1:], reading.total(*each)) for each in TOTALS if each[0] == name]
