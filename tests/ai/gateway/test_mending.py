"""Replies that are not as OpenAI's: what breaks clients is mended, what was cut is told, nothing is made up."""

from typing import Any

import pytest

from dev.scenes import SCENES, USAGE, Scene
from lib.breaker.circuit import Circuit
from tests.rig.gateway import Gateway, Gateways, bare, events, joined

pytestmark = pytest.mark.anyio


ODD = ["usage in every chunk", "odd chunks", "no done", "pings", "stop on every chunk", "tools without index or type"]


@pytest.mark.parametrize("scene", ODD)
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
    assert (await gateway.chat(scene, stream=True)).headers["x-cache"] == "HIT"
    assert gateway.circuit("openai") == Circuit()


@pytest.mark.parametrize("scene", [*ODD[:-1], "text", "tools", "reasoning", "content in parts"])
async def test_the_supervisor_reads_the_same(gateway: Gateway, scene: str) -> None:
    """What carries no text is passed over; the text is whole, and the provider's circuit is none the wiser."""
    found = events(await gateway.ask(scene, stream=True))
    text = "Let me look." if scene == "tools" else "Hello."
    assert "".join(each["delta"] for each in found[:-1] if each["type"] == "text-delta") == text
    assert (found[-2]["type"], found[-1]) == ("finish", "[DONE]")
    assert gateway.circuit("openai") == Circuit()


@pytest.mark.parametrize("scene", ["tools at once", "tools without index or type"])
async def test_each_call_of_a_tool_is_a_chunk(gateway: Gateway, scene: str) -> None:
    """There are clients that read the first call of a delta only; how it ended and its usage are told once, at last."""
    for _ in range(2):
        found = events(await gateway.chat(scene, stream=True, stream_options={"include_usage": True}))[:-1]
        calls = [choice["delta"].get("tool_calls", ()) for each in found for choice in each["choices"]]
        assert [[call["id"] for call in each] for each in calls if each] == [["call_a"], ["call_b"]]
        assert joined(found)[0]["finish"] == "tool_calls"
        ends = [choice["finish_reason"] for each in found for choice in each["choices"]]
        assert [each for each in ends if each] == ["tool_calls"]
        assert ends[-1] == "tool_calls"
        assert [each["usage"] for each in found if each.get("usage")] == ([USAGE] if scene == "tools at once" else [])
        assert [each["index"] for call in calls for each in call] == [0, 1]
    assert len(gateway.scripted.seen) == 1


async def test_the_signature_of_a_thought_is_kept(gateways: Gateways) -> None:
    """Gemini refuses a conversation without it: whole, streamed, and from the cache both ways."""
    made = gateways(OPENAI_DIALECT="gemini")
    wanted = {"google": {"thought_signature": "c2lnbmVk"}}
    for stream in (True, True, False):
        reply = await made.chat("signed thought", stream=stream)
        if stream:
            chunks = [choice for each in events(reply)[:-1] for choice in each["choices"]]
            (call,) = [call for choice in chunks for call in choice["delta"].get("tool_calls", ())]
            assert [choice["finish_reason"] for choice in chunks if choice["finish_reason"]] == ["tool_calls"]
        else:
            (call,) = bare(reply)["choices"][0]["message"]["tool_calls"]
        assert (call["extra_content"], call["type"]) == (wanted, "function")
    assert len(made.scripted.seen) == 1


async def test_a_whole_reply_that_does_not_say_how_it_ended(gateway: Gateway) -> None:
    """Its body is whole: it is passed on as it came, and not kept. The supervisor has to say how, and fails."""
    for _ in range(2):
        reply = await gateway.chat("no finish when whole")
        assert bare(reply) == SCENES["no finish when whole"].body
        assert reply.headers["x-cache"] == "MISS"
    assert (await gateway.ask("no finish when whole")).json()["code"] == "backend_failed"


@pytest.mark.parametrize("failover", ["true", "false"])
@pytest.mark.parametrize(
    ("choice", "asked"),
    [
        pytest.param({"message": {"content": ""}}, {}, id="nothing said"),
        pytest.param({"message": {"content": None}, "finish_reason": None}, {}, id="null"),
        pytest.param({"message": {"content": "Hello."}}, {"n": 2}, id="a choice is missing"),
    ],
)
async def test_a_whole_reply_that_says_neither_anything_nor_how_it_ended(
    gateways: Gateways, monkeypatch: pytest.MonkeyPatch, choice: dict[str, Any], asked: dict[str, Any], failover: str
) -> None:
    """It is no refusal, whoever is asked after one: it is passed on as it came."""
    monkeypatch.setitem(SCENES, "no reason", Scene({"id": "c-1", "model": "m", "choices": [{"index": 0, **choice}]}))
    reply = await gateways(AI_SAFETY_FAILOVER=failover).chat("no reason", **asked)
    assert (reply.status_code, reply.headers["x-cache"]) == (200, "MISS")
    assert bare(reply)["choices"] == [{"index": 0, **choice}]


@pytest.mark.parametrize(
    ("scene", "text", "code", "message"),
    [
        ("cut", "Hel", "backend_failed", "broke off"),
        ("no finish", "Hello.", "backend_failed", "broke off"),
        ("empty finish", "Hel", "backend_failed", "broke off"),
        ("error in the stream", "Hel", "busy", "Overloaded."),
        ("error beside choices", "Hel", "backend_failed", "Upstream died."),
        ("named error", "Hel", "busy", "Overloaded."),
        ("error in words", "Hel", "backend_failed", "Overloaded."),
        ("error in a list", "Hel", "UNAVAILABLE", "The model is overloaded."),
        ("tool call that failed", "Hel", "tool_use_failed", "No such tool."),
        ("one of two unfinished", "Hello.", "backend_failed", "broke off"),
    ],
)
async def test_a_stream_that_was_cut_ends_with_an_error(
    gateway: Gateway, scene: str, text: str, code: str, message: str
) -> None:
    """Never with an end; nothing of it is kept; the provider's words are told where it has any, on either route."""
    found = events(await gateway.chat(scene, stream=True))
    assert joined(found[:-1])[0]["content"] == text
    assert set(found[-1]) == {"error"}
    assert (found[-1]["error"]["code"], message in found[-1]["error"]["message"]) == (code, True)
    assert (await gateway.chat(scene, stream=True)).headers["x-cache"] == "MISS"
    told = events(await gateway.ask(scene, stream=True))
    assert "".join(each["delta"] for each in told if each["type"] == "text-delta") == text
    assert (told[-1]["type"], message in told[-1]["errorText"]) == ("error", True)
    assert not [each for each in told if each["type"] == "finish"]


async def test_tools_without_an_end(gateway: Gateway) -> None:
    """A connection that ends after a call of a tool, without a reason: agents must not run half of the calls."""
    found = events(await gateway.chat("tools without an end", stream=True))
    assert len(joined(found[:-1])[0]["calls"]) == 1
    assert set(found[-1]) == {"error"}


async def test_blank_lines_before_a_reply(gateway: Gateway) -> None:
    """DeepSeek keeps a connection by them, and a stream by comments."""
    assert bare(await gateway.chat("blank lines first"))["choices"][0]["message"]["content"] == "Hello."
    found = events(await gateway.chat("blank lines first", stream=True, seed=1))
    assert (joined(found)[0]["content"], len(found)) == ("Hello.", 4)


async def test_the_same_reasoning_under_two_names(gateway: Gateway) -> None:
    """It travels in one delta, from the cache too: who knows both names would show it twice."""
    await gateway.chat("reasoning under two names")
    asked: list[dict[str, Any]] = [{}, {"seed": 1}]
    for more in asked:
        reply = await gateway.chat("reasoning under two names", stream=True, **more)
        deltas = [choice["delta"] for each in events(reply)[:-1] for choice in each["choices"]]
        thoughts = [(each.get("reasoning_content"), each.get("reasoning")) for each in deltas if "reasoning" in each]
        assert "".join(one for one, _ in thoughts) == "They greet me."
        assert all(one == other for one, other in thoughts)
        assert reply.headers["x-cache"] == ("MISS" if more else "HIT")


async def test_without_the_end_that_a_provider_says_a_stream_was_cut(gateway: Gateway) -> None:
    """Once it is known to say ``[DONE]``."""
    assert events(await gateway.chat("no done", stream=True))[-1] == "[DONE]"
    await gateway.chat("text", stream=True)
    found = events(await gateway.chat("no done", stream=True, seed=1))
    assert "error" in found[-1]


async def test_what_is_cut_before_it_shows_anything_is_an_error_reply(gateways: Gateways) -> None:
    """And another provider answers, where there is one."""
    for scene in ("cut at once", "nothing"):
        alone = gateways()
        reply = await alone.chat(scene, stream=True)
        assert (reply.status_code, reply.json()["error"]["code"]) == (502, "backend_failed")
        both = gateways.two()
        reply = await both.chat(scene, stream=True)
        assert reply.headers["x-attempts"] == "openai;cut, groq;cut"
