"""LiteLLM as a client of a server that speaks OpenAI's protocol."""

from typing import Any

import litellm
import pytest
from pydantic import BaseModel

from tests.clients.libraries.conftest import Gateway

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


class Weather(BaseModel):
    """How warm it is."""

    city: str
    degrees: int


def ask(gateway: Gateway, scene: str, **more: Any) -> Any:
    return litellm.completion(
        model="openai/supervisor",
        api_base=gateway.v1,
        api_key=gateway.key,
        messages=[{"role": "user", "content": f"scene: {scene}"}],
        num_retries=0,
        max_retries=0,
        **more,
    )


def test_an_object(gateway: Gateway) -> None:
    """The schema reaches the provider, the object comes back, and its usage with details."""
    for _ in range(2):
        reply = ask(gateway, "weather", response_format=Weather)
        assert Weather.model_validate_json(reply.choices[0].message.content) == Weather(city="Seoul", degrees=21)
        assert (reply.usage.total_tokens, reply.usage.prompt_tokens_details.cached_tokens) == (18, 9)
    [sent] = gateway.sent()
    assert sent["response_format"]["json_schema"]["schema"]["required"] == ["city", "degrees"]


def test_tool_calls(gateway: Gateway) -> None:
    """Both, with their ids."""
    for _ in range(2):
        choice = ask(gateway, "tools", tools=[TOOL], tool_choice="required").choices[0]
        calls = [(each.id, each.function.name, each.function.arguments) for each in choice.message.tool_calls]
        assert calls == [("call_a", "weather", '{"city":"Seoul"}'), ("call_b", "time", "{}")]
        assert choice.finish_reason == "tool_calls"
    [sent] = gateway.sent()
    assert (sent["tools"], sent["tool_choice"]) == ([TOOL], "required")


def test_a_stream_of_tool_calls(gateway: Gateway) -> None:
    """LiteLLM builds the same reply from the chunks, from the provider and from the cache."""
    for _ in range(2):
        chunks = list(ask(gateway, "tools", tools=[TOOL], stream=True, stream_options={"include_usage": True}))
        built: Any = litellm.stream_chunk_builder(chunks)
        calls = [(each.id, each.function.name, each.function.arguments) for each in built.choices[0].message.tool_calls]
        assert calls == [("call_a", "weather", '{"city":"Seoul"}'), ("call_b", "time", "{}")]
        assert (built.choices[0].message.content, built.choices[0].finish_reason) == ("Let me look.", "tool_calls")
        assert built.usage.total_tokens == 18
    assert len(gateway.sent()) == 1


def test_a_broken_stream_is_raised(gateway: Gateway) -> None:
    """After the text that came."""
    seen = ""
    with pytest.raises(litellm.exceptions.MidStreamFallbackError, match="broke off"):  # noqa: PT012 - it is the reading that fails
        for chunk in ask(gateway, "cut", stream=True):
            seen += chunk.choices[0].delta.content or ""
    assert seen == "Hel"


@pytest.mark.parametrize(
    ("scene", "raised"),
    [
        ("bad value", litellm.BadRequestError),
        ("too long", litellm.ContextWindowExceededError),
        ("no model", litellm.NotFoundError),
    ],
)
def test_errors(gateway: Gateway, scene: str, raised: type[Exception]) -> None:
    """Each is the one that LiteLLM knows, after one call."""
    with pytest.raises(raised):
        ask(gateway, scene)
    assert len(gateway.sent()) == 1
