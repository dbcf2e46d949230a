"""Any function as a source: one part, without a circuit or a budget of its own."""

import asyncio
import contextvars
import functools
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any, Never

from ..afterwards import Afterwards
from ..base.leaving import is_cancelled
from ..base.values import dataclass
from ..breaker.circuit import Circuit
from ..call import Attempt, Call
from ..decide import Standing
from ..edge.problems import Problem
from ..limits.admission import Admission, Subject
from ..limits.window import Layout
from ..lookup import Lookup, constant
from ..pieces import Done, Exhausted, Piece, SourceFailed
from ..source import Opened, Price
from .pages import ends_older

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

_NO_BUDGET = Subject("", Layout(()))
_FREE = Price(_NO_BUDGET)
_READY = (Standing(Circuit()),)
_RESERVE_S = 1.0
"""Reserved before the deadline for the reply and what follows it."""
_MOST_THREADS = 32


class Raised(SourceFailed):
    """A function raised. ``error`` is what it raised; all requests that wait for its value get it."""

    def __init__(self, error: Exception) -> None:
        super().__init__("raised", type(error).__name__, "ours")
        self.error = error
        self.ends = isinstance(error, Problem) and ends_older(error.kind.status)


@functools.cache
def _threads() -> "ThreadPoolExecutor":
    """Threads for functions only. The event loop's own, of which a small machine has five, look up addresses: while
    slow functions held them all, Redis could not be reached.
    """
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(_MOST_THREADS, "breakwater-function")


async def run(function: Callable[..., Any], *arguments: object) -> Any:
    """What a function returns. One that is not async runs in a thread, so that it stops nobody else.

    Raises what it raises, but RuntimeError where something that it awaits was cancelled, and this request is not.
    """
    try:
        if inspect.iscoroutinefunction(function):
            return await function(*arguments)
        called = functools.partial(contextvars.copy_context().run, function, *arguments)
        found = await asyncio.get_running_loop().run_in_executor(_threads(), called)
        # An object whose __call__ is async, or a function that returns what is to be awaited.
        return await found if inspect.isawaitable(found) else found
    except asyncio.CancelledError as e:
        if is_cancelled():
            raise
        raise RuntimeError("something that the function awaits was cancelled") from e


@dataclass(slots=True, eq=False)
class Function[V]:
    """A function that computes a value, as a source."""

    compute: Callable[[], Awaitable[V]]
    left_s: Callable[[float], float]
    """Seconds until a deadline."""
    keeps: Callable[[V], bool] = lambda value: True
    """Whether a value may be stored."""
    ends: Callable[[V], bool] = lambda value: False
    """Whether one that may not ends an older one."""
    attempts: list[Attempt] = field(default_factory=list)

    def lookup(self, now_ms: int) -> Lookup["Function[V]"]:
        """Nothing of it is shared."""
        return constant(self)

    def look(self, after: Afterwards) -> None:
        """Nothing of it is suspected."""

    def standings(self, now_ms: int) -> Sequence[Standing]:
        """It may always be called."""
        return _READY

    def price(self, place: int) -> Price:
        """Calling it costs nothing of a budget."""
        return _FREE

    async def open(
        self, call: Call, order: Sequence[int], first: Admission, after: Afterwards, *, stream: bool
    ) -> Opened[Never, V]:
        """Call the function. Raises Exhausted."""
        timeout_s = max(0.0, self.left_s(call.deadline) - _RESERVE_S)
        try:
            async with asyncio.timeout(timeout_s):
                value = await call.while_here(self._value())
        except TimeoutError as e:
            # The function's own would be in a Raised.
            raise Exhausted(SourceFailed("timeout", f"no value within {timeout_s:.1f} s")) from e
        except SourceFailed as e:
            raise Exhausted(e) from e
        return Opened("", _only(Done(value, self.keeps(value), ends=self.ends(value))), _nothing)

    async def _value(self) -> V:
        try:
            return await self.compute()
        except Exception as e:
            raise Raised(e) from e


async def _only[V](piece: Done[V]) -> AsyncGenerator[Piece[Never, V]]:
    yield piece


async def _nothing() -> None:
    """Nothing is open."""
