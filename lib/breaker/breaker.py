"""One source's circuit as an instance works with it: who may call, what a result means, and who checks.

The rules are in ``circuit.py``. Here is what they need besides the shared value: the calls of this instance
and the callers' own circuits (``calls.py``), and the check, which runs as a task beside the request that
started it and is waited for after its reply.
"""

import asyncio
import os
from contextlib import suppress
from dataclasses import field
from typing import TYPE_CHECKING

from ..afterwards import Afterwards
from ..base.leaving import WhileHere, in_any_case
from ..base.values import dataclass
from ..redis.errors import RedisDown
from . import circuit as rules
from .calls import Calls, OwnCircuits
from .circuit import BreakerPolicy, Circuit, Failure, Ticket
from .shared import Change, Reading, SharedCircuits

if TYPE_CHECKING:
    from .checks import Check, Result

_VERDICT_S = 1.0
"""A request whose failure is being checked waits so long before its reply, so that the next one meets the verdict."""
_AGAIN_S = 1.0
_KNOWN_MS = 60_000
"""Where a success of so lately is known, one failed check may be chance: a second one has to fail as well."""


@dataclass(frozen=True, slots=True)
class Passage:
    """One call that may go."""

    ticket: Ticket
    caller: str
    number: int


@dataclass(slots=True, eq=False)
class Breaker:
    """The circuit of one source in one instance."""

    circuits: SharedCircuits
    policy: BreakerPolicy
    check: "Check | None" = None
    unchecked_until_ms: int = 0
    """Until when no check is to be had: its share of a daily budget is used up."""
    calls: Calls = field(default_factory=Calls)
    own: OwnCircuits = field(init=False)

    def __post_init__(self) -> None:
        self.own = OwnCircuits(self.policy.threshold)

    @property
    def now_ms(self) -> int:
        """The time."""
        return self.circuits.clock.now_ms()

    @property
    def checked(self) -> bool:
        """Whether a check decides."""
        return self.check is not None and self.unchecked_until_ms <= self.now_ms

    def rests_until_ms(self, circuit: Circuit, caller: str, now_ms: int) -> int:
        """Until when this caller is passed over because of its own failures."""
        self.own.saw(circuit, now_ms)
        return self.own.until_ms(caller)

    def look(self, reading: Reading, after: Afterwards) -> None:
        """Start the check that is due, whatever the request that read this is about."""
        now_ms, check = self.now_ms, self.check
        if check is None or not self.checked:
            return
        due, owner = rules.check_is_due(reading.circuit, now_ms), _owner()
        stalled = () if due else self.calls.stalled(reading.circuit, now_ms)

        def take(circuit: Circuit) -> Circuit:
            if stalled:
                return rules.stalls(circuit, stalled, owner, now_ms, self.policy)
            if rules.check_is_due(circuit, now_ms):
                return rules.claim(circuit, owner, now_ms, self.policy.check_lease_ms)
            return circuit

        async def claim_and_check() -> None:
            await self._move(reading, take, "stalled" if stalled else "checking")
            if reading.circuit.owner == owner:
                await self._check(check, reading, owner)

        if due or stalled:
            after.waits.append(asyncio.ensure_future(claim_and_check()))

    async def admit(
        self, reading: Reading, after: Afterwards, left_s: float, while_here: WhileHere = in_any_case
    ) -> bool:
        """Whether a call may go. Where the pause of an open circuit is over, whoever claims it checks first."""
        now_ms = self.now_ms
        match rules.view(reading.circuit, now_ms):
            case "pass":
                return True
            case "refuse":
                return False
        owner, check = _owner(), self.check if self.checked else None
        lease_ms = self.policy.check_lease_ms if check else self.policy.lease_ms

        def take(circuit: Circuit) -> Circuit:
            may = rules.view(circuit, now_ms) == "probe"
            return rules.claim(circuit, owner, now_ms, lease_ms) if may else circuit

        # Where Redis fails, the circuit stays there as it was; this instance goes on as if the probe were its own.
        await self._move(reading, take, "probe")
        if reading.circuit.owner != owner:
            return rules.view(reading.circuit, now_ms) == "pass"
        if check is None:
            return True
        checking = asyncio.ensure_future(self._check(check, reading, owner))
        after.waits.append(checking)
        # The request may be given up meanwhile; the check is not.
        await while_here(asyncio.wait({checking}, timeout=left_s))
        return rules.view(reading.circuit, now_ms) == "pass"

    def begin(self, reading: Reading, caller: str) -> Passage:
        """A call goes out."""
        ticket = rules.ticket(reading.circuit, self.now_ms, rules.tag_of(caller))
        return Passage(ticket, caller, self.calls.begin(ticket))

    def succeeded(self, reading: Reading, passage: Passage, after: Afterwards) -> None:
        """It succeeded."""
        self._has_succeeded(passage)
        held = passage.ticket
        self.circuits.move(reading, lambda circuit: rules.succeed(circuit, held, self.policy), "answered", after)

    def rests(self, reading: Reading, passage: Passage, until_ms: int, after: Afterwards) -> None:
        """It succeeded, and the source will refuse the next ones until then."""
        self._has_succeeded(passage)
        held, now_ms = passage.ticket, self.now_ms
        until_ms = min(until_ms, now_ms + self.policy.max_rest_ms)
        reason = "used_up"
        self.circuits.move(reading, lambda circuit: rules.rest(circuit, held, now_ms, until_ms, reason), reason, after)

    def _has_succeeded(self, passage: Passage) -> None:
        self.calls.end(passage.number, succeeded=True)
        self.own.succeed(passage.caller)

    def ended(self, reading: Reading, passage: Passage, reason: str, after: Afterwards) -> None:
        """It ended in a way that says nothing of the source: its caller left, or was at fault."""
        self.calls.end(passage.number)
        held, now_ms = passage.ticket, self.now_ms
        self.circuits.move(reading, lambda circuit: rules.release(circuit, held, now_ms), reason, after)

    async def failed(
        self,
        reading: Reading,
        passage: Passage,
        failure: Failure,
        reason: str,
        after: Afterwards,
        *,
        quick: bool,
        at_once: bool = False,
    ) -> "asyncio.Future[None] | None":
        """It failed; the check that this started, if it did, to wait for a while.

        ``quick``: the request has time to check. ``at_once``: other instances should know before it goes on.
        """
        self.calls.end(passage.number)
        now_ms, check = self.now_ms, self.check if self.checked else None
        self.own.fail(passage.caller, failure, now_ms)
        owner = _owner() if quick and check else ""

        def fail(circuit: Circuit) -> Circuit:
            return rules.fail(
                circuit,
                passage.ticket,
                failure,
                now_ms,
                self.policy,
                reason,
                ok_began_ms=self.calls.ok_began_ms,
                owner=owner,
                checked=check is not None,
            )

        def start(circuit: Circuit) -> "asyncio.Future[None] | None":
            if not check or not owner or circuit.owner != owner:
                return None
            checking = asyncio.ensure_future(self._check(check, reading, owner))
            after.waits.append(checking)
            return checking

        if not at_once and not (owner and fail(self.circuits.known(reading.name)).owner == owner):
            # Together with what others have failed meanwhile it may be a suspicion all the same.
            self.circuits.move(reading, fail, reason, after, start)
            return None
        await self._move(reading, fail, reason)
        return start(reading.circuit)

    async def _check(self, check: "Check", reading: Reading, owner: str) -> None:
        """Ask, twice where the first failure may be chance, and tell everybody what came of it."""
        policy, began_ms = self.policy, self.now_ms
        timeout_s = policy.check_ms / 1000
        try:
            result = await check(timeout_s)
            if result.doubtful and self.calls.knows_success(reading.circuit, began_ms, _KNOWN_MS):
                await self.circuits.clock.sleep(_AGAIN_S)
                result = await check(timeout_s)
        except BaseException:
            await self._tell(
                reading, lambda circuit: rules.check_undecided(circuit, owner, self.now_ms, policy), "no verdict"
            )
            raise
        if result.verdict == "passed":
            self.calls.ok_began_ms = max(self.calls.ok_began_ms, began_ms)
        await self._tell(reading, lambda circuit: self._decided(circuit, result, owner, began_ms), result.kind)

    def _decided(self, circuit: Circuit, result: "Result", owner: str, began_ms: int) -> Circuit:
        now_ms = self.now_ms
        match result.verdict:
            case "passed":
                return rules.check_passed(circuit, owner, began_ms, now_ms, self.policy)
            case "failed":
                return rules.check_failed(circuit, owner, now_ms, self.policy, result.kind, result.until_ms)
            case "undecided":
                return rules.check_undecided(circuit, owner, now_ms, self.policy)

    @staticmethod
    async def wait_for(checking: "asyncio.Future[None] | None") -> None:
        """Wait a moment for a check, so that the next request meets what it found."""
        if checking is not None:
            await asyncio.wait({checking}, timeout=_VERDICT_S)

    async def _tell(self, reading: Reading, change: Change, reason: str) -> None:
        """What a check found: everybody waits for it, so it is told whatever this instance has heard meanwhile."""
        with suppress(RedisDown):
            await self.circuits.move_now(reading, change, reason, in_any_case=True)

    async def _move(self, reading: Reading, change: Change, reason: str) -> None:
        with suppress(RedisDown):
            await self.circuits.move_now(reading, change, reason)


def _owner() -> str:
    return os.urandom(8).hex()
