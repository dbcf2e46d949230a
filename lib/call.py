"""A call of the guard, and its outcome."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import field
from typing import Any, Literal, Protocol

from .afterwards import Afterwards
from .base.events import Mode, Spent
from .base.leaving import WhileHere, in_any_case
from .base.values import dataclass
from .cache.freshness import CacheRules, Directives
from .decide import Code, Deny
from .limits.admission import Subject
from .limits.judge import Quota
from .lookup import Lookup, constant
from .pieces import Piece, SourceFailed


@dataclass(slots=True, eq=False)
class Progress:
    """How far a call has come, for whoever cannot wait for its outcome."""

    waits: "asyncio.Future[None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    """Done when the value is waited for: limit, cache, circuit and budget have admitted the call."""
    mode: Mode = "off"
    quota: Quota | None = None
    """What the caller's limit said; None while it was not asked."""
    now_ms: int = 0
    """When it was asked."""

    def waiting(self) -> None:
        """The value is waited for from here on."""
        if not self.waits.done():
            self.waits.set_result(None)


def _anything(value: object) -> bool:
    return True


NO_VETO: Lookup[Deny | None] = constant(None)


@dataclass(frozen=True, slots=True)
class Call:
    """One request, ready to be decided."""

    route: str
    """The route's name, as the ledger and the epochs know it: its path without ``/api/``."""
    subject: Subject
    """Whom the call counts for, and by which windows; without windows nothing is counted."""
    key: str
    """The cache key: names everything that the value may depend on."""
    epochs: tuple[str, ...]
    """The keys of the invalidation epochs that the value belongs to."""
    request_id: str
    deadline: float
    """On the monotonic clock, in seconds."""
    directives: Directives = field(default_factory=Directives)
    """The directives of the request's Cache-Control."""
    cache: CacheRules | None = field(default_factory=CacheRules)
    """How long a value may be served; None: it is neither read from the cache nor stored."""
    stream: bool = False
    cost: int = 1
    while_here: WhileHere = in_any_case
    veto: Lookup[Deny | None] = NO_VETO
    """A reason to refuse that is read along with everything else."""
    after: Afterwards = field(default_factory=Afterwards)
    """Where the request collects what is sent to Redis when its reply is out."""
    finish_abandoned: bool = False
    """Whether a value is computed to its end, for the cache, although the client has left."""
    takes: Callable[[Any], bool] = _anything
    """Whether a value will do that another request of the instance has computed."""
    progress: Progress | None = None
    """Where the call tells how far it has come; None where nobody wants to know."""

    def waiting(self) -> None:
        """The value is waited for from here on; nothing that is decided beforehand refuses the call any more."""
        if self.progress is not None:
            self.progress.waiting()

    @property
    def wants_own(self) -> bool:
        """Whether only a value computed for this very request will do."""
        return self.cache is None or self.directives.no_cache or self.directives.no_store


type CacheState = Literal["hit", "stale", "collapsed", "miss", "bypass"]


@dataclass(frozen=True, slots=True)
class Answered[V]:
    """A whole value, and where it came from: ``collapsed`` is another request's, waited for."""

    value: V
    cache: CacheState
    reason: str
    stored_at_ms: int
    stored: bool = False
    fresh_ms: int | None = None
    """For how long it is fresh, where it says so itself."""


@dataclass(frozen=True, slots=True)
class Streaming[P, V]:
    """A value that is streamed. The pieces end with a Done, or raise SourceFailed."""

    pieces: AsyncGenerator[Piece[P, V]]
    name: str
    cache: CacheState
    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The guard refused the call."""

    code: Code
    reason: str
    retry_at_ms: int | None


@dataclass(frozen=True, slots=True)
class Failed:
    """The source was called and gave no usable value; this is how it failed last."""

    failure: SourceFailed
    retry_at_ms: int | None = None
    """When the source may be called again, where it may not be now."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The outcome of one part of a source: ``answered``, or why it was passed over or failed."""

    name: str
    outcome: str


class Finish(Protocol):
    """What is left to do for a call."""

    async def __call__(self, *, send: bool = True) -> None:
        """End what was begun, refresh what ages, and send what the call has left in its ``after``.

        Without ``send`` that is left to whoever sends the rest of the request's.
        """


@dataclass(frozen=True, slots=True)
class Outcome[P, V]:
    """What to reply, and what to do once the reply is out: always, and once, even if the client has left."""

    result: Answered[V] | Streaming[P, V] | Refused | Failed
    mode: Mode
    quota: Quota
    spent: Spent
    now_ms: int
    fresh_ms: int
    attempts: Sequence[Attempt]
    after: Finish
