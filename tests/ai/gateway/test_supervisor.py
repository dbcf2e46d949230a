"""The supervisor's route before providers of OpenAI's protocol."""

from typing import Any

import pytest

from dev.scenes import DONE, MODEL, SCENES, USAGE, Scene
from tests.rig.gateway import FILE, IMAGE, SUPERVISOR, Gateway, Gateways, bare, events, joined

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("scene", "finish", "ui"),
    [
        ("text", "stop", "stop"),
        ("length", "length", "length"),
        ("unknown finish", "eos", "other"),
        ("safety after text", "SAFETY", "other"),
        ("finish error", "error", "error"),
        ("tools", "tool_calls", "tool-calls"),
    ],
)
async def test_the_supervisor_says_how_an_answer_ended(gateway: Gateway, scene: str, finish: str, ui: str) -> None:
    """In JSON, in the UI stream, and on a kept answer; with the usage as it came."""
    ask = {"query": f"scene: {scene}", "sessionId": "s"}
    for _ in range(2):
        body = (await gateway.post(SUPERVISOR, ask)).json()
        assert (body["finishReason"], body["usage"], body["model"]) == (finish, USAGE, MODEL)
    found = events(await gateway.post(SUPERVISOR, {**ask, "stream": True}))
    assert [each["finishReason"] for each in found[:-1] if each["type"] == "finish"] == [ui]


async def test_no_usage_is_invented(gateway: Gateway) -> None:
    """Where the provider tells none there is none, on either route."""
    assert "usage" not in (await gateway.post(SUPERVISOR, {"query": "scene: no usage"})).json()
    assert "usage" not in (await gateway.chat("no usage")).json()


@pytest.mark.parametrize(
    ("scene", "status", "code"),
    [
        ("content filter", 422, "content_filtered"),
        ("refusal", 422, "content_filtered"),
        ("bad value", 422, "backend_rejected"),
        ("no model", 502, "backend_no_model"),
        ("reasoning only", 502, "backend_failed"),
        ("length without text", 422, "backend_rejected"),
        ("max tokens without text", 422, "backend_rejected"),
        ("too long", 422, "backend_rejected"),
        ("moderation", 422, "content_filtered"),
        ("safety before text", 422, "content_filtered"),
    ],
)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_the_supervisor_says_what_went_wrong(
    gateway: Gateway, scene: str, status: int, code: str, stream: bool
) -> None:
    """It answers in texts: without one, it says why."""
    reply = await gateway.ask(scene, stream=stream)
    problem = reply.json()
    assert (reply.status_code, problem["code"]) == (status, code)
    words = {
        "length without text": "allow more of them",
        "max tokens without text": "allow more of them",
        "too long": "8192 tokens",
        "moderation": "flagged",
        "no model": "does not exist",
        "bad value": "Invalid type for 'temperature'",
    }
    assert words.get(scene, "") in problem["detail"]
    if "without text" in scene:
        assert problem["errors"][0]["field"] == "maxTokens"


BLOCKS = ["content filter", "refusal", "moderation", "safety before text", "flagged in a reply"]


@pytest.mark.parametrize("failover", [False, True])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("scene", BLOCKS)
async def test_a_block_is_the_answer(gateways: Gateways, scene: str, stream: bool, failover: bool) -> None:
    """Unless ``AI_SAFETY_FAILOVER`` has the next provider asked."""
    made = gateways.two(AI_SAFETY_FAILOVER=str(failover).lower())
    reply = await made.chat(scene, stream=stream)
    assert len(made.other.seen) == failover
    error = failover or scene in ("moderation", "flagged in a reply")
    assert reply.status_code == (400 if error else 200)
    assert (await made.ask(scene, stream=stream)).status_code == 422
    assert len(made.other.seen) == 2 * failover


async def test_a_file_of_use_chat(gateways: Gateways) -> None:
    """A provider that can see gets it, and two pictures are two questions; where nobody can, 400 says so."""
    asked = {"id": "chat-1", "trigger": "submit-message", "stream": False}
    message = {"role": "user", "parts": [{"type": "text", "text": "What is it?"}, FILE]}
    other = {"role": "user", "parts": [{"type": "text", "text": "What is it?"}, {**FILE, "url": "data:image/png,B"}]}
    made = gateways()
    for each in (message, other):
        assert (await made.post(SUPERVISOR, {**asked, "messages": [each]})).headers["x-cache"] == "MISS"
    content = [each["messages"][0]["content"] for each in made.scripted.seen]
    assert content[0] == [{"type": "text", "text": "What is it?"}, IMAGE]
    blind = gateways.backend(OPENAI_API_KEY=None)
    reply = await blind.post(SUPERVISOR, {**asked, "messages": [message]})
    assert (reply.status_code, reply.json()["code"]) == (400, "unsupported_parameter")
    assert not blind.other.seen


PDF = {"type": "file", "mediaType": "application/pdf", "filename": "a.pdf", "url": "data:application/pdf;base64,AAAA"}
SEEN_PDF = {"type": "file", "file": {"filename": "a.pdf", "file_data": PDF["url"]}}
HI = {"type": "text", "text": "Hi."}
STEPS = [
    {"type": "step-start"},
    {"type": "reasoning", "text": "Hm.", "state": "done"},
    {"type": "data-note", "id": "1", "data": {"text": 1}},
    {"type": "source-url", "sourceId": "1", "url": "https://a.example", "title": "A"},
    {"type": "source-document", "sourceId": "2", "mediaType": "application/pdf", "title": "B", "filename": "b.pdf"},
    {"type": "tool-weather", "toolCallId": "1", "state": "output-available", "input": {}, "output": [1]},
    {
        "type": "dynamic-tool",
        "toolName": "x",
        "toolCallId": "2",
        "state": "approval-requested",
        "approval": {"id": "1"},
    },
    {"type": "reasoning-file", "mediaType": "image/png", "url": "data:image/png;base64,BBBB"},
]


@pytest.mark.parametrize(
    ("message", "seen"),
    [
        pytest.param({"parts": [FILE]}, [IMAGE], id="a picture alone"),
        pytest.param({"parts": [HI, PDF]}, [HI, SEEN_PDF], id="a document"),
        pytest.param({"parts": [*STEPS, HI, FILE]}, [HI, IMAGE], id="beside a client's own parts"),
        pytest.param({"content": [HI, IMAGE]}, [HI, IMAGE], id="a picture in OpenAI's form"),
        pytest.param({"parts": [HI, *STEPS]}, "Hi.", id="a text alone"),
        pytest.param({"parts": [{**HI, "state": "done", "providerMetadata": {}}]}, "Hi.", id="with marks of its own"),
    ],
)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_what_a_provider_sees_of_a_message(gateway: Gateway, message: Any, seen: Any, stream: bool) -> None:
    """Texts and files; what a client keeps for itself stays out."""
    asked = {"id": "chat-1", "trigger": "submit-message", "stream": stream, "messages": [{"role": "user", **message}]}
    assert (await gateway.post(SUPERVISOR, asked)).status_code == 200
    assert gateway.sent["messages"] == [{"role": "user", "content": seen}]


OWN_END = {"answer": "Hello.", "model": "m-1", "finishReason": "length"}
OWN_USAGE = {"promptTokens": 11, "completionTokens": 7, "totalTokens": 18}


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_a_backend_of_ones_own(gateways: Gateways, monkeypatch: pytest.MonkeyPatch, stream: bool) -> None:
    """Why its answer ended and what it used is told on both routes, in the words of each; its session is bound."""
    end = {**OWN_END, "usage": OWN_USAGE}
    events_of_it = ({"delta": "Hel"}, {"delta": "lo."}, {**end, "done": True}, DONE)
    monkeypatch.setitem(SCENES, "own", Scene(end, events=events_of_it))
    made = gateways.backend(OPENAI_API_KEY=None)
    chat = await made.chat("own", stream=stream, stream_options={"include_usage": True}, temperature=0.5)
    asked = await made.ask("own", stream=stream, sessionId="mine")
    usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
    if stream:
        chunks = events(chat)[:-1]
        assert (joined(chunks)[0]["content"], joined(chunks)[0]["finish"]) == ("Hello.", "length")
        assert (chunks[-1]["usage"], chunks[-1]["model"]) == (usage, "m-1")
        finish = events(asked)[-2]
        assert (finish["finishReason"], finish["messageMetadata"]["usage"]) == ("length", usage)
    else:
        (choice,) = bare(chat)["choices"]
        assert (choice["message"]["content"], choice["finish_reason"]) == ("Hello.", "length")
        assert (chat.json()["usage"], chat.json()["model"]) == (usage, "m-1")
        body = asked.json()
        assert (body["finishReason"], body["usage"], body["sessionId"]) == ("length", usage, "mine")
    first, second = made.other.seen
    question = {"query": "scene: own", "messages": [{"role": "user", "content": "scene: own"}]}
    named = {"model": "m", "temperature": 0.5}
    streamed = {"stream": True} if stream else {}
    assert first == {**question, "sessionId": first["sessionId"], "parameters": named, **streamed}
    assert second == {**question, "sessionId": second["sessionId"], "parameters": {}, **streamed}
    assert len({first["sessionId"], second["sessionId"], "mine"}) == 3
