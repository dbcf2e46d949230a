"""What every provider is to the chain: something that is called once and answers in chunks, or fails with a reason."""

from collections.abc import AsyncGenerator
from typing import Literal, Protocol

from ...base.values import dataclass
from ...pieces import Delta, Fault, SourceFailed
from ..answers import Answer
from ..completions import Chunk
from ..question import AnyQuestion

MAX_REPLY_BYTES = 4 * 1024 * 1024
"""A whole reply may not be larger: Vercel sends 4.5 MB, of which the rest is ours."""
MAX_STREAM_BYTES = 16 * 1024 * 1024
"""Nor all the events of a stream. Around each piece of a few letters there are some 300 bytes, and for what is streamed
Vercel has no bound: this is a text of some 50,000 tokens."""


@dataclass(frozen=True, slots=True)
class End:
    """The answer is complete. Always the last piece, and there is always one: a reply without an end has failed."""

    answer: Answer
    keeps: bool
    """False: cut, filtered, refused, or marked by the backend as its fallback text; served, but not stored."""
    rests_s: float | None = None
    """The provider says with a successful reply that it will refuse the next call for so long."""


type Piece = Delta[Chunk] | End

type Kind = Literal[
    "timeout",  # no answer within its time
    "connection",  # refused, reset, or gone before the reply was whole
    "unauthorized",  # our key is not accepted
    "no_model",  # the model that is configured does not exist there
    "throttled",  # 429: too many requests or tokens at present
    "quota",  # 429 that names a daily or monthly quota
    "rejected",  # 400, 413, 422: this question will never be answered
    "unsupported",  # 400, 422 that names a parameter which this provider does not have: another may
    "blocked",  # the question, or its answer, was withheld for its content
    "server",  # any other status, or an error in the reply
    "protocol",  # not what the protocol promises
    "too_large",  # more than MAX_REPLY_BYTES, or MAX_STREAM_BYTES
    "empty",  # a reply without text, where a text is needed
    "cut",  # a stream that ended without its end
]
# Whose fault a failure is decides what the breaker and the reply make of it: only theirs counts against the provider.
_FAULT: dict[Kind, Fault] = {
    "rejected": "caller",
    "unsupported": "caller",
    "blocked": "caller",
    "unauthorized": "ours",
    "no_model": "ours",
}


TOO_LONG = "context_length_exceeded"
"""OpenAI's code for a request that is longer than the model allows."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a provider says to the caller of a request that it refuses, without secrets of ours."""

    message: str
    param: str | None = None
    code: str | None = None


class ProviderFailed(SourceFailed):
    """The provider gave no usable answer.

    ``rests_s``: for how long it refuses further calls. ``went_out``: whether the call may have reached the provider.
    ``told``: what it says to the caller. The message, which is logged, holds no secret, no question and no answer.
    """

    kind: Kind

    def __init__(
        self,
        kind: Kind,
        detail: str,
        *,
        status: int | None = None,
        rests_s: float | None = None,
        went_out: bool = True,
        fault: Fault | None = None,
        told: Told | None = None,
    ) -> None:
        super().__init__(kind, detail, fault or _FAULT.get(kind, "theirs"))
        self.status = status
        self.rests_s = rests_s
        self.went_out = went_out
        self.told = told

    @property
    def used_nothing(self) -> bool:
        """Whether the provider has refused the call instead of beginning to answer: no token was used."""
        return self.status is not None and (self.fault != "theirs" or self.kind in ("throttled", "quota"))


class Provider(Protocol):
    """Something that answers questions."""

    @property
    def name(self) -> str:
        """Its name in keys, logs, headers and configuration."""

    def ask(self, question: AnyQuestion, *, request_id: str, left_s: float, stream: bool) -> AsyncGenerator[Piece]:
        """Call it once; never retries. Yields any number of Delta, then exactly one End. May raise ProviderFailed.

        ``left_s`` bounds the whole call, beside the provider's own timeout. With ``stream`` there are chunks as they
        come, from the first one on that shows anything; without it there is the End alone. Closing the generator ends
        the call and its connection.
        """
