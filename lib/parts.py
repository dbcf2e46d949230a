"""What an instance has, and every handler gets: its settings, the guard, and what capabilities keep between requests.

What belongs to one capability is made by it, with the first request that needs it: ``Fleet.of(parts)``. So this file
names none of them, and a capability is added and deleted in its own folder.
"""

from collections.abc import Awaitable, Callable
from dataclasses import field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import httpcore

from .base.bounded import Bounded
from .base.clock import Clock
from .base.events import Listener
from .base.values import dataclass
from .breaker.shared import SharedCircuits
from .guard import Guard
from .ledger.ledger import Ledger

if TYPE_CHECKING:
    import httpx

    from .breaker.breaker import Breaker
    from .settings import Settings


@runtime_checkable
class Closing(Protocol):
    """What has connections to close."""

    async def aclose(self) -> None:
        """Close them."""


@dataclass(slots=True, eq=False)
class Late[T]:
    """Something that is imported and made when it is first needed, which for most requests is never."""

    make: Callable[[], T]
    made: T | None = None

    def get(self) -> T:
        """The thing itself."""
        if self.made is None:
            self.made = self.make()
        return self.made


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """All that a handler needs. One for each event loop of an instance."""

    settings: "Settings"
    guard: Guard
    circuits: SharedCircuits
    breakers: "Bounded[str, Breaker]"
    """Circuits around other people's code, by name."""
    clock: Clock
    emit: Listener
    client: "Late[httpx.AsyncClient]"
    """For all that we call, except Redis."""
    pool: httpcore.AsyncConnectionPool
    ledger: Ledger
    alerts: "Late[Callable[[Parts], Awaitable[None]]]"
    """What sends the alerts that are due, loaded with the first thing that may be one. It raises nothing."""
    kept: dict[type, Any] = field(default_factory=dict)
    """What capabilities keep, by its class. Read by :meth:`keep`."""

    def keep[T](self, kind: type[T], make: "Callable[[Parts], T]") -> T:
        """What this instance keeps of a class, made when it is first asked for. A class says so in its ``of``."""
        found: T | None = self.kept.get(kind)
        if found is None:
            found = self.kept[kind] = make(self)
        return found

    async def settle(self) -> None:
        """After a reply, what belongs to no request: counts to flush, alerts to send."""
        await self.ledger.settle()
        if self.ledger.news or self.alerts.made is not None:
            await self.alerts.get()(self)

    async def aclose(self) -> None:
        """Close all connections."""
        if self.client.made is not None:
            await self.client.made.aclose()
        for each in self.kept.values():
            if isinstance(each, Closing):
                await each.aclose()
        redis = self.guard.limits.redis
        if redis is not None:
            await redis.redis.aclose()
        await self.pool.aclose()
