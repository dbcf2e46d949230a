"""What every free tier has left, when it resets on its own clock, and when it runs out at the present rate."""

from collections.abc import Mapping, Sequence
from typing import Literal

from ..ai.budgets import Budget
from ..base.calendar import month_ends_ms
from ..base.values import dataclass
from ..limits.window import DAY_MS, Buckets, Usage, Window, covering
from .places import PROVIDERS, SUPABASE_AT, SUPABASE_BYTES, VENDOR_AT, known
from .reading import Reading
from .table import HOUR_MS, last_hours

type Source = Literal["counted", "vendor", "estimated", "measured"]


@dataclass(frozen=True, slots=True)
class Allowance:
    """One limit of one free tier."""

    service: str
    unit: str
    period: str
    limit: int
    used: int
    resets_at_ms: int | None
    """When its whole limit is available again; of a rolling window, when all current use has left it. None: never."""
    runs_out_at_ms: int | None
    """When nothing is left at the present rate, if that is before it resets."""
    source: Source
    as_of_ms: int | None = None
    """When the figure was measured, where we do not count it ourselves."""
    known: bool = True
    """Whether ``used`` says anything: not where Redis, which knows, gives no reply, or nothing was measured yet."""

    @property
    def left(self) -> int:
        """What may still be used."""
        return max(0, self.limit - self.used)

    @property
    def share(self) -> float:
        """The used part of the limit."""
        return self.used / self.limit if self.limit else 0.0


def unknown(each: Allowance) -> Allowance:
    """The same limit where nobody can say what of it is used."""
    return Allowance(each.service, each.unit, each.period, each.limit, 0, None, None, each.source, known=False)


def rate_per_hour(by_hour: Sequence[int], now_ms: int) -> float:
    """The present rate: over the last 24 hours, or since the first use if that is less; at least over one hour."""
    first = next((at for at, count in enumerate(by_hour) if count), None)
    if first is None:
        return 0.0
    began_ms = last_hours(now_ms)[first]
    elapsed_ms = min(max(now_ms - began_ms, HOUR_MS), DAY_MS)
    # Only the last part of the oldest hour lies within the 24 hours. Counting all of it errs to a higher rate.
    return sum(by_hour) * HOUR_MS / elapsed_ms


def runs_out_ms(used: float, limit: float, per_hour: float, now_ms: int, resets_at_ms: int | None) -> int | None:
    """When the limit is reached at a rate, if that is before it resets."""
    if used >= limit:
        return now_ms
    if per_hour <= 0:
        return None
    at_ms = now_ms + int((limit - used) / per_hour * HOUR_MS)
    return at_ms if resets_at_ms is None or at_ms < resets_at_ms else None


def commands(reading: Reading, limit: int) -> Allowance:
    """The month of Upstash Redis."""
    now_ms, used = reading.now_ms, reading.commands
    ends_ms, vendor_s = month_ends_ms(now_ms), reading.total(*VENDOR_AT)
    per_hour = rate_per_hour(reading.by_hour("commands"), now_ms)
    out_ms = runs_out_ms(used, limit, per_hour, now_ms, ends_ms)
    source: Source = "vendor" if vendor_s else "counted"
    return Allowance(
        "upstash", "commands", "month", limit, used, ends_ms, out_ms, source, vendor_s * 1000 if vendor_s else None
    )


def computing(reading: Reading, provider: str, budget: Budget, used_ms: str | None) -> Allowance:
    """A provider's month of computing, in vCPU-seconds, estimated from how long its calls took."""
    now_ms, ends_ms = reading.now_ms, month_ends_ms(reading.now_ms)
    written = int(used_ms) if used_ms and used_ms.isascii() and used_ms.isdigit() else 0
    # The guard's own figure is written now and then only: the ledger's count may be ahead of it.
    used = max(written, reading.total("vcpu_ms", known(provider, PROVIDERS))) // 1000
    per_hour = rate_per_hour(reading.by_hour("vcpu_ms"), now_ms) / 1000
    out_ms = runs_out_ms(used, budget.month_s, per_hour, now_ms, ends_ms)
    return Allowance(provider, "vCPU-seconds", "month", budget.month_s, used, ends_ms, out_ms, "estimated")


def calls(reading: Reading, provider: str, window: Window) -> Allowance:
    """A provider's day of calls, rolling or by the calendar of its zone."""
    now_ms, by_hour = reading.now_ms, reading.by_hour(f"calls.{provider}")
    begins_ms = 0 if window.zone is None else window.covered(now_ms).start * window.bucket_ms
    # Where midnight lies within an hour, all of that hour counts: too much is safer than too little.
    used = sum(n for at, n in zip(last_hours(now_ms), by_hour, strict=True) if at > begins_ms - HOUR_MS)
    return _day(provider, "requests", window, by_hour, used, now_ms)


def tokens(provider: str, window: Window, counted: Buckets, now_ms: int) -> Allowance:
    """A provider's day of tokens, as its budget has ``counted`` them: those of calls under way by an estimate."""
    begins, (covered,) = last_hours(now_ms), covering((window,), (counted,), now_ms)
    by_hour = [0] * len(begins)
    for bucket, count in covered.items():
        # The oldest bucket may begin before the oldest hour, by the skew; the newest lies ahead by it.
        at = (bucket * window.bucket_ms - begins[0]) // HOUR_MS
        by_hour[min(max(at, 0), len(begins) - 1)] += count
    return _day(provider, "tokens", window, by_hour, sum(by_hour), now_ms)


def _day(provider: str, unit: str, window: Window, by_hour: Sequence[int], used: int, now_ms: int) -> Allowance:
    per_hour = rate_per_hour(by_hour, now_ms)
    if window.zone is not None:
        resets_ms: int | None = window.leaves_at(now_ms // window.bucket_ms)
        out_ms = runs_out_ms(used, window.limit, per_hour, now_ms, resets_ms)
    else:
        newest = max((at for at, n in zip(last_hours(now_ms), by_hour, strict=True) if n), default=None)
        resets_ms = None if newest is None else newest + HOUR_MS + window.length_ms
        # What leaves the window makes room, so a steady rate below the limit never runs out.
        lasts = per_hour * window.length_ms / HOUR_MS <= window.limit
        out_ms = None if lasts and used < window.limit else runs_out_ms(used, window.limit, per_hour, now_ms, None)
    period = f"day, {window.zone}" if window.zone else "24 hours"
    return Allowance(provider, unit, period, window.limit, used, resets_ms, out_ms, "counted")


def storage(reading: Reading, limit_mb: int) -> Allowance:
    """Supabase's database, as it was last measured in this month."""
    used, at_s = reading.total(*SUPABASE_BYTES), reading.total(*SUPABASE_AT)
    return Allowance(
        "supabase",
        "MB",
        "total",
        limit_mb,
        round(used / 1_048_576),
        None,
        reading.now_ms if used > limit_mb * 1_048_576 else None,
        "measured",
        at_s * 1000 if at_s else None,
        known=at_s > 0,
    )


def ledger(
    reading: Reading,
    month_commands: int | None,
    providers: Sequence[tuple[str, Budget]],
    used_ms: Mapping[str, str | None],
    counted: Mapping[str, Usage],
    supabase_mb: int | None,
) -> list[Allowance]:
    """Every free tier that is configured, Redis first. Limits a minute are not shown: they reset at once.

    ``month_commands``: None where Redis bills nothing; ``used_ms``: the month's computing, by provider, as Redis holds
    it; ``counted``: what the windows of budgets hold. The tokens of one that is not among them are not known.
    """
    found = [] if month_commands is None else [commands(reading, month_commands)]
    for name, budget in providers:
        if budget.month_s:
            found.append(computing(reading, name, budget, used_ms.get(name)))
        for place, each in enumerate(budget.layout.windows):
            if each.length_ms != DAY_MS:
                continue
            if each.unit == "calls":
                found.append(calls(reading, known(name, PROVIDERS), each))
            elif name in counted:
                found.append(tokens(name, each, counted[name][place], reading.now_ms))
            else:
                found.append(unknown(tokens(name, each, {}, reading.now_ms)))
    return found if supabase_mb is None else [*found, storage(reading, supabase_mb)]
