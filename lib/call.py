"""What the guard is asked, and what becomes of it."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from .ai.chain import Attempt
from .ai.providers.port import Piece, ProviderFailed
from .ai.question import Answer, Question
from .base.caller import Caller
from .base.events import Mode, Spent
from .base.leaving import WhileHere, in_any_case
from .cache.freshness import Directives
from .decide import Code
from .limits.judge import Quota
from .policy import Policy


@dataclass(frozen=True, slots=True)
class Call:
    """One request, ready to be decided. ``deadline`` is on the monotonic clock, in seconds."""

    route: str
    caller: Caller
    question: Question
    asked: Directives
    policy: Policy
    request_id: str
    deadline: float
    stream: bool = False
    cost: int = 1
    while_here: WhileHere = in_any_case


type CacheState = Literal["hit", "stale", "collapsed", "miss", "bypass"]


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer, and where it came from: ``collapsed`` is another request's, waited for."""

    answer: Answer
    cache: CacheState
    reason: str
    stored: bool = False


@dataclass(frozen=True, slots=True)
class Streaming:
    """An answer that is being given. The pieces end with an End, or raise ProviderFailed."""

    pieces: AsyncGenerator[Piece]
    provider: str
    cache: CacheState
    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The guard said no."""

    code: Code
    reason: str
    retry_at_ms: int | None


@dataclass(frozen=True, slots=True)
class Failed:
    """Providers were asked and none gave a usable answer; this is how the last one failed."""

    failure: ProviderFailed
    retry_at_ms: int | None = None
    """When the first provider may be asked again, where none may be now."""


type Result = Answered | Streaming | Refused | Failed


@dataclass(frozen=True, slots=True)
class Outcome:
    """What to reply, and what to do once the reply has gone out: always, and once, even if the client has left."""

    result: Result
    mode: Mode
    quota: Quota
    spent: Spent
    now_ms: int
    fresh_ms: int
    attempts: Sequence[Attempt]
    after: Callable[[], Awaitable[None]]
