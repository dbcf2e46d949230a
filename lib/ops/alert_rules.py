"""What is worth telling a person, and how often: each alert once a level and period, whoever notices it first."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from ..base.calendar import month_ends_ms, month_of
from ..ledger.allowances import Allowance
from ..ledger.counters import Reading
from ..limits.window import DAY_MS
from ..redis import keys, thrift

type Severity = Literal["info", "warning", "critical"]

_MINUTE_MS = 60_000
_PERIODS_MS = {
    "runs_out": DAY_MS,
    "circuit_open": 15 * _MINUTE_MS,
    "circuit_closed": 15 * _MINUTE_MS,
    "mode": 15 * _MINUTE_MS,
    "error_rate": 60 * _MINUTE_MS,
    "redis_slow": 60 * _MINUTE_MS,
}
"""How long an alert stands for all of its kind. ``redis_month`` stands for the month."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One thing to be told. ``kind`` and ``about`` are one of ``counters.ALERTS``; ``text`` is in English."""

    kind: str
    about: str
    at_ms: int
    severity: Severity
    text: str

    @property
    def period(self) -> str:
        """The period it is sent once in."""
        length_ms = _PERIODS_MS.get(self.kind)
        return month_of(self.at_ms) if length_ms is None else str(self.at_ms // length_ms)

    @property
    def key(self) -> str:
        """The key that whoever sends it holds."""
        return keys.alert(self.kind, self.about, self.period)

    @property
    def ends_ms(self) -> int:
        """When its period ends."""
        length_ms = _PERIODS_MS.get(self.kind)
        if length_ms is None:
            return month_ends_ms(self.at_ms)
        return (self.at_ms // length_ms + 1) * length_ms


_LEAST_REQUESTS = 50
"""An error rate of fewer requests says nothing."""


def of_reading(
    reading: Reading, ledger: Sequence[Allowance], percents: Sequence[int], error_percent: float
) -> list[Alert]:
    """What the numbers themselves say."""
    now_ms, found = reading.now_ms, list[Alert]()
    redis = next(each for each in ledger if each.service == "upstash")
    step = thrift.step_of(reading.commands, redis.limit, percents)
    if step:
        found.append(_month(redis, step, percents[step - 1], now_ms))
    found += [_runs_out(each, now_ms) for each in ledger if each.runs_out_at_ms is not None]
    failed = sum(reading.fives("fail"))
    asked = failed + sum(sum(reading.fives(field)) for field in ("serve", "compute"))
    if asked >= _LEAST_REQUESTS and failed * 100 > error_percent * asked:
        text = f"{failed} of the last hour's {asked} requests failed ({failed * 100 / asked:.1f} %)."
        found.append(Alert("error_rate", "", now_ms, "critical", text))
    return found


_STEPS = (
    "",
    "Refusals are now believed for longer, and counts written less often.",
    "Answers are no longer refreshed in the background either.",
    "Limits now come from Supabase, and Redis is left alone until the month ends.",
)


def _month(redis: Allowance, step: int, percent: int, now_ms: int) -> Alert:
    text = f"{percent} % of the month's Redis commands are used: {redis.used:,} of {redis.limit:,}. {_STEPS[step]}"
    return Alert("redis_month", str(step), now_ms, "critical" if step == 3 else "warning", text)


def _runs_out(each: Allowance, now_ms: int) -> Alert:
    used = f"{each.used:,} of {each.limit:,} {each.unit}"
    if each.left == 0:
        text = f"{each.service}: the allowance is used up ({used})."
    else:
        text = f"{each.service}: at the present rate the allowance ends {_when(each.runs_out_at_ms)} ({used} used)."
    if each.resets_at_ms is not None:
        text += f" It is whole again {_when(each.resets_at_ms)}."
    return Alert("runs_out", each.service, now_ms, "warning", text)


def _when(at_ms: int | None) -> str:
    return datetime.fromtimestamp((at_ms or 0) / 1000, UTC).strftime("on %-d %B at %H:%M UTC")


def circuit(provider: str, state: str, reason: str, now_ms: int) -> Alert | None:
    """A provider's circuit moved; a probe on its way is no news."""
    if state == "open":
        text = f"{provider} is left alone: its circuit opened ({reason})."
        return Alert("circuit_open", provider, now_ms, "warning", text)
    if state == "closed":
        return Alert("circuit_closed", provider, now_ms, "info", f"{provider} is asked again: its circuit closed.")
    return None


def mode(after: str, reason: str, now_ms: int) -> Alert:
    """Limits are counted elsewhere than before."""
    text = f"Limits are now counted by {after} ({reason[:200]})."
    return Alert("mode", after, now_ms, "info" if after == "redis" else "warning", text)


SLOW_REPLIES = 3
_SLOW_WITHIN_MS = 5 * _MINUTE_MS


def slow(at_ms: Sequence[int], ms: float, slow_ms: float, now_ms: int) -> Alert | None:
    """Redis took long for the last ``SLOW_REPLIES`` of ``at_ms``; a single one may be a new connection's."""
    if len(at_ms) < SLOW_REPLIES or now_ms - at_ms[-SLOW_REPLIES] > _SLOW_WITHIN_MS:
        return None
    text = f"Redis took {ms:.0f} ms for a reply; more than {slow_ms:.0f} ms is slow."
    return Alert("redis_slow", "", now_ms, "warning", text)
