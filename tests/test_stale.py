"""Answers past their hour: served at once while one instance refreshes them, kept for a grace, then gone."""

import asyncio

import pytest

from dev.faults import Fault
from lib.ai.providers.port import ProviderFailed
from lib.cache import epochs
from lib.cache.freshness import CacheRules
from lib.call import Answered
from lib.redis import keys
from tests.rig.ai import ROUTE, FakeProvider, Kit, answered
from tests.rig.instance import together

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["rest", "tcp"])
def transport(request: pytest.FixtureRequest) -> str:
    """Redis over both."""
    return str(request.param)


HOUR_MS = 3_600_000
SERVER = ProviderFailed("server", "HTTP 500")


async def test_an_answer_past_its_hour_is_served_at_once_and_refreshed_afterwards(k: Kit) -> None:
    """The reply is out, marked, before the provider is asked; the next one is fresh."""
    provider = FakeProvider(texts=("old",))
    made, call = k.instance(provider), k.call()
    await made.whole(call)
    k.later(HOUR_MS)
    provider.texts = ("new",)
    outcome = await made.handle(k.again(call))
    assert (answered(outcome).cache, answered(outcome).value.text, provider.asked) == ("stale", "old", 1)
    await outcome.after()
    assert provider.asked == 2
    fresh = answered(await made.whole(k.again(call)))
    assert (fresh.cache, fresh.value.text) == ("hit", "new")


async def test_one_instance_refreshes(k: Kit) -> None:
    """Four serve it at the same time: one provider call, and the others' budget is given back."""
    provider = FakeProvider()
    call = k.call()
    await k.instance(provider).whole(call)
    k.later(HOUR_MS)
    instances = [k.instance(provider) for _ in range(4)]
    outcomes = await together([each.whole(k.again(call)) for each in instances])
    assert {answered(o).cache for o in outcomes} <= {"stale", "hit"}
    assert provider.asked == 2


async def test_a_refresh_that_fails_changes_nothing(k: Kit) -> None:
    """The older answer goes on being served; the lock is freed, so that the next one tries again."""
    provider = FakeProvider()
    made, call = k.instance(provider), k.call()
    await made.whole(call)
    k.later(HOUR_MS)
    provider.fails = SERVER
    for asked in (2, 3):
        assert answered(await made.whole(k.again(call))).cache == "stale"
        assert provider.asked == asked
    assert k.server.get(keys.lock(call.call.key)) is None
    provider.fails = None
    await made.whole(k.again(call))
    assert answered(await made.whole(k.again(call))).cache == "hit"


async def test_a_refresh_that_meets_an_outage_is_no_failure(k: Kit) -> None:
    """Redis goes between the reply and the refresh: nobody is asked, nothing breaks."""
    provider = FakeProvider()
    made, call = k.instance(provider), k.call()
    await made.whole(call)
    k.later(HOUR_MS)
    outcome = await made.handle(k.again(call))
    k.front.faults.set(Fault(kind="status", status=500))
    await outcome.after()
    assert provider.asked == 1


@pytest.mark.parametrize(
    ("age_ms", "works", "cache"),
    [
        pytest.param(HOUR_MS - 1, True, "hit", id="fresh to the last millisecond"),
        pytest.param(HOUR_MS, True, "stale", id="aging"),
        pytest.param(HOUR_MS + 599_999, True, "stale", id="aging to the last millisecond"),
        pytest.param(HOUR_MS + 600_000, True, "miss", id="too old while somebody answers"),
        pytest.param(HOUR_MS + 600_000, False, "stale", id="if nobody does"),
        pytest.param(HOUR_MS + 86_399_999, False, "stale", id="to the end of the grace"),
    ],
)
async def test_what_becomes_of_an_answer_with_age(k: Kit, age_ms: int, works: bool, cache: str) -> None:
    """One hour fresh, ten minutes more while it is refreshed, a day more if nobody answers."""
    provider = FakeProvider()
    made, call = k.instance(provider), k.call()
    await made.whole(call)
    k.time.ms += age_ms
    provider.fails = None if works else SERVER
    assert answered(await made.whole(k.again(call))).cache == cache


async def test_the_grace_is_configurable(k: Kit) -> None:
    """Kept for as long as it may be served, and not longer."""
    provider, rules = FakeProvider(), CacheRules(60_000, 30_000, 120_000)
    call = k.call(cache=rules)
    await k.instance(provider).whole(call)
    left = k.server.pttl(call.call.key)
    assert isinstance(left, int)
    assert 170_000 < left <= 180_000


async def test_a_stale_answer_is_never_served_across_an_invalidation(k: Kit) -> None:
    """Neither while it is refreshed nor if nobody answers."""
    provider = FakeProvider()
    made, call = k.instance(provider), k.call()
    await made.whole(call)
    k.later(HOUR_MS)
    k.server.set(epochs.session_key(ROUTE, "s"), "another")
    provider.fails = SERVER
    assert not isinstance((await made.whole(k.again(call))).result, Answered)


async def test_a_refresh_across_an_invalidation_is_not_served(k: Kit) -> None:
    """Begun before, stored after: a miss."""
    provider = FakeProvider()
    made, call = k.instance(provider), k.call()
    await made.whole(call)
    k.later(HOUR_MS)
    outcome = await made.handle(k.again(call))
    provider.held = True
    after = asyncio.ensure_future(outcome.after())
    await provider.until_asked(2)
    k.server.set(keys.epoch_route(ROUTE), "another")
    provider.go()
    await after
    assert answered(await made.whole(k.again(call))).cache == "miss"


async def test_a_followers_stale_answer_is_marked(k: Kit) -> None:
    """The leader falls back to an old answer: its followers are told that it is old, too."""
    provider = FakeProvider()
    made, call = k.instance(provider), k.call()
    await made.whole(call)
    k.later(HOUR_MS + 600_000)
    provider.fails, provider.held = SERVER, True
    asks = asyncio.gather(*(made.whole(k.again(call)) for _ in range(3)))
    await provider.until_asked(2)
    provider.go()
    assert {answered(o).cache for o in await asks} == {"stale"}


async def test_what_a_refresh_costs(k: Kit) -> None:
    """Nothing before the reply but the hit's 1 and 2; then budget and lock, then the store."""
    made, call = k.instance(FakeProvider()), k.call()
    await made.whole(call)
    k.later(HOUR_MS)
    made.counts()
    outcome = await made.handle(k.again(call))
    assert made.counts() == (1, 2)
    await outcome.after()
    assert made.counts() == (2, 3)
