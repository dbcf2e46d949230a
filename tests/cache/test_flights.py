"""Single flight: who computes an answer that several ask for at once, in one process and in many."""

import asyncio
import itertools
import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.queues import Queue
from typing import Any

import httpx
import pytest
import starlette.requests
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from dev.faults import Fault
from dev.serve import ThreadedServer
from lib.ai.providers.port import ProviderFailed
from lib.app.wiring import build
from lib.base.clock import Clock
from lib.cache import epochs, lock
from lib.cache.freshness import CacheRules, Directives
from lib.cache.lock import LockRules
from lib.call import Answered, Failed, Refused, Streaming
from lib.edge.errors import problem_json
from lib.edge.request import Request
from lib.limits.window import DAY_MS
from lib.pieces import Delta, Done
from lib.redis import keys
from lib.redis.op import Command
from lib.redis.rest import Upstash
from lib.redis.tcp import Tcp
from lib.settings import Settings
from tests.rig.ai import ROUTE, FakeProvider, Kit, answered, lifespan
from tests.rig.clock import until
from tests.rig.instance import routes, together

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["rest", "tcp"])
def transport(request: pytest.FixtureRequest) -> str:
    """Redis over both."""
    return str(request.param)


async def test_concurrent_misses_of_one_instance_make_one_call(k: Kit) -> None:
    """Ten at once: one provider call, one store, and everybody has the answer."""
    provider = FakeProvider(held=True)
    made, call = k.instance(provider), k.call()
    asks = asyncio.gather(*(made.whole(k.again(call)) for _ in range(10)))
    await provider.until_asked()
    await until(lambda: sum(each.followers for each in made.guard.computing.leading.flights._flying.values()) == 9)
    provider.go()
    outcomes = await asks
    assert provider.asked == 1
    assert sorted(answered(o).cache for o in outcomes) == ["collapsed"] * 9 + ["miss"]
    assert {answered(o).value.text for o in outcomes} == {"Disk / is 41 % full."}
    assert not made.guard.computing.leading.flights


async def test_an_instance_that_finds_a_lock_waits_for_the_value(k: Kit) -> None:
    """Two instances: the second one looks for the value, which costs a command a look."""
    provider = FakeProvider(held=True)
    leads, follows, call = k.instance(provider), k.instance(provider), k.call()
    first = asyncio.ensure_future(leads.whole(call))
    await provider.until_asked()

    async def finish() -> None:
        provider.go()
        await first

    k.time.on_sleep = finish
    follows.counts()
    outcome = await follows.whole(k.again(call))
    assert provider.asked == 1
    assert answered(outcome).cache == "collapsed"
    # The first round trip with its first sight of yesterday, one look, and a TTL: one other had written the key.
    assert follows.counts() == (3, 3 + 1 + 1)


async def test_a_follower_takes_over_from_a_dead_leader(k: Kit) -> None:
    """CASE 23: the lock of a killed instance runs out, and whoever looks next computes; until then few looks."""
    works, call = FakeProvider(), k.call()
    follows = k.instance(works)
    k.server.set(keys.lock(call.call.key), lock.owner("-.-.-", "dead"))

    async def run_out() -> None:
        if sum(k.time.slept) >= 10.0:
            k.server.delete(keys.lock(call.call.key))

    k.time.on_sleep = run_out
    outcome = await follows.whole(call)
    assert answered(outcome).cache == "miss"
    assert works.asked == 1
    assert sum(wait <= 2.0 for wait in itertools.accumulate(k.time.slept)) <= 6
    assert max(k.time.slept) <= 10.0 / 4
    assert 10.0 <= sum(k.time.slept) < 12.6


async def test_a_follower_waits_as_long_as_the_leader_works(k: Kit) -> None:
    """CASE 23: a leader that takes several leases is waited for, and not asked again."""
    slow, other = FakeProvider(held=True), FakeProvider()
    call = k.call()
    leader = asyncio.ensure_future(k.instance(slow).whole(call))
    await slow.until_asked()

    async def finish_after_40_s() -> None:
        if sum(k.time.slept) >= 40.0:
            slow.go()
            await leader

    k.time.on_sleep = finish_after_40_s
    outcome = await k.instance(other).whole(k.again(call))
    assert answered(outcome).cache == "collapsed"
    assert (slow.asked, other.asked) == (1, 0)


async def test_a_follower_whose_time_is_up_says_so(k: Kit) -> None:
    """It waits until its own deadline, and then fails as a timeout; nothing is asked twice."""
    provider, call = FakeProvider(), k.call(left_s=3.0)
    k.server.set(keys.lock(call.call.key), lock.owner("-.-.-", "another"))
    outcome = await k.instance(provider).whole(call)
    assert isinstance(outcome.result, Failed)
    assert outcome.result.failure.kind == "timeout"
    assert provider.asked == 0


async def test_a_lock_is_renewed_while_its_holder_works(k: Kit) -> None:
    """Longer than its lease: it is still held; it ends with the entry that names its owner."""
    provider = FakeProvider(held=True)
    made, call = k.instance(provider, rules=LockRules(3_000)), k.call(cache=CacheRules(60_000, 0, 3_600_000))
    leader = asyncio.ensure_future(made.whole(call))
    await provider.until_asked()
    owner = k.server.get(keys.lock(call.call.key))
    # The round trip of the count, that of the lock, and two renewals: a second of patience with a busy machine.
    await made.until_sent(4)
    assert k.server.get(keys.lock(call.call.key)) == owner
    provider.go()
    assert answered(await leader).cache == "miss"
    # Whatever is left of the lock: nobody waits for it.
    k.server.set(keys.lock(call.call.key), str(owner))
    k.time.ms += 61_000
    again = answered(await k.instance(provider).whole(k.again(call)))
    assert (again.cache, k.time.slept) == ("miss", [])


async def test_of_several_followers_of_a_dead_leader_one_takes_over(k: Kit) -> None:
    """The leader was killed: one of three instances computes, the others have its value."""
    works, call = FakeProvider(), k.call()
    key = call.call.key
    k.server.set(keys.lock(key), lock.owner("-.-.-", "dead"))

    async def run_out() -> None:
        if sum(k.time.slept) >= 30.0 and str(k.server.get(keys.lock(key))).endswith("dead"):
            k.server.delete(keys.lock(key))
        elif k.server.get(keys.lock(key)) is not None and works.asked:
            await until(lambda: k.server.get(key) is not None)

    k.time.on_sleep = run_out
    outcomes = await together([k.instance(works).whole(k.again(call)) for _ in range(3)])
    assert works.asked == 1
    assert sorted(answered(o).cache for o in outcomes) == ["collapsed", "collapsed", "miss"]


def client(leaves: asyncio.Event) -> Request:
    """A request at the edge whose client leaves as soon as the event is set."""

    async def receive() -> Message:
        await leaves.wait()
        return {"type": "http.disconnect"}

    scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
    return Request(starlette.requests.Request(scope, receive), "left", problem_json)


async def test_who_left_before_the_decision_takes_nothing_from_a_provider(k: Kit) -> None:
    """Gone while Redis was asked: counted for the caller; no budget, no circuit, no provider is touched."""
    provider, gone = FakeProvider(), asyncio.Event()
    made = k.instance(provider)
    gone.set()
    with pytest.raises(ClientDisconnect):
        await made.whole(k.again(k.call(), while_here=client(gone).while_here))
    assert provider.asked == 0
    budget = keys.windows(made.chain.links[0].subject.id, k.time.ms // DAY_MS)
    assert not [command for commands in made.sent for command in commands if budget in command]
    assert k.server.exists(budget) == 0
    assert not made.guard.computing.leading.flights


async def test_a_follower_that_leaves_ends_its_own_wait_alone(k: Kit) -> None:
    """Its leader goes on, and whoever asks later gets that answer."""
    provider, leaves = FakeProvider(held=True), asyncio.Event()
    made, call = k.instance(provider), k.call()
    leader = asyncio.ensure_future(made.whole(call))
    await provider.until_asked()
    left = client(leaves)
    follower = asyncio.ensure_future(made.whole(k.again(call, while_here=left.while_here)))
    await made.until_sent(3)
    assert not follower.done()
    leaves.set()
    with pytest.raises(ClientDisconnect):
        await follower
    provider.go()
    assert answered(await leader).cache == "miss"
    assert answered(await made.whole(k.again(call))).cache == "hit"
    assert provider.asked == 1


async def test_a_leader_whose_client_leaves_goes_on_for_its_followers(k: Kit) -> None:
    """Another request of its instance waits for the value: one call, and the follower has it."""
    provider, leaves = FakeProvider(held=True), asyncio.Event()
    made, call = k.instance(provider), k.call()
    left = client(leaves)
    leader = asyncio.ensure_future(made.whole(k.again(call, while_here=left.while_here)))
    await provider.until_asked()
    follower = asyncio.ensure_future(made.whole(k.again(call)))
    await made.until_sent(3)
    await until(lambda: any(each.followers for each in made.guard.computing.leading.flights._flying.values()))
    leaves.set()
    await asyncio.sleep(0)
    provider.go()
    assert answered(await follower).cache == "collapsed"
    assert answered(await leader).cache == "miss"
    assert (provider.asked, provider.closed) == (1, 0)
    assert not made.guard.computing.leading.flights


async def test_an_abandoned_stream_is_finished_for_its_followers(k: Kit) -> None:
    """The client of a stream leaves while another request waits for the value: one call, stored as usual."""
    provider = FakeProvider(held=True, texts=("a ", "b ", "c"))
    made, call = k.instance(provider), k.call()
    outcome_task = asyncio.ensure_future(made.handle(k.again(call, stream=True)))
    await provider.until_asked()
    provider.go(1)
    outcome = await outcome_task
    assert isinstance(outcome.result, Streaming)
    follower = asyncio.ensure_future(made.whole(k.again(call)))
    await until(lambda: any(each.followers for each in made.guard.computing.leading.flights._flying.values()))
    await anext(outcome.result.pieces)
    await outcome.result.pieces.aclose()
    provider.go()
    await outcome.after()
    assert answered(await follower).value.text == "a b c"
    assert (provider.asked, provider.closed) == (1, 0)
    assert answered(await k.instance(provider).whole(k.again(call))).cache == "hit"


async def test_an_abandoned_stream_that_nobody_wants_is_closed(k: Kit) -> None:
    """Nothing is computed for nobody, and the next request starts at once."""
    provider = FakeProvider(held=True)
    made, call = k.instance(provider), k.call()
    outcome_task = asyncio.ensure_future(made.handle(k.again(call, stream=True)))
    await provider.until_asked()
    provider.go(1)
    outcome = await outcome_task
    assert isinstance(outcome.result, Streaming)
    await outcome.result.pieces.aclose()
    await outcome.after()
    assert provider.closed == 1
    assert k.server.get(keys.lock(call.call.key)) is None
    provider.held = False
    assert answered(await made.whole(k.again(call))).cache == "miss"
    assert k.time.slept == []


async def test_a_setting_finishes_what_was_abandoned(k: Kit) -> None:
    """With ``finish_abandoned`` a value is computed for the cache although its only client has left."""
    provider, leaves = FakeProvider(held=True), asyncio.Event()
    made, call = k.instance(provider), k.call()
    left = client(leaves)
    leader = asyncio.ensure_future(made.whole(k.again(call, while_here=left.while_here, finish_abandoned=True)))
    await provider.until_asked()
    leaves.set()
    await asyncio.sleep(0)
    provider.go()
    assert answered(await leader).cache == "miss"
    assert answered(await k.instance(provider).whole(k.again(call))).cache == "hit"
    assert provider.asked == 1


async def test_a_leader_that_is_cancelled_is_replaced_at_once_in_its_instance(k: Kit) -> None:
    """The follower beside it takes over without waiting for the lease."""
    provider = FakeProvider(held=True)
    made, call = k.instance(provider), k.call()
    leader = asyncio.ensure_future(made.whole(call))
    await provider.until_asked()
    follower = asyncio.ensure_future(made.whole(k.again(call)))
    await made.until_sent(3)
    leader.cancel()
    await provider.until_asked(2)
    provider.go()
    assert answered(await follower).value.text
    assert (provider.asked, provider.closed) == (2, 1)
    assert not made.guard.computing.leading.flights


async def test_a_leader_whose_client_leaves_is_replaced_elsewhere_at_the_next_look(k: Kit) -> None:
    """Its lock goes with it, so that another instance does not wait for a lease."""
    provider, works = FakeProvider(held=True), FakeProvider()
    leads, follows, call = k.instance(provider), k.instance(works), k.call()
    leader = asyncio.ensure_future(leads.whole(call))
    await provider.until_asked()

    async def leave() -> None:
        leader.cancel()
        await asyncio.gather(leader, return_exceptions=True)

    k.time.on_sleep = leave
    outcome = await follows.whole(k.again(call))
    assert answered(outcome).cache == "miss"
    assert len(k.time.slept) == 1
    assert (provider.closed, works.asked) == (1, 1)


async def test_a_failed_leader_tells_its_followers_and_frees_the_lock(k: Kit) -> None:
    """Those beside it fail with it; the next one asks anew."""
    provider = FakeProvider(held=True, fails=ProviderFailed("server", "HTTP 500"))
    made, call = k.instance(provider), k.call()
    asks = asyncio.gather(*(made.whole(k.again(call)) for _ in range(4)))
    await provider.until_asked()
    await until(lambda: sum(each.followers for each in made.guard.computing.leading.flights._flying.values()) == 3)
    provider.go()
    outcomes = await asks
    assert [type(o.result) for o in outcomes] == [Failed] * 4
    provider.fails = None
    assert answered(await k.instance(provider).whole(k.again(call))).cache == "miss"
    assert provider.asked == 2
    assert k.time.slept == []


async def test_only_if_cached_takes_no_lock(k: Kit) -> None:
    """It computes nothing, so nobody may wait for it."""
    provider, call = FakeProvider(), k.call()
    made = k.instance(provider)
    assert isinstance((await made.whole(k.again(call, directives=Directives(only_if_cached=True)))).result, Refused)
    assert answered(await k.instance(provider).whole(k.again(call))).cache == "miss"
    assert k.time.slept == []


async def test_hits_leave_nothing_that_a_later_miss_waits_for(k: Kit) -> None:
    """An entry that was served a moment before it went past every use is computed anew at once."""
    provider, call = FakeProvider(), k.call(cache=CacheRules(60_000, 0, 3_600_000))
    made = k.instance(provider)
    await made.whole(call)
    k.time.ms += 59_000
    assert answered(await made.whole(k.again(call))).cache == "hit"
    k.time.ms += 2_000
    assert answered(await made.whole(k.again(call))).cache == "miss"
    assert provider.asked == 2
    assert k.time.slept == []


async def test_followers_do_not_take_an_expired_entry_for_the_answer(k: Kit) -> None:
    """Who waits for an entry's successor is not given the entry."""
    provider, call = FakeProvider(), k.call(cache=CacheRules(60_000, 0, 3_600_000))
    await k.instance(provider).whole(call)
    k.time.ms += 61_000
    provider.held, provider.texts = True, ("newer",)
    leader = asyncio.ensure_future(k.instance(provider).whole(k.again(call)))
    await provider.until_asked(2)
    looks: list[float] = []

    async def finish_at_the_third() -> None:
        looks.append(0)
        if len(looks) == 3:
            provider.go()
            await leader

    k.time.on_sleep = finish_at_the_third
    outcome = await k.instance(provider).whole(k.again(call))
    assert (answered(outcome).value.text, answered(outcome).cache) == ("newer", "collapsed")
    assert provider.asked == 2


async def test_an_expired_entry_is_computed_once_by_several_instances(k: Kit) -> None:
    """The lock decides, in the round trip of the budget."""
    provider, call = FakeProvider(), k.call(cache=CacheRules(60_000, 0, 3_600_000))
    await k.instance(provider).whole(call)
    k.time.ms += 61_000
    k.sleepers_wait_for(call)
    outcomes = await together([k.instance(provider).whole(k.again(call)) for _ in range(4)])
    assert provider.asked == 2
    assert sorted(answered(o).cache for o in outcomes) == ["collapsed", "collapsed", "collapsed", "miss"]


async def test_the_first_value_ever_is_computed_once(k: Kit) -> None:
    """CASES 23: epochs that another value's store creates meanwhile do not make a lock of an earlier time of it."""
    slow, other, call, quick = FakeProvider(held=True), FakeProvider(), k.call(), k.call(query="another question")
    leader = asyncio.ensure_future(k.instance(slow).whole(call))
    await slow.until_asked()
    await k.instance(other).whole(quick)

    async def finish() -> None:
        slow.go()
        await leader

    k.time.on_sleep = finish
    outcome = await k.instance(other).whole(k.again(call))
    assert answered(outcome).cache == "collapsed"
    assert (slow.asked, other.asked) == (1, 1)
    assert answered(await k.instance(other).whole(k.again(call))).cache == "hit"


async def test_many_first_values_at_once_share_their_epochs(k: Kit) -> None:
    """Created by whoever comes first, and by nobody twice: each is computed once, and found afterwards."""
    provider = FakeProvider()
    made = [k.instance(provider) for _ in range(3)]
    calls = [k.call(query=f"question {number}") for number in range(9)]
    first = await together([made[at % 3].whole(call) for at, call in enumerate(calls)])
    again = await together([made[at % 3].whole(k.again(call)) for at, call in enumerate(calls, 1)])
    assert [answered(each).cache for each in (*first, *again)] == ["miss"] * 9 + ["hit"] * 9
    assert (provider.asked, k.time.slept) == (9, [])


async def test_an_invalidation_ends_a_flight_in_its_instance(k: Kit) -> None:
    """What was begun before is not joined: the second call goes out while the first is still held."""
    provider = FakeProvider(held=True, texts=("old",))
    made, call = k.instance(provider), k.call()
    leader = asyncio.ensure_future(made.whole(call))
    await provider.until_asked()
    k.server.set(keys.epoch_route(ROUTE), "another")
    provider.texts = ("new",)
    late = asyncio.ensure_future(made.whole(k.again(call)))
    await provider.until_asked(2)
    provider.go()
    assert [answered(o).value.text for o in (await leader, await late)] == ["old", "new"]
    assert not made.guard.computing.leading.flights


async def test_an_invalidation_ends_a_flight_elsewhere(k: Kit) -> None:
    """A lock of before says nothing: the value is computed anew at once, and the old one that follows is not served."""
    old, new = FakeProvider(held=True, texts=("old",)), FakeProvider(texts=("new",))
    call = k.call()
    leader = asyncio.ensure_future(k.instance(old).whole(call))
    await old.until_asked()
    k.server.set(keys.epoch_route(ROUTE), "another")
    after = answered(await k.instance(new).whole(k.again(call)))
    assert (after.value.text, after.cache) == ("new", "miss")
    assert k.time.slept == []
    old.go()
    await leader
    # The old value has replaced the new one, and is a miss: nobody waits for the lock of the new one.
    assert answered(await k.instance(new).whole(k.again(call))).value.text == "new"
    assert k.time.slept == []


async def test_an_entry_of_before_an_invalidation_is_computed_once(k: Kit) -> None:
    """Outdated for four instances at once: the lock tells who computes, also past a lock of before."""
    provider, call = FakeProvider(), k.call()
    await k.instance(provider).whole(call)
    key = call.call.key
    k.server.set(keys.lock(key), lock.owner("gone", "before"), px=15_000)
    k.server.set(epochs.session_key(ROUTE, "s"), "another")
    k.sleepers_wait_for(call)
    outcomes = await together([k.instance(provider).whole(k.again(call)) for _ in range(4)])
    assert provider.asked == 2
    assert sum(answered(o).cache == "miss" for o in outcomes) == 1
    assert sum(k.time.slept) < 15


async def test_a_lock_is_released_by_its_owner_only(k: Kit) -> None:
    """CASE 25: also after it ran out and another took it."""
    made, rules = k.instance(FakeProvider()), LockRules()
    redis = made.limits.redis
    assert redis is not None
    assert await redis.run(lock.claim("answer", "1|a", rules), "claim", 5) is True
    assert await redis.run(lock.claim("answer", "1|b", rules), "claim", 5) is False
    assert await redis.run(lock.release("answer", "1|b"), "claim", 5) == 0
    k.server.delete(keys.lock("answer"))
    assert await redis.run(lock.claim("answer", "1|b", rules), "claim", 5) is True
    assert await redis.run(lock.release("answer", "1|a"), "claim", 5) == 0
    assert k.server.get(keys.lock("answer")) == "1|b"
    assert await redis.run(lock.release("answer", "1|b"), "claim", 5) == 1


async def test_followers_of_a_stream_get_the_whole_answer(k: Kit) -> None:
    """In the instance when the last piece is there, elsewhere when it is stored."""
    provider = FakeProvider(held=True)
    made, call = k.instance(provider), k.call(stream=True)
    outcome_task = asyncio.ensure_future(made.handle(call))
    await provider.until_asked()
    provider.go(1)
    outcome = await outcome_task
    assert isinstance(outcome.result, Streaming)
    beside = asyncio.ensure_future(made.whole(k.again(call)))
    await until(lambda: any(each.followers for each in made.guard.computing.leading.flights._flying.values()))
    provider.go()
    pieces = [piece async for piece in outcome.result.pieces]
    assert [type(p) for p in pieces] == [Delta] * 4 + [Done]
    await outcome.after()
    assert answered(await beside).cache == "collapsed"
    assert provider.asked == 1


async def test_followers_of_a_broken_stream_fail_with_it(k: Kit) -> None:
    """And nothing of it is stored."""
    provider = FakeProvider(held=True, fails=ProviderFailed("cut", "gone"), fails_after=1)
    made, call = k.instance(provider), k.call(stream=True)
    outcome_task = asyncio.ensure_future(made.handle(call))
    await provider.until_asked()
    provider.go(1)
    outcome = await outcome_task
    beside = asyncio.ensure_future(made.whole(k.again(call, stream=False)))
    await made.until_sent(3)
    provider.go()
    assert isinstance(outcome.result, Streaming)
    with pytest.raises(ProviderFailed):
        async for _ in outcome.result.pieces:
            pass
    await outcome.after()
    assert isinstance((await beside).result, Failed)
    provider.fails = None
    assert answered(await k.instance(provider).whole(k.again(call, stream=False))).cache == "miss"


async def test_without_redis_single_flight_goes_on_in_the_instance(k: Kit) -> None:
    """Ten at once, Redis switched off: one call."""
    provider = FakeProvider(held=True)
    made, call = k.instance(provider, redis=False), k.call(limits="off")
    asks = asyncio.gather(*(made.whole(k.again(call)) for _ in range(10)))
    await provider.until_asked()
    provider.go()
    assert {type(o.result) for o in await asks} == {Answered}
    assert provider.asked == 1


async def test_without_limits_the_lock_decides_as_well(k: Kit) -> None:
    """Still one call by three instances."""
    provider, call = FakeProvider(), k.call(limits="off")
    k.sleepers_wait_for(call)
    outcomes = await together([k.instance(provider).whole(k.again(call)) for _ in range(3)])
    assert provider.asked == 1
    assert sorted(answered(o).cache for o in outcomes) == ["collapsed", "collapsed", "miss"]


async def test_redis_gone_between_ask_and_claim_is_no_failure(k: Kit) -> None:
    """The answer is computed once, counted elsewhere and not kept; the next one with Redis computes it anew."""
    provider = FakeProvider()
    made, call = k.instance(provider), k.call(limits="off")
    k.front.faults.set(Fault(kind="status", status=500, match='"SET"'))
    assert answered(await made.whole(call)).value.text
    assert made.limits.mode == "local"
    k.front.faults.clear()
    assert provider.asked == 1
    assert not made.guard.computing.leading.flights


# Across processes, on the real edge


class _Counting:
    """A supervisor's backend that counts and takes a while; a call it holds is answered when it is let go."""

    def __init__(self, *, hold_first: bool = False) -> None:
        self.asked = 0
        self.first = threading.Event()
        self._hold_first = hold_first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await lifespan(receive, send)
            return
        self.asked += 1
        self.first.set()
        await asyncio.sleep(60 if self._hold_first and self.asked == 1 else 0.4)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": b'{"answer": "counted", "model": "m"}'})


@dataclass(frozen=True)
class _Asked:
    """What a process was answered, and what it did for that."""

    statuses: list[int]
    cached: list[str]
    sent: list[str]
    """Its round trips to Redis, by what each was for."""
    slept: list[float]
    """How long it waited before each look, in seconds."""


def _purpose(commands: Sequence[Command]) -> str:
    """What a round trip is for."""
    names = [command[0] for command in commands]
    match names:
        case ["BITFIELD", *_, "MGET"]:
            return "count"
        case ["MGET"]:
            return "look"
        case ["SET"] if str(commands[0][1]).startswith("lock:"):
            return "lock"
        case ["EXPIRE", *_]:
            return "after"
    return " ".join(map(str, names))


def _ask_from_a_process(environ: dict[str, str], asks: int, ready: Any, go: Any, out: "Queue[Any]") -> None:
    """One instance in a process of its own: so many identical questions at once."""

    async def run() -> _Asked:
        sent, slept = list[str](), list[float]()

        async def sleep(seconds: float) -> None:
            slept.append(seconds)
            await asyncio.sleep(seconds)

        parts = build(Settings.from_env(environ), Clock(sleep=sleep))
        redis = parts.guard.limits.redis
        assert redis is not None
        assert isinstance(redis.redis, Upstash | Tcp)
        redis.redis = replace(redis.redis, sent=lambda commands: sent.append(_purpose(commands)))

        app: Any = routes(parts)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://b", timeout=None) as client:  # noqa: S113
            body = {"query": "how full is the disk?", "sessionId": "s"}
            replies = await asyncio.gather(*(client.post("/api/ai/supervisor", json=body) for _ in range(asks)))
        await parts.aclose()
        return _Asked([r.status_code for r in replies], [r.headers["cache-status"] for r in replies], sent, slept)

    ready.release()
    go.wait()
    out.put(asyncio.run(run()))


@dataclass
class _Fleet:
    processes: list[Any]
    gos: list[Any]
    out: "Queue[Any]"

    def replies(self, processes: int) -> list[_Asked]:
        """What so many processes have been answered."""
        return [self.out.get(timeout=60) for _ in range(processes)]


@contextmanager
def _fleet(k: Kit, lease_ms: int, backend: _Counting, asks: int = 5) -> Iterator[_Fleet]:
    context = multiprocessing.get_context("spawn")
    ready, out = context.Semaphore(0), context.Queue()
    gos = [context.Event() for _ in range(4)]
    with ThreadedServer(backend) as served:
        environ = {
            **k.environ,
            "CLOUD_RUN_AI_URL": served.url,
            "SINGLE_FLIGHT_LEASE_MS": str(lease_ms),
            "RATELIMIT_AI_SUPERVISOR": "100/minute",
        }
        made = [context.Process(target=_ask_from_a_process, args=(environ, asks, ready, go, out)) for go in gos]
        for each in made:
            each.start()
        try:
            for _ in made:
                assert ready.acquire(timeout=60)
            yield _Fleet(made, gos, out)
        finally:
            for each in made:
                each.kill()
                each.join()


async def test_twenty_concurrent_misses_in_four_processes_make_one_call(k: Kit) -> None:
    """CASE 23: twenty identical questions in 4 real processes: 1 provider call, everybody answered, few looks."""
    backend, rules = _Counting(), LockRules(6_000)
    for name in epochs.of_session(ROUTE, "s"):
        k.server.set(name, "known")
    with _fleet(k, rules.lease_ms, backend) as fleet:
        for go in fleet.gos:
            go.set()
        processes = fleet.replies(4)
    assert [status for each in processes for status in each.statuses] == [200] * 20
    assert backend.asked == 1
    cached = [text for each in processes for text in each.cached]
    assert sum("fwd=uri-miss; stored" in text for text in cached) == 1
    assert sum("collapsed" in text or "hit" in text for text in cached) == 19
    for each in processes:
        sent = Counter(each.sent)
        # One of each process looks for all of it, after waits that grow.
        # The first goes at once, the others pay together.
        assert sent.pop("count") == 2
        assert sent.pop("look", 0) == len(each.slept)
        assert sent.pop("lock", 0) <= 1
        assert sent.pop("after", 0) <= 5
        assert not sent
        for look, slept_s in enumerate(each.slept):
            assert lock.wait_s(look, rules, 0.0) <= slept_s < lock.wait_s(look, rules, 1.0)


async def test_a_killed_leader_is_replaced_by_one_follower(k: Kit) -> None:
    """SIGKILL for the process that leads: after the lease exactly one of the others computes, all get its answer."""
    backend = _Counting(hold_first=True)
    with _fleet(k, 2_000, backend) as fleet:
        # One process alone, so that it is known which one leads.
        fleet.gos[0].set()
        assert backend.first.wait(30)
        os.kill(fleet.processes[0].pid, signal.SIGKILL)
        for go in fleet.gos[1:]:
            go.set()
        replies = fleet.replies(3)
    assert [status for each in replies for status in each.statuses] == [200] * 15
    assert backend.asked == 2
