"""Single flight within an instance: who computes which value now. Across instances: lock.py."""

import asyncio
from dataclasses import field

from ..base.values import dataclass
from ..call import Answered, Failed, Refused

type Landed[V] = Answered[V] | Failed | Refused | None
"""The result of a flight; None: it was given up, and one of those who wait has to compute the value."""


@dataclass(eq=False, slots=True)
class Flight[V]:
    """A value that this instance computes, or waits for another instance to compute."""

    generation: str
    """The epochs that it computes under: requests that come after an invalidation do not follow it."""
    result: asyncio.Future[Landed[V]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    followers: int = 0
    _before: str = ""
    _created_at: float = 0.0

    def created(self, generation: str, at: float) -> None:
        """Epochs that were missing are created: it computes under these. ``at`` is monotonic, in seconds."""
        self.generation, self._before, self._created_at = generation, self.generation, at

    def is_for(self, generation: str, began_at: float) -> bool:
        """Whether a request may follow that began then and read these epochs.

        One that began before missing epochs were created may have read that they are missing.
        """
        return generation == self.generation or (generation == self._before and began_at <= self._created_at)

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

    def get(self, key: str, generation: str, began_at: float) -> Flight[V] | None:
        """The flight that a request may follow (:meth:`Flight.is_for`)."""
        flight = self._flying.get(key)
        return flight if flight is not None and flight.is_for(generation, began_at) else None

    def begin(self, key: str, generation: str) -> Flight[V]:
        """A new flight, which other requests find from now on."""
        flight: Flight[V] = Flight(generation)
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
