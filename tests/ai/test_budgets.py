"""Providers' budgets on a real Redis: strict from any number of instances, spent for calls that go out only."""

import asyncio
import multiprocessing
import os
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from lib.ai.budgets import Budget
from lib.ai.links import Link
from lib.ai.providers.port import Kind, ProviderFailed
from lib.base.calendar import month_of
from lib.base.clock import Clock
from lib.breaker.circuit import BreakerPolicy
from lib.call import Answered, Failed, Refused
from lib.limits import bitfield
from lib.limits.grammar import parse_budget
from lib.redis import keys
from tests.rig.ai import FakeProvider, Kit, answered
from tests.rig.clock import NOON_MS
from tests.rig.completions import End
from tests.rig.instance import Instance, together

pytestmark = pytest.mark.anyio

LA = ZoneInfo("America/Los_Angeles")


@pytest.fixture(params=["rest", "tcp"])
def transport(request: pytest.FixtureRequest) -> str:
    """Redis over both."""
    return str(request.param)


async def used(k: Kit, made: Instance, place: int = 0) -> list[int]:
    """What a provider's windows have counted."""
    link, redis = made.chain.links[place], made.limits.redis
    assert redis is not None
    tally = await redis.run(bitfield.peek(link.subject.id, link.budget.layout, k.time.ms), "ask", 5)
    return [sum(buckets.values()) for buckets in tally.usage]


def local(text: str) -> int:
    """A moment in Los Angeles, in milliseconds since the epoch."""
    return int(datetime.fromisoformat(text).replace(tzinfo=LA).timestamp() * 1000)


async def test_no_minute_holds_more_than_the_budget(k: Kit) -> None:
    """9 a minute, 4 instances, 3 calls every 2 s for 5 minutes: no closed minute holds a tenth call."""
    provider = FakeProvider()
    instances = [k.instance(provider, limits="9/minute") for _ in range(4)]
    admitted: list[int] = []
    for step in range(150):
        before = provider.asked
        await together([instances[(step + n) % 4].whole(k.call(limits="off")) for n in range(3)])
        admitted += [k.time.ms] * (provider.asked - before)
        k.time.ms += 2_000
    for at in admitted:
        assert sum(at <= other <= at + 60_000 for other in admitted) <= 9
    assert len(admitted) > 36


async def test_concurrent_calls_of_many_instances_stay_within_the_budget(k: Kit) -> None:
    """Sixty at once from six instances: exactly 9 go out, and the rest spend nothing."""
    # So that the epochs exist: whoever loses the race for one gives its call back, and others may be refused till then.
    await k.instance(FakeProvider()).whole(k.call())
    provider = FakeProvider()
    instances = [k.instance(provider, limits="9/minute,225/day@America/Los_Angeles") for _ in range(6)]
    outcomes = await together([instances[n % 6].whole(k.call(limits="off")) for n in range(60)])
    assert provider.asked == 9
    assert sum(isinstance(o.result, Answered) for o in outcomes) == 9
    assert all(isinstance(o.result, Answered | Refused) for o in outcomes)
    assert await used(k, instances[0]) == [9, 9]


def _ask_at_once(environ: dict[str, str], now_ms: int, calls: int, go: Any, out: Any) -> None:
    """An instance in a process of its own: how many of its calls went out."""
    from contextlib import AsyncExitStack

    async def run() -> int:
        provider = FakeProvider(name="shared")
        async with AsyncExitStack() as closing:
            k = Kit(None, environ, closing)  # type: ignore[arg-type] # Redis itself is not asked
            made = k.instance(provider, clock=Clock(now_ms=lambda: now_ms))
            await together(
                [made.whole(k.call(limits="off", query=f"question {n} of {os.getpid()}")) for n in range(calls)]
            )
        return provider.asked

    go.wait()
    out.put(asyncio.run(run()))


async def test_processes_share_a_budget(k: Kit) -> None:
    """Four processes, ten different questions each: 9 calls in all."""
    context = multiprocessing.get_context("spawn")
    go, out = context.Event(), context.Queue()
    made = [context.Process(target=_ask_at_once, args=(k.environ, k.time.ms, 10, go, out)) for _ in range(4)]
    for each in made:
        each.start()
    try:
        go.set()
        assert sum(out.get(timeout=60) for _ in made) == 9
    finally:
        for each in made:
            each.join(10)


async def test_the_day_of_los_angeles(k: Kit) -> None:
    """Spent at 23:59 there, back at midnight; a rolling day would still hold it."""
    provider = FakeProvider()
    made = k.instance(provider, limits="2/day@America/Los_Angeles")
    k.time.ms = local("2026-10-31T23:58")
    for _ in range(2):
        await made.whole(k.call())
    refused = (await made.whole(k.call())).result
    assert isinstance(refused, Refused)
    assert refused.retry_at_ms == local("2026-11-01T00:00")
    k.time.ms = local("2026-11-01T00:00")
    assert answered(await made.whole(k.call())).cache == "miss"
    # A day of 25 hours: 23:59 is 24:59 later, and yesterday's UTC day counts.
    await made.whole(k.call())
    k.time.ms = local("2026-11-01T23:59")
    for instance in (made, k.instance(provider, limits="2/day@America/Los_Angeles")):
        assert isinstance((await instance.whole(k.call())).result, Refused)
    k.time.ms = local("2026-11-02T00:00")
    assert answered(await made.whole(k.call())).cache == "miss"


@pytest.mark.parametrize(
    ("failure", "spent"),
    [
        pytest.param(ProviderFailed("server", "HTTP 500"), 1, id="it went out"),
        pytest.param(ProviderFailed("connection", "refused", went_out=False), 0, id="nobody was there"),
        pytest.param(ProviderFailed("rejected", "parameters", went_out=False), 0, id="it could not be put"),
    ],
)
async def test_what_did_not_go_out_is_given_back(k: Kit, failure: ProviderFailed, spent: int) -> None:
    """Spent only when a call really goes out."""
    made = k.instance(FakeProvider(fails=failure), limits="9/minute,1000 tokens/minute")
    await made.whole(k.call(parameters={"maxTokens": 50}))
    assert (await used(k, made))[0] == spent
    assert bool((await used(k, made))[1]) is bool(spent)


REFUSALS = ["rejected", "unsupported", "unauthorized", "no_model", "blocked", "throttled", "quota"]


@pytest.mark.parametrize("kind", REFUSALS)
async def test_a_call_that_was_refused_used_no_tokens(k: Kit, kind: Kind) -> None:
    """One caller's bad request with a large limit must not take a day's tokens from everybody; the call counts."""
    refusing = FakeProvider(fails=ProviderFailed(kind, "HTTP 4xx", status=429 if kind == "quota" else 400))
    made = k.instance(refusing, limits="9/minute,1000 tokens/minute,90000 tokens/day")
    await made.whole(k.call(parameters={"maxTokens": 900}))
    calls, *tokens = await used(k, made)
    assert (calls, tokens) == (1 + refusing.checks, [0, 0])


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(ProviderFailed("server", "HTTP 500", status=500), id="an error"),
        pytest.param(ProviderFailed("timeout", "no answer"), id="a timeout"),
        pytest.param(ProviderFailed("blocked", "the answer was withheld"), id="an answer that was withheld"),
        pytest.param(ProviderFailed("rejected", "too long before its first word"), id="an answer without a word"),
        pytest.param(ProviderFailed("cut", "the stream broke off"), id="a cut stream"),
    ],
)
async def test_what_a_failed_call_used_is_not_known(k: Kit, failure: ProviderFailed) -> None:
    """It may have been all that it was allowed: the estimate stays."""
    made = k.instance(FakeProvider(fails=failure), limits="9/minute,1000 tokens/minute")
    await made.whole(k.call(query="x" * 150, parameters={"maxTokens": 900}))
    assert await used(k, made) == [1, 950]


async def test_who_loses_the_lock_gives_the_budget_back_before_waiting(k: Kit) -> None:
    """A follower that was about to take over holds no part of the budget while it waits."""
    provider = FakeProvider(held=True)
    call = k.call(limits="off")
    leader = asyncio.ensure_future(k.instance(provider).whole(call))
    await provider.until_asked()
    made = k.instance(provider)
    seen: list[list[int]] = []

    async def look() -> None:
        seen.append(await used(k, made))
        provider.go()
        await leader

    k.time.on_sleep = look
    assert answered(await made.whole(k.again(call))).cache == "collapsed"
    assert seen == [[1, 1]]


async def test_a_hit_costs_no_budget_and_says_what_it_saved(k: Kit) -> None:
    """One call, ten times asked: one spent."""
    provider = FakeProvider()
    made, call = k.instance(provider), k.call(limits="off")
    await made.whole(call)
    for _ in range(9):
        hit = answered(await made.whole(k.again(call)))
        assert (hit.cache, hit.value.tokens, hit.value.provider) == ("hit", 100, provider.name)
    assert await used(k, made) == [1, 1]


@pytest.mark.parametrize("said", [20, 400])
async def test_guessed_tokens_are_corrected(k: Kit, said: int) -> None:
    """Less than guessed goes back, more is added; 100 were guessed at first."""
    provider = FakeProvider(end=End("m", whole=True, tokens=said))
    made = k.instance(provider, limits="9/minute,1000 tokens/minute,90000 tokens/day")
    await made.whole(k.call(query="x" * 150, parameters={"maxTokens": 50}))
    assert await used(k, made) == [1, said, said]


async def test_tokens_run_out(k: Kit) -> None:
    """Three calls of 400 in a budget of 1,000 a minute: the third goes to the next provider."""
    first, second = FakeProvider(end=End("m", whole=True, tokens=400)), FakeProvider()
    links = [Link(each, Budget(parse_budget("1000 tokens/minute")), BreakerPolicy()) for each in (first, second)]
    made = k.instance(*links)
    for _ in range(3):
        outcome = await made.whole(k.call(parameters={"max_tokens": 400}))
    assert (first.asked, second.asked) == (2, 1)
    assert [a.outcome for a in outcome.attempts] == ["budget_spent", "answered"]


async def test_a_question_that_no_window_could_hold(k: Kit) -> None:
    """Larger than the limit of tokens itself: the next provider; where there is none, the caller's fault."""
    small, large = FakeProvider(), FakeProvider()
    links: list[FakeProvider | Link] = [
        Link(small, Budget(parse_budget("100 tokens/minute")), BreakerPolicy()),
        large,
    ]
    outcome = await k.instance(*links).whole(k.call())
    assert [a.outcome for a in outcome.attempts] == ["too_large", "answered"]
    alone = await k.instance(links[0]).whole(k.call())
    assert isinstance(alone.result, Failed)
    assert (alone.result.failure.kind, alone.result.failure.fault) == ("rejected", "caller")
    assert isinstance(alone.result.failure, ProviderFailed)
    assert alone.result.failure.told is not None
    assert "budget" in alone.result.failure.told.message
    assert small.asked == 0


async def test_a_leaver_before_the_call_gives_the_budget_back(k: Kit) -> None:
    """The client goes while the budget is being spent: nothing goes out, nothing stays spent."""
    provider = FakeProvider()
    made = k.instance(provider)
    asking = asyncio.ensure_future(made.handle(k.call()))
    await made.until_sent(2)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert provider.asked == 0
    assert await used(k, made) == [0, 0]
    assert not made.guard.computing.leading.flights


async def test_a_leaver_during_the_first_question_leaves_no_note(k: Kit) -> None:
    """The client goes while Redis is asked: the next one with that question does not wait."""
    provider = FakeProvider()
    made, call = k.instance(provider), k.call()
    asking = asyncio.ensure_future(made.handle(call))
    await made.until_sent(1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert answered(await k.instance(provider).whole(k.again(call))).cache == "miss"
    assert k.time.slept == []
    assert not made.guard.computing.leading.flights


def _cloud_run(provider: FakeProvider, month_s: int = 10) -> Link:
    return Link(provider, Budget(parse_budget("off"), month_s, write_ms=0), BreakerPolicy())


async def test_a_month_of_computing(k: Kit) -> None:
    """Spent when so many seconds are counted; back with the calendar month."""
    provider = FakeProvider()
    made = k.instance(_cloud_run(provider))
    await made.whole(k.call())
    month = keys.month(provider.name, month_of(k.time.ms))
    assert int(str(k.server.get(month))) >= 1
    k.server.set(month, 10_000, keepttl=True)
    refused = (await made.whole(k.call())).result
    assert isinstance(refused, Refused)
    assert refused.code == "budget_spent"
    assert refused.retry_at_ms == int(datetime(2025, 12, 1, tzinfo=UTC).timestamp() * 1000)
    k.time.ms = refused.retry_at_ms
    assert isinstance((await made.whole(k.call())).result, Answered)
    assert k.without_ttl() == []


async def test_a_call_over_the_months_end_leaves_no_key_without_a_ttl(k: Kit) -> None:
    """It is counted for the month in which it was begun."""
    provider = FakeProvider(held=True)
    made = k.instance(_cloud_run(provider, 1_000))
    k.time.ms = int(datetime(2026, 12, 1, tzinfo=UTC).timestamp() * 1000) - 1
    asking = asyncio.ensure_future(made.whole(k.call()))
    await provider.until_asked()
    k.time.ms += 2
    provider.go()
    await asking
    assert k.server.get(keys.month(provider.name, "2026-11")) is not None
    assert k.server.get(keys.month(provider.name, "2026-12")) is None
    assert k.without_ttl() == []


async def test_failed_calls_use_computing_too(k: Kit) -> None:
    """A call that went out and failed, and one whose caller left, occupied a processor all the same."""
    provider = FakeProvider(fails=ProviderFailed("timeout", "60 s"))
    made = k.instance(_cloud_run(provider))
    month = keys.month(provider.name, month_of(NOON_MS))
    await made.whole(k.call())
    failed = int(str(k.server.get(month)))
    assert failed >= 1
    provider.fails, provider.held = None, True
    asking = asyncio.ensure_future(made.whole(k.call()))
    await provider.until_asked(2)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert int(str(k.server.get(month))) > failed


async def test_computing_is_written_in_portions(k: Kit) -> None:
    """Short calls gather in the instance; what is gathered is written once it is worth a command."""
    provider = FakeProvider()
    made = k.instance(Link(provider, Budget(parse_budget("off"), 10, write_ms=60_000), BreakerPolicy()))
    month = keys.month(provider.name, month_of(k.time.ms))
    await made.whole(k.call())
    assert k.server.get(month) is None
