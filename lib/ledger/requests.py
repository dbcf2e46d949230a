"""What a request counts as: by route, decision, status, store, cache and time."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from ..base.cost import Cost
from ..base.events import Mode, ProviderAnswered, ProviderAsked, ProviderFailure, RequestDone
from ..base.values import dataclass
from . import places
from .counts import Timed, Totals
from .places import GUARD_DURATION, HTTP_DURATION, PROVIDER_DURATION, REDIS_DURATION, Name, known


def count_request(done: RequestDone, totals: Totals, timed: Timed) -> None:
    """Count one request in everything that it belongs to."""
    labels = _labels(done.route, done.decision, done.status, done.mode, done.cache, done.reason)
    spent = done.spent_ms
    for name in labels.counted:
        totals[name] += 1
    if done.mode is not None:
        observe(totals, GUARD_DURATION.counts(spent.guard))
        if done.mode == "redis" and spent.redis:
            observe(totals, REDIS_DURATION.counts(spent.redis))
            timed["redis_us"] += round(spent.redis * 1000)
            timed["redis_timed"] += 1
    if done.cache in ("hit", "stale", "collapsed"):
        timed["cached"] += 1
    if done.saved is not None:
        count_cost(totals, done.saved, known(done.provider or "", places.PROVIDERS), "saved_")
    if labels.is_report:
        timed["report"] += 1
    if labels.timed_route is not None:
        took_ms = spent.guard + spent.redis + spent.fallback + spent.backend
        observe(totals, HTTP_DURATION.counts(took_ms, labels.timed_route))
        timed[done.decision] += 1
        timed[labels.by_status] += 1
        timed[labels.by_route] += 1
        timed["request_ms"] += round(took_ms)


@dataclass(frozen=True, slots=True)
class _Labels:
    """What a request is counted as."""

    counted: tuple[Name, ...]
    is_report: bool
    timed_route: str | None
    by_status: str
    by_route: str
    """The fields of an hour that it counts in, where ``timed_route`` is given."""


@lru_cache(maxsize=256)
def _labels(path: str, decided: str, status: int, mode: Mode | None, cache: str | None, reason: str) -> _Labels:
    route = known(path.removeprefix("/api/"), places.ROUTES)
    decision = known(decided, places.DECISIONS, "none")
    group = "429" if status == 429 else known(f"{status // 100}xx", places.STATUSES, "5xx")
    counted: list[Name] = [("requests", route, decision), ("statuses", route, group)]
    if mode is not None:
        counted.append(("modes", mode))
    if cache is not None:
        counted.append(("caches", known(cache, places.CACHES, "none")))
    code, _, why = reason.partition(":")
    if decision == "refuse" or (decision == "fail" and code in places.REFUSALS):
        counted.append(("refusals", "blocked" if why == "blocked" else known(code, places.REFUSALS)))
    timed_route = known(route, places.TIMED_ROUTES)
    is_guarded = mode is not None or timed_route != places.OTHER
    is_report, is_timed = is_guarded and decision == "report", is_guarded and decision in places.OUTCOMES
    by_route = known(route, places.HOURLY_ROUTES)
    return _Labels(tuple(counted), is_report, timed_route if is_timed else None, f"status.{group}", f"route.{by_route}")


def count_cost(totals: Totals, cost: Cost, provider: str, prefix: str = "") -> None:
    """Count what an answer cost, or has saved; a provider whose answers have no price has no cost."""
    totals[f"{prefix}tokens_in", provider] += cost.tokens_in
    totals[f"{prefix}tokens_out", provider] += cost.tokens_out
    if cost.tokens_cached:
        totals[f"{prefix}tokens_cached", provider] += cost.tokens_cached
    if cost.micros:
        totals[f"{prefix}cost_micros", provider] += cost.micros


def observe(totals: Totals, counts: Sequence[tuple[Name, int]]) -> None:
    """Count an observation of a histogram."""
    for name, number in counts:
        totals[name] += number


def count_provider(
    event: ProviderAsked | ProviderAnswered | ProviderFailure,
    totals: Totals,
    timed: Timed,
    vcpus: Mapping[str, float],
) -> None:
    """Add a provider's call, answer or failure; ``vcpus`` are those that its answers are computed with."""
    name = known(event.provider, places.PROVIDERS)
    match event:
        case ProviderAsked():
            totals["provider_calls", name] += 1
            timed[f"calls.{name}"] += 1
        case ProviderAnswered(provider, ms, cost):
            if cost is not None:
                count_cost(totals, cost, name)
            vcpu_ms = round(ms * vcpus.get(provider, 0.0))
            observe(totals, PROVIDER_DURATION.counts(ms, name))
            totals["vcpu_ms", name] += vcpu_ms
            timed["vcpu_ms"] += vcpu_ms
        case ProviderFailure():
            totals["provider_failures", name] += 1


def count_read(family: str, tier: str, size: int, totals: Totals, timed: Timed) -> None:
    """Add a read of a data route, by where it was served from, and its size in bytes."""
    totals["data", family, tier] += 1
    timed["data_reads"] += 1
    if tier in places.SERVED_TIERS:
        totals["data_saved_bytes", family] += size
        timed["data_hits"] += 1
