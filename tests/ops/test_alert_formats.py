"""What Slack, Discord and Teams are sent, by the rules that each of them documents."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from lib.base.events import CircuitChanged
from lib.ledger import places
from lib.ledger.places import AlertKind
from lib.ledger.table import place
from lib.ops.alert_formats import Format, body_of, format_of
from lib.ops.alert_rules import Alert, Severity
from tests.clients.javascript import javascript
from tests.rig.ledger import CRON, World

ROOT = Path(__file__).parents[2]
AT_MS = 1_763_121_601_000
TEXTS = {
    "plain": "80 % of the month's Redis commands are used: 400,120 of 500,000.",
    "markup": "gemini is not called for now: its circuit opened (<!channel> & @everyone *a* _b_ `c` [d](e) ||f|| > g).",
    "korean": "한도가 거의 찼습니다 \U0001f6a8",
    "long": "*" * 9_000,
}
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")


def alert(text: str, severity: Severity = "warning") -> Alert:
    return Alert(AlertKind.CIRCUIT_OPEN, "gemini", AT_MS, severity, text)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://hooks.slack.com/services/T0/B0/x", "slack"),
        ("https://discord.com/api/webhooks/1/x", "discord"),
        ("https://discord.com/api/webhooks/1/x?wait=true", "discord"),
        ("https://ptb.discord.com/api/webhooks/1/x", "discord"),
        ("https://discordapp.com/api/webhooks/1/x", "discord"),
        ("https://discord.com/api/webhooks/1/x/slack", "slack"),
        ("https://prod-01.westeurope.logic.azure.com:443/workflows/a/triggers/manual/paths/invoke?sig=s", "teams"),
        ("https://default0.aa.environment.api.powerplatform.com:443/powerautomate/automations/direct/x?sig=s", "teams"),
        ("https://contoso.webhook.office.com/webhookb2/a@b/IncomingWebhook/c/d", "teams"),
        ("https://alerts.example.com/hook", "json"),
        ("https://hooks.slack.com.example.com/x", "json"),
        ("https://notdiscord.com/api/webhooks/1/x", "json"),
        ("http://127.0.0.1:8000/hook", "json"),
    ],
)
def test_the_host_says_what_it_takes(url: str, expected: Format) -> None:
    """A host that only looks like one of these gets plain JSON."""
    assert format_of(url) == expected


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_slack(text: str, severity: Severity) -> None:
    """One text below Slack's 40,000 characters; &, < and > are escaped, so that nothing in it is a mention."""
    body = body_of(alert(text, severity), "slack")
    assert body.keys() == {"text"}
    sent = str(body["text"])
    assert len(sent) < 40_000
    assert re.match(r":\w+: Breakwater: ", sent)
    assert set(re.findall(r"&\w*;?|[<>]", sent)) <= {"&amp;", "&lt;", "&gt;"}
    assert text[:40] in sent.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_discord(text: str, severity: Severity) -> None:
    """Content of 1 to 2,000 characters that mentions nobody, and Markdown that is escaped."""
    body = body_of(alert(text, severity), "discord")
    assert body.keys() == {"content", "allowed_mentions"}
    assert body["allowed_mentions"] == {"parse": []}
    sent = str(body["content"])
    assert 1 <= len(sent) <= 2_000
    unescaped = re.sub(r"\\(.)", "", sent)
    assert not set(unescaped) & set("*_~`|>[]")
    assert text[:40] in re.sub(r"\\(.)", r"\1", sent)


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_teams(text: str, severity: Severity) -> None:
    """A message with one card, below the 28 KB that Teams takes; the text is a plain run."""
    body: Any = body_of(alert(text, severity), "teams")
    assert len(json.dumps(body).encode()) < 28 * 1024
    assert body["type"] == "message"
    (attachment,) = body["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert (attachment["content"]["type"], attachment["content"]["version"]) == ("AdaptiveCard", "1.4")
    (run,) = attachment["content"]["body"][1]["inlines"]
    assert run["text"].startswith(text[:40])


@pytest.mark.anyio
async def test_teams_by_its_vendors_own_parser() -> None:
    """Microsoft's parser of Adaptive Cards finds nothing to complain of, whatever the text and the severity."""
    bodies: list[Any] = [body_of(alert(text, each), "teams") for text in TEXTS.values() for each in SEVERITIES]
    cards = [body["attachments"][0]["content"] for body in bodies]
    assert await javascript("cards.cjs", json.dumps(cards)) == [{"complaints": [], "items": 2}] * len(cards)
    # The parser does notice.
    (broken,) = await javascript("cards.cjs", json.dumps([{**cards[0], "body": [{"type": "Txt"}]}]))
    assert broken["complaints"] != []


def test_a_program_of_ones_own() -> None:
    """Each part of the alert by itself, as docs/alerts.md shows it."""
    (shown,) = re.findall(r"```json\n(.*?)```", (ROOT / "docs" / "alerts.md").read_text(), re.S)
    text = "cloud-run is not called for now: its circuit opened (timeout)."
    sent = Alert(AlertKind.CIRCUIT_OPEN, "cloud-run", AT_MS, "warning", text)
    assert body_of(sent, "json") == json.loads(shown)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("given", "fields"),
    [
        pytest.param({}, {"source", "kind", "about", "severity", "text", "at", "period"}, id="by its host"),
        pytest.param({"ALERT_WEBHOOK_FORMAT": "slack"}, {"text"}, id="slack"),
        pytest.param({"ALERT_WEBHOOK_FORMAT": "discord"}, {"content", "allowed_mentions"}, id="discord"),
        pytest.param({"ALERT_WEBHOOK_FORMAT": "teams"}, {"type", "attachments"}, id="teams"),
    ],
)
async def test_the_setting_decides(world: World, given: dict[str, str], fields: set[str]) -> None:
    """A receiver behind a host of its own, such as Mattermost, is named by the setting."""
    one = world.instance(LEDGER_FLUSH_COMMANDS="1", **given)
    one.parts.emit(CircuitChanged("cloud-run", "suspect", "open", "timeout"))
    await one.ask("anything")
    (sent,) = world.outside.alerts()
    assert sent.keys() == fields
    (to_slack,) = world.outside.alerts("/slack")
    assert to_slack.keys() == {"text"}


@pytest.mark.anyio
async def test_what_the_documents_show_in_slack_is_sent(world: World) -> None:
    """The first example of docs/alerts.md is the text of the alert at 80 %, but for the number of commands."""
    kind, offset = place(places.COMMANDS)
    world.server.bitfield("ledger:2:2025-11").set(kind, offset, 400_000).execute()
    assert (await world.instance().http.get("/api/cron/daily", headers=CRON)).status_code == 200
    (sent,) = [each["text"] for each in world.outside.alerts("/slack") if "80 %" in each["text"]]
    shown = re.findall(r"^> (.*80 %.*)$", (ROOT / "docs" / "alerts.md").read_text(), re.M)
    assert [re.sub(r"400,\d{3}", "", each) for each in shown] == [re.sub(r"400,\d{3}", "", sent)]
