"""One caller's trouble stays that caller's, through the whole guard on a real Redis; an outage is still noticed."""

import pytest

from lib.ai.budgets import Budget
from lib.ai.links import Link
from lib.ai.providers.port import ProviderFailed
from lib.base.events import CircuitChanged
from lib.breaker import stored
from lib.breaker.circuit import BreakerPolicy, Circuit
from lib.call import Answered, Failed, Refused
from lib.limits import bitfield
from lib.limits.grammar import parse_budget
from lib.redis import keys
from tests.rig.ai import FakeProvider, Kit, answered, somebody
from tests.rig.instance import Instance

pytestmark = pytest.mark.anyio

SERVER = ProviderFailed("server", "HTTP 500", status=500)
UNAVAILABLE = ProviderFailed("server", "HTTP 503", status=503)
TIMEOUT = ProviderFailed("timeout", "no answer")
TOO_LARGE = ProviderFailed("too_large", "more than 4194304 bytes")
REFUSED = ProviderFailed("connection", "ConnectError", went_out=False)
FOREVER = ProviderFailed("throttled", "HTTP 429", status=429, rests_s=9_999_999)
POISON = "poison"


def circuit(k: Kit, name: str) -> Circuit:
    """A provider's circuit as Redis holds it."""
    text = k.server.get(keys.circuit(name))
    assert text is None or isinstance(text, str)
    return stored.parse(text)


@pytest.mark.parametrize(
    ("failure", "questions"),
    [
        pytest.param(SERVER, 3, id="500"),
        pytest.param(UNAVAILABLE, 3, id="503"),
        pytest.param(TIMEOUT, 3, id="timeout"),
        pytest.param(TOO_LARGE, 3, id="more than 4 MiB"),
        pytest.param(ProviderFailed("protocol", "not JSON"), 3, id="not what the protocol promises"),
        pytest.param(ProviderFailed("empty", "the answer is empty"), 3, id="empty"),
        pytest.param(ProviderFailed("cut", "the stream broke off"), 3, id="cut"),
        pytest.param(FOREVER, 1, id="429 with Retry-After 9999999"),
        pytest.param(ProviderFailed("quota", "HTTP 429", status=429, rests_s=9_999_999), 1, id="a quota for a century"),
    ],
)
@pytest.mark.parametrize("others", [0, 1], ids=["alone", "with others beside"])
async def test_questions_that_fail_close_nothing(k: Kit, failure: ProviderFailed, questions: int, others: int) -> None:
    """CASE 31: whatever they fail with; all others are answered, on every instance, meanwhile and afterwards."""
    provider = FakeProvider(fails=failure, poison=POISON)
    first, second = k.instance(provider, limits="off"), k.instance(provider, limits="off")
    attacker = somebody()
    for attack in range(3):
        for number in range(questions):
            outcome = await first.whole(k.call(attacker, f"{POISON} {attack} {number}"))
            assert isinstance(outcome.result, Failed | Refused)
            for _ in range(others):
                assert isinstance((await first.whole(k.call())).result, Answered)
                assert isinstance((await second.whole(k.call())).result, Answered)
            k.time.ms += 250
        assert isinstance((await second.whole(k.call())).result, Answered)
        assert isinstance((await first.whole(k.call())).result, Answered)
        k.time.ms += 61_000
    assert circuit(k, provider.name).state == "closed"
    changes = [event.after for made in (first, second) for event in made.seen(CircuitChanged)]
    assert "open" not in changes


async def test_a_caller_whose_questions_fail_is_passed_over(k: Kit) -> None:
    """CASE 31: after three failures in a row the provider gets none of this caller's for a minute, then for two."""
    provider = FakeProvider(fails=SERVER, poison=POISON)
    made, attacker = k.instance(provider, limits="off"), somebody()
    for number in range(3):
        await made.whole(k.call(attacker, f"{POISON} {number}"))
    refused = await made.whole(k.call(attacker, "anything"))
    assert refused.result == Refused("circuit_open", "caller", k.time.ms + 60_000)
    asked = provider.asked
    k.time.ms += 60_000
    await made.whole(k.call(attacker, f"{POISON} again"))
    refused = await made.whole(k.call(attacker, "anything"))
    assert refused.result == Refused("circuit_open", "caller", k.time.ms + 120_000)
    k.time.ms += 120_000
    assert isinstance((await made.whole(k.call(attacker, "anything"))).result, Answered)
    await made.whole(k.call(attacker, f"{POISON} after a success"))
    assert isinstance((await made.whole(k.call(attacker, "anything else"))).result, Answered)
    assert provider.asked == asked + 4


@pytest.mark.parametrize(
    ("failure", "calls", "checks"),
    [
        pytest.param(REFUSED, 3, 0, id="refused"),
        pytest.param(UNAVAILABLE, 3, 1, id="503"),
        pytest.param(SERVER, 3, 1, id="500"),
        pytest.param(FOREVER, 1, 1, id="429"),
        pytest.param(TIMEOUT, 4, 1, id="hangs"),
    ],
)
@pytest.mark.parametrize("users", [1, 9], ids=["one user", "many"])
async def test_a_backend_that_is_down_is_given_up(
    k: Kit, failure: ProviderFailed, calls: int, checks: int, users: int
) -> None:
    """CASE 31: after three failed calls, or four where they hang, whoever made them."""
    provider = FakeProvider(fails=failure)
    made, callers = k.instance(provider, limits="off"), [somebody() for _ in range(users)]
    for number in range(8):
        await made.whole(k.call(callers[number % users], f"question {number}"))
    if failure is TIMEOUT:
        # The fourth request checks beside its own call, which is refused where the check has failed before it goes out.
        # One user is passed over for the failures of its own by then.
        assert provider.asked == 3 or (users > 1 and provider.asked == calls)
    else:
        assert provider.asked == calls
    assert provider.checks == checks
    found = circuit(k, provider.name)
    assert found.state == "open"
    assert found.until_ms - k.time.ms == (600_000 if failure is FOREVER else 60_000)


async def test_a_check_costs_the_budget(k: Kit) -> None:
    """One call of the provider's budget, and of a daily one a twentieth at most: then five callers have to fail."""
    provider = FakeProvider(fails=SERVER, poison=POISON)
    made = k.instance(provider, limits="40/day")
    for attack in range(4):
        for number in range(3):
            await made.whole(k.call(somebody(), f"{POISON} {attack} {number}"))
        k.time.ms += 10_000
    assert provider.checks == 2
    # Nine questions of three attacks were counted, and two checks; then it is as if there were no check.
    assert await used(k, made) == [provider.asked + provider.checks]
    assert isinstance((await made.whole(k.call())).result, Refused)
    assert circuit(k, provider.name).state == "open"


async def used(k: Kit, made: Instance) -> list[int]:
    """What the first provider's windows have counted."""
    link, redis = made.chain.links[0], made.limits.redis
    assert redis is not None
    tally = await redis.run(bitfield.peek(link.subject.id, link.budget.layout, k.time.ms), "ask", 5)
    return [sum(buckets.values()) for buckets in tally.usage]


async def test_a_small_budget_has_no_check(k: Kit) -> None:
    """CASE 31: of fewer than 20 calls a day none goes into checks; five callers have to fail."""
    provider = FakeProvider(fails=SERVER, poison=POISON)
    made, attackers = k.instance(provider, limits="19/day"), [somebody() for _ in range(5)]
    for number in range(8):
        await made.whole(k.call(attackers[number % 4], f"{POISON} {number}"))
    assert isinstance((await made.whole(k.call())).result, Answered)
    assert provider.checks == 0
    for attacker in attackers:
        await made.whole(k.call(attacker, f"{POISON} once more"))
    assert circuit(k, provider.name).state == "open"


@pytest.mark.parametrize("well", [True, False], ids=["well", "down"])
async def test_a_health_address_is_visited_instead(k: Kit, well: bool) -> None:
    """It decides, and nothing of the budget is spent for it."""
    visits = list[int]()

    async def visit() -> int:
        visits.append(k.time.ms)
        return 200 if well else 503

    provider = FakeProvider(fails=SERVER)
    made = k.instance(Link(provider, Budget(parse_budget("19/day")), BreakerPolicy(), visit))
    for _ in range(3):
        await made.whole(k.call())
    assert (len(visits), provider.checks) == (1, 0)
    assert circuit(k, provider.name).state == ("closed" if well else "open")
    assert await used(k, made) == [3]


async def test_a_question_too_costly_holds_back_no_other(k: Kit) -> None:
    """CASE 32: refused for want of tokens, it is remembered for calls that cost as much; a smaller one passes."""
    provider = FakeProvider()
    made = k.instance(provider, limits="100000 tokens/day")
    await made.whole(k.call())
    costly = {"max_tokens": 99_990}
    refused = await made.whole(k.call(parameters=costly))
    assert isinstance(refused.result, Refused)
    assert refused.result.code == "budget_spent"
    assert [each.outcome for each in refused.attempts] == ["budget_spent"]
    assert isinstance((await made.whole(k.call(query="small"))).result, Answered)
    # As costly, and within a few seconds: refused without asking for its budget again.
    again = await made.whole(k.call(parameters=costly, query="which disk is fullest now?"))
    assert (type(again.result), again.attempts) == (Refused, [])
    k.time.ms += 5_000
    again = await made.whole(k.call(parameters=costly, query="which disk is fullest now?"))
    assert [each.outcome for each in again.attempts] == ["budget_spent"]
    assert provider.asked == 2


async def test_a_refusal_for_want_of_calls_holds_back_all(k: Kit) -> None:
    """CASE 32: where no call is left it does not matter how many tokens it takes."""
    provider = FakeProvider()
    made = k.instance(provider, limits="1/minute,100000 tokens/day")
    assert answered(await made.whole(k.call())).value.provider == provider.name
    await made.whole(k.call(parameters={"max_tokens": 5_000}))
    outcome = await made.whole(k.call(parameters={"max_tokens": 1}))
    assert isinstance(outcome.result, Refused)
    assert [each.outcome for each in outcome.attempts] == []
