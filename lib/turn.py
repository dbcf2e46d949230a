"""One request's way through the guard.

    state      means                                may become                         left afterwards
    admitted   counted and looked up                refused serving following leading  -
    refused    the guard said no                    -                                  the refund, free the lock
    serving    a stored value goes out              -                                  perhaps a refresh: another Turn
    following  waits for another request's value    following leading                  -
    leading    computes: a flight, perhaps a lock   streaming answered failed refused  land the flight, free the lock
    streaming  its pieces go out                    answered failed                    close, land, free the lock
    answered   the value was computed               -                                  the entry, or free the lock
    failed     it was not                           -                                  free the lock

A turn that is left in ``leading`` or ``streaming`` at the end was abandoned: the client left, or there is a bug. A
transition that the table lacks raises.
"""

from collections.abc import Callable, Mapping
from typing import Literal

from .afterwards import Afterwards
from .base.clock import Clock
from .base.events import Spent
from .base.values import dataclass
from .cache.entry import Cached
from .cache.flights import Flight
from .cache.lease import Lease
from .call import Call
from .decide import Deny
from .feed import Feed
from .limits.admission import Admission
from .source import Seen

type State = Literal["admitted", "refused", "serving", "following", "leading", "streaming", "answered", "failed"]

NEXT: Mapping[State, frozenset[State]] = {
    "admitted": frozenset({"refused", "serving", "following", "leading"}),
    "refused": frozenset(),
    "serving": frozenset(),
    "following": frozenset({"following", "leading"}),
    "leading": frozenset({"streaming", "answered", "failed", "refused"}),
    "streaming": frozenset({"answered", "failed"}),
    "answered": frozenset(),
    "failed": frozenset(),
}


@dataclass(slots=True)
class Stopwatch:
    """Milliseconds by what they were spent on."""

    clock: Clock
    started: float
    redis: float = 0.0
    fallback: float = 0.0
    backend: float = 0.0

    def since(self, started: float) -> float:
        """Milliseconds since a moment on the monotonic clock."""
        return (self.clock.monotonic() - started) * 1000

    def read(self) -> Spent:
        """All of it; what is left is the guard's own."""
        others = self.redis + self.fallback + self.backend
        return Spent(max(0.0, self.since(self.started) - others), self.redis, self.fallback, self.backend)


@dataclass(frozen=True, slots=True, eq=False)
class Lead[P, V]:
    """What a request holds while it computes."""

    cached: Cached[V]
    """What Redis held when it began: the epochs under which the value is computed."""
    flight: Flight[V] | None
    """Requests of this instance that want the same value wait for it; None for a request that wants its own value."""
    lease: Lease | None
    """The lock, so that other instances wait; None where there is none to be had."""

    @property
    def owner(self) -> str:
        """Who stores the value, as the entry says."""
        return self.lease.owner if self.lease is not None else ""

    @property
    def is_contested(self) -> bool:
        """Whether it took the lock over from work that may go on, and may overwrite the entry that ends the lock."""
        return self.cached.lock is not None and self.cached.lock != self.cached.stored_by

    def wanted(self) -> bool:
        """Whether another request waits for the value."""
        return self.flight is not None and self.flight.is_followed()


@dataclass(slots=True, eq=False)
class Turn[P, V]:
    """One request: what was read for it, and its state."""

    call: Call
    admission: Admission
    cached: Cached[V]
    seen: Seen[P, V]
    veto: Deny | None
    now_ms: int
    after: Afterwards
    watch: Stopwatch
    drops: int = 0
    """How often this instance had invalidated something before it looked."""
    held: bool = False
    """What was read was in this instance's memory."""
    state: State = "admitted"
    """Changed by :meth:`to` only."""
    lead: Lead[P, V] | None = None
    """Set by :meth:`begin` only."""
    feed: Feed[P, V] | None = None
    """The source that has begun to answer. Set by :meth:`open` only."""
    store: Callable[[], None] | None = None
    """Adds the value to what is sent to Redis, when the reply is out. Set by :meth:`keep` only."""

    def to(self, state: State) -> None:
        """Go on to another state. Raises AssertionError where the table has no such way."""
        if state not in NEXT[self.state]:
            raise AssertionError(f"a turn does not go from {self.state} to {state}")
        self.state = state

    def begin(self, lead: Lead[P, V]) -> None:
        """Compute the value from now on."""
        self.to("leading")
        self.lead = lead

    def open(self, feed: Feed[P, V]) -> None:
        """The source has begun to answer."""
        self.feed = feed

    def keep(self, store: Callable[[], None]) -> None:
        """The value is whole and may be kept."""
        self.store = store
