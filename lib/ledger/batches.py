"""Batches: who calls most, and which requests went wrong, as one instance has seen it, and as the page reads it.

A *batch* is what one instance has seen since its last batch: its busiest callers by hash, its notable requests (failed,
slow, failed over), and the circuits that it has moved. It is one item of a capped list, so that it costs one command.
No batch holds an address, a question or an answer.
"""

import json
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import asdict, field, fields
from typing import Any, Literal

from ..base.events import RequestDone
from ..base.values import dataclass
from ..redis import keys
from ..redis.op import Op
from .callers import Callers
from .capped import Capped

NOTABLE = 50
"""So many notable requests are kept, in an instance and on the page."""
CIRCUITS = 50
"""Likewise moves of circuits; of circuits on the page."""
_CALLERS = 20
"""So many callers of a batch are written; the others go on in the next one."""
_LONGEST_TEXT = 200

RECENT = Capped(keys.RECENT, 200, 30 * 86_400)

type Kind = Literal["failed", "failed_over", "slow"]


@dataclass(frozen=True, slots=True)
class Notable:
    """One request that somebody may want to look at. Times in seconds since the epoch and in milliseconds."""

    at: int
    kind: Kind
    route: str
    status: int
    reason: str
    ms: int
    request: str
    """Its id, which the log has as well."""
    caller: str = ""
    provider: str = ""
    cache: str = ""
    attempts: str = ""
    """Which providers were called in turn, where the first one did not answer."""


def notable(done: RequestDone, slow_ms: float, now_ms: int) -> Notable | None:
    """What is worth a look: a failure, an answer of another provider than the first, a slow reply; no refusals."""
    spent = done.spent_ms
    took_ms = spent.guard + spent.redis + spent.fallback + spent.backend
    if done.decision == "fail" or done.status == 500:
        kind: Kind = "failed"
    elif done.decision in ("refuse", "client_left"):
        return None
    elif done.attempts:
        kind = "failed_over"
    elif took_ms >= slow_ms:
        kind = "slow"
    else:
        return None
    return Notable(
        now_ms // 1000,
        kind,
        done.route,
        done.status,
        done.reason[:_LONGEST_TEXT],
        round(took_ms),
        done.request_id,
        done.caller or "",
        done.provider or "",
        done.cache or "",
        (done.attempts or "")[:_LONGEST_TEXT],
    )


@dataclass(frozen=True, slots=True)
class Moved:
    """What an instance made of a circuit. ``at``: seconds since the epoch; ``name``: as ``keys.circuit`` takes it."""

    at: int
    name: str
    state: str
    reason: str


@dataclass(slots=True, eq=False)
class Batch:
    """What one instance has seen; ``at_ms`` is when it was written."""

    at_ms: int = 0
    callers: Callers = field(default_factory=Callers)
    requests: deque[Notable] = field(default_factory=lambda: deque(maxlen=NOTABLE))
    circuits: deque[Moved] = field(default_factory=lambda: deque(maxlen=CIRCUITS))

    def rest(self) -> "Batch":
        """Keep the busiest callers; yields the next batch, which begins with the others."""
        busiest = dict(self.callers.top(_CALLERS))
        others = {caller: calls for caller, calls in self.callers.counts.items() if caller not in busiest}
        self.callers = Callers(counts=busiest)
        return Batch(callers=Callers(counts=others))

    def text(self) -> str:
        """As an item of the list."""
        found = {"at": self.at_ms, "callers": self.callers.counts}
        for name, items in (("notable", self.requests), ("circuits", self.circuits)):
            found[name] = [asdict(each) for each in items]
        return json.dumps(found)

    def push(self) -> Op[Op[None] | None]:
        """Write it: 1 command. Yields what the list needs next, if anything."""
        return RECENT.push(self.text())


def parse(text: str) -> Batch | None:
    """Read an item of the list; None where it is none of ours."""
    try:
        found = json.loads(text)
        batch = Batch(int(found["at"]), Callers(counts={str(k): int(n) for k, n in found["callers"].items()}))
        batch.requests.extend(Notable(**_known(Notable, each)) for each in found["notable"])
        batch.circuits.extend(Moved(**_known(Moved, each)) for each in found.get("circuits", ()))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return batch


def _known(kind: type[Notable | Moved], found: dict[str, Any]) -> dict[str, Any]:
    """What this version knows of an item that another one may have written."""
    names = {each.name for each in fields(kind)}
    return {name: value for name, value in found.items() if name in names}


def busiest(batches: Iterable[Batch], most: int) -> list[tuple[str, int]]:
    """The callers with the most calls in all batches together."""
    together = Callers(size=100_000)
    for each in batches:
        for caller, calls in each.callers.counts.items():
            together.add(caller, calls)
    return together.top(most)


def latest(batches: Sequence[Batch]) -> list[Notable]:
    """The last notable requests of all batches, newest first; each once."""
    found = {(each.request, each.at): each for batch in batches for each in batch.requests}
    return sorted(found.values(), key=lambda each: -each.at)[:NOTABLE]


def circuits(batches: Iterable[Batch]) -> list[Moved]:
    """What was last made of each circuit, the newest first."""
    found: dict[str, Moved] = {}
    for each in sorted((moved for batch in batches for moved in batch.circuits), key=lambda moved: moved.at):
        found[each.name] = each
    return sorted(found.values(), key=lambda moved: -moved.at)[:CIRCUITS]
