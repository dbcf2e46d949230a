"""The rules of alerts: which event calls for which alert, and that every kind is declared, counted and documented."""

import re
from pathlib import Path

import pytest

from lib.ai.budgets import Budget
from lib.base.clock import Clock
from lib.base.events import (
    WARNING,
    CircuitChanged,
    Event,
    ModeSwitched,
    ProviderAsked,
    RedisSlow,
    StoreFailed,
    WebhookFailed,
)
from lib.base.server_events import ServerChanged
from lib.ledger import allowances
from lib.ledger import reading as readings
from lib.ledger.ledger import Ledger
from lib.ledger.places import COMMANDS, SUPABASE_AT, SUPABASE_BYTES, AlertKind
from lib.ledger.table import hour_place, place
from lib.limits.grammar import parse_budget
from lib.ops import alert_rules as rules
from lib.ops.alert_rules import Thresholds
from lib.redis.thrift import Thrift

NOW_MS = 1_763_121_601_000
MINUTE_MS = 60_000
THRESHOLDS = Thresholds((80, 90, 95), 1.0, 100.0)
DOCS = Path(__file__).parents[2] / "docs" / "alerts.md"


@pytest.mark.parametrize(
    ("event", "before_ms", "expected"),
    [
        pytest.param(
            CircuitChanged("gemini", "closed", "open", "timeout"), (), (AlertKind.CIRCUIT_OPEN, "gemini"), id="opens"
        ),
        pytest.param(
            CircuitChanged("gemini", "probing", "closed", ""), (), (AlertKind.CIRCUIT_CLOSED, "gemini"), id="closes"
        ),
        pytest.param(CircuitChanged("gemini", "open", "probing", ""), (), None, id="a probe"),
        pytest.param(
            CircuitChanged("mine", "closed", "open", ""), (), (AlertKind.CIRCUIT_OPEN, "mine"), id="no number"
        ),
        pytest.param(ModeSwitched("redis", "supabase", "timeout"), (), (AlertKind.MODE, "supabase"), id="to supabase"),
        pytest.param(ModeSwitched("supabase", "redis", "back"), (), (AlertKind.MODE, "redis"), id="back to redis"),
        pytest.param(ModeSwitched("redis", "off", ""), (), None, id="not limited at all"),
        pytest.param(
            ServerChanged("seoul", "", "silent", began=True, value=None),
            (),
            (AlertKind.SERVER_SILENT, "reporter seoul"),
            id="a reporter stops",
        ),
        pytest.param(
            ServerChanged("seoul", "web", "silent", began=False, value=None),
            (),
            (AlertKind.SERVER_BACK, "seoul/web"),
            id="a server is back",
        ),
        pytest.param(
            ServerChanged("seoul", "web", "disk", began=True, value=97.5),
            (),
            (AlertKind.SERVER_HIGH, "seoul/web disk"),
            id="a disk is full",
        ),
        pytest.param(
            ServerChanged("seoul", "web", "cpu", began=False, value=3),
            (),
            (AlertKind.SERVER_NORMAL, "seoul/web cpu"),
            id="a server is idle again",
        ),
        pytest.param(RedisSlow(140.0), (), None, id="one slow reply"),
        pytest.param(
            RedisSlow(140.0), (-2 * MINUTE_MS, -MINUTE_MS), (AlertKind.REDIS_SLOW, ""), id="three in 2 minutes"
        ),
        pytest.param(
            RedisSlow(140.0), (-5 * MINUTE_MS, -MINUTE_MS), (AlertKind.REDIS_SLOW, ""), id="three in 5 minutes"
        ),
        pytest.param(RedisSlow(140.0), (-5 * MINUTE_MS - 1, -1), None, id="three in more than 5 minutes"),
        pytest.param(StoreFailed("redis", "ask", "timeout"), (-1, -1, -1), None, id="an event without a rule"),
    ],
)
def test_an_event(event: Event, before_ms: tuple[int, ...], expected: tuple[AlertKind, str] | None) -> None:
    """The alert that an event calls for, with the times of earlier events of its kind."""
    at_ms = [*(NOW_MS + each for each in before_ms), NOW_MS]
    alert = rules.of_event(event, at_ms, THRESHOLDS)
    assert (None if alert is None else (alert.kind, alert.about)) == expected
    assert alert is None or alert.at_ms == NOW_MS


@pytest.mark.parametrize(
    ("used_mb", "told"),
    [
        pytest.param(399, None, id="below 80 %"),
        pytest.param(400, "supabase: 80 % of the allowance are used (400 of 500 MB), and it never resets.", id="80 %"),
        pytest.param(501, "supabase: the allowance is used up (501 of 500 MB).", id="used up"),
    ],
)
def test_storage_is_told_of_before_it_is_used_up(used_mb: int, told: str | None) -> None:
    """It has no rate, so that its share says it."""
    full = readings.empty(NOW_MS).plus({place(SUPABASE_BYTES): used_mb << 20, place(SUPABASE_AT): NOW_MS // 1000})
    found = [allowances.commands(full, 500_000), allowances.storage(full, 500)]
    alerts = rules.of_reading(full, found, THRESHOLDS)
    assert [each.text for each in alerts] == [told] * (told is not None)
    assert {(each.kind, each.about) for each in alerts} <= {(AlertKind.RUNS_OUT, "supabase MB")}


def test_each_allowance_of_one_provider_is_told() -> None:
    """Its calls and its tokens may run out on one day; a time is kept for each service."""
    budget = Budget(parse_budget("100/day,10000 tokens/day"))
    usage = tuple({NOW_MS // each.bucket_ms: each.limit} for each in budget.layout.windows)
    full = readings.empty(NOW_MS).plus({hour_place("calls.openai", NOW_MS, "2025-11"): 100})
    found = allowances.ledger(full, 500_000, [("openai", budget)], {}, {"openai": usage}, None)
    alerts = rules.of_reading(full, found, THRESHOLDS)
    assert sorted(each.about for each in alerts) == ["openai requests", "openai tokens"]
    assert len({each.key for each in alerts}) == 2
    assert {each.kind.counter(each.about) for each in alerts} == {("alert_s", "runs_out", "openai")}


@pytest.mark.parametrize(
    ("percent", "supabase_mb", "said"),
    [
        pytest.param(95, 500, "Limits now come from Supabase", id="another store"),
        pytest.param(95, None, "No Supabase is configured: Redis is used to the last command", id="none"),
        pytest.param(90, None, "Answers are no longer refreshed", id="before that"),
    ],
)
def test_the_month_says_what_is_done(percent: int, supabase_mb: int | None, said: str) -> None:
    """At the last step limits come from Supabase only where there is one."""
    used = readings.empty(NOW_MS).plus({place(COMMANDS): 1_000 * percent})
    found = allowances.ledger(used, 100_000, [], {}, {}, supabase_mb)
    (alert,) = [each for each in rules.of_reading(used, found, THRESHOLDS) if each.kind is AlertKind.REDIS_MONTH]
    assert said in alert.text
    assert ("come from Supabase" in alert.text) == (supabase_mb is not None)


@pytest.mark.parametrize(
    ("event", "gets_there"),
    [
        (WebhookFailed("slack", "reason"), True),
        (StoreFailed("redis", "ask", "timeout"), True),
        (ProviderAsked("gemini"), False),
    ],
    ids=lambda value: getattr(value, "event", str(value)),
)
def test_which_events_the_rules_see(event: Event, gets_there: bool) -> None:
    """Every event that is logged as a warning gets to the rules; a new rule needs no line elsewhere."""
    ledger = Ledger(None, Thrift(500_000), Clock(now_ms=lambda: NOW_MS), 64, {})
    ledger.listen(event)
    assert (event in ledger.news) == gets_there == (event.level >= WARNING)


def test_every_kind_is_documented() -> None:
    """docs/alerts.md has a row for every kind, and for no other."""
    rows = re.findall(r"^\| (`[^|]*) \|", DOCS.read_text(), re.M)
    assert {kind for row in rows for kind in re.findall(r"`(\w+)`", row)} == {kind.label for kind in AlertKind}
