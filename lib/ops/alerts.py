"""Sends alerts, each once for all instances. Runs after responses and in the daily job; nothing here reaches a request.

What is worth an alert is decided in ``alert_rules.py``.
"""

import asyncio
import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Literal

from ..base.bounded import Bounded
from ..base.calendar import month_of
from ..base.clock import Clock
from ..base.env import opened
from ..base.events import Alerted, Event, Listener, WebhookFailed
from ..base.values import dataclass
from ..ledger.allowances import Allowance
from ..ledger.places import Name
from ..ledger.reading import Reading, expire_new, set_totals
from ..limits.supabase import SupabaseDown
from ..limits.supabase_store import SupabaseStore
from ..limits.window import DAY_MS, window
from ..redis.errors import RedisDown
from ..redis.op import Op, Reply, as_text, gather, ignored, join
from ..redis.store import RedisStore
from . import alert_rules as rules
from .activity import SENT
from .alert_formats import Format, body_of, format_of
from .alert_rules import Alert, Thresholds
from .overview import Overview

if TYPE_CHECKING:
    import httpx

    from ..parts import Parts

_TIMEOUT_S = 2.0
_AGAIN_S, _AGAIN_FOR_MS = 60.0, 3_600_000
"""What no receiver has taken is tried again after so long, and for so long."""
_MOST_LATE = 100


@dataclass(slots=True)
class Alerts:
    """Collects alerts and sends those that no instance has sent yet in their period."""

    news: deque[Reading | Event]
    """What the ledger has read and heard."""
    redis: RedisStore | None
    supabase: SupabaseStore | None
    client: "Callable[[], httpx.AsyncClient]"
    clock: Clock
    emit: Listener
    ledger: Callable[[Reading], list[Allowance]]
    thresholds: Thresholds
    is_out: Callable[[], bool]
    """Whether Redis gave this instance's last request no reply."""
    slack: str | None = None
    webhook: str | None = None
    webhook_format: Format | None = None
    """What ``webhook`` takes; None: what its host says."""
    _seen_ms: dict[type[Event], deque[int]] = field(default_factory=dict)
    """When events of each kind came lately."""
    _queue: list[Alert] = field(default_factory=list)
    _late: deque[Alert] = field(default_factory=lambda: deque(maxlen=_MOST_LATE))
    """What no receiver has taken yet."""
    _again_at: float = 0.0
    """From when on that is tried again, on the clock that never jumps."""
    _sent_s: dict[Name, int] = field(default_factory=dict)
    """When alerts were sent, as far as it is not in Redis."""
    _listed: deque[str] = field(default_factory=lambda: deque(maxlen=SENT.cap))
    """Alerts that were sent and are not in the list yet; no more than it keeps."""
    _settled: Bounded[str, bool] = field(default_factory=lambda: Bounded(200))
    """Alerts that this instance knows to have been sent in their period, by it or by another."""

    def notice(self, what: Reading | Event) -> None:
        """Apply the rules to a fresh reading or an event."""
        if isinstance(what, Reading):
            found = rules.of_reading(what, self.ledger(what), self.thresholds)
        else:
            seen_ms = self._seen_ms.setdefault(type(what), deque(maxlen=rules.EVENTS_KEPT))
            seen_ms.append(self.clock.now_ms())
            alert = rules.of_event(what, tuple(seen_ms), self.thresholds)
            found = [alert] if alert else []
        queued = {each.key for each in (*self._queue, *self._late)}
        self._queue += [each for each in found if each.key not in queued and not self._settled.get(each.key)]

    @classmethod
    def of(cls, parts: "Parts") -> "Alerts":
        """The instance's."""
        return parts.keep(cls, _as_configured)

    def hear(self) -> int:
        """Apply the rules to what is new; returns how many alerts wait to be sent."""
        news = list(self.news)
        self.news.clear()
        for each in news:
            self.notice(each)
        return len(self._queue)

    async def settle(self) -> None:
        """Send what is due. Raises nothing."""
        self.hear()
        queue, self._queue, late = self._queue, [], self._due()
        if queue or late:
            sending = [*(self._send(each) for each in queue), *(self._send(each, again=True) for each in late)]
            await asyncio.gather(*sending)
        if self._sent_s:
            await self._note()

    def _due(self) -> list[Alert]:
        """What is to be tried again now."""
        if not self._late or self.clock.monotonic() < self._again_at:
            return []
        late, now_ms = list(self._late), self.clock.now_ms()
        self._late.clear()
        return [each for each in late if now_ms - each.at_ms < _AGAIN_FOR_MS]

    async def _send(self, alert: Alert, *, again: bool = False) -> None:
        if not await self._is_first(alert, again=again):
            return
        if not again:
            self.emit(Alerted(alert.kind.label, alert.about, alert.text))
        if not await self._deliver(rules.belated(alert) if again else alert):
            # An event comes once: its instance tries again. Another one that notices the same may be faster.
            await self._on_redis(Op((("DEL", alert.key),), ignored))
            self._settled.drop(alert.key)
            self._late.append(alert)
            self._again_at = self.clock.monotonic() + _AGAIN_S
            return
        self._sent_s[alert.kind.counter(alert.about)] = alert.at_ms // 1000
        self._listed.append(json.dumps({"kind": alert.kind.label, "about": alert.about, "at": alert.at_ms // 1000}))

    async def _note(self) -> None:
        """Write down when alerts were sent; later, while Redis is out."""
        now_ms = self.clock.now_ms()
        month = month_of(now_ms)
        # Taken first: other requests may send alerts meanwhile.
        sent_s, self._sent_s = self._sent_s, {}
        listed = list(self._listed)
        self._listed.clear()
        found = await self._on_redis(join(set_totals(sent_s, month), gather([SENT.push(each) for each in listed])))
        if found is None:
            self._sent_s = {**sent_s, **self._sent_s}
            self._listed = deque([*listed, *self._listed], maxlen=self._listed.maxlen)
            return
        number, pushed = found
        for each in (expire_new({month: number}, now_ms), *pushed):
            if each is not None and each.commands:
                await self._on_redis(each)

    async def _is_first(self, alert: Alert, *, again: bool) -> bool:
        """Whether it is the first in its period: by Redis, else by Supabase's limits, else as far as we know.

        ``again``: it was when it was tried before, and only Redis can say that another instance has sent it since.
        """
        if self._settled.get(alert.key):
            return False
        self._settled.put(alert.key, value=True)
        lasts_ms = max(1, alert.ends_ms - self.clock.now_ms())
        command = ("SET", alert.key, alert.at_ms, "NX", "PX", lasts_ms)

        def read(replies: Sequence[Reply]) -> bool:
            return as_text(replies[0]) == "OK"

        claimed = await self._on_redis(Op((command,), read))
        if claimed is not None or again or self.supabase is None:
            return claimed is not False
        try:
            once = (window("day" if lasts_ms > DAY_MS // 24 else "hour", 1),)
            quota, _ = await self.supabase.spend(alert.key, "", once, 1, self.clock.now_ms(), None, _TIMEOUT_S)
        except SupabaseDown:
            return True
        return quota.allowed

    async def _on_redis[T](self, op: Op[T]) -> T | None:
        # Where it has just failed a request, an alert must not be the next to wait for it.
        if self.redis is None or self.is_out():
            return None
        try:
            return await self.redis.run(op, "alert", _TIMEOUT_S)
        except RedisDown:
            return None

    async def _deliver(self, alert: Alert) -> bool:
        """Whether any receiver has taken it, if there is one."""
        from . import webhook

        receivers: tuple[tuple[Literal["slack", "webhook"], str | None, Format | None], ...] = (
            ("slack", self.slack, "slack"),
            ("webhook", self.webhook, self.webhook_format),
        )
        taken, failed = 0, 0
        for to, url, form in receivers:
            if url is None:
                continue
            try:
                await webhook.post(self.client(), url, body_of(alert, form or format_of(url)))
            except webhook.WebhookDown as e:
                self.emit(WebhookFailed(to, str(e)))
                failed += 1
            else:
                taken += 1
        return taken > 0 or not failed


def _as_configured(parts: "Parts") -> Alerts:
    settings, limits = parts.settings, parts.guard.limits
    return Alerts(
        parts.ledger.news,
        limits.redis,
        limits.supabase,
        parts.client.get,
        limits.clock,
        limits.emit,
        Overview.of(parts).ledger,
        Thresholds(settings.redis_month_percents, settings.alert_error_percent, settings.redis_slow_ms),
        limits.is_out,
        opened(settings.slack_webhook),
        opened(settings.alert_webhook),
        settings.alert_webhook_format,
    )
