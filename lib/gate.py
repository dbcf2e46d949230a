"""A circuit breaker in this instance's memory: for the stores, and for a backend while no shared state is in reach."""

from dataclasses import dataclass, field

from lib.rules import breaker
from lib.rules.breaker import BreakerPolicy, Circuit, Ticket

_ME = "instance"


@dataclass(slots=True)
class Gate:
    """Holds a circuit and moves it by the pure rules. One event loop, no awaits in between: nothing can race."""

    policy: BreakerPolicy
    circuit: Circuit = field(default_factory=Circuit)

    def enter(self, now_ms: int) -> Ticket | None:
        """A ticket for one call, or None while calls are refused. The ticket's result must be reported."""
        match breaker.view(self.circuit, now_ms):
            case "refuse":
                return None
            case "probe":
                self.circuit = breaker.claim(self.circuit, _ME, now_ms, self.policy)
        return breaker.ticket(self.circuit)

    def succeeded(self, held: Ticket) -> None:
        """The call was answered."""
        self.circuit = breaker.succeed(self.circuit, held)

    def failed(self, held: Ticket, now_ms: int, reason: str, *, until_ms: int | None = None) -> None:
        """The call was not answered; ``until_ms`` opens at once."""
        self.circuit = breaker.fail(self.circuit, held, now_ms, self.policy, reason, until_ms)

    def released(self, held: Ticket, now_ms: int) -> None:
        """The call ended without a result of its own."""
        self.circuit = breaker.release(self.circuit, held, now_ms)
