"""Tells a person, once for all instances. Runs after responses and in the daily job; nothing here reaches a request."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..base.bounded import Bounded
from ..base.calendar import month_of
from ..base.clock import Clock
from ..base.events import Alerted, CircuitChanged, Event, Listener, ModeSwitched, RedisSlow, WebhookFailed
from ..ledger import counters
from ..ledger.allowances import Allowance
from ..ledger.counters import Name, Reading, known
from ..limits.supabase import SupabaseDown
from ..limits.supabase_store import SupabaseStore
from ..limits.window import DAY_MS, window
from ..redis.errors import RedisDown
from ..redis.op import Op, Reply, as_text, ignored
from ..redis.store import RedisStore
from . import alert_rules as alerts
from .alert_rules import Alert

if TYPE_CHECKING:
    import httpx

_TIMEOUT_S = 2.0


@dataclass(slots=True)
class Alerts:
    """Gathers what may be worth telling, and tells what nobody has told yet in its period."""

    redis: RedisStore | None
    supabase: SupabaseStore | None
    client: "Callable[[], httpx.AsyncClient]"
    clock: Clock
    emit: Listener
    ledger: Callable[[Reading], list[Allowance]]
    percents: Sequence[int]
    error_percent: float
    slow_ms: float
    is_out: Callable[[], bool]
    """Whether Redis gave this instance's last request no reply."""
    slack: str | None = None
    webhook: str | None = None
    _slow_at_ms: deque[int] = field(default_factory=lambda: deque(maxlen=alerts.SLOW_REPLIES))
    _queue: list[Alert] = field(default_factory=list)
    _notes: dict[Name, int] = field(default_factory=dict)
    """When what was told, as far as it is not in Redis."""
    _settled: Bounded[str, bool] = field(default_factory=lambda: Bounded(200))
    """Alerts that this instance knows to have been sent in their period, by it or by another."""

    def notice(self, what: Reading | Event) -> None:
        """Look at a fresh reading or an event."""
        now_ms = self.clock.now_ms()
        match what:
            case Reading():
                found: list[Alert | None] = [
                    *alerts.of_reading(what, self.ledger(what), self.percents, self.error_percent)
                ]
            case CircuitChanged(provider, _, after, reason):
                found = [alerts.circuit(known(provider, counters.PROVIDERS), after, reason, now_ms)]
            case ModeSwitched(after=after, reason=reason):
                found = [alerts.mode(after, reason, now_ms)]
            case RedisSlow(ms):
                self._slow_at_ms.append(now_ms)
                found = [alerts.slow(self._slow_at_ms, ms, self.slow_ms, now_ms)]
            case _:
                found = []
        queued = {each.key for each in self._queue}
        self._queue += [each for each in found if each and each.key not in queued and not self._settled.get(each.key)]

    @property
    def waiting(self) -> int:
        """How many alerts wait to be sent."""
        return len(self._queue)

    async def settle(self) -> None:
        """Send what waits. Raises nothing."""
        if self._queue:
            queue, self._queue = self._queue, []
            await asyncio.gather(*(self._tell(each) for each in queue))
        if self._notes:
            await self._note()

    async def _tell(self, alert: Alert) -> None:
        if not await self._is_first(alert):
            return
        self.emit(Alerted(alert.kind, alert.about, alert.text))
        if not await self._deliver(alert):
            # So that whoever notices it next tries again.
            await self._on_redis(Op((("DEL", alert.key),), ignored))
            self._settled.drop(alert.key)
            return
        self._notes["alert_s", alert.kind, alert.about] = alert.at_ms // 1000

    async def _note(self) -> None:
        """Write down when what was told; later, while Redis is out."""
        now_ms = self.clock.now_ms()
        touch = await self._on_redis(counters.note(self._notes, now_ms))
        if touch is None:
            return
        self._notes = {}
        ttls = counters.ttls({month_of(now_ms): touch}, now_ms)
        if ttls.commands:
            await self._on_redis(ttls)

    async def _is_first(self, alert: Alert) -> bool:
        """Whether nobody has sent it in its period: by Redis, else by Supabase's limits, else as far as we know."""
        if self._settled.get(alert.key):
            return False
        self._settled.put(alert.key, value=True)
        lasts_ms = max(1, alert.ends_ms - self.clock.now_ms())
        command = ("SET", alert.key, alert.at_ms, "NX", "PX", lasts_ms)

        def read(replies: Sequence[Reply]) -> bool:
            return as_text(replies[0]) == "OK"

        claimed = await self._on_redis(Op((command,), read))
        if claimed is not None or self.supabase is None:
            return claimed is not False
        try:
            once = (window("day" if lasts_ms > DAY_MS // 24 else "hour", 1),)
            quota, _ = await self.supabase.spend(alert.key, once, 1, self.clock.now_ms(), None, None, _TIMEOUT_S)
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
        """Whether anybody has taken it, if there is anybody."""
        from . import webhook

        bodies = (
            ("slack", self.slack, {"text": f"{_SIGNS[alert.severity]} Breakwater: {alert.text}"}),
            ("webhook", self.webhook, _body(alert)),
        )
        taken, failed = 0, 0
        for to, url, body in bodies:
            if url is None:
                continue
            try:
                await webhook.post(self.client(), url, body)
            except webhook.WebhookDown as e:
                self.emit(WebhookFailed("slack" if to == "slack" else "webhook", str(e)))
                failed += 1
            else:
                taken += 1
        return taken > 0 or not failed


_SIGNS = {"info": ":white_check_mark:", "warning": ":warning:", "critical": ":rotating_light:"}


def _body(alert: Alert) -> dict[str, object]:
    return {
        "source": "breakwater",
        "kind": alert.kind,
        "about": alert.about,
        "severity": alert.severity,
        "text": alert.text,
        "at": alert.at_ms // 1000,
        "period": alert.period,
    }
