"""Single flight within an instance: who computes which value now. Across instances: lock.py."""

import asyncio
from dataclasses import field

from ..base.values import dataclass
from ..call import Answered, Failed, Refused

type Epochs = tuple[str | None, ...]
"""The words of a value's epochs, as they were read; None for one that is missing."""

type Landed[V] = Answered[V] | Failed | Refused | None
"""The result of a flight; None: it was given up, and one of those who wait has to compute the value."""


@dataclass(eq=False, slots=True)
class Flight[V]:
    """A value that this instance computes, or waits for another instance to compute."""

    epochs: Epochs
    """What it computes under: requests that come after an invalidation do not follow it."""
    result: asyncio.Future[Landed[V]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    followers: int = 0
    _before: Epochs = ()
    _created_at: float | None = None

    def created(self, epochs: Epochs, at: float) -> None:
        """Epochs that were missing are created, as far as Redis says: it computes under these from ``at`` on.

        ``at`` is monotonic, in seconds.
        """
        self.epochs, self._before, self._created_at = epochs, self.epochs, at

    def is_for(self, epochs: Epochs, began_at: float) -> bool:
        """Whether a request may follow that began then and read these epochs.

        Epochs are created one after the other, so that a request may read some of them between two. As long as they
        are not created, nothing is computed: whatever it read of them, it comes in time. One that began before they
        were may have read of each that it is missing.
        """
        if len(epochs) != len(self.epochs):
            # The same key with other tags.
            return False
        if self._created_at is None:
            return all(mine in (None, theirs) for mine, theirs in zip(self.epochs, epochs, strict=True))
        if epochs == self.epochs:
            return True
        three = zip(self._before, self.epochs, epochs, strict=True)
        return began_at <= self._created_at and all(theirs in (before, mine) for before, mine, theirs in three)

    def is_followed(self) -> bool:
        """Whether another request waits for it."""
        return self.followers > 0

    async def follow(self, timeout_s: float) -> Landed[V]:
        """Wait for the result. Raises TimeoutError."""
        self.followers += 1
        try:
            async with asyncio.timeout(timeout_s):
                # Shielded: one follower that leaves must not end it for the others.
                return await asyncio.shield(self.result)
        finally:
            self.followers -= 1


@dataclass(slots=True)
class Flights[V]:
    """The flights of an instance, by cache key."""

    _flying: dict[str, Flight[V]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._flying)

    def get(self, key: str, epochs: Epochs, began_at: float) -> Flight[V] | None:
        """The flight that a request may follow (:meth:`Flight.is_for`)."""
        flight = self._flying.get(key)
        return flight if flight is not None and flight.is_for(epochs, began_at) else None

    def begin(self, key: str, epochs: Epochs) -> Flight[V]:
        """A new flight, which other requests find from now on."""
        flight: Flight[V] = Flight(epochs)
        self._flying[key] = flight
        return flight

    def land(self, key: str, flight: Flight[V], result: Landed[V]) -> None:
        """Give the result to those who wait, once. A value that is being stored is found until it is in Redis."""
        if flight.result.done():
            return
        flight.result.set_result(result)
        if not (isinstance(result, Answered) and result.stored and result.cache != "stale"):
            self.end(key, flight)

    def end(self, key: str, flight: Flight[V]) -> None:
        """Remove the flight."""
        if self._flying.get(key) is flight:
            del self._flying[key]
