"""Who waits behind a head that has gone out early for an answer that another request computes."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from dataclasses import replace

import httpx
import pytest

from lib.ai.answers import Answer
from lib.ai.providers import port
from lib.ai.providers.port import Piece, ProviderFailed
from lib.ai.question import AnyQuestion
from lib.base.clock import Clock
from lib.base.events import Crashed, RequestDone
from tests.rig.ai import FakeProvider, Kit, over
from tests.rig.clock import about_timeouts, until
from tests.rig.instance import Instance
from tests.rig.late import (
    BODIES,
    CHAT,
    COMMENT,
    ROUTES,
    Clients,
    Stream,
    events,
    late,
    pass_by,
    provenance_in,
    text_of,
)

pytestmark = [pytest.mark.anyio, about_timeouts]

ANSWER = "Disk / is 41 % full."
WHERE = pytest.mark.parametrize("elsewhere", [False, True], ids=["one instance", "another instance"])


def busy(made: Instance) -> int:
    """How many requests of an instance compute an answer or wait for one."""
    flights = made.guard.computing.leading.flights._flying.values()
    return len(flights) + sum(each.followers for each in flights)


async def waiting(clients: Clients, client: httpx.AsyncClient, made: Instance, path: str) -> Stream:
    """A stream that waits for an answer that is being computed, and whose head has come."""
    before = busy(made)
    coming = asyncio.ensure_future(clients.stream(client, path))
    await until(lambda: busy(made) == before + 1)
    await pass_by(5.1)
    return await coming


async def in_time[T](coming: Awaitable[T], made: Instance) -> T:
    """What comes while time passes: an instance that waits for another one looks from time to time."""
    found = asyncio.ensure_future(coming)
    while not found.done():
        looks = len(made.sent)
        await pass_by(3)
        await until(lambda: found.done() or len(made.sent) > looks)  # noqa: B023 - awaited here
    return await found


@ROUTES
@WHERE
async def test_all_who_wait_get_the_one_answer(k: Kit, clients: Clients, path: str, elsewhere: bool) -> None:
    """One call of the provider: to each a head after five seconds, comments, and the whole answer as a stream."""
    provider = FakeProvider(held=True)
    made = k.instance(provider, clock=Clock())
    other = k.instance(provider, clock=Clock()) if elsewhere else made
    client = await clients.of(made)
    leading = await late(clients, client, path, provider)
    theirs = await clients.of(other) if elsewhere else client
    following = [await waiting(clients, theirs, other, path) for _ in range(2)]
    for each in (leading, *following):
        assert (each.response.status_code, await each.some()) == (200, COMMENT)
        assert "x-cache" not in each.response.headers
    provider.go()
    first = events(await leading.rest())
    await over(made, 1)
    assert (text_of(path, first), first[-1]) == (ANSWER, "[DONE]")
    for each in following:
        come = events(await in_time(each.rest(), other))
        assert (text_of(path, come), come[-1]) == (ANSWER, "[DONE]")
        told = provenance_in(path, come)
        assert (told["cached"], told["saved"]["provider"]) == (False, provider.name)
    assert provider.asked == 1
    assert not made.seen(Crashed)


@ROUTES
async def test_a_failure_is_told_to_all(k: Kit, clients: Clients, path: str) -> None:
    """Behind each head, after one call of the provider."""
    provider = FakeProvider(held=True, fails=ProviderFailed("server", "HTTP 500"), is_well=True)
    made = k.instance(provider, clock=Clock())
    client = await clients.of(made)
    leading = await late(clients, client, path, provider)
    following = await waiting(clients, client, made, path)
    provider.go()
    for each in (leading, following):
        (error,) = events(await each.rest())
        assert "failed or sent something unusable" in str(error)
    await over(made, 2)
    assert provider.asked == 1
    assert [each.decision for each in made.seen(RequestDone)] == ["fail", "fail"]


@ROUTES
async def test_the_first_one_leaves(k: Kit, clients: Clients, path: str) -> None:
    """The provider's call goes on for those who wait."""
    provider = FakeProvider(held=True)
    made = k.instance(provider, clock=Clock())
    client = await clients.of(made)
    leading = await late(clients, client, path, provider)
    following = await waiting(clients, client, made, path)
    await leading.response.aclose()
    await until(lambda: bool(made.seen(RequestDone)))
    provider.go()
    come = events(await following.rest())
    assert (text_of(path, come), come[-1]) == (ANSWER, "[DONE]")
    await over(made, 2)
    assert (provider.asked, provider.closed) == (1, 0)


async def test_one_who_wants_it_whole_waits_as_well(k: Kit, clients: Clients) -> None:
    """For the same call; it has no head before its body."""
    provider = FakeProvider(held=True)
    made = k.instance(provider, clock=Clock())
    client = await clients.of(made)
    leading = await late(clients, client, CHAT, provider)
    whole = asyncio.ensure_future(client.post(CHAT, json={**BODIES[CHAT], "stream": False}))
    await until(lambda: busy(made) == 2)
    await pass_by(20)
    assert not whole.done()
    provider.go()
    assert text_of(CHAT, events(await leading.rest())) == ANSWER
    reply = await whole
    assert (reply.status_code, reply.json()["choices"][0]["message"]["content"]) == (200, ANSWER)
    assert provider.asked == 1


class InParts(FakeProvider):
    """Its streams cannot be joined into a whole reply."""

    async def _pieces(self, question: AnyQuestion, *, stream: bool) -> AsyncGenerator[Piece]:
        async for piece in super()._pieces(question, stream=stream):
            if stream and isinstance(piece, port.End):
                yield replace(piece, answer=Answer('[{"choices":[]}]', "m", joined=False))
            else:
                yield piece


async def test_who_wants_it_whole_and_has_waited_for_a_stream_that_cannot_be_joined(k: Kit, clients: Clients) -> None:
    """It is a miss to them: one of them asks, for all of them, and who streams has the stream."""
    provider = InParts(held=True)
    made = k.instance(provider, clock=Clock())
    client = await clients.of(made)
    leading = await late(clients, client, CHAT, provider)
    whole = [asyncio.ensure_future(client.post(CHAT, json={**BODIES[CHAT], "stream": False})) for _ in range(3)]
    await until(lambda: busy(made) == 4)
    provider.go()
    assert text_of(CHAT, events(await leading.rest())) == ANSWER
    for each in whole:
        reply = await in_time(each, made)
        assert (reply.status_code, reply.json()["choices"][0]["message"]["content"]) == (200, ANSWER)
    assert (provider.asked, provider.streamed) == (2, 1)
