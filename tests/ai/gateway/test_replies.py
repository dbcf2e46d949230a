"""What comes back through ``/api/v1``: as it came, whole and in chunks, kept and replayed."""

import json
from typing import Any
from zlib import crc32

import pytest

from dev.scenes import MODEL, SCENES, Scene, chunk, whole
from lib.ai.providers.port import MAX_REPLY_BYTES, MAX_STREAM_BYTES
from tests.rig.ai import Kit
from tests.rig.callers import a_caller
from tests.rig.gateway import SUPERVISOR, Gateway, Gateways, bare, events, joined

pytestmark = pytest.mark.anyio

PASSED = [
    *("text", "tools", "refusal", "reasoning", "reasoning only", "two choices", "logprobs", "annotations and images"),
    *("length", "content filter", "safety after text", "finish error", "unknown finish", "no usage"),
    *("content in parts", "weather function"),
]
KEPT = {
    "weather function",
    "text",
    "tools",
    "reasoning",
    "two choices",
    "logprobs",
    "annotations and images",
    "no usage",
}


@pytest.mark.parametrize("scene", PASSED)
async def test_a_whole_reply_comes_as_it_came(gateway: Gateway, scene: str) -> None:
    """CASE 24: every member of it, to who asked and from the cache; what was cut, filtered or refused is not kept."""
    first, second = await gateway.chat(scene), await gateway.chat(scene)
    assert (first.status_code, second.status_code) == (200, 200)
    assert bare(first) == bare(second) == SCENES[scene].body
    assert second.headers["x-cache"] == ("HIT" if scene in KEPT or scene == "content in parts" else "MISS")
    told = second.json()["x_breakwater"]
    assert (told["provider"], told["cached"]) == ("openai", second.headers["x-cache"] == "HIT")


STREAMED = [
    *("text", "tools", "refusal", "reasoning", "two choices", "logprobs", "annotations and images", "length"),
    *("safety after text", "finish error", "unknown finish", "no usage", "content in parts", "content filter"),
    *("reasoning only", "weather function"),
]


@pytest.mark.parametrize("scene", STREAMED)
async def test_a_stream_comes_as_it_came(gateway: Gateway, scene: str) -> None:
    """Chunk by chunk; the guard's own words are in the first, and a usage that nobody has asked for is left out."""
    found = events(await gateway.chat(scene, stream=True))
    assert found[0].pop("x_breakwater")["provider"] == "openai"
    script = [each for each in SCENES[scene].events if isinstance(each, dict)]
    assert found == [*(each for each in script if each["choices"]), "[DONE]"]
    assert gateway.sent["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("scene", sorted(KEPT))
async def test_a_kept_stream_is_replayed_both_ways(gateway: Gateway, scene: str) -> None:
    """A stream is kept after its end: then it is had whole, and as a stream that says the same with its usage."""
    asked: dict[str, Any] = {"stream_options": {"include_usage": True}}
    first = events(await gateway.chat(scene, stream=True, **asked))
    again = await gateway.chat(scene, stream=True, **asked)
    whole = await gateway.chat(scene)
    assert (again.headers["x-cache"], whole.headers["x-cache"]) == ("HIT", "HIT")
    assert joined(events(again)) == joined(first)
    assert bare(whole)["choices"] == SCENES[scene].body["choices"]  # type: ignore[index]
    usages = [each["usage"] for each in events(again)[:-1] if each.get("usage")]
    assert usages == [each["usage"] for each in first[:-1] if each.get("usage")]
    assert len(gateway.scripted.seen) == 1


@pytest.mark.parametrize("scene", sorted(KEPT))
async def test_a_kept_reply_is_replayed_as_a_stream(gateway: Gateway, scene: str) -> None:
    """The other way round."""
    await gateway.chat(scene)
    again = await gateway.chat(scene, stream=True)
    assert again.headers["x-cache"] == "HIT"
    found = joined(events(again))
    for choice in SCENES[scene].body["choices"]:  # type: ignore[index]
        said = found[choice["index"]]
        assert (said.get("content"), said["finish"]) == (choice["message"]["content"], choice["finish_reason"])
        assert len(said["calls"]) == len(choice["message"].get("tool_calls", ()))


async def test_a_stream_that_cannot_be_joined_is_kept_for_streams(gateway: Gateway) -> None:
    """Content that is a list first and a text then: replayed as it was, and a miss to who wants it whole."""
    first = events(await gateway.chat("content in parts", stream=True))
    again = await gateway.chat("content in parts", stream=True)
    assert (again.headers["x-cache"], joined(events(again))) == ("HIT", joined(first))
    whole = await gateway.chat("content in parts")
    assert (whole.headers["x-cache"], bare(whole)) == ("MISS", SCENES["content in parts"].body)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_a_reply_of_four_megabytes(gateway: Gateway, monkeypatch: pytest.MonkeyPatch, stream: bool) -> None:
    """Pictures come back in answers: as much as Vercel sends goes through, and is too much to be kept."""
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{'A' * 4_000_000}"}}
    message = {"content": "Hello.", "images": [picture]}
    monkeypatch.setitem(SCENES, "picture", Scene(whole(message), events=(chunk(message), chunk(finish="stop"))))
    for _ in range(2):
        reply = await gateway.chat("picture", stream=stream)
        assert (reply.status_code, reply.headers["x-cache"]) == (200, "MISS")
        found = events(reply)[0]["choices"][0]["delta"] if stream else bare(reply)["choices"][0]["message"]
        assert found["images"] == [picture]
        assert len(reply.content) < 4_500_000


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_replies_that_are_too_large_close_nothing(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    """They fail to who asks for them, three of them in a row; the provider's circuit stays closed for others."""
    message = {"content": "x" * (MAX_STREAM_BYTES if stream else MAX_REPLY_BYTES)}
    monkeypatch.setitem(SCENES, "too much", Scene(whole(message), events=(chunk(message), chunk(finish="stop"))))
    for number in range(3):
        reply = await gateway.chat("too much", stream=stream, seed=number)
        assert (reply.status_code, reply.json()["error"]["code"]) == (502, "backend_failed")
    other = await gateway.chat("text", {"x-forwarded-for": a_caller()}, stream=stream)
    assert other.status_code == 200
    assert gateway.circuit("openai").state == "closed"


async def test_a_hit_costs_two_commands_and_one_round_trip(gateways: Gateways, k: Kit) -> None:
    """Of a reply of 100 KB with tool calls as well: it goes out as it lies in Redis."""
    made = gateways(RATELIMIT_AI="100/minute")
    # Whoever made the key was the first; whether its TTL stands is looked after twice.
    first, _ = await made.chat("many tools"), await made.chat("many tools")
    k.forget_counts()
    again = await made.chat("many tools")
    assert (again.headers["x-cache"], bare(again)) == ("HIT", bare(first))
    assert len(again.content) > 100_000
    assert k.cost() == (1, 2)


async def test_a_hit_is_not_parsed(gateway: Gateway, k: Kit) -> None:
    """What lies in Redis behind its checksum goes out, even if it is no JSON: 100 KB of it, after our own member."""
    await gateway.chat("many tools")
    stored = {name: str(k.server.get(name)) for name in k.server.keys("*")}
    (key,) = [name for name, text in stored.items() if "call_99" in text]
    about, head, reply = stored[key].split("\n", 2)
    nonsense = "{" + reply[1:].replace('"', "'")
    known = [*json.loads(head)[:-1], crc32(nonsense.encode())]
    k.server.set(key, f"{about}\n{json.dumps(known)}\n{nonsense}")
    again = await gateway.chat("many tools")
    assert again.headers["x-cache"] == "HIT"
    member, _, rest = again.text.partition("},")
    assert member.startswith('{"x_breakwater":{"cached":true')
    assert rest.endswith(nonsense[1:])
    assert len(nonsense) > 100_000


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_an_answer_of_the_length_that_was_asked_for_is_kept(gateway: Gateway, stream: bool) -> None:
    """CASE 24: cut by a length that the request did set, it is the answer to that request."""
    for cache in ("MISS", "HIT"):
        reply = await gateway.chat("length", stream=stream, max_tokens=5)
        assert reply.headers["x-cache"] == cache


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_fewer_choices_than_were_asked_for_are_not_kept(gateway: Gateway, stream: bool) -> None:
    """A provider that does not know ``n`` has answered, but not what was asked."""
    for _ in range(2):
        reply = await gateway.chat("text", stream=stream, n=2)
        assert (reply.status_code, reply.headers["x-cache"], "error" in reply.text) == (200, "MISS", False)


async def test_the_model_is_the_real_one(gateways: Gateways) -> None:
    """Whole, streamed and replayed: as the provider calls it, whatever the client or the settings do."""
    for streams in ((False, True), (True, False)):
        made = gateways(OPENAI_MODEL="scripted")
        for stream in streams:
            reply = await made.chat(model="gpt-x", stream=stream)
            found = events(reply)[:-1] if stream else [reply.json()]
            assert {each["model"] for each in found} == {MODEL}
        assert [each["model"] for each in made.scripted.seen] == ["scripted"]
        asked = {"query": "scene: text", "sessionId": "s"}
        told = events(await made.post(SUPERVISOR, {**asked, "stream": True}))
        assert told[-2]["messageMetadata"]["model"] == MODEL
        assert (await made.post(SUPERVISOR, asked)).json()["model"] == MODEL
