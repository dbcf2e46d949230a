"""Replies that are not as OpenAI's: what breaks clients is mended, what was cut is told, nothing is made up."""

import pytest

from tests.rig.gateway import Gateway, Gateways, bare, events, joined

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("scene", ["usage in every chunk", "odd chunks", "no done", "tools without index or type"])
async def test_what_breaks_clients_is_mended(gateway: Gateway, scene: str) -> None:
    """Foreign events, ids, missing indexes, types and deltas, choices that are null: clients get what they can read."""
    reply = await gateway.chat(scene, stream=True)
    found = events(reply)
    assert found[-1] == "[DONE]"
    assert "event:" not in reply.text
    assert "id: 7" not in reply.text
    for each in found[:-1]:
        assert isinstance(each["choices"], list)
        assert all(isinstance(choice["index"], int) and isinstance(choice["delta"], dict) for choice in each["choices"])
    first = joined(found)[0]
    if scene.startswith("tools"):
        assert [call["type"] for call in first["calls"].values()] == ["function", "function"]
        assert [call["id"] for call in first["calls"].values()] == ["call_a", "call_b"]
        assert [call["type"] for call in bare(await gateway.chat(scene))["choices"][0]["message"]["tool_calls"]] == [
            "function",
            "function",
        ]
    else:
        assert (first["content"], first["finish"]) == ("Hello.", "stop")


@pytest.mark.parametrize(
    ("scene", "text", "code", "message"),
    [
        ("cut", "Hel", "backend_failed", "broke off"),
        ("no finish", "Hello.", "backend_failed", "broke off"),
        ("empty finish", "Hel", "backend_failed", "broke off"),
        ("error in the stream", "Hel", "busy", "Overloaded."),
        ("error beside choices", "Hel", "backend_failed", "Upstream died."),
    ],
)
async def test_a_stream_that_was_cut_ends_with_an_error(
    gateway: Gateway, scene: str, text: str, code: str, message: str
) -> None:
    """Never with an end; nothing of it is kept; the provider's words are told where it has any."""
    found = events(await gateway.chat(scene, stream=True))
    assert joined(found[:-1])[0]["content"] == text
    assert set(found[-1]) == {"error"}
    assert (found[-1]["error"]["code"], message in found[-1]["error"]["message"]) == (code, True)
    assert (await gateway.chat(scene, stream=True)).headers["x-cache"] == "MISS"


async def test_without_the_end_that_a_provider_says_a_stream_was_cut(gateway: Gateway) -> None:
    """Once it is known to say ``[DONE]``."""
    assert events(await gateway.chat("no done", stream=True))[-1] == "[DONE]"
    await gateway.chat("text", stream=True)
    found = events(await gateway.chat("no done", stream=True, seed=1))
    assert "error" in found[-1]


async def test_what_is_cut_before_it_shows_anything_is_an_error_reply(gateways: Gateways) -> None:
    """And another provider answers, where there is one."""
    alone = gateways()
    reply = await alone.chat("cut at once", stream=True)
    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "backend_failed")
    both = gateways.two()
    reply = await both.chat("cut at once", stream=True)
    assert reply.headers["x-attempts"] == "openai;cut, groq;cut"
