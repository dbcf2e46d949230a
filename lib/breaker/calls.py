"""What one instance remembers of the calls to one source; it may be lost without harm.

:class:`Calls` knows what is under way, and when the last success began. :class:`OwnCircuits` know whose calls keep
failing: such a caller is passed over at this source, whatever the shared circuit says, which stays closed for others.
"""

from dataclasses import field

from ..base.bounded import Bounded
from ..base.values import dataclass
from .circuit import Circuit, Failure, Ticket, is_aside

STALLED, STALLED_MS = 3, 15_000
"""So many calls that have been waiting for so long are a reason to check."""


@dataclass(slots=True, eq=False)
class Calls:
    """The calls of one instance to one source."""

    ok_began_ms: int = 0
    """The latest start of a call that succeeded."""
    _under_way: dict[int, Ticket] = field(default_factory=dict)
    _last: int = 0

    def begin(self, ticket: Ticket) -> int:
        """A call begins; its number."""
        self._last += 1
        self._under_way[self._last] = ticket
        return self._last

    def end(self, number: int, *, succeeded: bool = False) -> None:
        """It has ended, one way or another."""
        ticket = self._under_way.pop(number, None)
        if ticket is not None and succeeded:
            self.ok_began_ms = max(self.ok_began_ms, ticket.began_ms)

    def stalled(self, circuit: Circuit, now_ms: int) -> tuple[int, ...]:
        """The tags of the callers whose calls hang, if there are enough of them."""
        known_ms = max(self.ok_began_ms, circuit.ok_ms)
        waiting = [
            each
            for each in self._under_way.values()
            if known_ms < each.began_ms <= now_ms - STALLED_MS and not is_aside(circuit, each.tag, now_ms)
        ]
        return tuple({each.tag or 0: None for each in waiting}) if len(waiting) >= STALLED else ()

    def knows_success(self, circuit: Circuit, now_ms: int, within_ms: int) -> bool:
        """Whether a call that began lately is known to have succeeded."""
        return now_ms - max(self.ok_began_ms, circuit.ok_ms) <= within_ms


_LONGEST_MS = 600_000


@dataclass(frozen=True, slots=True)
class Own:
    """One caller at one source."""

    failures: int = 0
    """In a row."""
    until_ms: int = 0
    rest_ms: int = 0
    """How long the last rest was; the next one is twice as long."""
    failed_ms: int = 0


@dataclass(slots=True, eq=False)
class OwnCircuits:
    """The callers' own circuits, 1,000 at most; whichever is forgotten costs its caller nothing."""

    threshold: int
    rest_ms: int = 60_000
    _known: Bounded[str, Own] = field(default_factory=lambda: Bounded(1_000))
    _forgotten_ms: int = -1

    def until_ms(self, caller: str) -> int:
        """Until when the caller is passed over."""
        own = self._get(caller)
        return own.until_ms if own else 0

    def fail(self, caller: str, failure: Failure, now_ms: int) -> None:
        """A call of the caller's failed."""
        if not caller:
            return
        own = self._get(caller) or Own()
        failures, until_ms, rest_ms = own.failures + 1, own.until_ms, own.rest_ms
        if (failures >= self.threshold or failure == "throttled") and until_ms <= now_ms:
            rest_ms = min(2 * rest_ms or self.rest_ms, _LONGEST_MS)
            until_ms = now_ms + rest_ms
        self._known.put(caller, Own(failures, until_ms, rest_ms, now_ms))

    def succeed(self, caller: str) -> None:
        """A call of the caller's succeeded."""
        self._known.drop(caller)

    def saw(self, circuit: Circuit, now_ms: int) -> None:
        """Forget everybody where the shared circuit is open: it was not they."""
        if circuit.state in ("open", "probing"):
            self._forgotten_ms = now_ms

    def _get(self, caller: str) -> Own | None:
        own = self._known.get(caller)
        return own if own is not None and own.failed_ms > self._forgotten_ms else None
