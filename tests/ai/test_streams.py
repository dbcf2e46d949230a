"""Streams through the real edge and a real server: first bytes, clients that leave, cuts, replays."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from dev.serve import serve
from lib.ai.providers.port import ProviderFailed
from lib.ai.streams import replay
from lib.app.wiring import build
from lib.base.clock import Clock
from lib.base.events import RequestDone
from lib.breaker import stored
from lib.breaker.circuit import Circuit
from lib.call import Streaming
from lib.pieces import Delta, Done
from lib.redis import keys
from lib.settings import Settings
from tests.rig.ai import FakeProvider, Kit, answered, lifespan, over
from tests.rig.clock import until
from tests.rig.completions import End, said
from tests.rig.instance import Instance, routes

pytestmark = pytest.mark.anyio

SUPERVISOR, CHAT = "/api/ai/supervisor", "/api/v1/chat/completions"
ROUTES = pytest.mark.parametrize("path", [SUPERVISOR, CHAT], ids=["supervisor", "chat"])


def body(path: str, **more: Any) -> dict[str, Any]:
    """The question in the route's own terms."""
    if path == CHAT:
        return {"model": "m", "messages": [{"role": "user", "content": "which disk is fullest?"}], **more}
    return {"query": "which disk is fullest?", "sessionId": "s", **more}


def events(text: str) -> list[Any]:
    """The data of each event; ``[DONE]`` as it is."""
    found = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    return [each if each == "[DONE]" else json.loads(each) for each in found]


def text_of(path: str, found: list[Any]) -> str:
    """The answer in a stream's events."""
    if path == CHAT:
        choices = [choice for e in found if e != "[DONE]" for choice in e.get("choices", ())]
        return "".join(choice["delta"].get("content", "") for choice in choices)
    return "".join(e["delta"] for e in found if e != "[DONE]" and e["type"] == "text-delta")


@pytest.fixture
async def provider() -> FakeProvider:
    return FakeProvider(held=True)


@pytest.fixture
async def made(k: Kit, provider: FakeProvider) -> Instance:
    return k.instance(provider, clock=Clock())


@pytest.fixture
async def client(k: Kit, made: Instance) -> AsyncIterator[httpx.AsyncClient]:
    served = await serve(made.app)
    async with httpx.AsyncClient(base_url=served.url, timeout=10, trust_env=False) as client:
        yield client
    await served.stop()


@ROUTES
async def test_first_bytes_go_out_as_they_come(client: httpx.AsyncClient, provider: FakeProvider, path: str) -> None:
    """The first piece is read while the provider still holds the second."""
    provider.go(1)
    async with client.stream("POST", path, json=body(path, stream=True)) as response:
        chunks = response.aiter_text()
        seen = ""
        async for chunk in chunks:
            seen += chunk
            if "Disk / is " in seen:
                break
        assert "41 %" not in seen
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["x-cache"] == "MISS"
        assert response.headers["x-ratelimit-remaining"] == "9"
        assert response.headers["x-attempts"] == f"{provider.name};answered"
        provider.go()
        seen += "".join([chunk async for chunk in chunks])
    found = events(seen)
    assert text_of(path, found) == "Disk / is 41 % full."
    assert found[-1] == "[DONE]"


@ROUTES
async def test_a_stored_stream_is_replayed_as_a_stream_and_as_json(
    client: httpx.AsyncClient, made: Instance, provider: FakeProvider, path: str
) -> None:
    """Stored after its last event; then a hit in either form, with what it saved."""
    provider.go()
    await client.post(path, json=body(path, stream=True))
    await over(made, 1)
    replayed = await client.post(path, json=body(path), headers={"accept": "text/event-stream"})
    assert text_of(path, events(replayed.text)) == "Disk / is 41 % full."
    assert replayed.headers["x-cache"] == "HIT"
    assert "age" in replayed.headers
    whole = (await client.post(path, json=body(path, stream=False))).json()
    saved = (whole["x_breakwater"] if path == CHAT else whole)["saved"]
    assert (saved["provider"], saved["tokens"]) == (provider.name, 100)
    assert provider.asked == 1


@ROUTES
async def test_a_cut_stream_ends_with_an_error_event(
    client: httpx.AsyncClient, k: Kit, made: Instance, provider: FakeProvider, path: str
) -> None:
    """After its first token: no clean end, and nothing is kept."""
    provider.fails, provider.fails_after = ProviderFailed("cut", "gone"), 1
    provider.go()
    found = events((await client.post(path, json=body(path, stream=True))).text)
    assert text_of(path, found) == "Disk / is "
    assert "error" in json.dumps(found[-1])
    assert "[DONE]" not in found
    assert not any("finish" in json.dumps(each.get("type", "")) for each in found)
    await over(made, 1)
    # Its status is 200, and it has failed all the same: on the page, in metrics and for alerts. CASE 40.
    (done,) = made.seen(RequestDone)
    assert (done.status, done.decision, done.reason) == (200, "fail", "cut: gone")
    # Nothing is kept, and the lock is free.
    await until(lambda: not [key for key in k.server.keys("*") if "s-" in key or ":s:" in key])


@ROUTES
async def test_a_failure_before_the_first_token_is_an_error_reply(
    client: httpx.AsyncClient, provider: FakeProvider, path: str
) -> None:
    """A status and a body, as without a stream, with the attempts in both."""
    provider.fails = ProviderFailed("server", "HTTP 500")
    provider.go()
    reply = await client.post(path, json=body(path, stream=True))
    assert reply.status_code == 502
    assert reply.headers["x-attempts"] == f"{provider.name};server"
    told = reply.json()["error"] if path == CHAT else reply.json()
    assert told["attempts"] == [{"provider": provider.name, "outcome": "server"}]


@pytest.mark.parametrize("pieces", [0, 1], ids=["before the first token", "after it"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "json"])
async def test_a_client_that_leaves_ends_the_providers_call(
    client: httpx.AsyncClient, k: Kit, made: Instance, provider: FakeProvider, pieces: int, stream: bool
) -> None:
    """Under uvicorn: the generator is closed, nothing is left in the instance, and the circuit is none the wiser."""
    now_ms, provider.is_well = Clock().now_ms(), True
    k.server.set(keys.circuit(provider.name), stored.dump(Circuit("open", 1, until_ms=now_ms)))
    if pieces and stream:
        provider.go(pieces)
        async with client.stream("POST", SUPERVISOR, json=body(SUPERVISOR, stream=True)) as response:
            async for chunk in response.aiter_text():
                if "Disk" in chunk:
                    break
    else:
        asking = asyncio.ensure_future(client.post(SUPERVISOR, json=body(SUPERVISOR, stream=stream)))
        await provider.until_asked()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    await over(made, 1)
    circuit = stored.parse(str(k.server.get(keys.circuit(provider.name))))
    assert (circuit.state, circuit.failures) == ("closed", 0)
    assert provider.closed == 1
    provider.held = False
    reply = await client.post(SUPERVISOR, json=body(SUPERVISOR))
    assert (reply.status_code, reply.headers["x-cache"]) == (200, "MISS")
    assert provider.asked == 2


async def test_a_stream_that_nobody_began_to_read_is_ended_all_the_same(k: Kit) -> None:
    """The client was gone before the first byte: the write-back closes what the generator never could."""
    provider = FakeProvider(held=True)
    made = k.instance(provider)
    provider.go(1)
    call = k.call(stream=True)
    outcome = await made.handle(call)
    assert isinstance(outcome.result, Streaming)
    await outcome.result.pieces.aclose()
    await outcome.after()
    assert provider.closed == 1
    assert not made.guard.computing.leading.flights
    provider.held = False
    assert answered(await made.whole(k.again(call, stream=False))).cache == "miss"
    assert k.time.slept == []


@ROUTES
async def test_a_setting_has_an_answer_computed_although_its_client_has_left(
    k: Kit, provider: FakeProvider, path: str
) -> None:
    """With ``AI_FINISH_ABANDONED`` the provider's call goes on to its end, and the next request is a hit."""
    app, leaves = k.instance(provider, clock=Clock(), AI_FINISH_ABANDONED="true").app, asyncio.Event()
    sent = [{"type": "http.request", "body": json.dumps(body(path)).encode()}]

    async def receive() -> dict[str, Any]:
        if sent:
            return sent.pop()
        await provider.until_asked()
        leaves.set()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        """Nobody is there to read it."""

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}
    abandoned = asyncio.ensure_future(app({**scope, "client": ("127.0.0.1", 1)}, receive, send))
    await leaves.wait()
    for _ in range(10):
        await asyncio.sleep(0)
    assert not abandoned.done()
    provider.go()
    await abandoned
    served = await serve(app)
    async with httpx.AsyncClient(base_url=served.url, timeout=10, trust_env=False) as client:
        reply = await client.post(path, json=body(path))
    await served.stop()
    assert (reply.status_code, reply.headers["x-cache"]) == (200, "HIT")
    assert (provider.asked, provider.closed) == (1, 0)


async def test_a_setting_has_a_stream_read_to_its_end_although_its_client_has_left(
    k: Kit, provider: FakeProvider
) -> None:
    """With ``AI_FINISH_ABANDONED`` the rest of a stream is read after its client left, and the answer is kept."""
    made = k.instance(provider, clock=Clock(), AI_FINISH_ABANDONED="true")
    served = await serve(made.app)
    async with httpx.AsyncClient(base_url=served.url, timeout=10, trust_env=False) as client:
        provider.go(1)
        async with client.stream("POST", SUPERVISOR, json=body(SUPERVISOR, stream=True)) as response:
            async for chunk in response.aiter_text():
                if "Disk" in chunk:
                    break
        # Its client has left by then.
        await until(lambda: bool(made.seen(RequestDone)))
        provider.go()
        await over(made, 1)
        reply = await client.post(SUPERVISOR, json=body(SUPERVISOR))
    await served.stop()
    assert (reply.status_code, reply.headers["x-cache"]) == (200, "HIT")
    assert (provider.asked, provider.closed) == (1, 0)


class _Slow:
    """A server of OpenAI's protocol that sends one piece and then waits for its caller to leave."""

    def __init__(self) -> None:
        self.left = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await lifespan(receive, send)
            return
        while (await receive()).get("more_body"):
            pass
        head = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        piece = b'data: {"model": "m", "choices": [{"index": 0, "delta": {"content": "one"}}]}\n\n'
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        self.left.set()


async def test_the_connection_to_a_real_provider_is_closed_when_the_client_leaves(k: Kit) -> None:
    """Through the real adapter: the provider's server sees us go."""
    slow = _Slow()
    upstream = await serve(slow)
    environ = {
        **k.environ,
        "OPENAI_API_KEY": "x",
        "OPENAI_BASE_URL": upstream.url,
    }
    parts = build(Settings.from_env(environ), listeners=())
    served = await serve(routes(parts))
    async with httpx.AsyncClient(base_url=served.url, timeout=10, trust_env=False) as client:
        async with client.stream("POST", CHAT, json=body(CHAT, stream=True)) as response:
            async for chunk in response.aiter_text():
                if "one" in chunk:
                    break
        async with asyncio.timeout(60):
            await slow.left.wait()
        await until(lambda: not parts.guard.computing.leading.flights)
    await served.stop()
    await upstream.stop()
    await parts.aclose()


async def test_limits_hold_for_streams(client: httpx.AsyncClient, provider: FakeProvider) -> None:
    """The eleventh is refused before anything is streamed, in the route's own shape."""
    provider.held = False
    replies = [await client.post(CHAT, json=body(CHAT, stream=True)) for _ in range(11)]
    assert [reply.status_code for reply in replies] == [200] * 10 + [429]
    assert replies[-1].json()["error"]["type"] == "rate_limit_error"
    assert int(replies[-1].headers["retry-after"]) >= 1


async def test_an_answer_that_was_cut_by_its_length_is_not_kept(
    client: httpx.AsyncClient, made: Instance, provider: FakeProvider
) -> None:
    """It is given, and said to be cut."""
    provider.end, provider.held = End("m", whole=False), False
    found = events((await client.post(CHAT, json=body(CHAT, stream=True))).text)
    assert [c["finish_reason"] for e in found if e != "[DONE]" for c in e["choices"]][-1] == "length"
    await over(made, 1)
    await client.post(CHAT, json=body(CHAT))
    assert provider.asked == 2


async def test_a_replay_is_the_answer_in_pieces(k: Kit) -> None:
    """Long answers grow; nothing is lost between two pieces."""
    provider = FakeProvider(texts=("가나다 " * 200,))
    answer = answered(await k.instance(provider).whole(k.call())).value
    pieces = [piece async for piece in replay(answer)]
    assert "".join(said(p.part) for p in pieces if isinstance(p, Delta)) == answer.text
    assert len(pieces) > 2
    assert isinstance(pieces[-1], Done)
