"""The chain of providers: order, failover, circuits, what is told when nobody answers, and what it all costs."""

import asyncio

import pytest

from dev.faults import Fault
from lib.ai.budgets import Budget
from lib.ai.links import Link
from lib.ai.providers.port import ProviderFailed, Told
from lib.base.events import CircuitChanged
from lib.breaker import stored
from lib.breaker.circuit import BreakerPolicy, Circuit
from lib.cache.freshness import CacheRules
from lib.call import Answered, Failed, Refused, Streaming
from lib.limits import bitfield
from lib.limits.grammar import parse_budget
from lib.pieces import Delta, Done
from lib.redis import keys
from tests.rig.ai import FakeProvider, Kit, answered
from tests.rig.clock import until
from tests.rig.completions import End, said
from tests.rig.instance import Instance

pytestmark = pytest.mark.anyio

SERVER = ProviderFailed("server", "HTTP 500")
DAY_OVER = ProviderFailed("quota", "HTTP 429", status=429, rests_s=7_200)
FOR_A_MINUTE = ProviderFailed("throttled", "HTTP 429", status=429, rests_s=37)


def circuit(k: Kit, name: str) -> Circuit:
    text = k.server.get(keys.circuit(name))
    assert text is None or isinstance(text, str)
    return stored.parse(text)


FAILOVER = ["timeout", "connection", "server", "protocol", "unauthorized", "no_model", "unsupported", "empty", "cut"]


@pytest.mark.parametrize("kind", FAILOVER)
@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_the_next_provider_answers_where_one_fails(k: Kit, kind: str, stream: bool) -> None:
    """Whatever the failure, before the first token; the reply names both."""
    first, second = FakeProvider(fails=ProviderFailed(kind, "no")), FakeProvider()  # type: ignore[arg-type]
    outcome = await k.instance(first, second).whole(k.call(stream=stream))
    assert isinstance(outcome.result, Answered | Streaming)
    assert [(a.name, a.outcome) for a in outcome.attempts] == [(first.name, kind), (second.name, "answered")]


TOO_LONG = ProviderFailed("rejected", "HTTP 400", status=400, told=Told("too long", code="context_length_exceeded"))
TOO_LARGE = ProviderFailed("rejected", "HTTP 413", status=413)
BAD_VALUE = ProviderFailed("rejected", "HTTP 400", status=400, told=Told("temperature: too hot", "temperature"))
WITHHELD = ProviderFailed("blocked", "the answer was withheld")


@pytest.mark.parametrize(
    ("failure", "setting", "others"),
    [
        pytest.param(BAD_VALUE, False, 0, id="a value that nobody will take"),
        pytest.param(WITHHELD, False, 0, id="withheld for its content"),
        pytest.param(WITHHELD, True, 1, id="withheld, with AI_SAFETY_FAILOVER"),
        pytest.param(TOO_LONG, False, 1, id="longer than this model allows"),
        pytest.param(TOO_LARGE, False, 1, id="larger than this plan allows"),
    ],
)
async def test_a_refusal_is_the_answer_unless_another_may_do_it(
    k: Kit, failure: ProviderFailed, setting: bool, others: int
) -> None:
    """What is wrong with the request itself is told at once: nobody else is asked, and no circuit is the worse."""
    first, second = FakeProvider(fails=failure), FakeProvider()
    made = k.instance(first, second)
    made.chain.safety_failover = setting
    outcome = await made.whole(k.call())
    assert (first.asked, second.asked) == (1, others)
    assert isinstance(outcome.result, Answered if others else Failed)
    assert circuit(k, first.name) == Circuit()


UNSUPPORTED = ProviderFailed("unsupported", "HTTP 400", status=400, told=Told("no tools here", "tools"))


@pytest.mark.parametrize("unable", [UNSUPPORTED, TOO_LONG, TOO_LARGE], ids=["a field", "too long", "too large"])
async def test_that_one_cannot_do_it_is_no_news_where_another_failed(k: Kit, unable: ProviderFailed) -> None:
    """Whichever comes first: the caller's request is not what has to be changed."""
    for failures in ((SERVER, unable), (unable, SERVER)):
        outcome = await k.instance(*(FakeProvider(fails=each) for each in failures)).whole(k.call())
        assert isinstance(outcome.result, Failed)
        assert outcome.result.failure is SERVER
    both = await k.instance(FakeProvider(fails=unable), FakeProvider(fails=unable)).whole(k.call())
    assert isinstance(both.result, Failed)
    assert both.result.failure is unable


@pytest.mark.parametrize("unable", [UNSUPPORTED, TOO_LONG, TOO_LARGE], ids=["a field", "too long", "too large"])
async def test_who_rests_may_be_able_to(k: Kit, unable: ProviderFailed) -> None:
    """The only one that could be asked cannot do it: the reply says when the other one can be asked."""
    able, other = FakeProvider(), FakeProvider(fails=unable)
    resting = Circuit("open", 1, until_ms=k.time.ms + 5_000)
    k.server.set(keys.circuit(able.name), stored.dump(resting))
    outcome = await k.instance(able, other).whole(k.call())
    assert isinstance(outcome.result, Refused)
    assert (outcome.result.code, outcome.result.retry_at_ms) == ("circuit_open", k.time.ms + 5_000)
    assert (able.asked, other.asked) == (0, 1)


async def test_who_has_no_budget_left_may_be_able_to(k: Kit) -> None:
    """As with a circuit, also where the budget is found to be spent when it is asked for."""
    able, other = FakeProvider(), FakeProvider(fails=UNSUPPORTED)
    made = k.instance(Link(able, Budget(parse_budget("1/day@UTC")), BreakerPolicy()), other)
    await made.whole(k.call())
    for _ in range(2):
        outcome = await made.whole(k.call())
        assert isinstance(outcome.result, Refused)
        assert outcome.result.code == "budget_spent"
    assert (able.asked, other.asked) == (1, 2)


async def test_an_open_circuit_and_an_empty_budget_are_passed_over(k: Kit) -> None:
    """The third one answers; the first is not even considered, the second says why it was not asked."""
    first, second, third = FakeProvider(), FakeProvider(), FakeProvider()
    k.server.set(keys.circuit(first.name), stored.dump(Circuit("open", 1, until_ms=k.time.ms + 5_000)))
    made = k.instance(first, second, third, limits="1/minute")
    await made.whole(k.call())
    outcome = await made.whole(k.call())
    assert (first.asked, second.asked, third.asked) == (0, 1, 1)
    assert [(a.name, a.outcome) for a in outcome.attempts] == [
        (second.name, "budget_spent"),
        (third.name, "answered"),
    ]
    # From now on the instance knows, and spends nothing to hear it again.
    assert [a.name for a in (await made.whole(k.call())).attempts] == [third.name]


async def test_three_failures_open_a_providers_own_circuit(k: Kit) -> None:
    """For every instance, and for it alone; after the pause one probe closes it again."""
    bad, good = FakeProvider(fails=SERVER), FakeProvider()
    made, other = k.instance(bad, good), k.instance(bad, good)
    for _ in range(3):
        await made.whole(k.call())
    assert circuit(k, bad.name).state == "open"
    assert circuit(k, good.name) == Circuit()
    await other.whole(k.call())
    assert bad.asked == 3
    k.time.ms += 60_000
    bad.fails, bad.held = None, True
    asks = [asyncio.ensure_future(other.whole(k.call())) for _ in range(3)]
    await until(lambda: sum(ask.done() for ask in asks) == 2)
    bad.go()
    await asyncio.gather(*asks)
    assert bad.asked == 4
    assert circuit(k, bad.name).state == "closed"
    assert [(e.before, e.after) for e in other.seen(CircuitChanged)][-1] == ("probing", "closed")


@pytest.mark.parametrize(("said", "rests_s"), [(FOR_A_MINUTE, 37), (DAY_OVER, 7_200)])
async def test_a_providers_429_closes_it_for_as_long_as_it_says(k: Kit, said: ProviderFailed, rests_s: int) -> None:
    """A minute, a day: at once, until then, and not for everybody."""
    limited, good = FakeProvider(fails=said), FakeProvider()
    made = k.instance(limited, good)
    await made.whole(k.call())
    limited.fails = None
    assert circuit(k, limited.name).until_ms == k.time.ms + rests_s * 1000
    k.time.ms += rests_s * 1000 - 1
    await made.whole(k.call())
    assert limited.asked == 1
    k.time.ms += 1
    await made.whole(k.call())
    assert limited.asked == 2


async def test_a_provider_that_announces_its_end_is_closed_after_its_answer(k: Kit) -> None:
    """Groq's x-ratelimit-* of a good reply: the answer counts, the next call goes elsewhere."""
    nearly, good = FakeProvider(end=End("m", whole=True, rests_s=6.0)), FakeProvider()
    made = k.instance(nearly, good)
    assert answered(await made.whole(k.call())).value.provider == nearly.name
    assert answered(await made.whole(k.call())).value.provider == good.name
    assert circuit(k, nearly.name).until_ms == k.time.ms + 6_000


@pytest.mark.parametrize("age_s", [3_600 + 600, 3_600 + 86_400 - 1])
async def test_with_everything_closed_a_stale_answer_is_served(k: Kit, age_s: int) -> None:
    """Marked, for as long as the grace is."""
    provider = FakeProvider()
    made, call = k.instance(provider), k.call()
    await made.whole(call)
    k.time.ms += age_s * 1000
    k.server.set(keys.circuit(provider.name), stored.dump(Circuit("open", 1, until_ms=k.time.ms + 5_000)))
    assert answered(await made.whole(k.again(call))).cache == "stale"
    provider.fails = SERVER
    k.server.delete(keys.circuit(provider.name))
    outcome = answered(await made.whole(k.again(call)))
    assert (outcome.cache, outcome.reason) == ("stale", "server")


async def test_with_everything_closed_the_earliest_return_is_told(k: Kit) -> None:
    """Circuits and budgets of all: 503, and when the first is back."""
    slow, spent = FakeProvider(), FakeProvider()
    k.server.set(
        keys.circuit(slow.name), stored.dump(Circuit("open", 1, until_ms=k.time.ms + 90_000, reason="timeout"))
    )
    made = k.instance(slow, spent, limits="1/minute")
    await made.whole(k.call())
    outcome = await made.whole(k.call())
    assert isinstance(outcome.result, Refused)
    assert outcome.result.code == "budget_spent"
    assert outcome.result.retry_at_ms is not None
    assert 60_000 < outcome.result.retry_at_ms - k.time.ms <= 65_000
    assert [a.outcome for a in outcome.attempts] == ["budget_spent"]


async def test_a_last_failure_tells_the_earliest_return_of_all(k: Kit) -> None:
    """One is out for a day, the other's circuit for 5 s: that is when to come again."""
    day, open_ = FakeProvider(fails=DAY_OVER), FakeProvider()
    k.server.set(keys.circuit(open_.name), stored.dump(Circuit("open", 1, until_ms=k.time.ms + 5_000)))
    outcome = await k.instance(day, open_).whole(k.call())
    assert outcome.result == Failed(DAY_OVER, k.time.ms + 5_000)


async def test_nobody_is_asked_without_time_to_answer(k: Kit) -> None:
    """Inside the deadline: no call, no budget, and no failure on any circuit."""
    first, second = FakeProvider(), FakeProvider()
    made = k.instance(first, second)
    outcome = await made.whole(k.call(left_s=0.9))
    assert isinstance(outcome.result, Failed)
    assert outcome.result.failure.kind == "timeout"
    assert (first.asked, second.asked) == (0, 0)
    assert circuit(k, first.name) == Circuit()
    assert isinstance((await made.whole(k.call())).result, Answered)


async def test_a_stream_does_not_fail_over_after_its_first_token(k: Kit) -> None:
    """It breaks: the second provider is not asked, and nothing is kept."""
    first, second = FakeProvider(fails=SERVER, fails_after=1), FakeProvider()
    made, call = k.instance(first, second), k.call(stream=True)
    with pytest.raises(ProviderFailed):
        await made.whole(call)
    assert second.asked == 0
    assert k.server.get(call.call.key) is None
    assert circuit(k, first.name).failures == 1


async def test_a_check_goes_on_when_its_caller_leaves(k: Kit) -> None:
    """Its result counts for everybody; the question is not asked any more, and its budget is given back."""
    provider = FakeProvider(held=True)
    made = k.instance(provider)
    k.server.set(keys.circuit(provider.name), stored.dump(Circuit("open", 1, until_ms=k.time.ms)))
    asking = asyncio.ensure_future(made.handle(k.call()))
    await until(lambda: provider.checks == 1)
    assert circuit(k, provider.name).state == "probing"
    asking.cancel()
    provider.go()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert circuit(k, provider.name).state == "closed"
    assert (provider.asked, await used(k, made)) == (0, [1, 1])


async def test_one_of_many_probes(k: Kit) -> None:
    """Ten instances when the pause is over: one check and one call; the nine others' budget is given back."""
    provider = FakeProvider(held=True)
    k.server.set(keys.circuit(provider.name), stored.dump(Circuit("open", 1, until_ms=k.time.ms)))
    made = [k.instance(provider, limits="20/minute") for _ in range(10)]
    asks = [asyncio.ensure_future(each.whole(k.call())) for each in made]
    await until(lambda: sum(ask.done() for ask in asks) == 9)
    provider.go()
    outcomes = await asyncio.gather(*asks)
    assert (provider.checks, provider.asked) == (1, 1)
    assert sum(isinstance(o.result, Answered) for o in outcomes) == 1
    assert await used(k, made[0]) == [2]


async def used(k: Kit, made: Instance) -> list[int]:
    """What the first provider's windows have counted."""
    link, redis = made.chain.links[0], made.limits.redis
    assert redis is not None
    tally = await redis.run(bitfield.peek(link.subject.id, link.budget.layout, k.time.ms), "ask", 5)
    return [sum(buckets.values()) for buckets in tally.usage]


# What it costs


async def test_what_a_request_costs_in_round_trips_and_commands(k: Kit) -> None:
    """Hit 1 and 2; miss 2 before the reply and 5 commands in all; a provider more, one more."""
    first, second = FakeProvider(), FakeProvider()
    made, call = k.instance(first, second), k.call(limits="50/minute")
    await made.whole(call)
    made.counts()
    outcome = await made.handle(k.another(call, "another"))
    # The count and the look; the first provider's budget and the lock.
    assert made.counts() == (2, 2 + 2)
    await outcome.after()
    assert made.counts() == (1, 1)
    assert answered(await made.whole(k.again(call))).cache == "hit"
    assert made.counts() == (1, 2)
    first.fails = SERVER
    await made.whole(k.another(call, "a third"))
    trips, commands = made.counts()
    # As above, the failure's swap (billed as 3), the second one's budget, first sight, TTL and shape.
    assert commands == 2 + 2 + 3 + 1 + 1 + 1 + 1 + 1
    assert trips == 5


async def test_the_first_sight_of_everything_costs_yesterday_and_ttls(k: Kit) -> None:
    """A new caller on a new instance: both's buckets of yesterday once, two TTLs, three epochs and a look, a shape."""
    made = k.instance(FakeProvider())
    outcome = await made.handle(k.call())
    assert made.counts() == (3, 3 + 3 + 3 + 1)
    await outcome.after()
    assert made.counts() == (1, 1 + 2 + 1)
    assert k.without_ttl() == []


async def test_an_expired_entry_costs_what_a_miss_does(k: Kit) -> None:
    """Count and look 2, budget and lock 2, store 1."""
    made, call = k.instance(FakeProvider()), k.call(cache=CacheRules(60_000, 0, 3_600_000))
    await made.whole(call)
    k.later(61_000)
    made.counts()
    outcome = await made.handle(k.again(call))
    assert made.counts() == (2, 4)
    await outcome.after()
    assert made.counts() == (1, 1)


async def test_cloud_run_costs_its_computing(k: Kit) -> None:
    """No limits of calls: the lock goes alone; the month's use goes with the store, in portions."""
    provider = FakeProvider()
    made = k.instance(Link(provider, Budget(parse_budget("off"), 180_000, write_ms=0), BreakerPolicy()))
    call = k.call()
    await made.whole(call)
    made.counts()
    outcome = await made.handle(k.another(call, "another"))
    assert made.counts() == (2, 3)
    await outcome.after()
    assert made.counts() == (1, 2)


async def test_an_outage_goes_on_from_the_circuits_last_seen(k: Kit) -> None:
    """Redis dies: an open circuit stays open in the instance, and budgets are counted at a share."""
    bad, good = FakeProvider(), FakeProvider()
    k.server.set(keys.circuit(bad.name), stored.dump(Circuit("open", 1, until_ms=k.time.ms + 50_000)))
    made = k.instance(bad, good, limits="8/minute")
    await made.whole(k.call())
    k.front.faults.set(Fault(kind="status", status=500))
    outcomes = [await made.whole(k.call()) for _ in range(4)]
    assert bad.asked == 0
    assert {o.mode for o in outcomes} == {"local"}
    # A quarter of 8, and never more than what was known to be left.
    assert [type(o.result) for o in outcomes] == [Answered, Answered, Refused, Refused]


async def test_pieces_and_the_whole_are_the_same_answer(k: Kit) -> None:
    """A stream's text is what is kept."""
    provider = FakeProvider(texts=("a ", "b ", "c"))
    made, call = k.instance(provider), k.call(stream=True)
    outcome = await made.handle(call)
    assert isinstance(outcome.result, Streaming)
    pieces = [piece async for piece in outcome.result.pieces]
    assert [said(piece.part) for piece in pieces if isinstance(piece, Delta)][:3] == ["a ", "b ", "c"]
    assert isinstance(pieces[-1], Done)
    assert pieces[-1].value.text == "a b c"
    await outcome.after()
    assert answered(await made.whole(k.again(call))).value.text == "a b c"
    assert provider.streamed == 1
