"""Reads the whole ledger and the circuits, and reuses a reading for a while.

2 commands at most, and 2 for each provider with a budget of tokens a day: the ledger counts calls by hour, not tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Literal

from ..ai.chain import Chain
from ..ai.links import Link
from ..base.calendar import month_of
from ..base.clock import Clock
from ..base.events import Mode
from ..base.values import dataclass
from ..breaker.circuit import Circuit
from ..ledger import allowances, places
from ..ledger import reading as readings
from ..ledger.allowances import Allowance
from ..ledger.ledger import Ledger
from ..ledger.places import Name
from ..ledger.reading import Reading
from ..ledger.table import TOTALS
from ..limits import bitfield
from ..limits.limiter import Limits
from ..limits.window import DAY_MS, Usage
from ..lookup import Lookup, both
from ..redis import keys
from ..redis.errors import RedisDown
from ..redis.op import gather, join
from ..redis.thrift import Thrift
from .activity import Activity
from .history import History

if TYPE_CHECKING:
    from ..parts import Parts

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
    flush_commands: int
    """After how many commands an instance adds its counts to the ledger, at the present thrift step."""
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
    activity: Activity
    history: History
    fresh_s: int | None = None
    """How long a reading is reused, instead of the thrift step's own time."""
    _last: tuple[int, int, Reading] | None = None
    """When Redis was read, after how many flushes, and the reading."""
    _down: bool = False
    """Whether it gave no reply when it was asked last."""
    _used: Mapping[str, str | None] = field(default_factory=dict)
    _counted: Mapping[str, Usage] = field(default_factory=dict)
    """What the budgets of tokens held when Redis was read."""

    @classmethod
    def of(cls, parts: "Parts") -> "Overview":
        """The instance's."""
        return parts.keep(cls, _as_configured)

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
        found = self._ledger(reading, self._counted)
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
            self.counts.flush_commands * self.thrift.step(now_ms).flush,
            [(each, self.chain.prices.has(each)) for each, _ in circuits if each in places.PROVIDERS],
        )

    def ledger(self, reading: Reading) -> list[Allowance]:
        """What every free tier has left, as far as it is known without asking: for the rules of alerts."""
        seen = [(link.name, self.limits.seen(link.subject)) for link in self.chain.links]
        return self._ledger(reading, {**self._counted, **{name: usage for name, usage in seen if usage is not None}})

    def _ledger(self, reading: Reading, counted: Mapping[str, Usage]) -> list[Allowance]:
        providers = [(link.name, link.budget) for link in self.chain.links]
        supabase_mb = self.supabase_mb if self.limits.supabase else None
        # What was used of a month says nothing of the next one.
        used = self._used if self._last is not None and self._last[2].month == reading.month else {}
        return allowances.ledger(reading, self.thrift.plan, providers, used, counted, supabase_mb)

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
        flush = self.counts.take(1, reads=True) or readings.read(now_ms)
        limited = [link for link in self.chain.links if _has_tokens_a_day(link)]
        counted = gather([bitfield.peek(link.subject.id, link.budget.layout, now_ms) for link in limited])
        wanted = join(join(flush, both(step, self.chain.lookup(now_ms)).op()), counted)
        try:
            (reading, (thrift, view)), tallies = await redis.run(wanted, "read", _READ_S)
        except RedisDown:
            self._down = True
            return
        if reading is None:
            self._down = True
            return
        self._down = False
        self.thrift.seen(thrift, now_ms)
        self._used = {link.name: used for link, used in zip(self.chain.links, view.used, strict=True)}
        self._counted = {link.name: tally.usage for link, tally in zip(limited, tallies, strict=True)}
        self._last = (now_ms, self.counts.flushes, reading)


def _has_tokens_a_day(link: Link) -> bool:
    return any(each.unit == "tokens" and each.length_ms == DAY_MS for each in link.budget.layout.windows)


def named(reading: Reading, name: str) -> list[tuple[Name, int]]:
    """All totals of one name, each with the values of its labels."""
    return [(each[1:], reading.total(*each)) for each in TOTALS if each[0] == name]


def _as_configured(parts: "Parts") -> Overview:
    settings, limits, ledger = parts.settings, parts.guard.limits, parts.ledger
    thrift, clock = ledger.thrift, limits.clock
    activity = Activity(limits.redis, ledger.recent, thrift, clock)
    history = History(limits.redis, thrift, clock, settings.chain)
    return Overview(Chain.of(parts), limits, ledger, thrift, clock, settings.supabase_mb, activity, history)
