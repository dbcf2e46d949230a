"""What reaches a provider through ``/api/v1``: whatever the client sent, and nothing that is no request."""

from typing import Any

import pytest

from dev.scenes import MODEL
from tests.rig.gateway import CHAT, IMAGE, Gateway

pytestmark = pytest.mark.anyio

FIELDS: dict[str, Any] = {
    "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
    "seed": 7,
    "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}],
    "functions": [{"name": "f"}],
    "tool_choice": {"type": "function", "function": {"name": "weather"}},
    "parallel_tool_calls": False,
    "logprobs": True,
    "top_logprobs": 2,
    "logit_bias": {"50256": -100},
    "frequency_penalty": 0.5,
    "presence_penalty": -0.5,
    "reasoning_effort": "low",
    "verbosity": "low",
    "service_tier": "flex",
    "modalities": ["text", "audio"],
    "audio": {"voice": "alloy", "format": "wav"},
    "prediction": {"type": "content", "content": "x"},
    "web_search_options": {},
    "top_k": 5,
    "min_p": 0.1,
    "thinking": {"type": "enabled"},
    "n": 2,
    "temperature": "0.7",
    "max_tokens": -1,
    "stop": "",
    "user": "u-1",
    "safety_identifier": "s",
    "prompt_cache_key": "k",
    "max_completion_tokens": 10**30,
    "temperture": 0.7,
}


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_a_field_is_forwarded_as_it_came(gateway: Gateway, name: str, stream: bool) -> None:
    """Known or not, well or badly typed: it is the provider's to judge."""
    reply = await gateway.chat(stream=stream, **{name: FIELDS[name]})
    assert reply.status_code == 200
    messages = [{"role": "user", "content": "scene: text"}]
    guards_own = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    assert gateway.sent == {"model": MODEL, "messages": messages, name: FIELDS[name], **guards_own}


async def test_what_a_client_says_of_its_stream_is_forwarded(gateway: Gateway) -> None:
    """Beside the usage, which is always asked for; to a request that is not streamed it means nothing."""
    await gateway.chat(stream=True, stream_options={"include_obfuscation": False, "include_usage": False})
    assert gateway.sent["stream_options"] == {"include_obfuscation": False, "include_usage": True}
    await gateway.chat(stream=False, stream_options={"include_usage": True}, seed=1)
    assert "stream_options" not in gateway.sent


async def test_a_field_that_comes_twice(gateway: Gateway) -> None:
    """The last one counts, for the key and for the provider alike: it is sent once."""
    head = b'{"model":"m","messages":[{"role":"user","content":"scene: text"}],'
    first = await gateway.send(CHAT, head + b'"seed":1,"seed":2}')
    assert (first.headers["x-cache"], gateway.sent["seed"]) == ("MISS", 2)
    assert (await gateway.send(CHAT, head + b'"seed":2}')).headers["x-cache"] == "HIT"
    assert (await gateway.send(CHAT, head + b'"seed":2,"seed":1}')).headers["x-cache"] == "MISS"


@pytest.mark.parametrize(
    ("accept", "stream", "streamed"),
    [
        ("application/json", None, False),
        ("text/event-stream", None, True),
        ("application/json, text/event-stream", None, False),
        ("application/json;q=0.5, text/event-stream", None, True),
        ("text/event-stream;q=0.9, */*", None, False),
        ("text/event-stream", False, False),
        ("application/json", True, True),
        ("*/*", None, False),
    ],
)
@pytest.mark.parametrize("ask", [Gateway.chat, Gateway.ask], ids=["chat", "supervisor"])
async def test_who_gets_a_stream(gateway: Gateway, ask: Any, accept: str, stream: bool | None, streamed: bool) -> None:
    """``stream`` decides; without it, whoever would rather have events than JSON."""
    wish = {} if stream is None else {"stream": stream}
    reply = await ask(gateway, "text", {"accept": accept}, **wish)
    kind = "text/event-stream" if streamed else "application/json"
    assert reply.headers["content-type"].partition(";")[0] == kind


CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "tool calls": [
        {"role": "user", "content": "weather?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "1", "type": "function", "function": {}, "extra_content": {"google": {"thought_signature": "x"}}}
            ],
        },
        {"role": "tool", "tool_call_id": "1", "content": "rain"},
    ],
    "an image": [{"role": "user", "content": [{"type": "text", "text": "what?"}, IMAGE]}],
    "a name": [{"role": "user", "name": "ann", "content": "hi"}],
    "a prefill": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Well,"}],
    "the system's word alone": [{"role": "system", "content": "Say hi."}],
    "reasoning": [{"role": "assistant", "content": "a", "reasoning_content": "b"}, {"role": "user", "content": "c"}],
    "300 messages": [{"role": "user", "content": str(number)} for number in range(300)],
    "a long last message": [{"role": "user", "content": "x" * 9_000}],
    "an image of 3 MB": [{"role": "user", "content": [{**IMAGE, "image_url": {"url": "data:," + "A" * 3_000_000}}]}],
}


@pytest.mark.parametrize("messages", CONVERSATIONS.values(), ids=CONVERSATIONS)
async def test_a_conversation_is_forwarded_as_it_came(gateway: Gateway, messages: list[dict[str, Any]]) -> None:
    """Whatever is in it, and however long it is."""
    reply = await gateway.post(CHAT, {"model": "m", "messages": messages})
    assert reply.status_code == 200
    assert gateway.sent["messages"] == messages


async def test_a_body_of_more_than_4_mib(gateway: Gateway) -> None:
    """It is refused, in OpenAI's form."""
    reply = await gateway.post(CHAT, {"model": "m", "messages": [{"role": "user", "content": "x" * 4_194_304}]})
    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "body_too_large")


MALFORMED: dict[str, tuple[bytes, str | None]] = {
    "no JSON": (b"{", None),
    "a list": (b"[]", "body"),
    "no messages": (b'{"model":"m"}', "messages"),
    "no message": (b'{"model":"m","messages":[]}', "messages"),
    "a message that is a text": (b'{"model":"m","messages":["hi"]}', "messages.0"),
    "no model": (b'{"messages":[{}]}', "model"),
    "a model that is a number": (b'{"model":1,"messages":[{}]}', "model"),
    "stream that is a text": (b'{"model":"m","messages":[{}],"stream":"yes"}', "stream"),
    "a number beyond every bound": (b'{"model":"m","messages":[{}],"seed":1e400}', "body"),
    "such a number in what makes no key": (
        b'{"model":"m","messages":[{}],"prompt_cache_key":[1e400]}',
        "body",
    ),
    "such a number about the stream": (
        b'{"model":"m","messages":[{}],"stream":true,"stream_options":{"x":-1e999}}',
        "body",
    ),
    "a user that is a number": (b'{"model":"m","messages":[{}],"user":1}', "user"),
    "no number": (b'{"model":"m","messages":[{}],"seed":NaN}', "body"),
    "half a character": (b'{"model":"m","messages":[{"content":"\\ud800"}]}', None),
    "nested too deep": (b'{"model":"m","messages":[{"content":' + b"[" * 9_000 + b"]" * 9_000 + b"}]}", None),
}


@pytest.mark.parametrize(("body", "param"), MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_request(gateway: Gateway, body: bytes, param: str | None) -> None:
    """400, never 422: one client repeats that seven times. Nothing is sent."""
    headers = {"content-type": "application/json", "x-forwarded-for": gateway.caller}
    reply = await gateway.made.http.post(CHAT, content=body, headers=headers)
    assert (reply.status_code, reply.json()["error"]["type"]) == (400, "invalid_request_error")
    assert reply.json()["error"]["param"] == param
    assert not gateway.scripted.seen
