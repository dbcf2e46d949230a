"""What every provider is to the chain: something that is called once and answers in pieces, or fails with a reason."""

from collections.abc import AsyncGenerator
from typing import Literal, Protocol

from ...base.values import dataclass
from ...pieces import Fault, SourceFailed
from ..question import Question

MAX_REPLY_BYTES = 1_048_576
"""A reply, or all the events of a stream, may not be larger."""


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of the answer's text; never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class End:
    """The answer is complete. Always the last piece, and there is always one: a reply without an end has failed."""

    model: str
    whole: bool
    """False: cut by a token limit, filtered, or marked by the backend as its fallback text; served, but not stored."""
    tokens: int | None = None
    """Tokens the call cost in all, where the provider says."""
    rests_s: float | None = None
    """The provider says with a successful reply that it will refuse the next call for so long."""


type Piece = Delta | End

type Kind = Literal[
    "timeout",  # no answer within its time
    "connection",  # refused, reset, or gone before the reply was whole
    "unauthorized",  # our key is not accepted
    "throttled",  # 429: too many requests or tokens at present
    "quota",  # 429 that names a daily or monthly quota
    "rejected",  # 400, 413, 422: this question will never be answered
    "server",  # any other status, or an error in the reply
    "protocol",  # not what the protocol promises
    "too_large",  # more than MAX_REPLY_BYTES
    "empty",  # a reply without text
    "cut",  # a stream that ended without its end
]
# Whose fault a failure is decides what the breaker and the reply make of it: only theirs counts against the provider.
_FAULT: dict[Kind, Fault] = {"rejected": "caller", "unauthorized": "ours"}


class ProviderFailed(SourceFailed):
    """The provider gave no usable answer.

    ``rests_s``: for how long it refuses further calls. ``went_out``: whether the call may have reached the provider.
    The message holds no secret, no question and no answer.
    """

    kind: Kind

    def __init__(
        self, kind: Kind, detail: str, *, status: int | None = None, rests_s: float | None = None, went_out: bool = True
    ) -> None:
        super().__init__(kind, detail, _FAULT.get(kind, "theirs"))
        self.status = status
        self.rests_s = rests_s
        self.went_out = went_out


class Provider(Protocol):
    """Something that answers questions."""

    @property
    def name(self) -> str:
        """Its name in keys, logs, headers and configuration."""

    def ask(self, question: Question, *, request_id: str, left_s: float, stream: bool) -> AsyncGenerator[Piece]:
        """Call it once; never retries. Yields at least one Delta, then exactly one End. May raise ProviderFailed.

        ``left_s`` bounds the whole call, beside the provider's own timeout. ``stream`` asks for pieces as they come;
        without it there is one Delta. Closing the generator ends the call and its connection.
        """
