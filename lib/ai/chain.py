"""The AI providers, in order, each with a circuit and a budget of its own: one source for the guard.

Circuits are shared by all instances (``breaker/shared.py``). Budgets are counted like callers' limits, and only for
calls that are really made. What one request does with the chain is in ``tries.py``.
"""

from collections.abc import Sequence
from dataclasses import field

from ..afterwards import Afterwards
from ..base.calendar import month_ends_ms, month_of
from ..base.clock import Clock
from ..base.events import Listener
from ..base.values import dataclass
from ..breaker.circuit import BreakerPolicy
from ..breaker.shared import Reading, SharedCircuits
from ..decide import Standing
from ..limits.admission import Subject
from ..limits.limiter import Limits
from ..lookup import Lookup, Texts, both
from ..redis import keys
from . import budgets
from .budgets import Budget
from .providers.port import Provider


@dataclass(frozen=True, slots=True)
class Link:
    """One provider of the chain."""

    provider: Provider
    budget: Budget
    breaker: BreakerPolicy

    @property
    def name(self) -> str:
        """The provider's name."""
        return self.provider.name

    @property
    def subject(self) -> Subject:
        """What its calls are counted under."""
        return Subject(keys.budget(self.name), self.budget.layout)


@dataclass(frozen=True, slots=True)
class View:
    """The providers' shared state as one request read it, by place."""

    circuits: Sequence[Reading]
    used: Sequence[str | None]
    """vCPU-milliseconds of the month, as Redis holds them."""
    shared: bool
    """Whether Redis answered."""
    read_ms: int


@dataclass(slots=True)
class Chain:
    """All providers, as this instance knows them."""

    links: tuple[Link, ...]
    circuits: SharedCircuits
    limits: Limits
    clock: Clock
    emit: Listener
    _spent_until: dict[str, int] = field(default_factory=dict)
    """Until when a provider's budget is known to be spent."""
    _unwritten_ms: dict[str, float] = field(default_factory=dict)
    """vCPU-milliseconds that are not yet in Redis; an instance that is killed loses them."""

    def lookup(self, now_ms: int) -> Lookup[View]:
        """The shared state: a circuit and a month's use for each provider."""
        month, count = month_of(now_ms), len(self.links)
        months = tuple(keys.month(link.name, month) for link in self.links)
        used: Lookup[Texts] = Lookup(months, lambda texts: texts, lambda: (None,) * count)
        found = both(self.circuits.lookup([link.name for link in self.links], now_ms), used)
        return Lookup(
            found.keys,
            lambda texts: View(*found.read(texts), shared=True, read_ms=now_ms),
            lambda: View(*found.unread(), shared=False, read_ms=now_ms),
        )

    def standings(self, view: View, now_ms: int) -> list[Standing]:
        """Which providers may be called."""
        found = []
        for place, link in enumerate(self.links):
            until_ms = self._spent_until.get(link.name, 0)
            if budgets.used_up(link.budget, view.used[place]):
                until_ms = max(until_ms, month_ends_ms(now_ms))
            found.append(Standing(view.circuits[place].circuit, until_ms))
        return found

    def spent(self, link: Link, until_ms: int) -> None:
        """A provider's budget refuses calls until then."""
        self._spent_until[link.name] = until_ms

    def used(self, link: Link, view: View, place: int, took_ms: float, after: Afterwards) -> None:
        """A call has occupied a provider for ``took_ms``; this is written to Redis in portions."""
        if not link.budget.month_s or not view.shared:
            return
        unwritten_ms = self._unwritten_ms.get(link.name, 0.0) + took_ms * link.budget.vcpus
        if unwritten_ms >= link.budget.write_ms:
            # Counted for the month that was looked at: only of that one it is known whether it has a TTL.
            first = view.used[place] is None
            after.add(budgets.use(link.name, max(1, round(unwritten_ms)), month_of(view.read_ms), first=first))
            unwritten_ms = 0.0
        self._unwritten_ms[link.name] = unwritten_ms
