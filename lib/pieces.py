"""What a source answers with, and how it fails, whatever the source is."""

from typing import Literal

from .base.values import dataclass

type Fault = Literal["ours", "caller", "theirs"]


class SourceFailed(Exception):
    """A source gave no usable value. ``kind`` says how, ``fault`` whose fault it is; the text holds no secret."""

    ends = False
    """Whether it says that there is no such value any more: an older one is not served in its place."""

    def __init__(self, kind: str, detail: str, fault: Fault = "theirs") -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.fault: Fault = fault


class Exhausted(Exception):
    """No part of a source could be called, or all failed. ``failure``: the last one, None where none was called."""

    def __init__(self, failure: SourceFailed | None) -> None:
        super().__init__(str(failure) if failure else "no part could be called")
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Delta[P]:
    """A part of a value that can be shown before the value is complete."""

    part: P


@dataclass(frozen=True, slots=True)
class Done[V]:
    """The complete value; always the last piece. ``keeps``: whether it may be stored in the cache; ``ends``: where not,
    whether an older one is not right any more either.
    """

    value: V
    keeps: bool = True
    fresh_ms: int | None = None
    """For how long it is fresh, and then gone, where that is less than the route says."""
    ends: bool = False


type Piece[P, V] = Delta[P] | Done[V]
