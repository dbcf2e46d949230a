"""The rules of alerts: each is sent once in its period, by whichever instance notices first.

An alert has a kind (``ledger/places.py``) and a rule here: in :func:`of_reading` where the figures say it, in
:func:`of_event` where an event does. Every event that is logged as a warning gets here.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

from ..base.calendar import month_ends_ms, month_of
from ..base.events import CircuitChanged, DatabaseNoticed, Event, ModeSwitched, RedisSlow
from ..base.server_events import ServerChanged
from ..base.values import dataclass
from ..ledger.allowances import Allowance
from ..ledger.places import COUNTING_MODES, AlertKind
from ..ledger.reading import Reading
from ..redis import keys, thrift

type Severity = Literal["info", "warning", "critical"]


@dataclass(frozen=True, slots=True)
class Alert:
    """One thing that people should know. ``about`` is empty where the kind says it all; ``text`` is in English."""

    kind: AlertKind
    about: str
    at_ms: int
    severity: Severity
    text: str

    @property
    def period(self) -> str:
        """The period it is sent once in."""
        length_ms = self.kind.period_ms
        return month_of(self.at_ms) if length_ms is None else str(self.at_ms // length_ms)

    @property
    def key(self) -> str:
        """The key that the instance which sends it holds."""
        return keys.alert(self.kind.label, self.about, self.period)

    @property
    def ends_ms(self) -> int:
        """When its period ends."""
        length_ms = self.kind.period_ms
        return month_ends_ms(self.at_ms) if length_ms is None else (self.at_ms // length_ms + 1) * length_ms


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From when on something is worth an alert."""

    month_percents: Sequence[int]
    """Shares of the month's Redis commands, ascending."""
    error_percent: float
    slow_ms: float


def of_reading(reading: Reading, ledger: Sequence[Allowance], thresholds: Thresholds) -> list[Alert]:
    """The alerts that the figures call for."""
    found = [
        _month(reading, ledger, thresholds.month_percents),
        *(_runs_out(each, reading.now_ms) for each in ledger),
        _error_rate(reading, thresholds.error_percent),
        _hit_ratio(reading),
    ]
    return [each for each in found if each is not None]


EVENTS_KEPT = 16
"""How many times of events of one kind are kept."""


def of_event(event: Event, at_ms: Sequence[int], thresholds: Thresholds) -> Alert | None:
    """The alert that an event calls for. ``at_ms``: when events of its kind came lately, this one last."""
    match event:
        case CircuitChanged(provider, before, after, reason):
            return _circuit(provider, before, after, reason, at_ms[-1])
        case ModeSwitched(after=after, reason=reason) if after in COUNTING_MODES:
            return _mode(after, reason, at_ms[-1])
        case ServerChanged():
            return _server(event, at_ms[-1])
        case RedisSlow(ms):
            return _slow(at_ms, ms, thresholds.slow_ms)
        case DatabaseNoticed(connection, kind, about, text):
            named = f"{connection}:{about}" if about else connection
            return Alert(AlertKind[kind.upper()], named, at_ms[-1], "warning", f"{connection}: {text}.")
    return None


_STEPS = (
    "",
    "Counts are now flushed less often, and the page reads them less often.",
    "Answers are no longer refreshed in the background either.",
    "Limits now come from Supabase, and Redis is not used until the month ends.",
)
_WITHOUT_SUPABASE = "No Supabase is configured: Redis is used to the last command, and then memory counts limits."


def _month(reading: Reading, ledger: Sequence[Allowance], percents: Sequence[int]) -> Alert | None:
    redis = next((each for each in ledger if each.service == "upstash"), None)
    if redis is None:
        return None
    step = thrift.step_of(reading.commands, redis.limit, percents)
    if not step:
        return None
    used = f"{redis.used:,} of {redis.limit:,}"
    elsewhere = step < 3 or any(each.service == "supabase" for each in ledger)
    then = _STEPS[step] if elsewhere else _WITHOUT_SUPABASE
    text = f"{percents[step - 1]} % of the month's Redis commands are used: {used}. {then}"
    severity: Severity = "critical" if step == 3 else "warning"
    return Alert(AlertKind.REDIS_MONTH, str(step), reading.now_ms, severity, text)


_NEARLY = 0.8
"""From this share on there is an alert to what never resets, such as storage: no rate tells when it ends."""


def _runs_out(each: Allowance, now_ms: int) -> Alert | None:
    used = f"{each.used:,} of {each.limit:,} {each.unit}"
    if each.runs_out_at_ms is None:
        if each.period != "total" or each.share < _NEARLY:
            return None
        text = f"{each.service}: {int(each.share * 100)} % of the allowance are used ({used}), and it never resets."
    elif each.left == 0:
        text = f"{each.service}: the allowance is used up ({used})."
    else:
        text = f"{each.service}: at the present rate the allowance ends {_when(each.runs_out_at_ms)} ({used} used)."
    if each.resets_at_ms is not None:
        text += f" It resets {_when(each.resets_at_ms)}."
    # Of one provider both calls and tokens may run out: each is told.
    return Alert(AlertKind.RUNS_OUT, f"{each.service} {each.unit}", now_ms, "warning", text)


def belated(alert: Alert) -> Alert:
    """The same, for who gets it later than it was noticed."""
    return replace(alert, text=f"{alert.text} Noticed {_when(alert.at_ms)}.")


def _when(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("on %-d %B at %H:%M UTC")


_LEAST_REQUESTS = 50
"""An error rate of fewer requests says nothing."""


def _error_rate(reading: Reading, percent: float) -> Alert | None:
    failed = sum(reading.by_five_minutes("fail"))
    requests = failed + sum(sum(reading.by_five_minutes(field)) for field in ("serve", "compute", "report"))
    if requests < _LEAST_REQUESTS or failed * 100 <= percent * requests:
        return None
    text = f"{failed} of the last hour's {requests} requests failed ({failed * 100 / requests:.1f} %)."
    return Alert(AlertKind.ERROR_RATE, "", reading.now_ms, "critical", text)


_LEAST_READS, _LEAST_HIT_PERCENT = 100, 60


def _hit_ratio(reading: Reading) -> Alert | None:
    """Of the last whole hour: the present one may have begun a moment ago, with an empty cache."""
    reads, hits = (reading.by_hour(field)[-2] for field in ("data_reads", "data_hits"))
    if reads < _LEAST_READS or hits * 100 >= _LEAST_HIT_PERCENT * reads:
        return None
    text = (
        f"{hits} of the last hour's {reads} reads of data routes were served without asking an origin "
        f"({hits * 100 / reads:.0f} %; less than {_LEAST_HIT_PERCENT} % is few)."
    )
    return Alert(AlertKind.HIT_RATIO, "", reading.now_ms, "warning", text)


def _circuit(provider: str, before: str, state: str, reason: str, now_ms: int) -> Alert | None:
    # A suspicion, and a probe on its way, are nothing that people need to know.
    if state == "open":
        text = f"{provider} is not called for now: its circuit opened ({reason})."
        return Alert(AlertKind.CIRCUIT_OPEN, provider, now_ms, "warning", text)
    if state == "closed" and before != "suspect":
        text = f"{provider} is called again: its circuit closed."
        return Alert(AlertKind.CIRCUIT_CLOSED, provider, now_ms, "info", text)
    return None


def _mode(after: str, reason: str, now_ms: int) -> Alert:
    text = f"Limits are now counted by {after} ({reason[:200]})."
    return Alert(AlertKind.MODE, after, now_ms, "info" if after == "redis" else "warning", text)


_SLOW_REPLIES = 3
_SLOW_WITHIN_MS = 5 * 60_000


def _slow(at_ms: Sequence[int], ms: float, slow_ms: float) -> Alert | None:
    # A single slow reply may be due to a new connection.
    if len(at_ms) < _SLOW_REPLIES or at_ms[-1] - at_ms[-_SLOW_REPLIES] > _SLOW_WITHIN_MS:
        return None
    text = f"Redis took {ms:.0f} ms for a reply; more than {slow_ms:.0f} ms is slow."
    return Alert(AlertKind.REDIS_SLOW, "", at_ms[-1], "warning", text)


def _server(event: ServerChanged, now_ms: int) -> Alert:
    about = f"reporter {event.reporter}" if not event.server else f"{event.reporter}/{event.server}"
    if event.what == "silent" and event.began:
        everybody = "" if event.server else ", so nothing is known of its servers"
        text = f"{about} is silent: it has missed at least five reports{everybody}."
        return Alert(AlertKind.SERVER_SILENT, about, now_ms, "critical", text)
    if event.what == "silent":
        return Alert(AlertKind.SERVER_BACK, about, now_ms, "info", f"{about} reports again.")
    about = f"{about} {event.what}"
    value = "" if event.value is None else f" ({event.value:g} %)"
    if event.began:
        text = f"{about} was above the threshold in several reports on end{value}."
        return Alert(AlertKind.SERVER_HIGH, about, now_ms, "warning", text)
    return Alert(AlertKind.SERVER_NORMAL, about, now_ms, "info", f"{about} is below the threshold again{value}.")
