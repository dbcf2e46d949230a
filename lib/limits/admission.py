"""A call that is to be counted, and the verdict on it."""

from typing import TYPE_CHECKING

from ..base.events import Mode
from ..base.values import dataclass
from .judge import Quota
from .window import Layout

if TYPE_CHECKING:
    from .shapes import Shapes


type Limited = tuple[str, str]
"""A subject's id, and its limits."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom calls count for, and by which windows. ``stock_id`` where ``upstash_ratelimit`` may count instead."""

    id: str
    layout: Layout
    group: str = ""
    """The group of routes, or the provider."""
    stock_id: str | None = None
    shapes: "Shapes | None" = None
    """For a budget: the layouts that it was counted in lately, where these could be read."""

    @property
    def limited(self) -> Limited:
        """Itself under these limits: a refusal is one of these alone, and calls of these alone pay together."""
        return self.id, self.layout.limits


@dataclass(frozen=True, slots=True)
class Charge:
    """One call of a subject, to be admitted or refused. ``deadline`` is on the monotonic clock, in seconds."""

    subject: Subject
    now_ms: int
    deadline: float
    cost: int = 1
    tokens: int = 0
    parts: tuple[int, ...] = ()
    """Where it stands for several calls: the lower costs, ascending, of which Redis may admit the highest that fits."""

    @property
    def only_looks(self) -> bool:
        """Whether it takes nothing: then nothing is written either."""
        return not self.cost and not self.tokens


@dataclass(frozen=True, slots=True)
class Admission:
    """The verdict on a call, and who gave it. Of one in parts the charge has the cost that was admitted."""

    charge: Charge
    quota: Quota
    mode: Mode
    following: Quota | None = None
    """The refusal that the next call gets, where this one was admitted and left nothing."""
    sure: bool = True
    """Whether a refusal lasts as long as it says: no refused call was still counted beside it."""
