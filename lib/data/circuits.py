"""A circuit around somebody else's code, shared by all instances."""

import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ..afterwards import Afterwards
from ..base.caller import identify
from ..breaker.circuit import Failure, view
from ..edge.headers import seconds_until
from ..edge.problems import Problem
from ..redis import keys
from ..redis.errors import RedisDown

if TYPE_CHECKING:
    from ..breaker.breaker import Breaker
    from ..parts import Parts

_NOT_CONNECTED = ("ConnectError", "ConnectTimeout")
"""What HTTP clients raise that could not connect, by the names that httpx, httpcore and others give it."""


class CircuitOpen(Problem):
    """The circuit is open: the code was not run. ``retry_after_s``: whole seconds until it may be, at least 1.

    A route that does not catch it answers 503 ``circuit_open`` with ``Retry-After``.
    """

    def __init__(self, name: str, retry_after_s: int) -> None:
        detail = f"The circuit {name!r} is open after failures in a row. Try again in {retry_after_s} s."
        super().__init__("circuit_open", detail, retry_after_s)
        self.name = name


def _breaker(parts: "Parts", key: str, check: Callable[[], Awaitable[object]] | None) -> "Breaker":
    """The circuit of this name, as the instance knows it."""
    # Needed for circuits only.
    from ..breaker.breaker import Breaker
    from ..breaker.checks import calling

    breaker = parts.breakers.get(key) or Breaker(parts.circuits, parts.settings.breaker)
    breaker.check = None if check is None else calling(check)
    parts.breakers.put(key, breaker)
    return breaker


@asynccontextmanager
async def guarded(
    parts: "Parts",
    name: str,
    who: str | None,
    check: Callable[[], Awaitable[object]] | None,
    deadline: float,
    after: Afterwards,
) -> AsyncIterator[None]:
    """Run a block unless its circuit is open. An Exception that leaves it is a failure. Raises CircuitOpen.

    ``who`` is whose call it is; None where callers are not told apart.
    """
    key = keys.circuit_of_app(name)
    breaker, circuits = _breaker(parts, key, check), parts.circuits
    caller = identify("key", who, parts.settings.identity_key).id if who else ""
    left_s = parts.clock.left_s(deadline)
    try:
        reading = await circuits.read(key, "circuit")
    except RedisDown:
        reading = circuits.local(key)
    breaker.look(reading, after)
    own_until_ms = breaker.rests_until_ms(reading.circuit, caller, circuits.clock.now_ms())
    now_ms = circuits.clock.now_ms()
    if own_until_ms > now_ms or not await breaker.admit(reading, after, left_s):
        now_ms = circuits.clock.now_ms()
        until_ms = reading.circuit.until_ms if view(reading.circuit, now_ms) == "refuse" else own_until_ms
        raise CircuitOpen(name, seconds_until(until_ms, now_ms))
    passage = breaker.begin(reading, caller)
    try:
        yield
    except Exception as e:
        quick = not isinstance(e, TimeoutError) and left_s > breaker.policy.check_ms / 1000
        checking = await breaker.failed(reading, passage, failure_of(e), type(e).__name__, after, quick=quick)
        await breaker.wait_for(checking)
        raise
    except BaseException:
        # Cancelled: that says nothing of what the block calls.
        breaker.ended(reading, passage, "cancelled", after)
        raise
    breaker.succeeded(reading, passage, after)


def failure_of(error: BaseException) -> Failure:
    """Whether the call never reached what the block calls: nobody's input can cause that."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ConnectionRefusedError | socket.gaierror | ssl.SSLCertVerificationError):
            return "never_sent"
        if type(seen).__name__ in _NOT_CONNECTED:
            return "never_sent"
        seen = seen.__cause__ or seen.__context__
    return "soft"
