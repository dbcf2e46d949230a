"""An alert as the receivers of webhooks take it: Slack, Discord, Teams, or a program of one's own.

Each format is what its vendor documents: Slack's "Sending messages using incoming webhooks", Discord's "Execute
Webhook", and for Teams a message with one Adaptive Card, which is all that a Teams workflow takes.
"""

import re
from typing import Literal
from urllib.parse import urlsplit

from .alert_rules import Alert

type Format = Literal["json", "slack", "discord", "teams"]

_TEAMS_HOSTS = (".logic.azure.com", ".webhook.office.com", ".api.powerplatform.com", ".api.powerautomate.com")
_DISCORD_HOSTS = (".discord.com", ".discordapp.com")


def format_of(url: str) -> Format:
    """The format that the receiver at an address takes, as far as its host says so; else ``json``."""
    parts = urlsplit(url)
    host = f".{parts.hostname or ''}"
    if host == ".hooks.slack.com":
        return "slack"
    if host.endswith(_DISCORD_HOSTS):
        # Discord reads Slack's format at such an address.
        return "slack" if parts.path.rstrip("/").endswith("/slack") else "discord"
    return "teams" if host.endswith(_TEAMS_HOSTS) else "json"


def body_of(alert: Alert, form: Format) -> dict[str, object]:
    """The JSON that the receiver is sent."""
    match form:
        case "slack":
            return {"text": f"{_SLACK_SIGNS[alert.severity]} Breakwater: {_slack_text(alert.text)}"}
        case "discord":
            return _discord(alert)
        case "teams":
            return _teams(alert)
    return {
        "source": "breakwater",
        "kind": alert.kind.label,
        "about": alert.about,
        "severity": alert.severity,
        "text": alert.text,
        "at": alert.at_ms // 1000,
        "period": alert.period,
    }


_MOST_CHARS = 1_500
"""Of an alert's text. Discord takes 2,000 characters, some of which are escaped; Slack and Teams take more."""
_SLACK_SIGNS = {"info": ":white_check_mark:", "warning": ":warning:", "critical": ":rotating_light:"}
_SIGNS = {"info": "\u2705", "warning": "\u26a0\ufe0f", "critical": "\U0001f6a8"}
_TEAMS_COLORS = {"info": "Good", "warning": "Warning", "critical": "Attention"}


def _slack_text(text: str) -> str:
    # Slack reads these three as markup, and "<!channel>" would ring everybody's phone.
    return text[:_MOST_CHARS].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _discord(alert: Alert) -> dict[str, object]:
    escaped = re.sub(r"([\\*_~`|>\[\]])", r"\\\1", alert.text[:_MOST_CHARS])
    content = f"{_SIGNS[alert.severity]} Breakwater: {escaped}"[:2_000]
    # No text of ours may mention anybody.
    return {"content": content, "allowed_mentions": {"parse": []}}


def _teams(alert: Alert) -> dict[str, object]:
    heading = {
        "type": "TextBlock",
        "text": f"{_SIGNS[alert.severity]} Breakwater: {alert.severity}",
        "weight": "Bolder",
        "color": _TEAMS_COLORS[alert.severity],
        "wrap": True,
    }
    # A TextRun is plain; a TextBlock would read some of it as Markdown.
    text = {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": alert.text[:_MOST_CHARS]}]}
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "fallbackText": alert.text[:_MOST_CHARS],
        "msteams": {"width": "Full"},
        "body": [heading, text],
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return {"type": "message", "attachments": [attachment]}
