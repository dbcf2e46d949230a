"""Streams that are long in coming, through a real server: the head goes out in time, comments follow it."""

import asyncio
import json

import pytest

from lib.ai.providers.port import ProviderFailed
from lib.base.clock import Clock
from lib.base.events import Crashed, RequestDone
from lib.breaker import stored
from lib.breaker.circuit import Circuit
from lib.redis import keys
from tests.rig.ai import FakeProvider, Kit, over
from tests.rig.clock import about_timeouts, until
from tests.rig.late import (
    BODIES,
    CHAT,
    COMMENT,
    ROUTES,
    SUPERVISOR,
    Clients,
    events,
    late,
    pass_by,
    provenance_in,
    text_of,
)

pytestmark = [pytest.mark.anyio, about_timeouts]

SERVER = ProviderFailed("server", "HTTP 500")


@ROUTES
async def test_the_head_comes_after_five_seconds_and_a_comment_every_ten(k: Kit, clients: Clients, path: str) -> None:
    """And behind it a provider fails and the next one answers: the stream says which."""
    first, second = FakeProvider(held=True, fails=SERVER), FakeProvider(held=True)
    made = k.instance(first, second, clock=Clock())
    found = await late(clients, await clients.of(made), path, first)
    told = found.response.headers
    assert (found.response.status_code, told["content-type"].partition(";")[0]) == (200, "text/event-stream")
    assert (told["x-ratelimit-remaining"], told["x-guard-mode"]) == ("9", "redis")
    assert told.get("x-vercel-ai-ui-message-stream") == ("v1" if path == SUPERVISOR else None)
    # What is not known yet is not promised.
    assert not {"x-cache", "cache-status", "x-attempts", "server-timing", "age"} & set(told)
    assert await found.some() == COMMENT
    for _ in range(2):
        await pass_by(10.1)
        assert await found.some() == COMMENT
    first.go()
    await second.until_asked()
    await pass_by(10.1)
    assert await found.some() == COMMENT
    second.go()
    come = events(await found.rest())
    assert (text_of(path, come), come[-1]) == ("Disk / is 41 % full.", "[DONE]")
    assert provenance_in(path, come)["provider"] == second.name
    assert provenance_in(path, come)["attempts"] == [
        {"provider": first.name, "outcome": "server"},
        {"provider": second.name, "outcome": "answered"},
    ]
    await over(made, 1)
    (done,) = made.seen(RequestDone)
    assert (done.status, done.decision, done.cache, done.provider) == (200, "compute", "miss", second.name)
    assert (first.asked, second.asked) == (1, 1)


@ROUTES
async def test_a_late_answer_is_kept(k: Kit, clients: Clients, path: str) -> None:
    """As any other: the next request is a hit."""
    provider = FakeProvider(held=True)
    made = k.instance(provider, clock=Clock())
    client = await clients.of(made)
    found = await late(clients, client, path, provider)
    provider.go()
    await found.rest()
    await over(made, 1)
    again = await clients.stream(client, path)
    assert again.response.headers["x-cache"] == "HIT"
    assert text_of(path, events(await again.rest())) == "Disk / is 41 % full."


FAILURES = [
    pytest.param(SERVER, "failed or sent something unusable", "backend_failed", id="server"),
    pytest.param(ProviderFailed("timeout", "no answer"), "no answer in time", "backend_timeout", id="timeout"),
    pytest.param(ProviderFailed("quota", "429", status=429, rests_s=60), "no capacity", "backend_throttled", id="429"),
    pytest.param(ProviderFailed("rejected", "400", status=400), "refused the question", "backend_rejected", id="400"),
]


@ROUTES
@pytest.mark.parametrize(("failure", "words", "code"), FAILURES)
async def test_what_fails_behind_the_head_is_an_error_event(
    k: Kit, clients: Clients, path: str, failure: ProviderFailed, words: str, code: str
) -> None:
    """In the route's protocol, as the last event, without an end; the log says what became of the request."""
    provider = FakeProvider(held=True, fails=failure, is_well=True)
    made = k.instance(provider, clock=Clock())
    found = await late(clients, await clients.of(made), path, provider)
    provider.go()
    (error,) = events(await found.rest())
    if path == CHAT:
        assert set(error) == {"error"}
        assert (words in error["error"]["message"], error["error"]["code"]) == (True, code)
        assert error["error"]["attempts"] == [{"provider": provider.name, "outcome": failure.kind}]
    else:
        assert (error["type"], words in error["errorText"]) == ("error", True)
    await over(made, 1)
    (done,) = made.seen(RequestDone)
    assert (done.status, done.decision) == (200, "refuse" if failure.kind == "rejected" else "fail")
    assert not made.seen(Crashed)
    await until(lambda: not k.server.keys("lock:*"))


async def test_a_failure_behind_the_head_is_remembered(k: Kit, clients: Clients) -> None:
    """Whoever repeats it at once reaches no provider, and gets its status."""
    provider = FakeProvider(held=True, fails=SERVER, is_well=True)
    made = k.instance(provider, clock=Clock())
    client = await clients.of(made)
    found = await late(clients, client, CHAT, provider)
    provider.go()
    await found.rest()
    reply = await client.post(CHAT, json=BODIES[CHAT])
    assert (reply.status_code, reply.headers["x-should-retry"], provider.asked) == (502, "false", 1)


@ROUTES
async def test_a_bug_behind_the_head_is_an_error_event_and_in_the_log(
    k: Kit, clients: Clients, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, and without its text."""
    provider = FakeProvider(held=True)
    monkeypatch.setattr(provider, "fails", ValueError("a secret"))
    made = k.instance(provider, clock=Clock())
    found = await late(clients, await clients.of(made), path, provider)
    provider.go()
    (error,) = events(await found.rest())
    assert "Report this with the id" in json.dumps(error)
    assert "a secret" not in json.dumps(error)
    await over(made, 1)
    (crashed,) = made.seen(Crashed)
    assert "a secret" in crashed.traceback


@ROUTES
async def test_no_head_goes_out_before_the_circuit_has_decided(k: Kit, clients: Clients, path: str) -> None:
    """A check that takes longer than five seconds still ends in a refusal with its status."""
    provider = FakeProvider(held=True, fails=SERVER)
    k.server.set(keys.circuit(provider.name), stored.dump(Circuit("open", 1, until_ms=Clock().now_ms())))
    made = k.instance(provider, clock=Clock())
    coming = asyncio.ensure_future(clients.stream(await clients.of(made), path))
    await until(lambda: provider.checks == 1)
    await pass_by(6)
    assert not coming.done()
    provider.go()
    found = await coming
    assert (found.response.status_code, provider.asked) == (503, 0)
    assert int(found.response.headers["retry-after"]) > 0


@ROUTES
@pytest.mark.parametrize("finish", [False, True], ids=["ends", "goes on"])
async def test_a_client_that_leaves_behind_the_head(k: Kit, clients: Clients, path: str, finish: bool) -> None:
    """The provider's call ends, unless the answer is wanted for the cache all the same."""
    provider = FakeProvider(held=True)
    made = k.instance(provider, clock=Clock(), AI_FINISH_ABANDONED=str(finish).lower())
    client = await clients.of(made)
    found = await late(clients, client, path, provider)
    assert await found.some() == COMMENT
    await found.response.aclose()
    await until(lambda: bool(made.seen(RequestDone)))
    (done,) = made.seen(RequestDone)
    assert (done.status, done.decision) == (200, "client_left")
    if finish:
        provider.go()
    await over(made, 1)
    assert provider.closed == (0 if finish else 1)
    provider.held = False
    again = await clients.stream(client, path)
    assert again.response.headers["x-cache"] == ("HIT" if finish else "MISS")
    assert not made.seen(Crashed)


@ROUTES
async def test_without_the_setting_the_head_waits_for_the_first_piece(k: Kit, clients: Clients, path: str) -> None:
    """And a failure has its status, however late."""
    provider = FakeProvider(held=True, fails=SERVER, is_well=True)
    made = k.instance(provider, clock=Clock(), AI_KEEP_ALIVE="false")
    coming = asyncio.ensure_future(clients.stream(await clients.of(made), path))
    await provider.until_asked()
    await pass_by(20)
    assert not coming.done()
    provider.go()
    found = await coming
    assert (found.response.status_code, found.response.headers["x-attempts"]) == (502, f"{provider.name};server")


@ROUTES
async def test_a_reply_in_one_piece_waits_as_it_always_has(k: Kit, clients: Clients, path: str) -> None:
    """Nothing can go out before it."""
    provider = FakeProvider(held=True, fails=SERVER, is_well=True)
    made = k.instance(provider, clock=Clock())
    client = await clients.of(made)
    coming = asyncio.ensure_future(client.post(path, json={**BODIES[path], "stream": False}))
    await provider.until_asked()
    await pass_by(20)
    assert not coming.done()
    provider.go()
    assert (await coming).status_code == 502
