"""Single flight: who computes an answer that several ask for at once, in one process and in many."""

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.queues import Queue
from typing import Any

import httpx
import pytest
import starlette.requests
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from api.ai.supervisor import ask
from dev.faults import Fault
from dev.serve import ThreadedServer
from lib.ai import question
from lib.ai.providers.port import Delta, End, ProviderFailed
from lib.app.settings import Settings
from lib.app.wiring import Parts, build
from lib.base import caller
from lib.base.clock import Clock
from lib.cache import single_flight as flight
from lib.cache.freshness import CacheRules, Directives
from lib.cache.single_flight import FlightRules
from lib.call import Answered, Failed, Refused, Streaming
from lib.edge.app import Request, endpoint, problem_json
from lib.limits import bitfield
from lib.limits.window import DAY_MS
from lib.redis import keys
from tests.aikit import ROUTE, TOKEN, FakeProvider, Kit, answered, kit, lifespan, together

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def k() -> AsyncIterator[Kit]:
    async with kit() as made:
        yield made


async def test_concurrent_misses_of_one_instance_make_one_call(k: Kit) -> None:
    """Ten at once: one provider call, one store, and everybody has the answer."""
    provider = FakeProvider(held=True)
    made, call = k.instance(provider), k.call()
    asks = asyncio.gather(*(made.whole(k.again(call)) for _ in range(10)))
    await provider.until_asked()
    provider.go()
    outcomes = await asks
    assert provider.asked == 1
    assert sorted(answered(o).cache for o in outcomes) == ["collapsed"] * 9 + ["miss"]
    assert {answered(o).answer.text for o in outcomes} == {"Disk / is 41 % full."}
    assert not made.guard._flights


async def test_an_instance_that_finds_a_note_waits_for_the_answer(k: Kit) -> None:
    """Two instances: the second one looks for the answer, and costs 2 commands a look."""
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
    # The ask with its first sight of yesterday, one look, and a TTL: the key had been touched by one other only.
    assert follows.counts() == (3, 3 + 2 + 1)


async def test_a_follower_looks_six_times_at_most_and_then_says_so(k: Kit) -> None:
    """A leader that neither answers nor lets go: the follower takes over once the lease is over."""
    hangs, works = FakeProvider(held=True), FakeProvider()
    leads, follows, call = k.instance(hangs), k.instance(works), k.call()
    first = asyncio.ensure_future(leads.whole(call))
    await hangs.until_asked()
    outcome = await follows.whole(k.again(call))
    assert answered(outcome).cache == "miss"
    assert len(k.time.slept) == 5
    assert 15.0 < sum(k.time.slept) < 16.0
    hangs.go()
    await first


async def test_of_several_followers_of_a_dead_leader_one_takes_over(k: Kit) -> None:
    """The leader is gone without a word: one of three instances computes, the others have its answer."""
    dead, works = FakeProvider(held=True), FakeProvider()
    call = k.call()
    leader = asyncio.ensure_future(k.instance(dead).guard.handle(call))
    await dead.until_asked()
    k.sleepers_wait_for(call)
    outcomes = await together([k.instance(works).whole(k.again(call)) for _ in range(3)])
    assert works.asked == 1
    assert sorted(answered(o).cache for o in outcomes) == ["collapsed", "collapsed", "miss"]
    leader.cancel()
    await asyncio.gather(leader, return_exceptions=True)


def client(when: Awaitable[object]) -> Request:
    """A request at the edge whose client leaves as soon as ``when`` is over."""

    async def receive() -> Message:
        await when
        return {"type": "http.disconnect"}

    scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
    return Request(starlette.requests.Request(scope, receive), "left", problem_json)


async def test_who_left_before_the_decision_takes_nothing_from_a_provider(k: Kit) -> None:
    """Gone while Redis was asked: counted for the caller; no budget, no circuit, no provider is touched."""
    provider, gone = FakeProvider(), asyncio.Event()
    made = k.instance(provider)
    gone.set()
    with pytest.raises(ClientDisconnect):
        await made.whole(replace(k.call(), while_here=client(gone.wait()).while_here))
    assert provider.asked == 0
    budget = keys.windows(keys.budget(provider.name), k.time.ms // DAY_MS)
    assert not [command for commands in made.sent for command in commands if budget in command]
    assert k.redis.exists(budget) == 0
    assert not made.guard._flights


async def test_a_follower_that_leaves_ends_its_own_wait_alone(k: Kit) -> None:
    """Its leader goes on, and whoever asks later gets that answer."""
    provider, leaves = FakeProvider(held=True), asyncio.Event()
    made, call = k.instance(provider), k.call()
    leader = asyncio.ensure_future(made.whole(call))
    await provider.until_asked()
    left = client(leaves.wait())
    follower = asyncio.ensure_future(made.whole(replace(k.again(call), while_here=left.while_here)))
    await made.until_sent(3)
    assert not follower.done()
    leaves.set()
    with pytest.raises(ClientDisconnect):
        await follower
    provider.go()
    assert answered(await leader).cache == "miss"
    assert answered(await made.whole(k.again(call))).cache == "hit"
    assert provider.asked == 1


async def test_a_leader_whose_client_leaves_is_replaced_at_once_in_its_instance(k: Kit) -> None:
    """The follower beside it claims the lock without waiting for the lease."""
    provider = FakeProvider(held=True)
    made, call = k.instance(provider), k.call()
    leader = asyncio.ensure_future(made.whole(call))
    await provider.until_asked()
    follower = asyncio.ensure_future(made.whole(k.again(call)))
    await made.until_sent(3)
    leader.cancel()
    await provider.until_asked(2)
    provider.go()
    assert answered(await follower).answer.text
    assert (provider.asked, provider.closed) == (2, 1)
    assert k.time.slept == []
    assert not made.guard._flights


async def test_a_leader_whose_client_leaves_is_replaced_elsewhere_at_the_next_look(k: Kit) -> None:
    """Its note goes with it, so that another instance does not wait for a lease."""
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


async def test_a_failed_leader_tells_its_followers_and_frees_the_note(k: Kit) -> None:
    """Those beside it fail with it; the next one asks anew."""
    provider = FakeProvider(held=True, fails=ProviderFailed("server", "HTTP 500"))
    made, call = k.instance(provider), k.call()
    asks = asyncio.gather(*(made.whole(k.again(call)) for _ in range(4)))
    await provider.until_asked()
    provider.go()
    outcomes = await asks
    assert [type(o.result) for o in outcomes] == [Failed] * 4
    provider.fails = None
    assert answered(await k.instance(provider).whole(k.again(call))).cache == "miss"
    assert provider.asked == 2
    assert k.time.slept == []


async def test_who_is_denied_puts_a_leaders_note_back(k: Kit) -> None:
    """A request that finds every provider closed in between leaves the leader's note as it was."""
    provider, other = FakeProvider(held=True), FakeProvider()
    leads, call = k.instance(provider), k.call()
    leader = asyncio.ensure_future(leads.whole(call))
    await provider.until_asked()
    denied = k.instance(other)
    denied.guard.chain._spent_until[0] = k.time.ms + 60_000
    assert isinstance((await denied.whole(k.again(call))).result, Refused)

    async def finish() -> None:
        provider.go()
        await leader

    k.time.on_sleep = finish
    assert answered(await k.instance(other).whole(k.again(call))).cache == "collapsed"
    assert other.asked == 0


async def test_who_is_refused_puts_a_leaders_note_back(k: Kit) -> None:
    """Over the caller's limit: the refund restores the note as well."""
    provider = FakeProvider(held=True)
    call = k.call(limits="1/minute")
    made = k.instance(provider)
    leader = asyncio.ensure_future(made.whole(call))
    await provider.until_asked()
    hashed = question.query_hash(call.route, call.caller.id, call.question)
    mark = flight.note(hashed, k.time.ms)
    subject = caller.subject(call.caller, call.policy.group, call.policy.layout.tag)
    k.time.ms += 1_000
    assert isinstance((await k.instance(provider).whole(k.again(call))).result, Refused)
    redis = made.guard.redis
    assert redis is not None
    assert await redis.run(bitfield.get_slot(subject, mark.slot, k.time.ms), "poll", 5) == mark.value
    provider.go()
    await leader


async def test_only_if_cached_leaves_no_note(k: Kit) -> None:
    """It computes nothing, so nobody may wait for it."""
    provider, call = FakeProvider(), k.call()
    made = k.instance(provider)
    assert isinstance((await made.whole(k.again(call, asked=Directives(only_if_cached=True)))).result, Refused)
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
    assert (answered(outcome).answer.text, answered(outcome).cache) == ("newer", "collapsed")
    assert provider.asked == 2


async def test_an_expired_entry_is_computed_once_by_several_instances(k: Kit) -> None:
    """The note cannot tell; the lock does, in the round trip of the budget."""
    provider, call = FakeProvider(), k.call(cache=CacheRules(60_000, 0, 3_600_000))
    await k.instance(provider).whole(call)
    k.time.ms += 61_000
    k.sleepers_wait_for(call)
    outcomes = await together([k.instance(provider).whole(k.again(call)) for _ in range(4)])
    assert provider.asked == 2
    assert sorted(answered(o).cache for o in outcomes) == ["collapsed", "collapsed", "collapsed", "miss"]


async def test_an_invalidation_ends_a_flight_in_its_instance(k: Kit) -> None:
    """What was begun before is not joined: the second call goes out while the first is still held."""
    provider = FakeProvider(held=True, texts=("old",))
    made, call = k.instance(provider), k.call()
    leader = asyncio.ensure_future(made.whole(call))
    await provider.until_asked()
    k.redis.incr(keys.epoch_route(ROUTE))
    provider.texts = ("new",)
    late = asyncio.ensure_future(made.whole(k.again(call)))
    await provider.until_asked(2)
    provider.go()
    assert [answered(o).answer.text for o in (await leader, await late)] == ["old", "new"]
    assert not made.guard._flights


async def test_an_invalidation_ends_a_flight_elsewhere(k: Kit) -> None:
    """The leader's answer of before is stored while another instance waits: it is not served, but computed anew."""
    old, new = FakeProvider(held=True, texts=("old",)), FakeProvider(texts=("new",))
    call = k.call()
    leader = asyncio.ensure_future(k.instance(old).whole(call))
    await old.until_asked()
    k.redis.incr(keys.epoch_route(ROUTE))

    async def finish() -> None:
        old.go()
        await leader

    k.time.on_sleep = finish
    after = answered(await k.instance(new).whole(k.again(call)))
    assert (after.answer.text, after.cache) == ("new", "miss")
    assert len(k.time.slept) == 1


async def test_an_entry_of_before_an_invalidation_is_computed_once(k: Kit) -> None:
    """Outdated for four instances at once: the lock tells who computes, also past a lock of before."""
    provider, call = FakeProvider(), k.call()
    await k.instance(provider).whole(call)
    key = k.answer_key(call)
    k.redis.set(keys.lock(key), flight.owner("gone", (0, 0)), px=15_000)
    k.redis.incr(keys.epoch_session(ROUTE, "s"))
    k.sleepers_wait_for(call)
    outcomes = await together([k.instance(provider).whole(k.again(call)) for _ in range(4)])
    assert provider.asked == 2
    assert sum(answered(o).cache == "miss" for o in outcomes) == 1
    assert sum(k.time.slept) < 15


async def test_a_lock_is_released_by_its_owner_only(k: Kit) -> None:
    """Also after it ran out and another took it."""
    made, rules = k.instance(FakeProvider()), FlightRules()
    redis = made.guard.redis
    assert redis is not None
    assert await redis.run(flight.claim("answer", "1|a", rules), "claim", 5) is True
    assert await redis.run(flight.claim("answer", "1|b", rules), "claim", 5) is False
    assert await redis.run(flight.release("answer", "1|b"), "claim", 5) == 0
    k.redis.delete(keys.lock("answer"))
    assert await redis.run(flight.claim("answer", "1|b", rules), "claim", 5) is True
    assert await redis.run(flight.release("answer", "1|a"), "claim", 5) == 0
    assert k.redis.get(keys.lock("answer")) == "1|b"
    assert await redis.run(flight.release("answer", "1|b"), "claim", 5) == 1


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
    provider.go()
    pieces = [piece async for piece in outcome.result.pieces]
    assert [type(p) for p in pieces] == [Delta, Delta, End]
    await outcome.after()
    assert answered(await beside).cache in ("collapsed", "hit")
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


async def test_without_windows_the_lock_decides_alone(k: Kit) -> None:
    """No limits, so no notes: still one call by three instances."""
    provider, call = FakeProvider(), k.call(limits="off")
    k.sleepers_wait_for(call)
    outcomes = await together([k.instance(provider).whole(k.again(call)) for _ in range(3)])
    assert provider.asked == 1
    assert sorted(answered(o).cache for o in outcomes) == ["collapsed", "collapsed", "miss"]


async def test_redis_gone_between_ask_and_claim_is_no_failure(k: Kit) -> None:
    """The answer is computed once, counted elsewhere and not kept; the next one with Redis computes it anew."""
    provider = FakeProvider()
    made, call = k.instance(provider), k.call(limits="off")
    k.faults.set(Fault(kind="status", status=500, match='"SET"'))
    assert answered(await made.whole(call)).answer.text
    assert made.limits.mode == "local"
    k.faults.clear()
    assert provider.asked == 1
    assert not made.guard._flights


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


def _ask_from_a_process(environ: dict[str, str], asks: int, ready: Any, go: Any, out: "Queue[Any]") -> None:
    """One instance in a process of its own: so many identical questions at once."""

    async def run() -> list[tuple[int, str, int]]:
        sent: list[int] = []
        parts = build(Settings.from_env(environ), Clock())
        redis = parts.guard.redis
        assert redis is not None
        redis.redis = replace(redis.redis, sent=lambda commands: sent.append(len(commands)))

        async def built() -> Parts:
            return parts

        app: Any = endpoint(built, post=ask)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://b", timeout=None) as client:  # noqa: S113
            body = {"query": "how full is the disk?", "sessionId": "s"}
            replies = await asyncio.gather(*(client.post("/api/ai/supervisor", json=body) for _ in range(asks)))
        await parts.aclose()
        return [(r.status_code, r.headers["cache-status"], len(sent)) for r in replies]

    ready.release()
    go.wait()
    out.put(asyncio.run(run()))


@dataclass
class _Fleet:
    processes: list[Any]
    gos: list[Any]
    out: "Queue[Any]"

    def replies(self, processes: int) -> list[tuple[int, str, int]]:
        """What so many processes have been answered."""
        return [each for _ in range(processes) for each in self.out.get(timeout=30)]


@contextmanager
def _fleet(k: Kit, lease_ms: int, backend: _Counting, asks: int = 5) -> Iterator[_Fleet]:
    context = multiprocessing.get_context("spawn")
    ready, out = context.Semaphore(0), context.Queue()
    gos = [context.Event() for _ in range(4)]
    with ThreadedServer(backend) as served:
        environ = {
            "KV_REST_API_URL": k.url,
            "KV_REST_API_TOKEN": TOKEN,
            "REDIS_TIMEOUT_MS": "5000",
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
    """Twenty identical questions in 4 real processes: 1 provider call, everybody answered, 6 looks each at most."""
    backend = _Counting()
    with _fleet(k, 6_000, backend) as fleet:
        for go in fleet.gos:
            go.set()
        replies = fleet.replies(4)
    assert [status for status, _, _ in replies] == [200] * 20
    assert backend.asked == 1
    assert sum("fwd=uri-miss; stored" in cache for _, cache, _ in replies) == 1
    assert sum("collapsed" in cache or "hit" in cache for _, cache, _ in replies) == 19
    # Round trips of a process: 5 asks, 6 looks at most, and the write-backs.
    assert max(sent for _, _, sent in replies) <= 5 + 6 + 5


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
    assert [status for status, _, _ in replies] == [200] * 15
    assert backend.asked == 2
