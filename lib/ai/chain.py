"""The AI providers, in order, each with a circuit and a budget of its own: one source for the guard.

Circuits are shared by all instances (``breaker/shared.py``). Budgets are counted like callers' limits, and only for
calls that are really made. What one request does with the chain is in ``tries.py``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from functools import partial
from typing import TYPE_CHECKING

from ..afterwards import Afterwards
from ..base.bounded import Bounded
from ..base.calendar import month_ends_ms, month_of
from ..base.clock import Clock
from ..base.events import Listener
from ..base.values import dataclass
from ..breaker.breaker import Breaker
from ..breaker.shared import Reading, SharedCircuits
from ..decide import Standing
from ..limits.admission import Subject
from ..limits.judge import Quota
from ..limits.limiter import Limits
from ..limits.window import Layout
from ..lookup import Lookup, Texts, both
from ..redis import keys
from . import budgets
from .budgets import Refusals
from .links import Link, Visit, links
from .prices import Prices
from .question import AnyQuestion

if TYPE_CHECKING:
    from ..breaker.checks import Result
    from ..parts import Parts
    from .failures import Failures


_LEARNED_MS = 600_000


def _field(link: Link, question: AnyQuestion, caller: str, name: str) -> tuple[str, ...]:
    return link.name, question.models.get(link.name, ""), caller, name


@dataclass(frozen=True, slots=True)
class View:
    """The providers' shared state as one request read it, by place."""

    circuits: Sequence[Reading]
    used: Sequence[str | None]
    """vCPU-milliseconds of the month, as Redis holds them."""
    shapes: str | None
    """What ``keys.SHAPES`` holds, where a provider has a budget."""
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
    safety_failover: bool = False
    """Whether another provider is asked where one withheld an answer for its content."""
    prices: Prices = Prices()
    """What tokens cost."""
    breakers: tuple[Breaker, ...] = field(init=False)
    """Each provider's circuit, by place."""
    _failures: "Failures | None" = None
    _refusals: dict[str, Refusals] = field(default_factory=dict)
    """What is known of budgets that refuse."""
    _shapes: tuple[str, ...] = field(init=False)
    _unwritten_ms: dict[str, float] = field(default_factory=dict)
    """vCPU-milliseconds that are not yet in Redis; an instance that is killed loses them."""
    _alone: "dict[str, Chain]" = field(default_factory=dict)
    """Chains of one provider, by its name, as far as they were asked for."""
    _refused: Bounded[tuple[str, ...], int] = field(default_factory=lambda: Bounded(1_000))
    """Until when a provider is not sent a caller's field: it has said to this caller that it does not have it."""

    @classmethod
    def of(cls, parts: "Parts") -> "Chain":
        """The providers that the settings name."""
        return parts.keep(cls, _as_configured)

    def __post_init__(self) -> None:
        self._shapes = (keys.SHAPES,) if any(link.budget.layout.windows for link in self.links) else ()
        self.limits.news.forgets.append(self._forget_where)
        self.breakers = tuple(self._breaker(link) for link in self.links)

    def only(self, name: str) -> "Chain | None":
        """This provider alone, with all that is known of its circuit and budget; None where there is no such one."""
        for link, breaker in zip(self.links, self.breakers, strict=True):
            if link.name == name and name not in self._alone:
                found = Chain(
                    (link,), self.circuits, self.limits, self.clock, self.emit, self.safety_failover, self.prices
                )
                found.breakers, found._refused = (breaker,), self._refused
                found._refusals, found._unwritten_ms = self._refusals, self._unwritten_ms
                self._alone[name] = found
        return self._alone.get(name)

    def _breaker(self, link: Link) -> Breaker:
        made, visit = Breaker(self.circuits, link.breaker), link.visit
        allowance = budgets.check_allowance(link.budget.layout)

        def unavailable(until_ms: int) -> None:
            made.unchecked_until_ms = until_ms

        # What checks is imported when there is something to check.
        async def visiting(timeout_s: float, visit: Visit) -> "Result":
            from .checks import Visiting

            return await Visiting(link.name, visit, self.limits)(timeout_s)

        async def asking(timeout_s: float, share: Layout) -> "Result":
            from .checks import Checking

            layout = link.budget.layout
            checking = Checking(link.provider, layout, link.breaker, self.limits, link.query, share, unavailable)
            return await checking(timeout_s)

        if visit is not None:
            made.check = partial(visiting, visit=visit)
        elif allowance is not None:
            made.check = partial(asking, share=allowance)
        return made

    @property
    def failures(self) -> "Failures":
        """How requests failed a moment ago, for routes whose clients repeat them at once."""
        if self._failures is None:
            from .failures import Failures

            self._failures = Failures()
        return self._failures

    def lookup(self, now_ms: int) -> Lookup[View]:
        """The shared state: a circuit and a month's use for each provider."""
        month, count = month_of(now_ms), len(self.links)
        months = tuple(keys.month(link.name, month) for link in self.links)
        names = months + self._shapes
        rest: Lookup[Texts] = Lookup(names, lambda texts: texts, lambda: (None,) * len(names))
        found = both(self.circuits.lookup([link.name for link in self.links], now_ms), rest)

        def view(read: tuple[Sequence[Reading], Texts], *, shared: bool) -> View:
            circuits, texts = read
            return View(circuits, texts[:count], texts[count] if self._shapes else None, shared, now_ms)

        return Lookup(
            found.keys,
            lambda texts: view(found.read(texts), shared=True),
            lambda: view(found.unread(), shared=False),
        )

    def subject(self, place: int, view: View) -> Subject:
        """Whom a provider's calls are counted for, and what its budget was counted in before."""
        subject = self.links[place].subject
        if not (view.shared and self._shapes):
            return subject
        # Not loaded by a hit from the cache.
        from ..limits.shapes import Shapes

        return replace(subject, shapes=Shapes(view.shapes))

    def look(self, view: View, after: Afterwards) -> None:
        """Begin the checks that are due."""
        for place, each in enumerate(self.breakers):
            each.look(view.circuits[place], after)

    def standings(
        self, view: View, now_ms: int, caller: str, tokens: int, unable: Sequence[str | None], first: Mapping[str, str]
    ) -> list[Standing]:
        """Which providers may be called, by this caller and for so many tokens.

        ``unable``: which cannot do what is asked, by place; ``first``: those to be called first, by name.
        """
        found = []
        for place, link in enumerate(self.links):
            until_ms = budgets.refused_until_ms(self._refusals.get(link.name, ()), tokens, now_ms)
            if budgets.used_up(link.budget, view.used[place]):
                until_ms = max(until_ms, month_ends_ms(now_ms))
            circuit = view.circuits[place].circuit
            own_ms = self.breakers[place].rests_until_ms(circuit, caller, now_ms)
            able = not unable or unable[place] is None
            found.append(Standing(circuit, until_ms, own_ms, able, 0 if link.name in first else 1))
        return found

    def unable(self, question: AnyQuestion, caller: str) -> tuple[str | None, ...]:
        """For each provider the field that asks for what it cannot do; None where it can, or where that is unknown.

        Empty for a question that every provider can answer.
        """
        if not (needs := question.needs):
            return ()
        now_ms = self.clock.now_ms()
        return tuple(
            next((asks for need, asks in needs.items() if self._cannot(link, question, caller, need, now_ms)), None)
            for link in self.links
        )

    def _cannot(self, link: Link, question: AnyQuestion, caller: str, need: str, now_ms: int) -> bool:
        return need in link.cannot or (self._refused.get(_field(link, question, caller, need)) or 0) > now_ms

    def learn(self, link: Link, question: AnyQuestion, caller: str, name: str) -> None:
        """A provider has refused a field as one that it does not have: for a while this caller's is not sent there.

        Only this caller's: whoever could make a provider say so would take the field from everybody.
        """
        self._refused.put(_field(link, question, caller, name), self.clock.now_ms() + _LEARNED_MS)

    def forget(self, link: Link) -> None:
        """Know nothing of what a provider's budget has counted: it was reset by hand."""
        self._refusals.pop(link.name, None)
        self.limits.forget(link.subject.id)

    def _forget_where(self, concerned: Callable[[str], bool]) -> None:
        for link in self.links:
            if concerned(link.subject.id):
                self._refusals.pop(link.name, None)

    def spent(self, link: Link, quota: Quota, tokens: int, now_ms: int) -> None:
        """A provider's budget has refused a call of so many tokens."""
        self._refusals[link.name] = budgets.refused(self._refusals.get(link.name, ()), quota, tokens, now_ms)

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


def _as_configured(parts: "Parts") -> Chain:
    settings, limits = parts.settings, parts.guard.limits
    failover, prices = settings.ai_safety_failover, settings.ai_prices
    return Chain(links(parts), parts.circuits, limits, limits.clock, limits.emit, failover, prices)
