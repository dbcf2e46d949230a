"""The providers that the settings name, in their order: each with its budget, its circuit's rules and its check."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from ..base.env import opened
from ..base.values import dataclass
from ..breaker.circuit import BreakerPolicy
from ..limits.admission import Subject
from ..redis import keys
from .budgets import Budget
from .providers import dialects
from .providers.lazy import LazyProvider
from .providers.port import Provider

if TYPE_CHECKING:
    from ..parts import Parts

type Visit = Callable[[], Awaitable[int]]
"""Calls a health address; the status of its reply. Raises what the client raises."""


@dataclass(frozen=True, slots=True)
class Link:
    """One provider of the chain."""

    provider: Provider
    budget: Budget
    breaker: BreakerPolicy
    visit: Visit | None = None
    """Calls its health address, where it has one."""
    query: str = "ping"
    """What it is asked as a check, where it has none."""
    cannot: frozenset[str] = frozenset()
    """What it cannot do (``needs.py``)."""

    @property
    def name(self) -> str:
        """The provider's name."""
        return self.provider.name

    @property
    def subject(self) -> Subject:
        """What its calls are counted under."""
        layout = self.budget.layout
        return Subject(keys.budget(self.name, layout.tag), layout, self.name)


def links(parts: "Parts") -> tuple[Link, ...]:
    """One for each provider of the settings."""
    return tuple(
        Link(
            LazyProvider(each, parts.client.get),
            Budget(each.limits, each.month_s, each.vcpus),
            parts.settings.breaker,
            _visit(parts, each.health_url, opened(each.key)),
            parts.settings.check_query,
            dialects.CLOUD_RUN.cannot if each.name == "cloud-run" else dialects.of(each.dialect, each.url).cannot,
        )
        for each in parts.settings.providers
    )


def _visit(parts: "Parts", url: str | None, key: str | None) -> Visit | None:
    """What calls a provider's health address, where it has one, with its key; it reads no more than the status."""
    if url is None:
        return None
    headers = {"authorization": f"Bearer {key}"} if key else {}

    async def call() -> int:
        async with parts.client.get().stream("GET", url, headers=headers, timeout=None) as response:
            return response.status_code

    return call
