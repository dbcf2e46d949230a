"""Circuits that all instances share: one small text each in Redis, moved by compare-and-swap only.

While Redis answers, a circuit is read with everything else that a request reads, and a transition is sent after the
reply, or awaited where the request depends on it (claiming the one probe). Another instance may have moved the circuit
meanwhile: then the transition is applied to what that instance stored, and tried again. While Redis does not answer,
each instance goes on from what it last saw, in memory. This is the only place that swaps a circuit.
"""

from collections.abc import Callable, Sequence
from dataclasses import field

from ..afterwards import Afterwards, Step
from ..base.bounded import Bounded
from ..base.clock import Clock
from ..base.events import CircuitChanged, Listener, StorePhase
from ..base.values import dataclass
from ..lookup import Lookup, Texts
from ..redis import keys
from ..redis.op import Op, as_text
from ..redis.store import RedisStore
from . import stored
from .circuit import Circuit

type Change = Callable[[Circuit], Circuit]
type Stands = Callable[[Circuit], object]

_TRIES = 5
"""Each lost swap means that another instance has moved the circuit; an open one takes no further failures."""
_WAIT_S = 2.0


@dataclass(slots=True)
class Reading:
    """One circuit as one request knows it, with the transitions that this request makes."""

    name: str
    circuit: Circuit
    text: str | None
    shared: bool
    """Whether it was read from Redis, and is to be moved there."""


@dataclass(slots=True)
class SharedCircuits:
    """All circuits that this instance uses, by name."""

    redis: RedisStore | None
    clock: Clock
    emit: Listener
    seen_ms: int = 0
    """When circuits were last read from Redis."""
    _known: Bounded[str, tuple[Circuit, str | None]] = field(default_factory=lambda: Bounded(1_000))
    """The circuits as this instance last saw or moved them, each with the text that Redis then holds."""

    def known(self, name: str) -> Circuit:
        """The circuit as this instance last saw it."""
        return self._latest(name)[0]

    def _latest(self, name: str) -> tuple[Circuit, str | None]:
        return self._known.get(name) or (Circuit(), None)

    def lookup(self, names: Sequence[str], now_ms: int) -> Lookup[list[Reading]]:
        """Circuits to be read along with a request."""

        def read(texts: Texts) -> list[Reading]:
            self.seen_ms = now_ms
            return [self._seen(name, text) for name, text in zip(names, texts, strict=True)]

        return Lookup(tuple(keys.circuit(name) for name in names), read, lambda: [self.local(name) for name in names])

    def _seen(self, name: str, text: str | None) -> Reading:
        circuit = stored.parse(text)
        if text is not None or self._known.get(name) is not None:
            self._known.put(name, (circuit, text))
        return Reading(name, circuit, text, shared=True)

    def local(self, name: str) -> Reading:
        """One circuit as this instance knows it, for when Redis cannot be read."""
        return Reading(name, self.known(name), None, shared=False)

    def move(
        self, reading: Reading, change: Change, reason: str, after: Afterwards, stands: Stands = lambda moved: None
    ) -> None:
        """Carry out a transition here at once, and in Redis after the reply; ``stands`` is told what then holds."""
        if not reading.shared:
            self._move_here(reading, change, reason)
            stands(reading.circuit)
            return
        # Others of this instance may have moved it since it was read: where ten fail at once, the fourth has nothing to
        # write any more.
        before, text = self._latest(reading.name)
        moved = change(before)
        if moved == before:
            return
        after.steps.append(self._swap(reading.name, text, before, moved, change, reason, stands, _TRIES))
        self._learn(reading, moved, stored.dump(moved) or None)

    async def move_now(
        self, reading: Reading, change: Change, reason: str, phase: StorePhase = "circuit", *, in_any_case: bool = False
    ) -> None:
        """Carry out a transition and wait until it stands in Redis. Raises RedisDown; here it stands all the same.

        ``in_any_case``: that there is nothing to change is believed of what Redis holds only, not of what this instance
        knows, which may be behind.
        """
        if not reading.shared or self.redis is None:
            self._move_here(reading, change, reason)
            return
        before, text = self._latest(reading.name)
        for _ in range(_TRIES):
            moved = change(before)
            if moved == before:
                if not in_any_case:
                    break
                in_any_case = False
                text = (await self.read(reading.name, phase)).text
                before = stored.parse(text)
                continue
            swap = stored.swap(keys.circuit(reading.name), text, moved, self.clock.now_ms())
            # This instance knows at once: of many that fail together only the first has anything to write.
            self._learn(reading, moved, stored.dump(moved) or None)
            done, held = await self.redis.run(swap, phase, _WAIT_S)
            text = held or None
            if done:
                self._report(reading.name, before, moved, reason)
                before = moved
                break
            before = stored.parse(text)
        self._learn(reading, before, text)

    async def read(self, name: str, phase: StorePhase, left_s: float = _WAIT_S) -> Reading:
        """One circuit by itself: 1 command. Raises RedisDown."""
        if self.redis is None:
            return self.local(name)
        op = Op((("GET", keys.circuit(name)),), lambda replies: as_text(replies[0]))
        return self._seen(name, await self.redis.run(op, phase, left_s))

    def _move_here(self, reading: Reading, change: Change, reason: str) -> None:
        before = self.known(reading.name)
        moved = change(before)
        self._learn(reading, moved, reading.text)
        self._report(reading.name, before, moved, reason)

    def _learn(self, reading: Reading, circuit: Circuit, text: str | None) -> None:
        reading.circuit, reading.text = circuit, text
        self._known.put(reading.name, (circuit, text))

    def _swap(
        self,
        name: str,
        text: str | None,
        before: Circuit,
        moved: Circuit,
        change: Change,
        reason: str,
        stands: Stands,
        tries: int,
    ) -> Step[tuple[bool, str]]:
        """A swap after the reply; where it loses, its successor applies the change to the value that won."""

        def then(result: tuple[bool, str]) -> Step[tuple[bool, str]] | None:
            done, held = result
            if done:
                self._report(name, before, moved, reason)
                stands(moved)
                return None
            winner = stored.parse(held)
            again = change(winner)
            self._known.put(name, (again, stored.dump(again) or None))
            if again == winner or tries <= 1:
                return None
            return self._swap(name, held or None, winner, again, change, reason, stands, tries - 1)

        return Step(stored.swap(keys.circuit(name), text, moved, self.clock.now_ms()), then)

    def _report(self, name: str, before: Circuit, after: Circuit, reason: str) -> None:
        if before.state != after.state:
            self.emit(CircuitChanged(name, before.state, after.state, reason))
