"""Instances, callers and a backend in simulated time, around the real circuits.

Everything of ``lib/breaker`` is the real code, and so is what is sent after a reply. Simulated are the event loop's
time, which jumps to the next timer, and Redis, which is a dictionary with the circuit's own compare-and-swap.
"""

import asyncio
import random
import selectors
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from lib.afterwards import Afterwards, Outbox
from lib.base.clock import Clock
from lib.breaker import stored
from lib.breaker.breaker import Breaker
from lib.breaker.checks import PASSED, Check, Result
from lib.breaker.circuit import BreakerPolicy, Circuit, Failure, view
from lib.breaker.shared import SharedCircuits
from lib.redis import keys
from lib.redis.op import Op
from lib.redis.store import RedisStore

START_MS = 1_763_553_600_000
NAME = "simulated"
TIMEOUT_S = 60.0


class SimulatedLoop(asyncio.SelectorEventLoop):
    """A loop in which nobody waits: where all do, its time is at once that of the next timer."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Jumps(self))

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self.now


class _Jumps(selectors.SelectSelector):
    def __init__(self, loop: SimulatedLoop) -> None:
        super().__init__()
        self.loop = loop

    def select(self, timeout: float | None = None) -> Any:
        if timeout:
            self.loop.now += timeout
        return super().select(0)


@dataclass
class Shared:
    """What all instances read and write: Redis, as far as a circuit needs it."""

    texts: dict[str, str] = field(default_factory=dict)
    swaps: int = 0
    reads: int = 0

    async def run[T](self, op: Op[T], phase: str, left_s: float) -> T:
        """One round trip, of 2 ms."""
        await asyncio.sleep(0.001)
        replies = [self._execute(command) for command in op.commands]
        await asyncio.sleep(0.001)
        return op.read(replies)

    def _execute(self, command: Sequence[Any]) -> Any:
        if command[0] == "GET":
            self.reads += 1
            return self.texts.get(command[1])
        assert command[0] == "EVAL", command
        _, _, _, key, expected, new, _ = command
        self.swaps += 1
        held = self.texts.get(key, "")
        if held != expected:
            return [0, held]
        self.texts[key] = new
        if not new:
            del self.texts[key]
        return [1, new]


@dataclass(frozen=True)
class Fails:
    """How a call fails: after so many seconds, in a way that counts as ``failure``."""

    failure: Failure
    reason: str
    after_s: float
    doubtful: bool = False
    rests_s: float | None = None

    @property
    def quick(self) -> bool:
        """Whether the request that met it has time to check."""
        return self.reason != "timeout"

    def checked(self, now_ms: int, policy: BreakerPolicy) -> Result:
        """The same as a check's result."""
        until_ms = None if self.rests_s is None else now_ms + int(min(self.rests_s * 1000, policy.max_rest_ms))
        return Result("failed", self.reason, self.doubtful, until_ms)


REFUSED = Fails("never_sent", "connection", 0.01)
STATUS_500 = Fails("soft", "server", 0.3, doubtful=True)
STATUS_503 = Fails("soft", "server", 0.3)
STATUS_429 = Fails("throttled", "throttled", 0.2, rests_s=9_999_999)
HANGS = Fails("soft", "timeout", TIMEOUT_S)


@dataclass
class World:
    """Some instances before one backend."""

    seed: int
    instances: int = 1
    policy: BreakerPolicy = field(default_factory=BreakerPolicy)
    checked: bool = True
    trouble: Callable[[float], Fails | None] = lambda at_s: None
    """How every call fails that begins at this time, if it does."""
    shared: Shared = field(default_factory=Shared)
    answered: list[float] = field(default_factory=list)
    """When good requests came that were answered."""
    refused: list[float] = field(default_factory=list)
    """When good requests came that a circuit refused."""
    failed: list[float] = field(default_factory=list)
    """When good requests came that reached the backend in vain."""
    poisoned: int = 0
    """Attackers' calls that reached the backend."""
    checks: int = 0
    opened: list[float] = field(default_factory=list)
    closed: list[float] = field(default_factory=list)
    _breakers: list[Breaker] = field(default_factory=list)
    _outboxes: list[Outbox] = field(default_factory=list)
    _tasks: set[asyncio.Future[Any]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)  # noqa: S311 - a simulation

    @property
    def now_s(self) -> float:
        """Seconds since the beginning."""
        return asyncio.get_running_loop().time()

    @property
    def circuit(self) -> Circuit:
        """The circuit as Redis holds it."""
        return stored.parse(self.shared.texts.get(keys.circuit(NAME)))

    def run(self, *loads: Callable[["World"], Any]) -> "World":
        """Play the loads to their end."""

        async def play() -> None:
            clock = Clock(now_ms=lambda: START_MS + int(self.now_s * 1000), monotonic=lambda: self.now_s)
            redis = cast("RedisStore", self.shared)
            for _ in range(self.instances):
                circuits = SharedCircuits(redis, clock, self._heard)
                check: Check | None = self._check if self.checked else None
                self._breakers.append(Breaker(circuits, self.policy, check))
                self._outboxes.append(Outbox(redis, self._heard))
            await asyncio.gather(*(load(self) for load in loads))
            while self._tasks:
                await asyncio.wait(self._tasks)

        with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
            runner.run(play())
        return self

    def _heard(self, event: Any) -> None:
        if getattr(event, "after", "") == "open":
            self.opened.append(self.now_s)
        elif getattr(event, "after", "") == "closed" and event.before == "probing":
            self.closed.append(self.now_s)

    async def _check(self, timeout_s: float) -> Result:
        self.checks += 1
        fails = self.trouble(self.now_s)
        if fails is None:
            await asyncio.sleep(0.4)
            return PASSED
        await asyncio.sleep(min(fails.after_s, timeout_s))
        return fails.checked(START_MS + int(self.now_s * 1000), self.policy)

    async def request(self, caller: str, poison: Fails | None = None) -> None:
        """One request of a caller; with ``poison``, of one whose questions fail however well the backend is."""
        at = self.random.randrange(self.instances)
        breaker, came_s, after = self._breakers[at], self.now_s, Afterwards()
        reading = await breaker.circuits.read(NAME, "circuit")
        breaker.look(reading, after)
        now_ms = breaker.now_ms
        own = breaker.rests_until_ms(reading.circuit, caller, now_ms) > now_ms
        may = not own and view(reading.circuit, now_ms) != "refuse" and await breaker.admit(reading, after, 290.0)
        if not may:
            if poison is None:
                self.refused.append(came_s)
        else:
            await self._call(breaker, reading, caller, after, came_s, poison)
        sending = asyncio.ensure_future(self._outboxes[at].send(after, 60.0))
        self._tasks.add(sending)
        sending.add_done_callback(self._tasks.discard)

    async def _call(
        self, breaker: Breaker, reading: Any, caller: str, after: Afterwards, came_s: float, poison: Fails | None
    ) -> None:
        passage = breaker.begin(reading, caller)
        fails = poison or self.trouble(self.now_s)
        if fails is None:
            await asyncio.sleep(self.random.uniform(0.5, 2.0))
            breaker.succeeded(reading, passage, after)
            self.answered.append(came_s)
            return
        await asyncio.sleep(fails.after_s)
        if poison is None:
            self.failed.append(came_s)
        else:
            self.poisoned += 1
        checking = await breaker.failed(reading, passage, fails.failure, fails.reason, after, quick=fails.quick)
        await breaker.wait_for(checking)

    def begin(self, request: Any) -> None:
        """A request that nobody waits for."""
        task = asyncio.ensure_future(request)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


type Load = Callable[[World], Any]


def good(per_s: float, until_s: float) -> Load:
    """Requests of many callers, at random times."""

    async def load(world: World) -> None:
        number = 0
        while per_s and world.now_s < until_s:
            await asyncio.sleep(world.random.expovariate(per_s))
            number += 1
            world.begin(world.request(f"good-{number % 50}"))

    return load


def one_user(until_s: float, pause_s: float = 2.0) -> Load:
    """One caller, who asks again a while after each reply."""

    async def load(world: World) -> None:
        while world.now_s < until_s:
            await world.request("user")
            await asyncio.sleep(pause_s)

    return load


def attackers(count: int, poison: Fails, until_s: float) -> Load:
    """Addresses that use their 10 a minute for questions that fail, in bursts of 4."""

    async def one(world: World, name: str) -> None:
        await asyncio.sleep(world.random.uniform(5, 10))
        while world.now_s < until_s:
            for _ in range(4):
                world.begin(world.request(name, poison))
            await asyncio.sleep(24.0)

    async def load(world: World) -> None:
        await asyncio.gather(*(one(world, f"attacker-{number}") for number in range(count)))

    return load
