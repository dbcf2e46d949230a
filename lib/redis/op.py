"""A Redis operation as a value: what to send, and how to read the replies.

Operations join, so that the limiter, the cache and the breaker share one round trip. As values they need no connection
in tests, and there are no synchronous and asynchronous versions of them.
"""

from collections.abc import Callable, Sequence

from ..base.values import dataclass

type Command = tuple[str | int, ...]
type Reply = str | int | list[Reply] | CommandError | None


class Script(str):
    """A script for ``EVAL``. ``inside``: the most commands that it runs, each of which is billed beside the script."""

    __slots__ = ("inside",)

    def __new__(cls, inside: int, text: str) -> "Script":
        """The same text, with that number."""
        made = super().__new__(cls, text)
        made.inside = inside
        return made

    inside: int


@dataclass(frozen=True, slots=True)
class CommandError:
    """One command of a round trip that Redis refused; its neighbours may have been executed."""

    message: str


class UnreadableReply(Exception):
    """A reply that does not have the shape its command promises, or an ``error`` in its place."""

    def __init__(self, message: str, error: str | None = None) -> None:
        super().__init__(message)
        self.error = error


@dataclass(frozen=True, slots=True, eq=False)
class Op[T]:
    """The commands to send, and how to read their replies (as many, in the same order).

    ``read`` raises :class:`UnreadableReply` for a reply of the wrong shape.
    """

    commands: tuple[Command, ...]
    read: Callable[[Sequence[Reply]], T]


def join[A, B](a: Op[A], b: Op[B], /) -> Op[tuple[A, B]]:
    """Both operations in one round trip, ``a`` first."""
    cut = len(a.commands)
    return Op(a.commands + b.commands, lambda replies: (a.read(replies[:cut]), b.read(replies[cut:])))


def gather[T](ops: Sequence[Op[T]]) -> Op[list[T]]:
    """Any number of operations of one kind in one round trip."""

    def read(replies: Sequence[Reply]) -> list[T]:
        values, at = [], 0
        for op in ops:
            values.append(op.read(replies[at : at + len(op.commands)]))
            at += len(op.commands)
        return values

    return Op(tuple(command for op in ops for command in op.commands), read)


def as_list(reply: Reply, length: int) -> list[Reply]:
    """The reply as a list of ``length`` items."""
    if not isinstance(reply, list) or len(reply) != length:
        raise _unreadable(reply, f"a list of {length}")
    return reply


def as_int(reply: Reply) -> int:
    """The reply as an integer."""
    if not isinstance(reply, int):
        raise _unreadable(reply, "an integer")
    return reply


def as_text(reply: Reply) -> str | None:
    """The reply as a string, or None for a missing value."""
    if reply is not None and not isinstance(reply, str):
        raise _unreadable(reply, "a string or nil")
    return reply


def ignored(replies: Sequence[Reply]) -> None:
    """Read nothing, but notice an error."""
    for reply in replies:
        if isinstance(reply, CommandError):
            raise _unreadable(reply, "any value")


def _unreadable(reply: Reply, expected: str) -> UnreadableReply:
    # Never the value itself: it may hold a caller's answer, and this text is logged.
    if isinstance(reply, CommandError):
        return UnreadableReply(f"expected {expected}, got the error {reply.message[:120]!r}", reply.message)
    return UnreadableReply(f"expected {expected}, got {type(reply).__name__}")
