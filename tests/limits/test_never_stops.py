"""A caller that never stops (CASE 34): what its refusals cost, hour by hour, and how soon a reset by hand shows."""

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from lib.afterwards import Afterwards
from lib.app.wiring import build
from lib.guard import Counted
from lib.limits import bitfield, news
from lib.limits.admission import Subject
from lib.limits.grammar import parse_limits
from lib.parts import Parts
from lib.redis import keys
from lib.redis.op import Command, gather
from lib.redis.rest import Upstash
from lib.redis.tcp import Tcp
from lib.settings import Settings
from tests.rig.clock import PatientLoop, Time
from tests.rig.redis import RedisFront

pytestmark = pytest.mark.anyio
HOUR_MS = 3_600_000


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """A loop on which no busy machine runs into a timeout."""
    return "asyncio", {"loop_factory": PatientLoop}


@pytest.fixture(params=["rest", "tcp"])
def transport(request: pytest.FixtureRequest) -> str:
    """Redis over both."""
    return str(request.param)


@dataclass
class Fleet:
    """Instances that one caller asks in turn."""

    time: Time
    parts: Sequence[Parts]
    sent: list[int] = field(default_factory=list)
    """Commands of each instance since the last ``spent()``, in attempts that were not admitted."""

    async def ask(self, which: int, subject: Subject, cost: int = 1) -> Counted:
        """One attempt, and what is to be done after its reply."""
        parts, after, before = self.parts[which], Afterwards(), self.sent[which]
        deadline = parts.clock.monotonic() + 60
        counted = await parts.guard.count(subject, cost, deadline, after)
        await parts.guard.outbox.send(after, 60)
        if counted.quota.allowed:
            self.sent[which] = before
        return counted

    async def hammer(self, subject: Subject, for_ms: int) -> int:
        """Ask an instance, whichever it hits, again and again; how often it was admitted.

        Fifty times a second while somebody is asked; a second at a time while it is refused from memory.
        """
        chance = random.Random(34)  # noqa: S311 - traffic, not secrets
        admitted, until_ms = 0, self.time.ms + for_ms
        while self.time.ms < until_ms:
            counted = await self.ask(chance.randrange(len(self.parts)), subject)
            admitted += counted.quota.allowed
            self.time.ms += 1_000 if counted.reason == "blocked" else 20
        return admitted

    def spent(self) -> int:
        """What the busiest instance has sent since this was last asked."""
        most = max(self.sent)
        self.sent = [0] * len(self.parts)
        return most

    async def reset(self, subject: Subject) -> None:
        """What a person does by hand, somewhere else."""
        now_ms = self.time.ms
        redis = self.parts[0].guard.limits.redis
        assert redis is not None
        await redis.redis.run(gather([bitfield.reset(subject.id, now_ms), news.report([subject.id], now_ms)]), 60)
        self.spent()


@asynccontextmanager
async def fleet(upstash: RedisFront, transport: str, size: int) -> AsyncIterator[Fleet]:
    """Instances on one Redis, which nobody else uses meanwhile."""
    upstash.direct.delete(keys.NEWS, keys.OUTAGE)
    time = Time()
    environ = {
        **upstash.environ_over(transport),
        "LEDGER_FLUSH_COMMANDS": "10000",
    }
    made = Fleet(time, [build(Settings.from_env(environ), time.clock, ()) for _ in range(size)])
    made.sent = [0] * size
    for which, parts in enumerate(made.parts):
        redis = parts.guard.limits.redis
        assert redis is not None
        assert isinstance(redis.redis, Upstash | Tcp)
        redis.redis = replace(redis.redis, sent=counting(made, which))
    try:
        yield made
    finally:
        for parts in made.parts:
            await parts.aclose()


def counting(made: Fleet, which: int) -> Callable[[Sequence[Command]], None]:
    """Counts what one instance sends."""

    def sent(commands: Sequence[Command]) -> None:
        made.sent[which] += len(commands)

    return sent


# RULES 4 gives the busiest instance's commands in the first hour and in each later one.
@pytest.mark.parametrize(
    ("limits", "instances", "first", "later"),
    [
        pytest.param("10/minute,100/day", 1, 120, 50, id="minute and day, 1 instance"),
        pytest.param("10/minute", 1, 120, 50, id="minute, 1 instance"),
        pytest.param("30/minute", 1, 120, 50, id="30 a minute, 1 instance"),
        pytest.param("100/day", 1, 120, 50, id="day, 1 instance"),
        pytest.param("10/minute,100/day", 2, 130, 60, id="minute and day, 2 instances"),
        pytest.param("10/minute", 2, 280, 240, id="minute, 2 instances"),
        pytest.param("30/minute", 2, 280, 240, id="30 a minute, 2 instances"),
        pytest.param("10/minute,100/day", 4, 130, 60, id="minute and day, 4 instances"),
        pytest.param("10/minute", 4, 360, 320, id="minute, 4 instances"),
        pytest.param("30/minute", 4, 360, 320, id="30 a minute, 4 instances"),
    ],
)
async def test_what_a_caller_that_never_stops_costs(
    upstash: RedisFront, transport: str, subject: str, limits: str, instances: int, first: int, later: int
) -> None:
    """CASE 34: refusals and pulls of one caller who never pauses, for two hours."""
    async with fleet(upstash, transport, instances) as made:
        caller = Subject(subject, parse_limits(limits))
        await made.hammer(caller, HOUR_MS)
        one = made.spent()
        await made.hammer(caller, HOUR_MS)
        two = made.spent()
    print(f"{limits} on {instances}: {one}, {two}")
    assert one <= first
    assert two <= later


@pytest.mark.parametrize(
    ("hammered_ms", "within_ms"),
    [
        pytest.param(5_000, 10_000, id="refused a moment ago"),
        pytest.param(7 * 60_000, 10_000, id="for 7 minutes"),
        pytest.param(60 * 60_000, 80_000, id="for an hour"),
    ],
)
async def test_a_reset_shows(
    upstash: RedisFront, transport: str, subject: str, hammered_ms: int, within_ms: int
) -> None:
    """CASE 34: on every instance, to a caller who is refused by the day."""
    async with fleet(upstash, transport, 2) as made:
        caller = Subject(subject, parse_limits("3/day"))
        assert await made.hammer(caller, hammered_ms) == 3
        await made.reset(caller)
        shown: dict[int, int] = {}
        for at_ms in range(0, within_ms + 500, 500):
            for which in range(2):
                if which not in shown and (await made.ask(which, caller)).quota.allowed:
                    shown[which] = at_ms
            made.time.ms += 500
        assert sorted(shown) == [0, 1]
        assert max(shown.values()) <= within_ms


async def test_a_reset_shows_to_whoever_comes_back(upstash: RedisFront, transport: str, subject: str) -> None:
    """A caller who asks once a minute gets in with its first attempt: the mark is pulled before it is refused."""
    async with fleet(upstash, transport, 1) as made:
        caller = Subject(subject, parse_limits("3/day"))
        assert await made.hammer(caller, 2_000) == 3
        made.time.ms += 60_000
        assert not (await made.ask(0, caller)).quota.allowed
        await made.reset(caller)
        made.time.ms += 60_000
        assert (await made.ask(0, caller)).quota.allowed


async def test_others_stay_blocked(upstash: RedisFront, transport: str, subject: str) -> None:
    """The mark names whom it concerns; who has missed more than it names forgets everybody, which costs a question."""
    async with fleet(upstash, transport, 1) as made:
        one, other = (Subject(f"{n}-{subject}", parse_limits("3/day")) for n in "ab")
        for each in (one, other):
            assert await made.hammer(each, 2_000) == 3
        await made.reset(one)
        await made.hammer(other, 11_500)
        assert made.spent() == 1
        assert (await made.ask(0, one)).quota.allowed
        redis = made.parts[0].guard.limits.redis
        assert redis is not None
        await redis.redis.run(news.report([f"{n}-nobody-at-all" for n in range(news.KEPT + 1)], made.time.ms), 60)
        made.spent()
        # One pull, and what was refused is asked about once more: 3 commands, and 1 for the day before.
        await made.hammer(other, 11_500)
        assert made.spent() == 1 + 4


async def test_blocked_from_the_call_that_left_nothing(upstash: RedisFront, transport: str, subject: str) -> None:
    """The tally of the last admitted call says when the next fits: nobody is asked in between."""
    async with fleet(upstash, transport, 1) as made:
        caller = Subject(subject, parse_limits("3/minute"))
        counted = [await made.ask(0, caller) for _ in range(4)]
        assert [(each.quota.allowed, each.reason) for each in counted[2:]] == [(True, "admitted"), (False, "blocked")]
        assert made.spent() == 0
        retry_at_ms = counted[3].quota.retry_at_ms
        assert retry_at_ms is not None
        made.time.ms = retry_at_ms - 1
        assert not (await made.ask(0, caller)).quota.allowed
        made.time.ms = retry_at_ms
        assert (await made.ask(0, caller)).quota.allowed


async def test_a_cheaper_call_is_asked(upstash: RedisFront, transport: str, subject: str) -> None:
    """A refusal because of its cost stands against calls at least as costly, however long it lasts."""
    async with fleet(upstash, transport, 1) as made:
        caller = Subject(subject, parse_limits("10/day"))
        assert (await made.ask(0, caller, 8)).quota.allowed
        assert (await made.ask(0, caller, 5)).reason == "day"
        assert [(await made.ask(0, caller, cost)).reason for cost in (5, 7)] == ["blocked", "blocked"]
        assert [(await made.ask(0, caller, cost)).reason for cost in (1, 1, 1)] == ["admitted", "admitted", "blocked"]
        assert (await made.ask(0, caller, 5)).reason == "blocked"
