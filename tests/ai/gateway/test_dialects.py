"""Dialects: what a provider calls otherwise, cannot do, or says in its own way."""

from dataclasses import replace
from typing import Any

import pytest

from lib.ai.providers import dialects
from tests.rig.gateway import CHAT, SUPERVISOR, Gateways, bare, events, joined

pytestmark = pytest.mark.anyio


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
async def test_a_dialect(
    gateways: Gateways, settings: dict[str, str], asked: dict[str, Any], sent: dict[str, Any]
) -> None:
    """What a provider refuses under one name is sent under its own; nothing else is changed."""
    made = gateways(**settings)
    await made.chat(**asked)
    assert {name: value for name, value in made.sent.items() if name not in ("model", "messages")} == sent


@pytest.mark.parametrize(
    ("dialect", "kept"),
    [
        ("mistral", set()),
        ("groq", set()),
        ("gemini", {"extra_content"}),
        ("openai", {"reasoning_content", "extra_content"}),
    ],
)
async def test_fields_of_another_providers_conversation(gateways: Gateways, dialect: str, kept: set[str]) -> None:
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
async def test_what_a_dialect_cannot_do(gateways: Gateways, dialect: str, wish: dict[str, Any]) -> None:
    """It is known beforehand: nothing is sent, and the field is named."""
    made = gateways(OPENAI_DIALECT=dialect)
    reply = await made.chat(**wish)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, next(iter(wish)))
    assert not made.scripted.seen
    assert (await made.chat(n=1, logprobs=False)).status_code == 200


@pytest.mark.parametrize(
    ("dialect", "asks_for_nothing"),
    [
        ("gemini", {"frequency_penalty": 0, "presence_penalty": 0.0, "seed": None}),
        ("groq", {"logprobs": False, "top_logprobs": None, "logit_bias": {}, "n": 1}),
    ],
)
async def test_what_asks_for_nothing_is_not_sent_to_who_refuses_the_field(
    gateways: Gateways, dialect: str, asks_for_nothing: dict[str, Any]
) -> None:
    """There are clients that send penalties of 0 with every request; Gemini refuses the name, whatever the value."""
    made = gateways(OPENAI_DIALECT=dialect)
    assert (await made.chat(**asks_for_nothing)).status_code == 200
    assert made.sent.keys() == {"model", "messages"}
    other = gateways()
    assert (await other.chat(**asks_for_nothing)).status_code == 200
    assert asks_for_nothing.items() <= other.sent.items()


@pytest.mark.parametrize("dialect", ["mistral", "gemini"])
async def test_turns_without_text(gateways: Gateways, dialect: str) -> None:
    """A turn of ``useChat`` that held nothing but steps is empty here, and these refuse a conversation with it."""
    made = gateways(OPENAI_DIALECT=dialect)
    turns = [("user", "Hi"), ("assistant", ""), ("assistant", " "), ("user", "scene: text")]
    await made.post(SUPERVISOR, {"messages": [{"role": role, "content": content} for role, content in turns]})
    assert [each["content"] for each in made.sent["messages"]] == ["Hi", "scene: text"]


async def test_a_gemini_that_says_stop_where_it_calls_a_tool(gateways: Gateways) -> None:
    """Whole and in a stream it is told as OpenAI's clients expect it."""
    made = gateways(OPENAI_DIALECT="gemini")
    whole = bare(await made.chat("tools that end with stop"))
    assert whole["choices"][0]["finish_reason"] == "tool_calls"
    assert (
        joined(events(await made.chat("tools that end with stop", stream=True, top_p=1)))[0]["finish"] == "tool_calls"
    )


@pytest.mark.parametrize(
    ("name", "url", "found"),
    [
        (None, "https://generativelanguage.googleapis.com/v1beta/openai/", "gemini"),
        (None, "https://api.groq.com/openai/v1", "groq"),
        (None, "https://API.MISTRAL.AI/v1", "mistral"),
        (None, "https://api.cohere.ai/compatibility/v1", "cohere"),
        (None, "https://api.cohere.com/compatibility/v1", "cohere"),
        (None, "https://api.mistral.ai:443/v1", "mistral"),
        (None, "https://api.openai.com/v1", "openai"),
        (None, "https://eu.api.openai.com/v1", "openai"),
        (None, "https://ours.openai.azure.com/openai/v1", "openai"),
        ("openai", "https://api.mistral.ai/v1", "openai"),
        ("gemini", "https://proxy.example.com/v1", "gemini"),
    ],
)
def test_which_dialect(name: str | None, url: str, found: str) -> None:
    """The one that is set, else that of the host, else OpenAI's."""
    assert dialects.of(name, url) is dialects.DIALECTS[found]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:11434/v1",
        "https://api.deepseek.com/v1",
        "https://api.mistral.ai.example.com/v1",
        "https://example.com/api.openai.com",
        "https://api-openai.com/v1",
        "no url",
    ],
)
def test_whoever_else_speaks_the_protocol(url: str) -> None:
    """As OpenAI's, but for the name of an answer's limit, of which many know the older one alone."""
    assert dialects.of(None, url) == replace(dialects.PLAIN, limit="max_tokens")


@pytest.mark.parametrize(
    ("settings", "name"), [({}, "max_tokens"), ({"OPENAI_DIALECT": "openai"}, "max_completion_tokens")]
)
async def test_the_limit_of_a_supervisors_answer(gateways: Gateways, settings: dict[str, str], name: str) -> None:
    """Ollama takes the newer name and ignores it: neither a question nor a check of ours would have any limit."""
    made = gateways(**settings)
    await made.ask(parameters={"maxTokens": 16})
    assert {each: value for each, value in made.sent.items() if each.startswith("max_")} == {name: 16}
