"""What a guard protects: a chain of AI providers, a query, any async function. The guard knows no more than this.

A :class:`Source` is made for one request and knows what to compute. Its shared state (circuits, monthly use) is read
along with everything else; what was read, together with what to compute, is a :class:`Seen`, which the guard opens.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Protocol

from .afterwards import Afterwards
from .base.values import dataclass
from .call import Attempt, Call
from .decide import Standing
from .limits.admission import Admission, Subject
from .lookup import Lookup
from .pieces import Piece


@dataclass(frozen=True, slots=True)
class Price:
    """What calling one part of a source takes from that part's own budget; it counts like a caller's call."""

    subject: Subject
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Opened[P, V]:
    """A part of the source has begun to answer: from here on nothing fails over."""

    name: str
    pieces: AsyncGenerator[Piece[P, V]]
    """Any number of Delta, then one Done; raises SourceFailed where it breaks off."""
    close: Callable[[], Awaitable[None]]
    """Closes it in whatever state it is, also before anything was read; may be called again."""


class Seen[P, V](Protocol):
    """The source as one request found it."""

    @property
    def attempts(self) -> Sequence[Attempt]:
        """The outcome of each part that was considered, in order."""

    def standings(self, now_ms: int) -> Sequence[Standing]:
        """Which parts may be called, by place."""

    def price(self, place: int) -> Price:
        """What calling the part at this place costs."""

    async def open(
        self, call: Call, order: Sequence[int], first: Admission, after: Afterwards, *, stream: bool
    ) -> Opened[P, V]:
        """Call the parts in this order until one begins to answer; ``first`` is the first one's admission.

        Raises Exhausted.
        """


class Source[P, V](Protocol):
    """Something that computes one value, for one request."""

    def lookup(self, now_ms: int) -> Lookup[Seen[P, V]]:
        """What has to be read of its shared state, and what is made of it."""
