"""``/api/v1/chat/completions`` between unchanged requests and a provider's replies, row by row, over real servers."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from dev.scripted import MODEL, SCENES, USAGE, Scene, Scripted, chunk, whole
from dev.serve import ThreadedServer
from lib.ai.providers.port import MAX_REPLY_BYTES
from lib.base.clock import Clock
from lib.breaker import stored
from lib.breaker.circuit import Circuit
from lib.redis import keys
from tests.rig.ai import Kit, over
from tests.rig.callers import a_caller
from tests.rig.instance import Instance, started

pytestmark = pytest.mark.anyio

CHAT, SUPERVISOR = "/api/v1/chat/completions", "/api/ai/supervisor"
KEY = "sk-ours-0123456789abcdef"
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


@dataclass
class Gateway:
    """An instance whose providers are played by scripts."""

    made: Instance
    scripted: Scripted
    other: Scripted
    kit: Kit
    caller: str
    requests: int = 0

    async def chat(self, scene: str = "text", headers: Mapping[str, str] | None = None, **more: Any) -> httpx.Response:
        """A request for a scene; its reply when all is over, write-back included."""
        body = {"model": "m", "messages": [{"role": "user", "content": f"scene: {scene}"}], **more}
        return await self.post(CHAT, body, headers)

    async def post(self, path: str, body: object, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """The same with any body, to any route."""
        self.requests += 1
        given = {"x-forwarded-for": self.caller, **(headers or {})}
        reply = await self.made.http.post(path, json=body, headers=given)
        await over(self.made, self.requests)
        return reply

    @property
    def sent(self) -> dict[str, Any]:
        """The last request that the provider got."""
        return self.scripted.seen[-1]

    def circuit(self, name: str) -> Circuit:
        """A provider's circuit as Redis holds it."""
        text: Any = self.kit.server.get(keys.circuit(name))
        return stored.parse(text)


@pytest.fixture(scope="module")
def servers() -> Iterator[list[tuple[Scripted, str]]]:
    apps = [Scripted(), Scripted()]
    with ThreadedServer(apps[0]) as first, ThreadedServer(apps[1]) as second:
        yield [(apps[0], first.url), (apps[1], second.url)]


def environ(k: Kit, servers: list[tuple[Scripted, str]], **more: str | None) -> dict[str, str | None]:
    """OpenAI's provider is the first script."""
    return {
        **k.front.environ,
        "TRUSTED_PROXIES": "127.0.0.1/32",
        "RATELIMIT_AI": "off",
        "RATELIMIT_AI_SUPERVISOR": "off",
        "OPENAI_API_KEY": KEY,
        "OPENAI_BASE_URL": servers[0][1],
        "OPENAI_MODEL": MODEL,
        **more,
    }


@pytest.fixture
async def gateways(k: Kit, servers: list[tuple[Scripted, str]]) -> AsyncIterator[Any]:
    """Makes gateways."""
    made: list[Instance] = []

    def make(**more: str | None) -> Gateway:
        for app, _ in servers:
            app.seen.clear()
        made.append(started(environ(k, servers, **more), Clock()))
        return Gateway(made[-1], servers[0][0], servers[1][0], k, a_caller())

    yield make
    for each in made:
        await each.aclose()


@pytest.fixture
def gateway(gateways: Any) -> Gateway:
    """With OpenAI's provider alone."""
    made: Gateway = gateways()
    return made


def bare(reply: httpx.Response) -> Any:
    """A reply without what the guard adds."""
    body = reply.json()
    del body["x_breakwater"]
    return body


def events(reply: httpx.Response) -> list[Any]:
    """The data of each event; ``[DONE]`` as it is."""
    found = [line.removeprefix("data: ") for line in reply.text.split("\n\n") if line]
    return [each if each == "[DONE]" else json.loads(each) for each in found]


def joined(found: list[Any]) -> dict[int, dict[str, Any]]:
    """What a plain client makes of a stream: texts, tool calls and the last finish reason of each choice."""
    choices: dict[int, dict[str, Any]] = {}
    for each in found:
        for choice in each["choices"] if isinstance(each, dict) else ():
            at = choices.setdefault(choice["index"], {"calls": {}})
            at["finish"] = choice.get("finish_reason") or at.get("finish")
            for name in ("content", "refusal", "reasoning_content"):
                if isinstance(text := choice["delta"].get(name), str):
                    at[name] = at.get(name, "") + text
            for call in choice["delta"].get("tool_calls") or ():
                known = at["calls"].setdefault(
                    call["index"], {"id": call.get("id"), "type": call.get("type"), "is": ""}
                )
                known["is"] += call["function"].get("name", "") + call["function"].get("arguments", "")
    return choices


# ---------------------------------------------------------------- what is passed on, and kept

PASSED = [
    *("text", "tools", "refusal", "reasoning", "reasoning only", "two choices", "logprobs", "annotations and images"),
    *("length", "content filter", "safety after text", "finish error", "unknown finish", "no usage"),
    "content in parts",
]
KEPT = {"text", "tools", "reasoning", "two choices", "logprobs", "annotations and images", "no usage"}


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
    "reasoning only",
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
    message = {"content": "x" * MAX_REPLY_BYTES}
    monkeypatch.setitem(SCENES, "too much", Scene(whole(message), events=(chunk(message), chunk(finish="stop"))))
    for number in range(3):
        reply = await gateway.chat("too much", stream=stream, seed=number)
        assert (reply.status_code, reply.json()["error"]["code"]) == (502, "backend_failed")
    other = await gateway.chat("text", {"x-forwarded-for": a_caller()}, stream=stream)
    assert other.status_code == 200
    assert gateway.circuit("openai").state == "closed"


async def test_a_hit_costs_two_commands_and_one_round_trip(gateways: Any, k: Kit) -> None:
    """Of a reply of 100 KB with tool calls as well: it goes out as it lies in Redis."""
    made = gateways(RATELIMIT_AI="100/minute")
    # Whoever made the key was the first; whether its TTL stands is looked after twice.
    first, _ = await made.chat("many tools"), await made.chat("many tools")
    k.forget_counts()
    again = await made.chat("many tools")
    assert (again.headers["x-cache"], bare(again)) == ("HIT", bare(first))
    assert len(again.content) > 100_000
    assert k.cost() == (1, 2)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_an_answer_of_the_length_that_was_asked_for_is_kept(gateway: Gateway, stream: bool) -> None:
    """CASE 24: cut by a length that the request did set, it is the answer to that request."""
    for cache in ("MISS", "HIT"):
        reply = await gateway.chat("length", stream=stream, max_tokens=5)
        assert reply.headers["x-cache"] == cache


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


async def test_what_is_cut_before_it_shows_anything_is_an_error_reply(gateways: Any, servers: Any) -> None:
    """And another provider answers, where there is one."""
    alone = gateways()
    reply = await alone.chat("cut at once", stream=True)
    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "backend_failed")
    both = gateways(GROQ_API_KEY="x", GROQ_BASE_URL=servers[1][1], AI_PROVIDERS="openai,groq")
    reply = await both.chat("cut at once", stream=True)
    assert reply.headers["x-attempts"] == "openai;cut, groq;cut"


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_fewer_choices_than_were_asked_for_are_not_kept(gateway: Gateway, stream: bool) -> None:
    """A provider that does not know ``n`` has answered, but not what was asked."""
    for _ in range(2):
        reply = await gateway.chat("text", stream=stream, n=2)
        assert (reply.status_code, reply.headers["x-cache"], "error" in reply.text) == (200, "MISS", False)


async def test_the_model_is_the_real_one(gateway: Gateway) -> None:
    """Whole, streamed and replayed, whatever the client called it."""
    whole, stream = await gateway.chat(model="gpt-x"), await gateway.chat(model="gpt-y", stream=True)
    assert whole.json()["model"] == MODEL
    assert {each["model"] for each in events(stream)[:-1]} == {MODEL}
    assert gateway.sent["model"] == MODEL


# ---------------------------------------------------------------- what is sent

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
async def test_a_field_is_forwarded_as_it_came(gateway: Gateway, name: str) -> None:
    """Known or not, well or badly typed: it is the provider's to judge."""
    reply = await gateway.chat(**{name: FIELDS[name]})
    assert reply.status_code == 200
    messages = [{"role": "user", "content": "scene: text"}]
    assert gateway.sent == {"model": MODEL, "messages": messages, name: FIELDS[name]}


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


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("scene", "status", "code", "param", "words"),
    [
        ("unsupported", 400, "unsupported_parameter", "seed", "Unsupported parameter: 'seed'"),
        ("bad value", 400, "invalid_type", "temperature", "Invalid type for 'temperature'."),
        ("too long", 400, "context_length_exceeded", None, "8192 tokens"),
        ("mistral", 400, "backend_rejected", "max_tokens", "Input should be larger"),
        ("google", 400, "INVALID_ARGUMENT", None, "Bad turn order."),
        ("xai", 400, "bad-request", None, "No such image."),
        ("fastapi", 400, "backend_rejected", None, "No."),
        ("no model", 404, "model_not_found", None, "does not exist"),
        ("moderation", 400, "content_filter", None, "flagged by moderation"),
        ("throttled", 429, "backend_throttled", None, "no capacity"),
        ("forbidden", 502, "backend_unauthorized", None, "secret or key"),
        ("down", 502, "backend_failed", None, "failed"),
        ("html", 502, "backend_failed", None, "failed"),
    ],
)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_a_providers_refusal(
    gateway: Gateway, scene: str, status: int, code: str, param: str | None, words: str, stream: bool
) -> None:
    """In OpenAI's shape, whatever the provider's: its words on the request are told, those on our key are not."""
    reply = await gateway.chat(scene, stream=stream)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (status, code, param)
    assert words in error["message"]
    assert "sk-" not in reply.text
    if status in (400, 404):
        assert gateway.circuit("openai") == Circuit()


async def test_what_a_supervisors_backend_cannot_do(gateways: Any, servers: Any) -> None:
    """Its answers are texts: the field is named, and nothing is sent; a provider beside it that can do it answers."""
    made = gateways(CLOUD_RUN_AI_URL=f"{servers[1][1]}/supervisor", OPENAI_API_KEY=None)
    wishes: list[tuple[str, dict[str, Any]]] = [
        *((name, {name: FIELDS[name]}) for name in ("tools", "response_format", "n", "logprobs", "audio")),
        ("messages", {"messages": CONVERSATIONS["an image"]}),
        ("messages", {"messages": CONVERSATIONS["tool calls"]}),
        ("messages", {"messages": CONVERSATIONS["a prefill"]}),
    ]
    for param, wish in wishes:
        reply = await made.chat(**wish)
        error = reply.json()["error"]
        assert (reply.status_code, error["code"], error["param"]) == (400, "unsupported_parameter", param)
    assert not made.other.seen
    both = gateways(CLOUD_RUN_AI_URL=f"{servers[1][1]}/supervisor")
    for param, wish in wishes:
        reply = await both.chat(**wish)
        assert (reply.status_code, reply.headers["x-attempts"]) == (200, f"cloud-run;cannot:{param}, openai;answered")
    assert not made.other.seen


async def test_a_parameter_that_a_provider_refuses_goes_to_the_next(gateways: Any, servers: Any) -> None:
    """It is free, counted to nobody, and not sent there again for a while; without it the provider is asked as ever."""
    made = gateways(GROQ_API_KEY="x", GROQ_BASE_URL=servers[1][1], AI_PROVIDERS="openai,groq")
    first = await made.chat("unsupported", seed=1)
    assert first.headers["x-attempts"] == "openai;unsupported, groq;unsupported"
    assert (first.status_code, first.json()["error"]["param"]) == (400, "seed")
    again = await made.chat("text", seed=1)
    assert (again.status_code, again.json()["error"]["code"]) == (400, "unsupported_parameter")
    assert (await made.chat("text")).headers["x-attempts"] == "openai;answered"
    somebody_else = await made.chat("text", {"x-forwarded-for": a_caller()}, seed=1)
    assert somebody_else.headers["x-attempts"] == "openai;answered"
    assert made.circuit("openai") == made.circuit("groq") == Circuit()


# ---------------------------------------------------------------- dialects and models


@pytest.mark.parametrize(
    ("settings", "asked", "sent"),
    [
        pytest.param(
            {"OPENAI_DIALECT": "mistral"},
            {"max_completion_tokens": 5, "seed": 1, "stream": True},
            {"max_tokens": 5, "random_seed": 1, "stream": True},
            id="mistral renames, and takes no stream_options",
        ),
        pytest.param(
            {"OPENAI_DIALECT": "cohere"}, {"stream": True}, {"stream": True}, id="cohere takes no stream_options"
        ),
        pytest.param(
            {"OPENAI_OMIT": "service_tier,stream_options"},
            {"service_tier": "flex", "seed": 1, "stream": True},
            {"seed": 1, "stream": True},
            id="a list of one's own",
        ),
        pytest.param(
            {}, {"max_completion_tokens": 5, "max_tokens": 6}, {"max_completion_tokens": 5, "max_tokens": 6}, id="none"
        ),
    ],
)
async def test_a_dialect(gateways: Any, settings: dict[str, str], asked: dict[str, Any], sent: dict[str, Any]) -> None:
    """What a provider refuses under one name is sent under its own; nothing else is changed."""
    made = gateways(**settings)
    await made.chat(**asked)
    assert {name: value for name, value in made.sent.items() if name not in ("model", "messages")} == sent


@pytest.mark.parametrize(
    ("dialect", "kept"),
    [
        ("mistral", set()),
        ("groq", {"reasoning_content"}),
        ("gemini", {"extra_content"}),
        ("openai", {"reasoning_content", "extra_content"}),
    ],
)
async def test_fields_of_another_providers_conversation(gateways: Any, dialect: str, kept: set[str]) -> None:
    """A conversation that began elsewhere loses what this provider refuses, and keeps what it needs."""
    made = gateways(OPENAI_DIALECT=dialect)
    call = {"id": "1", "type": "function", "function": {}, "extra_content": {"google": {"thought_signature": "x"}}}
    turn = {"role": "assistant", "content": "a", "reasoning_content": "b", "tool_calls": [call]}
    await made.post(CHAT, {"model": "m", "messages": [turn, {"role": "user", "content": "hi"}]})
    found = made.sent["messages"][0]
    assert ({"reasoning_content"} & found.keys()) | ({"extra_content"} & found["tool_calls"][0].keys()) == kept


@pytest.mark.parametrize(
    ("dialect", "wish"),
    [
        ("gemini", {"seed": 1}),
        ("gemini", {"presence_penalty": 1}),
        ("groq", {"logit_bias": {"1": 1}}),
        ("groq", {"n": 2}),
        ("groq", {"logprobs": True}),
    ],
)
async def test_what_a_dialect_cannot_do(gateways: Any, dialect: str, wish: dict[str, Any]) -> None:
    """It is known beforehand: nothing is sent, and the field is named."""
    made = gateways(OPENAI_DIALECT=dialect)
    reply = await made.chat(**wish)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, next(iter(wish)))
    assert not made.scripted.seen
    assert (await made.chat(n=1, logprobs=False)).status_code == 200


async def test_a_gemini_that_says_stop_where_it_calls_a_tool(gateways: Any) -> None:
    """Whole and in a stream it is told as OpenAI's clients expect it."""
    made = gateways(OPENAI_DIALECT="gemini")
    whole = bare(await made.chat("tools that end with stop"))
    assert whole["choices"][0]["finish_reason"] == "tool_calls"
    assert (
        joined(events(await made.chat("tools that end with stop", stream=True, top_p=1)))[0]["finish"] == "tool_calls"
    )


@pytest.mark.parametrize(
    ("named", "providers", "model"),
    [
        pytest.param("groq/llama-3.3-70b-versatile", "groq", "llama-3.3-70b-versatile", id="provider and model"),
        pytest.param("llama-3.1-8b-instant", "groq", "llama-3.1-8b-instant", id="a further model"),
        pytest.param(MODEL, "openai", MODEL, id="the first provider's own"),
        pytest.param("gpt-4o", "openai", MODEL, id="none that is configured"),
        pytest.param("groq/unknown", "openai", MODEL, id="none of that provider"),
        pytest.param("supervisor", "openai", MODEL, id="the default"),
    ],
)
async def test_the_model_that_a_client_names(
    gateways: Any, servers: Any, named: str, providers: str, model: str
) -> None:
    """It is used where it is configured, the chain's own otherwise."""
    made = gateways(
        GROQ_API_KEY="x",
        GROQ_BASE_URL=servers[1][1],
        GROQ_MODEL="llama-3.3-70b-versatile,llama-3.1-8b-instant",
        AI_PROVIDERS="openai,groq",
    )
    reply = await made.chat(model=named)
    assert reply.json()["x_breakwater"]["provider"] == providers
    asked = made.other if providers == "groq" else made.scripted
    assert [each["model"] for each in asked.seen] == [model]


async def test_names_for_models(gateways: Any, servers: Any) -> None:
    """``AI_MODELS`` restricts and renames; two names of one model share its answers; another name is refused."""
    made = gateways(
        GROQ_API_KEY="x",
        GROQ_BASE_URL=servers[1][1],
        AI_PROVIDERS="openai,groq",
        AI_MODELS="fast=groq/llama-3.3-70b-versatile,quick=llama-3.3-70b-versatile",
    )
    assert (await made.chat(model="fast")).headers["x-attempts"] == "groq;answered"
    assert (await made.chat(model="quick")).headers["x-cache"] == "HIT"
    assert (await made.chat(model="supervisor")).headers["x-attempts"] == "openai;answered"
    refused = await made.chat(model="gpt-4o")
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")


# ---------------------------------------------------------------- keys


async def test_what_does_not_reach_the_provider_makes_no_key(gateway: Gateway) -> None:
    """Labels share an answer, another seed does not; a call of which a record is kept is made in any case."""
    assert (await gateway.chat(metadata={"trace": "a"})).headers["x-cache"] == "MISS"
    assert "metadata" not in gateway.sent
    assert (await gateway.chat(metadata={"trace": "b"})).headers["x-cache"] == "HIT"
    assert (await gateway.chat(seed=1)).headers["x-cache"] == "MISS"
    assert (await gateway.chat(seed=2)).headers["x-cache"] == "MISS"
    for _ in range(2):
        assert (await gateway.chat(store=True, metadata={"trace": "a"})).headers["x-cache"] == "BYPASS"
    assert gateway.sent["metadata"] == {"trace": "a"}


async def test_what_no_provider_is_sent_makes_no_key(gateways: Any, servers: Any) -> None:
    """A field that the settings leave out everywhere; where one provider gets it, it does."""
    made = gateways(OPENAI_OMIT="seed")
    assert (await made.chat(seed=1)).headers["x-cache"] == "MISS"
    assert (await made.chat(seed=2)).headers["x-cache"] == "HIT"
    assert "seed" not in made.sent
    both = gateways(OPENAI_OMIT="seed", GROQ_API_KEY="x", GROQ_BASE_URL=servers[1][1], AI_PROVIDERS="openai,groq")
    assert (await both.chat(seed=1)).headers["x-cache"] == "MISS"
    assert (await both.chat(seed=2)).headers["x-cache"] == "MISS"


# ---------------------------------------------------------------- the supervisor's route


@pytest.mark.parametrize(
    ("scene", "finish", "ui"),
    [("text", "stop", "stop"), ("length", "length", "length"), ("unknown finish", "eos", "other")],
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
    ],
)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_the_supervisor_says_what_went_wrong(
    gateway: Gateway, scene: str, status: int, code: str, stream: bool
) -> None:
    """It answers in texts: without one, it says why."""
    reply = await gateway.post(SUPERVISOR, {"query": f"scene: {scene}", "stream": stream})
    assert (reply.status_code, reply.json()["code"]) == (status, code)


@pytest.mark.parametrize("failover", [False, True])
async def test_a_block_is_the_answer(gateways: Any, servers: Any, failover: bool) -> None:
    """Unless ``AI_SAFETY_FAILOVER`` has the next provider asked."""
    made = gateways(
        GROQ_API_KEY="x",
        GROQ_BASE_URL=servers[1][1],
        AI_PROVIDERS="openai,groq",
        AI_SAFETY_FAILOVER=str(failover).lower(),
    )
    reply = await made.chat("content filter")
    assert len(made.other.seen) == failover
    assert reply.status_code == (400 if failover else 200)
    assert (await made.post(SUPERVISOR, {"query": "scene: content filter"})).status_code == 422
    assert len(made.other.seen) == 2 * failover


FILE = {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,AAAA"}


async def test_a_file_of_use_chat(gateways: Any, servers: Any) -> None:
    """A provider that can see gets it, and two pictures are two questions; where nobody can, 400 says so."""
    asked = {"id": "chat-1", "trigger": "submit-message", "stream": False}
    message = {"role": "user", "parts": [{"type": "text", "text": "What is it?"}, FILE]}
    other = {"role": "user", "parts": [{"type": "text", "text": "What is it?"}, {**FILE, "url": "data:image/png,B"}]}
    made = gateways()
    for each in (message, other):
        assert (await made.post(SUPERVISOR, {**asked, "messages": [each]})).headers["x-cache"] == "MISS"
    content = [each["messages"][0]["content"] for each in made.scripted.seen]
    assert content[0] == [{"type": "text", "text": "What is it?"}, IMAGE]
    blind = gateways(CLOUD_RUN_AI_URL=f"{servers[1][1]}/supervisor", OPENAI_API_KEY=None)
    reply = await blind.post(SUPERVISOR, {**asked, "messages": [message]})
    assert (reply.status_code, reply.json()["code"]) == (400, "unsupported_parameter")
    assert not blind.other.seen
