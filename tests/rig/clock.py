"""Time for tests: the time of day is set by hand, and no timeout depends on how busy the machine is."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextvars import Context
from dataclasses import dataclass, field, replace

import pytest

from lib.base.clock import Clock

NOON_MS = 1_763_553_601_000
"""A second past noon UTC, well inside a bucket of every window."""


@dataclass
class Time:
    """The time of day, set by hand. Durations are those of the event loop, which bound real servers."""

    ms: int = NOON_MS
    ahead_s: float = 0.0
    """How far durations have been moved on by hand."""
    slept: list[float] = field(default_factory=list)
    """How long somebody has waited on purpose, each time."""

    @property
    def clock(self) -> Clock:
        """A clock that shows it."""
        return Clock(lambda: self.ms, lambda: asyncio.get_running_loop().time() + self.ahead_s, self.sleep)

    async def sleep(self, seconds: float) -> None:
        """Wait for so long, as any clock does."""
        self.slept.append(seconds)
        await asyncio.sleep(seconds)

    def later(self, seconds: float) -> None:
        """Let so much pass, in the time of day and in durations."""
        self.ms += int(seconds * 1000)
        self.ahead_s += seconds


@dataclass
class Slept(Time):
    """Time that sleeping moves on. ``on_sleep`` may do what happens meanwhile; nothing is left to chance."""

    on_sleep: Callable[[], Awaitable[None]] | None = None

    @property
    def clock(self) -> Clock:
        """A clock that shows it."""
        return replace(super().clock, jitter=lambda: 0.0)

    async def sleep(self, seconds: float) -> None:
        """Move time on, at once."""
        self.slept.append(seconds)
        self.ms += int(seconds * 1000)
        if self.on_sleep is not None:
            await self.on_sleep()
        await asyncio.sleep(0)


async def until(ready: Callable[[], bool]) -> None:
    """Wait, without blocking the loop, for what happens in another thread or process; a minute at most."""
    give_up = time.monotonic() + 60
    while not ready():
        if time.monotonic() > give_up:
            raise AssertionError("what was waited for did not happen")
        # In a thread: the loop's own seconds may be longer (`PatientLoop`).
        await asyncio.to_thread(time.sleep, 0.005)


class PatientLoop(asyncio.SelectorEventLoop):
    """An event loop whose time goes a hundred times slower than the machine's, and jumps when a test says so.

    A busy machine then runs into no timeout of the code under test. What a party keeps waiting on purpose costs no time
    either: it calls :meth:`jump` when it begins to, and the next timer is due. The durations that a test measures by
    this loop are those timers', almost exactly.

    As fixture: ``anyio_backend`` returns ``PATIENT_BACKEND``; in a test the loop is ``patient()``.
    """

    SLOWER = 100
    FAR_S = 4.0
    """Timers further away are of what works, or bound a whole request; who waits on purpose waits for a nearer one."""
    _TURNS = 50
    """Turns of the loop between a request that went out and the last timer that is set for it, with room to spare."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._jumped = 0.0
        self._timers: list[asyncio.TimerHandle] = []
        super().__init__()

    def time(self) -> float:
        """Seconds by this loop."""
        return self._began + (time.monotonic() - self._began) / self.SLOWER + self._jumped

    def jump(self) -> None:
        """Move time on to the next timer, unless it is far away. From any thread."""
        self.call_soon_threadsafe(self._later, self._jump, self._TURNS)

    def move(self, seconds: float) -> Future[None]:
        """Move time on by so much. From any thread; done when it has."""
        moved = Future[None]()

        def move() -> None:
            self._jumped += seconds
            moved.set_result(None)

        self.call_soon_threadsafe(self._later, move, self._TURNS)
        return moved

    def _jump(self) -> None:
        left = min((timer.when() for timer in self._pending()), default=math.inf) - self.time()
        if left < self.FAR_S:
            self._jumped += max(0.0, left)

    def _later(self, do: Callable[[], None], turns: int) -> None:
        if turns:
            self.call_soon(self._later, do, turns - 1)
        else:
            do()

    def call_at[*Ts](
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As any loop does; the timer is remembered."""
        timer = super().call_at(when, callback, *args, context=context)
        self._timers = [*self._pending(), timer]
        return timer

    def _pending(self) -> list[asyncio.TimerHandle]:
        now = self.time()
        return [timer for timer in self._timers if not timer.cancelled() and timer.when() > now]


PATIENT_BACKEND: tuple[str, dict[str, object]] = ("asyncio", {"loop_factory": PatientLoop})
"""For the fixture ``anyio_backend``."""


about_timeouts = pytest.mark.parametrize("anyio_backend", [pytest.param(PATIENT_BACKEND, id="timeouts")])
"""Marks a test of timeouts: its rig has production's, and time moves on to them when a store is told to hang."""


def patient() -> PatientLoop:
    """The loop that runs this test."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, PatientLoop)
    return loop
