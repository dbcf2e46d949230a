"""An adversary with nothing but requests, against several instances: what each attack cost release 0.1, and costs now.

Each attack measures something and knows the bound that it must not pass. What 0.1 did is from the repository's history:
measured when the attacks were found, not by these functions.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpcore

from dev.faults import Fault
from dev.proxy import Proxy
from lib.afterwards import Afterwards
from lib.base.events import StoreFailed
from lib.limits.admission import Subject
from lib.limits.grammar import parse_limits
from tests.rig.clock import patient
from tests.rig.guard import Rig
from tests.rig.instance import ADMIN, Instance
from tests.rig.redis import PATIENT

TRANSPORTS = ("rest", "tcp")
"""The ways of the instances to Redis."""
INSTANCES = 4
HOUR_S = 3_600
LA = "America/Los_Angeles"


@dataclass(frozen=True)
class Row:
    """One line of the table: what an attack cost."""

    attack: str
    measured: str
    before: str
    """With release 0.1; empty where it was not measured."""
    now: float
    bound: float
    at_least: bool = False
    """Whether the bound is a lower one."""

    @property
    def holds(self) -> bool:
        """Whether the bound is kept."""
        return self.now >= self.bound if self.at_least else self.now <= self.bound

    def text(self) -> str:
        """For a person."""
        bound = f"{'>=' if self.at_least else '<='} {self.bound:g}"
        told = "ok" if self.holds else "BROKEN"
        return f"{self.attack:<44} {self.measured:<50} {self.before:>7} {self.now:>8.4g}  {bound:<9} {told}"


HEAD = f"{'attack':<44} {'measured':<50} {'0.1':>7} {'now':>8}  bound"

type Attack = Callable[[Rig, bool], AsyncIterator[Row]]
"""Plays an attack on a rig that it may change as it likes, in its short form or in whole."""


def fleet(rig: Rig, **environ: str) -> list[Instance]:
    """So many new instances, whose callers are not limited unless that is said, on empty stores."""
    rig.front.empty()
    rig.script.reset()
    return [rig.instance(**{"RATELIMIT_AI_SUPERVISOR": "off", **environ}) for _ in range(INSTANCES)]


async def answered(asked: Sequence[Instance], times: int = 1, **about: Any) -> list[int]:
    """Questions of new callers, one by one: their statuses."""
    return [(await each.ask_anew(**about)).status_code for _ in range(times) for each in asked]


# CASES 31 and 32: one caller's trouble stays that caller's

HUGE = b'{"answer":"%s"}' % (b"x" * 4_200_000)
POISON: dict[str, tuple[dict[str, Any], int]] = {
    "3 questions answered with 500": ({"status": 500}, 3),
    "3 questions that time out": ({"hold": True}, 3),
    "3 answers above 4 MiB": ({"body": HUGE}, 3),
    "one 429 with Retry-After: 9999999": ({"status": 429, "headers": {"retry-after": "9999999"}}, 1),
}


async def poisoned(rig: Rig, _short: bool) -> AsyncIterator[Row]:
    """Questions at which the provider fails, three rounds of them; everybody else asks meanwhile and afterwards."""
    for attack, (told, questions) in POISON.items():
        made, statuses = fleet(rig, AI_TIMEOUT_MS="1500"), list[int]()
        rig.script.reset(**told, only="poison", waits=patient().jump if "hold" in told else None)
        for number in range(3):
            for question in range(questions):
                assert (await made[0].ask(f"poison {number} {question}", "10.9.9.9")).status_code >= 500
                statuses += await answered(made)
            statuses += await answered(made, 2)
            rig.time.later(61)
        yield Row(attack, "answers to all others, of 100", "3", 100 * share(statuses), 100, at_least=True)


def share(statuses: Sequence[int]) -> float:
    """How many of them were answered."""
    return statuses.count(200) / len(statuses)


async def too_costly(rig: Rig, _short: bool) -> AsyncIterator[Row]:
    """A question for nearly all of a day's tokens, when some are used; what others are told afterwards."""
    made, attack = fleet(rig, CLOUD_RUN_LIMITS="100000 tokens/day"), "99,990 of 100,000 tokens a day"
    rig.script.reset(body=b'{"answer":"41 %","model":"m","usage":{"totalTokens":30}}')
    assert await answered(made) == [200] * INSTANCES
    refused = await made[0].ask_anew(parameters={"maxTokens": 99_990})
    assert (refused.status_code, refused.json()["code"]) == (503, "budget_spent")
    replies = [await each.ask_anew() for each in made for _ in range(3)]
    longest = max(int(reply.headers.get("retry-after", "0")) for reply in replies)
    yield Row(attack, "seconds that others are told to wait", "87442", longest, 0)


# CASE 33: budgets that change

CHANGES: dict[str, tuple[str, int, str, int, str, int, bool]] = {
    "30/day in Los Angeles, 20 used, then 300": (f"30/day@{LA}", 20, f"300/day@{LA}", 5, "0", 5, True),
    "20/day in Los Angeles used up, then 20/day": (f"20/day@{LA}", 20, "20/day", 20, "20", 0, False),
    "200/minute in the morning, 14 in the evening": ("200/minute", 100, "14/minute", 14, "2", 14, True),
}


async def changed_budgets(rig: Rig, _short: bool) -> AsyncIterator[Row]:
    """A provider's budget is used, then changed by a new deployment."""
    for attack, (first, used, second, asked, before, bound, at_least) in CHANGES.items():
        made = fleet(rig, CLOUD_RUN_LIMITS=first)
        for number in range(used):
            assert (await made[number % INSTANCES].ask_anew()).status_code == 200
        rig.time.later(9 * HOUR_S if "evening" in attack else 60)
        made = [rig.instance(RATELIMIT_AI_SUPERVISOR="off", CLOUD_RUN_LIMITS=second) for _ in range(INSTANCES)]
        statuses = [(await made[number % INSTANCES].ask_anew()).status_code for number in range(asked)]
        yield Row(attack, f"of {asked} questions answered", before, statuses.count(200), bound, at_least)


# CASE 35: coming back


async def blip(rig: Rig, _short: bool) -> AsyncIterator[Row]:
    """One reply of Redis comes too late; what the first calls of callers cost in the 25 hours after it."""
    limited = {"RATELIMIT_AI_SUPERVISOR": "10/minute,100/day", "LEDGER_FLUSH_COMMANDS": "10000"}
    attack, made = "one late reply of Redis", fleet(rig, **limited)
    for _ in range(3):
        await answered(made)
    usual = max([await commands(rig, each) for each in made])
    rig.front.faults.set(Fault(kind="delay", delay_ms=10_000, times=1))
    statuses = await answered(made[:1], 3)
    rig.time.later(6)
    rig.forget_counts()
    statuses += await answered(made[:1])
    back = rig.cost()[1]
    assert statuses == [200] * 4
    worst = 0
    for hours in (0, 1, 12, 11.9, 0.2):
        rig.time.later(hours * HOUR_S)
        # A day that is new, and an instance that looks after the month, cost whatever they cost without a blip.
        await answered(made, 2)
        worst = max([worst, *[await commands(rig, each) for each in made]])
    yield Row(attack, "commands of a caller's first call, for 25 hours", "18", worst, usual)
    # Three were admitted elsewhere, and so is this one: read, added before its reply, and once more by the list. Then
    # the alert of the switch is claimed and counted, and the calls that were worth a note are noted: each in a list
    # that is new, so that its TTL is set.
    bound = usual + 6 + 7 * 3 + (4 + 7 + 7) + 3 + (3 + 1)
    yield Row(attack, "commands of the call that finds Redis back", "", back, bound)


async def commands(rig: Rig, asked: Instance) -> int:
    """What the first call of a new caller costs."""
    rig.forget_counts()
    assert (await asked.ask_anew()).status_code == 200
    return rig.cost()[1]


# CASE 34: a caller that never stops


async def never_stops(rig: Rig, short: bool) -> AsyncIterator[Row]:
    """One caller asks every instance in turn, a second apart, whatever it is told; for a day, or for three hours."""
    hours, step_s = (3, 4) if short else (24, 1)
    made, caller = fleet(rig), Subject("never-stops", parse_limits("10/minute,100/day"))
    rig.forget_counts()
    admitted = 0
    for number in range(hours * HOUR_S // step_s):
        each, after = made[number % INSTANCES].parts, Afterwards()
        counted = await each.guard.count(caller, 1, each.clock.monotonic() + 60, after)
        await each.guard.outbox.send(after, 60)
        admitted += counted.quota.allowed
        rig.time.later(step_s)
    # Of four commands that an admitted call may cost nobody complains.
    refused = max(0, rig.cost()[1] - 4 * admitted) / INSTANCES
    attack, before = "a refused caller that never stops", "24900" if hours == 24 else ""
    yield Row(attack, f"commands an instance, in {hours} hours", before, refused, 60 * (hours + 1))
    yield Row(attack, "calls admitted in a day of 100", "", admitted, 100)


# CASE 37: clocks

OFF_S = {2: "10", -2: "10", 6: "15", -6: "15", HOUR_S: "20", -HOUR_S: "20"}
"""Seconds, and how many calls 0.1 admitted."""


async def clocks(rig: Rig, short: bool) -> AsyncIterator[Row]:
    """A caller asks two instances in turn, of which one has a wrong clock; on real time."""
    for off_s in (6, -HOUR_S) if short else OFF_S:
        rig.front.empty()
        rig.script.reset()
        made = [rig.off_by(off_s * 1_000), rig.off_by(0)]
        replies = [await each.ask_anew(caller="10.8.8.8") for _ in range(15) for each in made]
        statuses = [reply.status_code for reply in replies]
        longest = max(int(reply.headers.get("retry-after", "0")) for reply in replies)
        attack = f"an instance's clock is off by {off_s:+} s"
        yield Row(attack, "calls admitted in a minute of 10", OFF_S[off_s], statuses.count(200), 10)
        yield Row(attack, "longest Retry-After of a minute", "", longest, 66)


# Kept connections that are closed as they are reused


async def closed_connections(rig: Rig, short: bool) -> AsyncIterator[Row]:
    """Every kept connection is ended between the look at it and the first byte of the request; nothing else fails."""
    requests = 40 if short else 150
    for whose, before in (("Redis", "24"), ("a provider", "21")):
        if whose == "Redis" and "REDIS_URL" in rig.environ:
            # Here nothing says whether the request was read: a call that may have been counted is not sent again.
            continue
        rig.front.empty()
        rig.script.reset()
        with Proxy("127.0.0.1", urlsplit(rig.front.url if whose == "Redis" else rig.script.url).port or 0) as proxy:
            name = "KV_REST_API_URL" if whose == "Redis" else "CLOUD_RUN_AI_URL"
            made = rig.instance(**{name: proxy.url, "RATELIMIT_AI_SUPERVISOR": "off", **PATIENT})
            statuses = await answered([made])
            transport: Any = made.parts.client.get()._transport
            aim(made.parts.pool if whose == "Redis" else transport._pool, proxy)
            statuses += await answered([made], requests)
        failed = requests + 1 - share(statuses) * (requests + 1) + len(made.seen(StoreFailed))
        sooner = "" if short else before
        yield Row(f"{whose} closes connections as they are reused", f"of {requests} requests failed", sooner, failed, 0)


def aim(pool: httpcore.AsyncConnectionPool, proxy: Proxy) -> None:
    """End each connection of a pool just as it is reused; the second try of a request is left alone."""
    passed_on = pool.handle_async_request

    async def aimed(request: httpcore.Request) -> httpcore.Response:
        ended = list[str]()

        async def trace(event: str, _: Any) -> None:
            if event == "http11.send_request_headers.started" and not ended:
                ended.append(event)
                proxy.set("refuse")
                proxy.set("pass")

        request.extensions = {**request.extensions, "trace": trace}
        return await passed_on(request)

    pool.handle_async_request = aimed  # type: ignore[method-assign] # for this one pool


# Low traffic, and instances that are killed


async def killed(rig: Rig, _short: bool) -> AsyncIterator[Row]:
    """Six instances are killed after twelve requests each, five minutes apart; what the overview says was used."""
    rig.front.empty()
    rig.script.reset()
    for _ in range(6):
        made = rig.instance()
        for _ in range(12):
            await made.ask_anew()
            rig.time.later(301)
    billed = sum(rig.commands().values())
    overview = await rig.instance(ADMIN_TOKEN=ADMIN["authorization"].removeprefix("Bearer ")).overview()
    (used,) = [
        each["used"] for each in overview["allowances"] if each["service"] == "upstash" and each["unit"] == "commands"
    ]
    yield Row(
        "six killed instances of twelve requests",
        "percent of the commands counted",
        "7",
        100 * used / billed,
        90,
        at_least=True,
    )


async def play(rig: Rig, attack: str, *, short: bool) -> list[Row]:
    """The rows of one attack."""
    return [row async for row in ATTACKS[attack](rig, short)]


ATTACKS: dict[str, Attack] = {
    "poison": poisoned,
    "cost": too_costly,
    "budgets": changed_budgets,
    "blip": blip,
    "never": never_stops,
    "clocks": clocks,
    "connections": closed_connections,
    "killed": killed,
}
