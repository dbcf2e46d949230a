"""How strictly limits are kept: the worst admitted-to-limit ratio, and refusals that an exact log would not make.

Both limiters meet the same calls at the same times on the same Redis. **Time is an argument**: Breakwater's rules take
it as one, and so does the script of `upstash_ratelimit`'s `SlidingWindow`, which runs here as its library passes it,
with the time of the call in place of `time.time()`. With several processes the clock is the machine's own monotonic
one, sped up: they agree on it without asking each other.
"""

from __future__ import annotations

import bisect
import multiprocessing
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import redis
from upstash_ratelimit import SlidingWindow

from bench.rig import Say
from dev.redis_server import RedisServer
from lib.limits import bitfield
from lib.limits.judge import judge
from lib.limits.window import Layout, window
from lib.redis.op import Op

LIMIT, LENGTH_MS = 10, 60_000
SPEED = 20.0
"""Seconds that pass for each real one, with several processes: so few that a busy machine's pauses stay short."""
_LAYOUT = Layout((window("minute", LIMIT),))
_SCRIPT = re.sub(r"\A#!lua[^\n]*", "", SlidingWindow.SCRIPT)
_NOON_MS = 1_763_553_600_000

type Limiter = Callable[[str, int], bool]


@dataclass(slots=True)
class Strict:
    """Breakwater's windows, by the operations that the functions send."""

    server: redis.Redis

    def __call__(self, caller: str, now_ms: int) -> bool:
        """Admit or refuse a call; a refusal is taken back."""
        tally = self._run(bitfield.spend(caller, _LAYOUT, 1, now_ms))
        quota = judge(_LAYOUT.windows, tally.usage, 1, now_ms, tally.added)
        if not quota.allowed:
            self._run(bitfield.refund(caller, _LAYOUT, 1, now_ms, tally.added))
        return quota.allowed

    def _run[T](self, op: Op[T]) -> T:
        together = self.server.pipeline(transaction=False)
        for command in op.commands:
            together.execute_command(*command)  # type: ignore[no-untyped-call]
        return op.read(together.execute())


@dataclass(slots=True)
class Stock:
    """`SlidingWindow` of `upstash_ratelimit`."""

    server: redis.Redis
    _script: Any = None

    def __call__(self, caller: str, now_ms: int) -> bool:
        """Admit or refuse a call."""
        if self._script is None:
            self._script = self.server.register_script(_SCRIPT)
        at = now_ms // LENGTH_MS
        keys = [f"stock:{caller}:{at}", f"stock:{caller}:{at - 1}"]
        return int(self._script(keys=keys, args=[LIMIT, now_ms, LENGTH_MS, 1])) >= 0


@dataclass(slots=True)
class Seen:
    """What became of the calls of one caller at one limiter: when, and whether admitted."""

    calls: list[tuple[int, bool]] = field(default_factory=list)

    @property
    def admitted(self) -> list[int]:
        """The times of admitted calls, in order."""
        return sorted(at for at, good in self.calls if good)

    def worst(self) -> int:
        """The most that was admitted in any closed window."""
        times = self.admitted
        return max((bisect.bisect_right(times, at + LENGTH_MS) - i for i, at in enumerate(times)), default=0)

    def false_refusals(self) -> int:
        """Refused calls that would have fitted beside all calls admitted in the window before them."""
        times = self.admitted
        refused = (at for at, good in self.calls if not good)
        return sum(bisect.bisect_right(times, at) - bisect.bisect_left(times, at - LENGTH_MS) < LIMIT for at in refused)


def boundary_attack(start_ms: int) -> Iterator[int]:
    """Silence, a burst just before a window's edge, then a try every quarter of a second through the next window."""
    edge = (start_ms // LENGTH_MS + 2) * LENGTH_MS
    yield from (edge - 2_000 + 50 * k for k in range(2 * LIMIT))
    yield from range(edge + 250, edge + LENGTH_MS + 5_000, 250)


def random_traffic(start_ms: int, load: float, minutes: int, seed: int) -> Iterator[int]:
    """Calls at random times, ``load`` times the limit on average."""
    chance, at = random.Random(seed), float(start_ms)  # noqa: S311 - traffic, not secrets
    while at < start_ms + minutes * LENGTH_MS:
        at += chance.expovariate(LIMIT * load / LENGTH_MS)
        yield int(at)


def steady_tries(start_ms: int, every_ms: int, minutes: int) -> Iterator[int]:
    """A caller that does not look at when it may come again, and tries at fixed times."""
    yield from range(start_ms, start_ms + minutes * LENGTH_MS, every_ms)


_STEADY_MS = (100, 500, 1_000)
_LOADS = (0.5, 0.8, 1.0, 1.5, 3.0)


def measure(say: Say, *, quick: bool) -> dict[str, Any]:
    """Both limiters under an attack and under random traffic, from 1 and from 8 processes."""
    minutes = 30 if quick else 240
    with RedisServer.start() as server, _connect(server.port) as client:
        both: dict[str, Limiter] = {"breakwater": Strict(client), "stock sliding window": Stock(client)}
        say("accuracy, one process")
        attacks = [_pair(both, f"attack-{k}", boundary_attack(_NOON_MS + k * 977_000)) for k in range(10)]
        found = [_row("boundary attack", 1, attacks)]
        for load in _LOADS:
            traffic = random_traffic(_NOON_MS, load, minutes, seed=int(load * 10))
            found.append(_row(f"random, {load:g} x the limit", 1, [_pair(both, f"random-{load}", traffic)]))
        for every_ms in _STEADY_MS:
            tries = steady_tries(_NOON_MS, every_ms, minutes)
            found.append(_row(f"a try every {every_ms / 1000:g} s", 1, [_pair(both, f"steady-{every_ms}", tries)]))
        for name in ("boundary attack", "random, 1.5 x the limit"):
            say(f"accuracy, eight processes, {name}")
            found.append(_row(name, 8, [_crowd(server.port, name, 2 if quick else 8)]))
        curve = {name: _curve(seen) for name, seen in attacks[0].items()}
    return {"limit": LIMIT, "length_ms": LENGTH_MS, "rows": found, "attack_curve": curve}


def _pair(both: dict[str, Limiter], caller: str, times: Iterator[int]) -> dict[str, Seen]:
    seen = {name: Seen() for name in both}
    for at in times:
        for name, limiter in both.items():
            seen[name].calls.append((at, limiter(caller, at)))
    return seen


def _row(traffic: str, processes: int, pairs: Sequence[dict[str, Seen]]) -> dict[str, Any]:
    about: dict[str, Any] = {"traffic": traffic, "processes": processes, "limiters": {}}
    for name in pairs[0]:
        each = [pair[name] for pair in pairs]
        calls = sum(len(seen.calls) for seen in each)
        about["calls"] = calls
        about["limiters"][name] = {
            "worst_to_limit": max(seen.worst() for seen in each) / LIMIT,
            "admitted": sum(len(seen.admitted) for seen in each),
            "false_refusals": sum(seen.false_refusals() for seen in each),
            "false_refusal_share": round(sum(seen.false_refusals() for seen in each) / calls, 4),
        }
    return about


def _curve(seen: Seen) -> list[tuple[float, int]]:
    """Calls admitted in the 60 s before each half second of the attack."""
    times, first = seen.admitted, seen.calls[0][0]
    points = range(first - 1_000, seen.calls[-1][0] + 1_000, 500)
    return [
        ((at - first) / 1000, bisect.bisect_right(times, at) - bisect.bisect_left(times, at - LENGTH_MS))
        for at in points
    ]


# Eight processes


def _crowd(port: int, name: str, minutes: int) -> dict[str, Seen]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(8, mp_context=context) as pool:
        list(pool.map(_awake, range(8)))
        # All know from here on what time it is.
        started = time.monotonic() + 2.0
        parts = list(pool.map(_one_of_many, *zip(*[(port, name, minutes, started, n) for n in range(8)], strict=True)))
    seen = {limiter: Seen() for limiter in parts[0]}
    for part in parts:
        for limiter, calls in part.items():
            seen[limiter].calls += calls
    return seen


def _awake(number: int) -> int:
    time.sleep(0.5)  # so that nobody does the work of two
    return number


def _one_of_many(port: int, name: str, minutes: int, started: float, number: int) -> dict[str, list[tuple[int, bool]]]:
    """Runs in a process of its own."""
    with _connect(port) as client:
        both: dict[str, Limiter] = {"breakwater": Strict(client), "stock sliding window": Stock(client)}
        if name == "boundary attack":
            plan = list(boundary_attack(_NOON_MS))
        else:
            plan = list(random_traffic(_NOON_MS, 1.5 / 8, minutes, seed=number))
        found: dict[str, list[tuple[int, bool]]] = {each: [] for each in both}
        begin_ms = plan[0] - 5_000 if name == "boundary attack" else _NOON_MS
        for at in plan:
            wait = started + (at - begin_ms) / 1000 / SPEED - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            for each, limiter in both.items():
                # The time at which it really asks: late is late.
                now_ms = begin_ms + int((time.monotonic() - started) * SPEED * 1000)
                found[each].append((now_ms, limiter(f"crowd-{name}", now_ms)))
        return found


def _connect(port: int) -> redis.Redis:
    return redis.Redis("127.0.0.1", port, protocol=2, driver_info=None)
