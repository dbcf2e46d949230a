"""Computing a value once: whatever ends a request in the middle, nobody waits for it, and nothing is computed twice."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from dev.faults import Fault
from lib.ai.answers import Answer, AnswerCodec
from lib.ai.tries import Asking
from lib.cache.freshness import CacheRules
from lib.cache.lock import LockRules
from lib.call import Failed, Streaming
from lib.redis import keys
from tests.rig.ai import FakeProvider, Kit, answered
from tests.rig.clock import until
from tests.rig.instance import Asked, Instance, together

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["rest", "tcp"])
def transport(request: pytest.FixtureRequest) -> str:
    """Redis over both."""
    return str(request.param)


async def until_followed(made: Instance, by: int = 1) -> None:
    """Until so many requests of the instance wait for another."""
    flights = made.guard.computing.leading.flights
    await until(lambda: sum(each.followers for each in flights._flying.values()) == by)


async def test_what_another_instance_computed_is_remembered_by_redis_alone(k: Kit) -> None:
    """CASE 23: an instance that waited for another's value computes it anew when that has expired."""
    provider = FakeProvider(held=True)
    leads, follows, call = k.instance(provider), k.instance(provider), k.call(cache=CacheRules(60_000, 0, 0))
    leader = asyncio.ensure_future(leads.whole(call))
    await provider.until_asked()

    async def finish() -> None:
        await until_followed(follows, 2)
        provider.go()
        await leader

    k.time.on_sleep = finish
    followers = await together([follows.whole(k.again(call)) for _ in range(3)])
    assert [answered(each).cache for each in followers] == ["collapsed"] * 3
    assert not follows.guard.computing.leading.flights
    k.time.on_sleep = None
    k.later(61_000)
    provider.held, provider.texts = False, ("newer",)
    again = answered(await follows.whole(k.again(call)))
    assert (again.value.text, again.cache, provider.asked) == ("newer", "miss", 2)


async def test_whose_time_is_up_does_not_end_the_others_wait(k: Kit) -> None:
    """The one that looks for all in its instance has 3 s left, the other a minute: the other gets the value."""
    provider = FakeProvider(held=True)
    leads, follows, call = k.instance(provider), k.instance(provider), k.call()
    leader = asyncio.ensure_future(leads.whole(call))
    await provider.until_asked()

    longer: list[asyncio.Task[Any]] = []

    async def sleeping() -> None:
        if not longer:
            longer.append(asyncio.ensure_future(follows.whole(k.again(call))))
            await until_followed(follows)
        elif sum(k.time.slept) >= 6.0:
            provider.go()
            await leader

    k.time.on_sleep = sleeping
    short = await follows.whole(k.again(call, deadline=k.time.clock.monotonic() + 3.0))
    assert isinstance(short.result, Failed)
    assert answered(await longer[0]).cache == "collapsed"
    assert provider.asked == 1


async def test_a_stream_whose_reader_is_cancelled_goes_on_for_its_followers(k: Kit) -> None:
    """As servers do it: cancelled in the middle of the wait for the next piece. One call, and the follower has all."""
    provider = FakeProvider(held=True, texts=("a ", "b ", "c"))
    made, call = k.instance(provider), k.call()
    opening = asyncio.ensure_future(made.handle(k.again(call, stream=True)))
    await provider.until_asked()
    provider.go(1)
    outcome = await opening
    assert isinstance(outcome.result, Streaming)
    follower = asyncio.ensure_future(made.whole(k.again(call)))
    await until_followed(made)
    pieces = outcome.result.pieces
    await anext(pieces)
    reading = asyncio.ensure_future(anext(pieces))
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await pieces.aclose()
    provider.go()
    await outcome.after()
    assert answered(await follower).value.text == "a b c"
    assert (provider.asked, provider.closed) == (1, 0)
    assert answered(await k.instance(provider).whole(k.again(call))).cache == "hit"


async def test_a_stream_whose_only_reader_is_cancelled_is_closed(k: Kit) -> None:
    """Nobody wants it: the provider's call ends, nothing is stored, and the lock is free."""
    provider = FakeProvider(held=True, texts=("a ", "b "))
    made, call = k.instance(provider), k.call(stream=True)
    opening = asyncio.ensure_future(made.handle(call))
    await provider.until_asked()
    provider.go(1)
    outcome = await opening
    assert isinstance(outcome.result, Streaming)
    await anext(outcome.result.pieces)
    reading = asyncio.ensure_future(anext(outcome.result.pieces))
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await outcome.after()
    assert provider.closed == 1
    assert [key for key in map(str, k.server.keys("*ai:supervisor*")) if not key.startswith("epoch:")] == []
    assert not made.guard.computing.leading.flights


async def test_a_lock_whose_reply_was_lost_is_released(k: Kit) -> None:
    """The claim was executed and its reply lost; what is computed then is not stored: nobody waits for that lock."""
    provider = FakeProvider(held=True)
    made, call = k.instance(provider), k.call(limits="off")
    k.front.faults.set(Fault(kind="drop", match='"SET","lock:', times=1))
    asking = asyncio.ensure_future(made.whole(call))
    await provider.until_asked()
    assert k.server.get(keys.lock(call.call.key)) is not None
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert k.server.get(keys.lock(call.call.key)) is None
    provider.held = False
    assert answered(await k.instance(provider).whole(k.again(call))).cache == "miss"
    assert k.time.slept == []


async def test_who_read_the_lock_of_work_that_ended_meanwhile_does_not_repeat_it(k: Kit) -> None:
    """Its reply is late: by now the value is stored, and the instance knows that the lock is over. One call."""
    provider = FakeProvider()
    made, call = k.instance(provider), k.call()
    await made.whole(k.another(call, "so that the epochs exist"))
    provider.held = True
    leader = asyncio.ensure_future(made.whole(call))
    await provider.until_asked(2)
    k.front.faults.set(Fault(kind="delay", delay_ms=1_000, match="MGET", times=1))
    read = k.commands()["mget"]
    late = asyncio.ensure_future(made.whole(k.again(call)))
    await until(lambda: k.commands()["mget"] > read)
    provider.go()
    await leader
    assert answered(await late).cache == "collapsed"
    assert provider.asked == 2
    assert k.time.slept == []


async def test_an_entry_that_vanished_is_computed_anew_at_once(k: Kit) -> None:
    """CASES 23, 38: its lock is still there; the instance that stored it knows that nobody computes any more."""
    provider, call = FakeProvider(), k.call()
    made = k.instance(provider)
    await made.whole(call)
    # Under epochs that exist: a lock of before their first creation says nothing to anybody.
    other = k.another(call, "something else")
    await made.whole(other)
    k.server.delete(other.call.key)
    assert k.server.get(keys.lock(other.call.key)) is not None
    assert answered(await made.whole(k.again(other))).cache == "miss"
    assert k.time.slept == []


class _Unwritable(AnswerCodec):
    """Cannot write what a function returned."""

    def dump(self, value: Answer) -> str:
        raise TypeError("no JSON")


@dataclass
class _Broken(FakeProvider):
    """Raises what no source may."""

    async def ask(self, *about: Any, **more: Any) -> Any:
        self.asked += 1
        for _ in range(1):
            raise LookupError("a bug")
        yield


BUGS: Mapping[str, tuple[FakeProvider, AnswerCodec]] = {
    "codec": (FakeProvider(name="unwritable"), _Unwritable()),
    "source": (_Broken(name="broken"), AnswerCodec()),
}


@pytest.mark.parametrize(("provider", "codec"), BUGS.values(), ids=BUGS)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_bug_leaves_no_lock(k: Kit, provider: FakeProvider, codec: AnswerCodec, stream: bool) -> None:
    """What nobody expected reaches the edge, which logs it; the lock is released, and not renewed for ever."""
    made, call = k.instance(provider, rules=LockRules(600)), k.call(stream=stream)
    with pytest.raises((TypeError, LookupError)):
        await _whole(made, call, codec)
    assert k.server.get(keys.lock(call.call.key)) is None
    assert not made.guard.computing.leading.flights
    assert renewals() == []


async def test_a_bug_in_a_refresh_leaves_no_lock(k: Kit) -> None:
    """The older value went out; the lock of the refresh is released, and not renewed for ever."""
    provider, call = FakeProvider(), k.call(cache=CacheRules(60_000, 60_000, 60_000))
    made = k.instance(provider, rules=LockRules(600))
    await made.whole(call)
    k.later(61_000)
    again = k.again(call)
    outcome = await made.guard.handle(again.call, Asking(made.chain, again.question), _Unwritable())
    assert answered(outcome).cache == "stale"
    with pytest.raises(TypeError):
        await outcome.after()
    assert k.server.get(keys.lock(call.call.key)) is None
    assert renewals() == []


async def _whole(made: Instance, asked: Asked, codec: AnswerCodec) -> None:
    outcome = await made.guard.handle(asked.call, Asking(made.chain, asked.question), codec)
    assert isinstance(outcome.result, Streaming)
    try:
        async for _ in outcome.result.pieces:
            pass
    finally:
        await outcome.result.pieces.aclose()
        await outcome.after()


def renewals() -> list[str]:
    """What will renew a lock, or does so now."""
    loop: Any = asyncio.get_running_loop()
    waiting = [each for each in loop._scheduled if not each.cancelled()] + list(asyncio.all_tasks())
    return [text for text in map(repr, waiting) if "Lease" in text]
