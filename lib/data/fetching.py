"""One read of an origin, as the guard's source: behind the circuit that all instances share, and within a deadline."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Never

from ..afterwards import Afterwards
from ..base.events import OriginFailure
from ..base.values import dataclass
from ..breaker.breaker import Breaker
from ..breaker.checks import PASSED, Check, Result
from ..breaker.circuit import Failure
from ..breaker.shared import Reading
from ..call import Attempt, Call
from ..decide import Standing
from ..limits.admission import Admission, Subject
from ..limits.window import Layout
from ..lookup import Lookup
from ..pieces import Done, Exhausted, Piece
from ..redis import keys
from ..source import Opened, Price
from .body import Body
from .origins.port import Origin, OriginFailed, Values
from .resource import ABSENT_MS

if TYPE_CHECKING:
    from ..parts import Parts

_FREE = Price(Subject("", Layout(())))
_RESERVE_S = 1.0
"""Reserved before the deadline for the reply and what follows it."""


@dataclass(frozen=True, slots=True, eq=False)
class Fetching:
    """What is to be read, for one request."""

    origin: Origin
    values: Values
    max_bytes: int
    parts: "Parts"
    caller: str = ""
    """Whose request it is, by id; empty where nobody is known."""

    def lookup(self, now_ms: int) -> "Lookup[Fetch]":
        """The origin's circuit, and what can be read with it."""
        name = keys.circuit_of_origin(self.origin.name)
        found = self.parts.circuits.lookup([name], now_ms)
        breaker = self._breaker(name)
        return Lookup(
            found.keys,
            lambda texts: Fetch(self, breaker, found.read(texts)[0]),
            lambda: Fetch(self, breaker, found.unread()[0]),
        )

    def _breaker(self, name: str) -> Breaker:
        breaker = self.parts.breakers.get(name)
        if breaker is None:
            check = _check(self.origin, self.parts) if self.origin.has_check else None
            breaker = Breaker(self.parts.circuits, self.parts.settings.breaker, check)
            self.parts.breakers.put(name, breaker)
        return breaker


@dataclass(slots=True, eq=False)
class Fetch:
    """The origin as one request found it. See :class:`~..source.Seen`."""

    wanted: Fetching
    breaker: Breaker
    circuit: Reading
    attempts: list[Attempt] = field(default_factory=list)

    def look(self, after: Afterwards) -> None:
        """Begin the check that is due."""
        self.breaker.look(self.circuit, after)

    def standings(self, now_ms: int) -> Sequence[Standing]:
        """Whether it may be asked."""
        circuit = self.circuit.circuit
        return (Standing(circuit, own_until_ms=self.breaker.rests_until_ms(circuit, self.wanted.caller, now_ms)),)

    def price(self, place: int) -> Price:
        """Asking it costs nothing of a budget."""
        return _FREE

    async def open(
        self, call: Call, order: Sequence[int], first: Admission, after: Afterwards, *, stream: bool
    ) -> Opened[Never, Body]:
        """Ask it. Raises Exhausted."""
        wanted, left_s = self.wanted, _time_for(self.wanted, call)
        if not await self.breaker.admit(self.circuit, after, left_s, call.while_here):
            raise Exhausted(None)
        passage = self.breaker.begin(self.circuit, wanted.caller)
        left_s = _time_for(wanted, call)
        try:
            body = await call.while_here(_fetched(wanted, left_s))
        except OriginFailed as e:
            wanted.parts.emit(OriginFailure(wanted.origin.name, str(e), e.fault))
            failure = _failure_of(e, hurried=left_s < wanted.origin.timeout_s)
            if failure is None:
                self.breaker.ended(self.circuit, passage, e.kind, after)
                raise Exhausted(e) from e
            left_s = wanted.parts.clock.left_s(call.deadline) - _RESERVE_S
            quick = e.kind != "timeout" and left_s > self.breaker.policy.check_ms / 1000
            checking = await self.breaker.failed(self.circuit, passage, failure, e.kind, after, quick=quick)
            await self.breaker.wait_for(checking)
            raise Exhausted(e) from e
        except BaseException:
            # Nobody waits any more: that says nothing of the origin.
            self.breaker.ended(self.circuit, passage, "cancelled", after)
            raise
        self.breaker.succeeded(self.circuit, passage, after)
        fresh_ms = None if body.kind == "value" else ABSENT_MS
        piece = Done(body, keeps=len(body.content) <= wanted.max_bytes, fresh_ms=fresh_ms)
        return Opened("", _only(piece), _nothing)


def _time_for(wanted: Fetching, call: Call) -> float:
    """How long the origin may take."""
    left_s = wanted.parts.clock.left_s(call.deadline) - _RESERVE_S
    return max(0.0, min(wanted.origin.timeout_s, left_s))


async def _fetched(wanted: Fetching, left_s: float) -> Body:
    """The value. Raises OriginFailed, whatever goes wrong."""
    try:
        async with asyncio.timeout(left_s):
            return await wanted.origin.fetch(wanted.parts, wanted.values, left_s)
    except OriginFailed:
        raise
    except TimeoutError as e:
        raise OriginFailed("timeout", f"no answer within {left_s:.1f} s") from e
    except Exception as e:
        # Not its text, which may hold what was read. What an origin of ours raises is a bug in it.
        raise OriginFailed("raised", type(e).__name__) from e


def _check(origin: Origin, parts: "Parts") -> Check:
    async def check(timeout_s: float) -> Result:
        try:
            async with asyncio.timeout(timeout_s):
                await origin.check(parts)
        except TimeoutError:
            return Result("failed", "timeout")
        except OriginFailed as e:
            return Result("undecided") if e.fault == "ours" else Result("failed", e.kind, doubtful=e.kind == "server")
        except Exception as e:  # noqa: BLE001 - as in `_fetched`
            return Result("failed", type(e).__name__, doubtful=True)
        return PASSED

    return check


def _failure_of(error: OriginFailed, *, hurried: bool) -> Failure | None:
    """What a failure says of the origin; None: nothing. ``hurried``: it had less than its time, and may be late."""
    if error.fault != "theirs" or (error.kind == "timeout" and hurried):
        return None
    if error.kind == "throttled":
        return "throttled"
    return "soft" if error.sent else "never_sent"


async def _only(piece: Done[Body]) -> AsyncGenerator[Piece[Never, Body]]:
    yield piece


async def _nothing() -> None:
    """Nothing is open."""
