"""Single flight within an instance: who computes what now. Across instances: single_flight.py."""

import asyncio
from dataclasses import dataclass, field

from ..base.bounded import Bounded
from ..call import Answered, Failed, Refused

type Landed = Answered | Failed | Refused | None
"""What became of an answer; None: nothing was computed, or it was given up."""


@dataclass(eq=False, slots=True)
class Flight:
    """An answer that this instance may be computing, from the moment it is asked for.

    Only the request that opens it leaves a note in Redis: replies may overtake each other, and of two of this instance
    the one that was told to wait could be the one that all others here wait for.
    """

    epochs: asyncio.Future[tuple[int, ...]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    """The epochs that were read for it."""
    result: asyncio.Future[Landed] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass(slots=True)
class Flights:
    """The flights of an instance, by the key of the answer."""

    _flying: dict[str, Flight] = field(default_factory=dict)
    _over: Bounded[str, int] = field(default_factory=lambda: Bounded(1_000))

    def __len__(self) -> int:
        return len(self._flying)

    def get(self, key: str) -> Flight | None:
        """The flight that is to be found now."""
        return self._flying.get(key)

    def begin(self, key: str) -> Flight:
        """A new one, to be found from now on."""
        self._flying[key] = flight = Flight()
        return flight

    def land(self, key: str, flight: Flight, epochs: tuple[int, ...], result: Landed) -> None:
        """Tell those who wait, once. An answer that is being stored stays to be found until it is in Redis."""
        if flight.result.done():
            return
        if not flight.epochs.done():
            flight.epochs.set_result(epochs)
        flight.result.set_result(result)
        if not (isinstance(result, Answered) and result.stored and result.cache != "stale"):
            self.end(key, flight)

    def end(self, key: str, flight: Flight) -> None:
        """To be found no longer."""
        if self._flying.get(key) is flight:
            del self._flying[key]

    def leave_note(self, key: str, value: int) -> None:
        """Remember the note that a request left in Redis, and that the request is over."""
        self._over.put(key, value)

    def is_over(self, key: str, value: int) -> bool:
        """Whether that note is one of this instance, of a request that is over."""
        return self._over.get(key) == value
