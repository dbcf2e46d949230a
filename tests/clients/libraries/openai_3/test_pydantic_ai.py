"""Pydantic AI: an object by each of its output modes, tools, images, streams."""

from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, BinaryContent, NativeOutput, PromptedOutput, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from tests.clients.libraries.conftest import Gateway

pytestmark = pytest.mark.anyio


class Weather(BaseModel):
    """How warm it is."""

    city: str
    degrees: int


SEOUL = Weather(city="Seoul", degrees=21)


def model(gateway: Gateway) -> OpenAIChatModel:
    return OpenAIChatModel("supervisor", provider=OpenAIProvider(base_url=gateway.v1, api_key=gateway.key))


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("mode", ["native", "prompted", "tool"])
async def test_an_object(gateway: Gateway, mode: str, streamed: bool) -> None:
    """By each mode, from the provider and from the cache; the schema reaches the provider."""
    output: Any = {
        "native": NativeOutput(Weather),
        "prompted": PromptedOutput(Weather),
        "tool": ToolOutput(Weather, name="Weather"),
    }[mode]
    agent = Agent(model(gateway), output_type=output)
    asked = "scene: weather call" if mode == "tool" else "scene: weather"
    for _ in range(2):
        if streamed:
            async with agent.run_stream(asked) as run:
                found, usage = await run.get_output(), run.usage
        else:
            result = await agent.run(asked)
            found, usage = result.output, result.usage
        assert found == SEOUL
        assert (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens) == (11, 7, 9)
    [sent] = gateway.sent()
    if mode == "tool":
        assert sent["tools"][0]["function"]["parameters"]["required"] == ["city", "degrees"]
        assert sent["tool_choice"] == "required"
    elif mode == "native":
        assert sent["response_format"]["json_schema"]["schema"]["required"] == ["city", "degrees"]
    else:
        assert "degrees" in str(sent["messages"][:-1])


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
async def test_tools(gateway: Gateway, streamed: bool) -> None:
    """The agent runs both tools that were called and sends their results with the ids of the calls."""
    agent = Agent(model(gateway))
    asked: list[str] = []

    @agent.tool_plain
    def weather(city: str) -> str:
        asked.append(city)
        return "scene: text"

    @agent.tool_plain
    def time() -> str:
        asked.append("time")
        return "scene: text"

    for _ in range(2):
        if streamed:
            async with agent.run_stream_events("scene: tools") as events:
                result: Any = [each async for each in events][-1].result
        else:
            result = await agent.run("scene: tools")
        assert result.output == "Hello."
    assert sorted(asked) == ["Seoul", "Seoul", "time", "time"]
    first, second = gateway.sent()
    assert [each["function"]["name"] for each in first["tools"]] == ["weather", "time"]
    assert [each["tool_call_id"] for each in second["messages"] if each["role"] == "tool"] == ["call_a", "call_b"]
    assert [each["id"] for each in second["messages"][1]["tool_calls"]] == ["call_a", "call_b"]


async def test_an_image(gateway: Gateway) -> None:
    """It reaches the provider as a data URL."""
    result = await Agent(model(gateway)).run(["scene: text", BinaryContent(b"\0\0\0", media_type="image/png")])
    assert result.output == "Hello."
    [sent] = gateway.sent()
    assert sent["messages"][0]["content"][1]["image_url"]["url"] == "data:image/png;base64,AAAA"


async def test_reasoning(gateway: Gateway) -> None:
    """It stands beside the text, from the cache as well."""
    for _ in range(2):
        result = await Agent(model(gateway)).run("scene: reasoning")
        kinds = [(part.part_kind, part.content) for part in result.all_messages()[-1].parts]
        assert kinds == [("thinking", "They greet me."), ("text", "Hello.")]
    assert len(gateway.sent()) == 1
