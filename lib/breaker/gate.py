"""A store's breaker, in this instance's memory: a dead store costs one wait for each instance and cool-down.

The states are those of ``circuit.py`` but for ``suspect``: a store is told from how its calls went (``vitals.py``), and
the first call after the cool-down is the probe.
"""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import field
from typing import Literal

from ..base.clock import Clock
from ..base.events import Listener, StoreSwitched
from ..base.values import dataclass
from . import circuit as breaker
from .circuit import Circuit, State, View
from .vitals import Outcome, VitalsPolicy, verdict

_PROBE = "this instance"

AT_ONCE = ("timeout", "unauthorized", "quota")
"""Kinds of failure that open the gate at once: a second try would fail as well, or cost another wait."""


class Resting(Exception):
    """The store failed a moment ago and gets no calls for now. The message says why."""


@dataclass(slots=True, eq=False)
class Gate:
    """Decides whether a call may go to a store, and learns from how it went. One event loop: nothing can race."""

    policy: VitalsPolicy
    clock: Clock
    slow_ms: float
    circuit: Circuit = field(default_factory=Circuit)
    _outcomes: deque[Outcome] = field(init=False)
    _told: State = "closed"

    def __post_init__(self) -> None:
        self._outcomes = deque(maxlen=self.policy.error_window)

    def rests(self) -> bool:
        """Whether a call would be refused now."""
        return self._view(self.clock.now_ms()) == "refuse"

    def news(self) -> State | None:
        """``open`` or ``closed``, once for each change to it. A probe that is under way is not reported."""
        if self.circuit.state in (self._told, "probing"):
            return None
        self._told = self.circuit.state
        return self._told

    @asynccontextmanager
    async def call(self) -> AsyncIterator["Passage"]:
        """One call; report a failure with :meth:`Passage.failed`. Raises Resting while the gate is open."""
        now_ms = self.clock.now_ms()
        match self._view(now_ms):
            case "refuse":
                raise Resting(self.circuit.reason)
            case "probe":
                # A probe that hangs is over when its own timeout is.
                self.circuit = breaker.claim(self.circuit, _PROBE, now_ms, self.policy.cooldown_ms)
        passage = Passage(self, self.circuit.generation, self.clock.monotonic())
        try:
            yield passage
        except BaseException:
            # Whether it was reported or not (the client left, a bug): a probe must not be held for ever.
            if not passage.over:
                passage.neutral()
            raise
        if not passage.over:
            passage.succeeded()

    def _view(self, now_ms: int) -> View:
        view = breaker.view(self.circuit, now_ms)
        if view == "refuse" and self.circuit.until_ms - now_ms > self.policy.cooldown_ms:
            # No pause is longer than the cool-down: the clock was set back.
            return "probe"
        return view

    def note(self, held: int, outcome: Outcome, reason: str, *, at_once: bool = False) -> None:
        """Learn from one call. One that began under an older state of the circuit does not count."""
        if held != self.circuit.generation:
            return
        self._outcomes.append(outcome)
        probed = self.circuit.state == "probing"
        if outcome == "ok" or (outcome == "slow" and probed):
            if probed:
                self.circuit = breaker.closes(self.circuit)
            if outcome == "slow":
                # A probe may include a new connection. It closes the gate, but the next slow reply opens it again, so
                # that a slow store costs two waits for each cool-down where a dead one costs one.
                self._outcomes.extend(["slow"] * (self.policy.slow_in_a_row - 2))
            return
        why = reason if at_once or probed else verdict(tuple(self._outcomes), self.policy)
        if why:
            now_ms = self.clock.now_ms()
            self.circuit = breaker.opens(self.circuit, now_ms, now_ms + self.policy.cooldown_ms, why)
            self._outcomes.clear()


@dataclass(slots=True, eq=False)
class Passage:
    """One call's way through a gate."""

    gate: Gate
    held: int
    """The circuit's generation when it began."""
    started: float
    over: bool = False

    def succeeded(self) -> None:
        """The store answered."""
        self.over = True
        ms = (self.gate.clock.monotonic() - self.started) * 1000
        self.gate.note(self.held, "slow" if ms > self.gate.slow_ms else "ok", f"a reply took {ms:.0f} ms")

    def failed(self, reason: str, *, at_once: bool) -> None:
        """The store gave no usable answer; ``at_once`` opens the gate without counting further failures."""
        self.over = True
        self.gate.note(self.held, "failed", reason, at_once=at_once)

    def neutral(self) -> None:
        """The call ended in a way that says nothing of the store."""
        self.over = True
        if self.held == self.gate.circuit.generation:
            held = breaker.ticket(self.gate.circuit)
            self.gate.circuit = breaker.release(self.gate.circuit, held, self.gate.clock.now_ms())


def report_switch(store: Literal["redis", "supabase"], gate: Gate, emit: Listener) -> None:
    """Emit an event if the gate has opened or closed."""
    now = gate.news()
    if now is not None:
        emit(StoreSwitched(store, "paused" if now == "open" else "resumed", gate.circuit.reason))
