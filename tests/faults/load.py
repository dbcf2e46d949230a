"""Load from several processes while Redis and PostgreSQL are killed and come back; what was admitted, and its bound.

Each process is an instance with its own memory, connections and clock. New callers appear all the time, so that at any
moment some are in the middle of their minute, and each is served by all instances at once.
"""

import asyncio
import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.synchronize import Barrier

from lib.base.clock import Clock
from lib.base.events import ModeSwitched, StoreSwitched
from tests.faults.rig import Rig
from tests.rig.instance import started, together
from tests.rig.redis import PATIENT

LIMIT, MINUTE_S = 10, 60.0
PROCESSES, AT_ONCE = 4, 3
_NEW_EVERY_S, _LIVES_S = 1.0, 4
_READY_S = 120.0


@dataclass(frozen=True)
class Reply:
    """One call, as its caller saw it; times of one clock for all processes, in seconds."""

    instance: int
    caller: str
    began: float
    ended: float
    status: int
    mode: str
    detail: str = ""

    @property
    def admitted(self) -> bool:
        """Whether the limits let it pass."""
        return self.status != 429


@dataclass
class Report:
    """What the load saw."""

    replies: list[Reply]
    switches: int
    """Events that told of a switch, of all processes."""
    seconds: float
    events: list[str] = field(default_factory=list)

    @property
    def statuses(self) -> Counter[int]:
        """How often each status came."""
        return Counter(each.status for each in self.replies)

    @property
    def modes(self) -> Counter[str]:
        """Who counted, how often."""
        return Counter(each.mode for each in self.replies)

    @property
    def error_rate(self) -> float:
        """The share of replies that are neither an answer nor a refusal."""
        return sum(each.status not in (200, 429) for each in self.replies) / max(1, len(self.replies))

    @property
    def slowest_ms(self) -> float:
        """The longest call."""
        return max((each.ended - each.began for each in self.replies), default=0) * 1000

    def callers(self) -> list[tuple[str, int, int]]:
        """Each caller, the most it was admitted in a minute, and the bound for it."""
        by_caller: dict[str, list[Reply]] = {}
        for each in self.replies:
            by_caller.setdefault(each.caller, []).append(each)
        return [(name, _most(found), LIMIT + unseen(found)) for name, found in by_caller.items()]

    def text(self) -> str:
        """For a person."""
        callers = self.callers()
        above = [most - LIMIT for _, most, _ in callers if most > LIMIT]
        beyond = sum(most > bound for _, most, bound in callers)
        count, seconds = len(self.replies), self.seconds
        lines = [
            f"{count} calls of {len(callers)} callers in {seconds:.0f} s from {PROCESSES} processes",
            f"statuses {dict(self.statuses)}, modes {dict(self.modes)}, errors {self.error_rate:.4%}",
            f"slowest {self.slowest_ms:.0f} ms, {self.switches} switches told",
            f"callers above the limit: {len(above)}, by {max(above, default=0)} at most; above their bound: {beyond}",
        ]
        return "\n".join(lines)


def _most(replies: Sequence[Reply]) -> int:
    times = sorted(each.ended for each in replies if each.admitted)
    # A call is dated by its end, its decision by a moment before: half a second belongs to neither side.
    return max((sum(start <= at <= start + MINUTE_S - 0.5 for at in times) for start in times), default=0)


def unseen(replies: Sequence[Reply]) -> int:
    """The bound's u of docs/failure-modes.md, from what each instance can have known.

    For a call that Supabase (or memory) admitted: those that Redis had admitted since the instances that had asked
    Supabase by then last heard from Redis. For one that Redis admitted: those admitted elsewhere since an instance last
    came back. The worst of each, added, and all that memories admitted; a call in flight is not known.
    """
    in_order = sorted(replies, key=lambda each: each.ended)
    heard: dict[int, float] = {}
    asking: set[int] = set()
    last_mode: dict[int, str] = {}
    marked = 0.0
    worst = {"redis": 0, "elsewhere": 0}
    for each in in_order:
        recent = [r for r in in_order if each.ended - MINUTE_S <= r.ended and r.began <= each.ended and r.admitted]
        if each.mode == "redis":
            if last_mode.get(each.instance, "redis") != "redis":
                marked, asking = each.began, set()
            late = [r for r in recent if r.mode == "supabase" and r.ended > marked]
            if each.admitted:
                worst["redis"] = max(worst["redis"], len(late))
            heard[each.instance] = each.began
        else:
            asking.add(each.instance)
            known_until = max(heard.get(who, 0.0) for who in asking)
            late = [r for r in recent if r.mode == "redis" and r.ended > known_until]
            if each.admitted:
                worst["elsewhere"] = max(worst["elsewhere"], len(late))
        last_mode[each.instance] = each.mode
    return sum(worst.values()) + sum(each.mode == "local" and each.admitted for each in replies)


_start: Barrier
"""In each process: all go when all are ready, for importing takes as long as the machine likes."""


def _prepare(start: Barrier) -> None:
    global _start  # noqa: PLW0603 - a process of a pool has no other place for what it is given
    _start = start


def instance(environ: dict[str, str], number: int, seconds: float) -> tuple[list[Reply], int]:
    """In a process of its own: ask until the time is over."""
    _start.wait(_READY_S)
    return asyncio.run(_instance(environ, number, time.monotonic(), seconds))


async def _instance(environ: dict[str, str], number: int, began: float, seconds: float) -> tuple[list[Reply], int]:
    made = started(environ, Clock())
    replies: list[Reply] = []

    async def caller(seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311 - nobody is to be surprised by it
        while (now := time.monotonic()) < began + seconds:
            generation = int((now - began) / _NEW_EVERY_S) - chance.randrange(_LIVES_S)
            name = f"10.1.{max(0, generation)}.{chance.randrange(2)}"
            response = await made.ask(f"question {chance.randrange(1_000_000)}", name)
            mode, detail = response.headers.get("x-guard-mode", ""), ""
            if response.status_code not in (200, 429):
                detail = response.text[:300]
            replies.append(Reply(number, name, now, time.monotonic(), response.status_code, mode, detail))
            await asyncio.sleep(0.01 + chance.random() * 0.06)

    await together([caller(number * 100 + each) for each in range(AT_ONCE)])
    await made.aclose()
    return replies, len(made.seen(ModeSwitched)) + len(made.seen(StoreSwitched))


type Act = tuple[float, str, Callable[[], None]]


async def run(rig: Rig, seconds: float, acts: Sequence[Act]) -> Report:
    """Load for so long; each act happens at its second."""
    rig.forget()
    context = multiprocessing.get_context("spawn")
    environ = {**rig.environ, "REDIS_COOLDOWN_MS": "1000", "AI_TIMEOUT_MS": "20000", **PATIENT}
    told: list[str] = []
    start = context.Barrier(PROCESSES + 1)
    with ProcessPoolExecutor(PROCESSES, context, _prepare, (start,)) as processes:
        loop = asyncio.get_running_loop()
        futures = [loop.run_in_executor(processes, instance, environ, number, seconds) for number in range(PROCESSES)]
        await asyncio.to_thread(start.wait, _READY_S)
        began = time.monotonic()
        for at, what, act in acts:
            await asyncio.sleep(max(0.0, began + at - time.monotonic()))
            # In this thread, with which the servers that it starts live and die.
            act()
            told.append(f"{time.monotonic() - began:5.1f} s  {what}")
        found = await asyncio.gather(*futures)
    replies = [each for part, _ in found for each in part]
    return Report(replies, sum(switches for _, switches in found), seconds, told)


def killed_and_returned(rig: Rig, seconds: float) -> list[Act]:
    """Redis is killed and comes back empty; then PostgreSQL, while Redis is well; then both at one time."""
    third = seconds / 3
    return [
        (third * 0.5, "Redis killed", rig.redis.kill),
        (third * 1.0, "Redis back, empty", rig.redis.restart),
        (third * 1.4, "PostgreSQL killed", rig.supabase.kill),
        (third * 1.7, "PostgreSQL back", rig.supabase.restart),
        (third * 2.0, "Redis killed as well", rig.redis.kill),
        (third * 2.0, "PostgreSQL killed as well", rig.supabase.kill),
        (third * 2.4, "PostgreSQL back", rig.supabase.restart),
        (third * 2.4, "Redis back, empty", rig.redis.restart),
    ]


def only_redis(rig: Rig, seconds: float) -> list[Act]:
    """Redis is killed in the middle of everybody's minute, and comes back."""
    return [
        (seconds * 0.35, "Redis killed", rig.redis.kill),
        (seconds * 0.6, "Redis back, empty", rig.redis.restart),
    ]


def flapping(rig: Rig, seconds: float) -> list[Act]:
    """Every other request to Redis is reset for a while."""
    return [
        (seconds * 0.2, "Redis flaps", lambda: rig.redis.proxy.set("flap")),
        (seconds * 0.6, "Redis is well", lambda: rig.redis.proxy.set("pass")),
    ]


def faults_of(report: Report) -> list[str]:
    """What must not have happened."""
    found = []
    if any(each.status == 500 for each in report.replies):
        found.append("a 500")
    if report.error_rate >= 0.001:
        found.append(f"errors {report.error_rate:.3%}: {[r.detail for r in report.replies if r.detail][:3]}")
    found += [f"{name} got {most}, bound {bound}" for name, most, bound in report.callers() if most > bound]
    if len(report.modes) < 2:
        found.append("no outage was noticed")
    # A store's rest lasts a second here: it may be left and asked again as often, told of the store and of the mode.
    if report.switches > PROCESSES * 4 * report.seconds:
        found.append(f"{report.switches} switches told")
    return found
