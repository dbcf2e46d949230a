"""A circuit around somebody else's code: shared by all instances, open after failures in a row."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..afterwards import Afterwards
from ..breaker import circuit as rules
from ..breaker.circuit import BreakerPolicy, Circuit
from ..breaker.shared import SharedCircuits
from ..edge.problems import Problem
from ..redis import keys
from ..redis.errors import RedisDown


class CircuitOpen(Problem):
    """The circuit is open: the code was not run. ``retry_after_s``: whole seconds until it may be, at least 1.

    A route that does not catch it answers 503 ``circuit_open`` with ``Retry-After``.
    """

    def __init__(self, name: str, retry_after_s: int) -> None:
        detail = f"The circuit {name!r} is open after failures in a row. Try again in {retry_after_s} s."
        super().__init__("circuit_open", detail, retry_after_s)
        self.name = name


@asynccontextmanager
async def guarded(
    circuits: SharedCircuits, name: str, owner: str, policy: BreakerPolicy, after: Afterwards
) -> AsyncIterator[None]:
    """Run a block unless its circuit is open. An Exception that leaves it is a failure. Raises CircuitOpen."""
    key = keys.circuit_of_app(name)
    try:
        reading = await circuits.read(key, "circuit")
    except RedisDown:
        reading = circuits.local(key)
    if not await circuits.claim(reading, owner, policy):
        wait_ms = reading.circuit.until_ms - circuits.clock.now_ms()
        raise CircuitOpen(name, max(1, math.ceil(wait_ms / 1000)))
    ticket = rules.ticket(reading.circuit)

    def fail(circuit: Circuit) -> Circuit:
        return rules.fail(circuit, ticket, circuits.clock.now_ms(), policy, "failed")

    try:
        yield
    except Exception:
        circuits.move(reading, fail, "failed", after)
        raise
    except BaseException:
        # Cancelled: that says nothing of what the block calls.
        circuits.move(reading, lambda c: rules.release(c, ticket, circuits.clock.now_ms()), "cancelled", after)
        raise
    circuits.move(reading, lambda c: rules.succeed(c, ticket), "succeeded", after)
