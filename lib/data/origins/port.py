"""What an origin is: something that is asked for a value, behind a circuit that all instances share."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from ...base.values import dataclass
from ...pieces import Fault, SourceFailed
from ..body import Body

if TYPE_CHECKING:
    from ...parts import Parts

type Values = Mapping[str, str]
"""The parameters of a read by name, as the client sent them: never to be put into SQL or an address as they are."""


class OriginFailed(SourceFailed):
    """An origin gave no usable value; the text holds no secret and nothing that was read.

    ``kind``: ``timeout``, ``connection``, ``unauthorized``, ``throttled``, ``rejected``, ``server``, ``protocol``,
    ``too_large``, ``raised``. ``sent``: whether the question can have reached it.
    """

    def __init__(self, kind: str, detail: str, fault: Fault = "theirs", *, sent: bool = True) -> None:
        super().__init__(kind, detail, fault)
        self.sent = sent


class Origin(Protocol):
    """Something to ask."""

    @property
    def name(self) -> str:
        """Names its circuit: what is down together has one name."""

    @property
    def timeout_s(self) -> float:
        """How long an answer may take."""

    @property
    def has_check(self) -> bool:
        """Whether a trivial question of our own shows if it is there."""

    async def fetch(self, parts: "Parts", values: Values, left_s: float) -> Body:
        """The value, within ``left_s`` seconds. Raises OriginFailed."""

    async def check(self, parts: "Parts") -> None:
        """Ask the trivial question. Raises if it is not answered."""


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """The origin of one read. ``variant`` ends its key: what was read from another origin is under another."""

    origin: Origin
    variant: str


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """Where a parameter decides which origin is asked. ``choose`` raises Problem where there is none."""

    choose: "Callable[[Parts, Values], Chosen]"
