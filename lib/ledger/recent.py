"""What this instance has seen of callers, requests and circuits, until it is written along with the ledger's counts."""

from collections import deque
from dataclasses import field
from typing import TYPE_CHECKING

from ..base.events import CircuitChanged, RequestDone
from ..base.values import dataclass
from ..redis import keys

if TYPE_CHECKING:
    from .batches import Batch

EVERY = 8
"""Callers alone are written with one flush in so many: 0.2 % of the commands that are counted."""
_UNREAD = 200


@dataclass(slots=True, eq=False)
class Recent:
    """What this instance has seen since its last batch. One per instance, part of its ledger."""

    slow_ms: float = 10_000
    written: int = 0
    """How many batches were handed over to be written: an older reading of the list lacks what they hold."""
    _batch: "Batch | None" = None
    _flushes: int = 0
    _unread: list[tuple[RequestDone, int]] = field(default_factory=list)
    """Requests as they came, with their time: looked at by the hundred, and not while one is served."""

    def note(self, done: RequestDone, now_ms: int) -> None:
        """Take notice of a request."""
        self._unread.append((done, now_ms))
        if len(self._unread) >= _UNREAD:
            self._read()

    def moved(self, changed: CircuitChanged, now_ms: int) -> None:
        """Take notice of a circuit, unless it is a provider's: the overview shows those."""
        if keys.circuit_named(changed.provider) is None:
            return
        from .batches import Moved

        moved = Moved(now_ms // 1000, changed.provider, changed.after, changed.reason)
        self._read().circuits.append(moved)

    def _read(self) -> "Batch":
        """The batch with everything that came."""
        # Not loaded by a first request.
        from .batches import Batch, notable

        batch = self._batch = self._batch or Batch()
        unread, self._unread = self._unread, []
        for done, now_ms in unread:
            if done.caller is not None:
                batch.callers.add(done.caller)
            if (found := notable(done, self.slow_ms, now_ms)) is not None:
                batch.requests.append(found)
        return batch

    def take(self, now_ms: int) -> "Batch | None":
        """With each flush: the batch, where it is due."""
        self._flushes += 1
        batch = self._read()
        calls = batch.callers.counts or batch.circuits
        if not batch.requests and (self._flushes < EVERY or not calls):
            return None
        self._batch, self._flushes = batch.rest(), 0
        self.written += 1
        batch.at_ms = now_ms
        return batch

    def close(self) -> None:
        """The instance ends: its last flush takes the batch along."""
        self._flushes = EVERY

    def give_back(self, batch: "Batch") -> None:
        """A batch that got no reply is written again with what came since."""
        present = self._read()
        for caller, calls in batch.callers.counts.items():
            present.callers.add(caller, calls)
        # Where there is no room for all, the oldest go.
        present.requests = deque([*batch.requests, *present.requests], maxlen=present.requests.maxlen)
        present.circuits = deque([*batch.circuits, *present.circuits], maxlen=present.circuits.maxlen)

    def pending(self, now_ms: int) -> "Batch":
        """What is not written yet."""
        from .batches import Batch

        batch = self._read()
        return Batch(now_ms, batch.callers, batch.requests, batch.circuits)
