"""LlamaIndex's OpenAILike: chats, streams, tools, structured predictions."""

from typing import Any

import pytest
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

from tests.clients.libraries.conftest import Gateway


class Weather(BaseModel):
    """How warm it is."""

    city: str
    degrees: int


SEOUL = Weather(city="Seoul", degrees=21)


def model(gateway: Gateway, **more: Any) -> OpenAILike:
    return OpenAILike(
        model="supervisor",
        api_base=gateway.v1,
        api_key=gateway.key,
        is_chat_model=True,
        is_function_calling_model=True,
        max_retries=0,
        **more,
    )


def weather(city: str) -> str:
    """Tell how warm it is."""
    return f"21 degrees in {city}"


def test_a_chat(gateway: Gateway) -> None:
    """Whole, then as a stream from the cache."""
    message = ChatMessage(role="user", content="scene: text")
    reply = model(gateway).chat([message])
    assert (reply.message.content, reply.raw.usage.total_tokens) == ("Hello.", 18)
    streamed = list(model(gateway).stream_chat([message]))
    assert (streamed[-1].message.content, "".join(each.delta or "" for each in streamed)) == ("Hello.", "Hello.")
    assert len(gateway.sent()) == 1


def test_tools(gateway: Gateway) -> None:
    """Both calls, whole and streamed, from the provider and from the cache."""
    llm, tool = model(gateway), FunctionTool.from_defaults(weather)
    for _ in range(2):
        whole = llm.chat_with_tools([tool], user_msg="scene: tools", allow_parallel_tool_calls=True)
        calls = llm.get_tool_calls_from_response(whole)
        assert [(each.tool_id, each.tool_name, each.tool_kwargs) for each in calls] == [
            ("call_a", "weather", {"city": "Seoul"}),
            ("call_b", "time", {}),
        ]
        streamed = list(llm.stream_chat_with_tools([tool], user_msg="scene: tools", allow_parallel_tool_calls=True))[-1]
        again = llm.get_tool_calls_from_response(streamed)
        assert [(each.tool_name, each.tool_kwargs) for each in again] == [("weather", {"city": "Seoul"}), ("time", {})]
    [sent] = gateway.sent()
    assert sent["tools"][0]["function"]["name"] == "weather"


@pytest.mark.parametrize("scene", ["tools at once", "tools without index or type"])
def test_tools_that_a_provider_calls_in_one_chunk(gateway: Gateway, scene: str) -> None:
    """It reads the first call of a chunk only: each comes in one of its own, from the provider and from the cache."""
    llm, tool = model(gateway), FunctionTool.from_defaults(weather)
    for _ in range(2):
        last = list(llm.stream_chat_with_tools([tool], user_msg=f"scene: {scene}", allow_parallel_tool_calls=True))[-1]
        calls = llm.get_tool_calls_from_response(last)
        assert [(each.tool_name, each.tool_kwargs) for each in calls] == [("weather", {"city": "Seoul"}), ("time", {})]
    assert len(gateway.sent()) == 1


@pytest.mark.parametrize("structured", [True, False], ids=["schema", "tool"])
def test_an_object(gateway: Gateway, structured: bool) -> None:
    """By the provider's schema, or by a tool."""
    llm = model(gateway, should_use_structured_outputs=structured)
    prompt = PromptTemplate("scene: weather" if structured else "scene: weather call")
    for _ in range(2):
        assert llm.structured_predict(Weather, prompt) == SEOUL
    [sent] = gateway.sent()
    if structured:
        assert sent["response_format"]["json_schema"]["schema"]["required"] == ["city", "degrees"]
    else:
        assert sent["tools"][0]["function"]["parameters"]["required"] == ["city", "degrees"]


def test_an_image(gateway: Gateway) -> None:
    """It reaches the provider as a data URL."""
    image = ImageBlock(image=b"AAAA", image_mimetype="image/png")
    reply = model(gateway).chat([ChatMessage(role="user", blocks=[TextBlock(text="scene: text"), image])])
    assert reply.message.content == "Hello."
    [sent] = gateway.sent()
    assert sent["messages"][0]["content"][1]["image_url"]["url"] == "data:image/png;base64,AAAA"
