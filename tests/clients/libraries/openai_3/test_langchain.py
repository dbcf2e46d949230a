"""LangChain's ChatOpenAI: structured output by all its methods, tools, streams."""

from typing import Any, Literal

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langchain_openai.chat_models.base import OpenAIRefusalError
from pydantic import BaseModel

from tests.clients.libraries.conftest import Gateway


class Weather(BaseModel):
    """How warm it is."""

    city: str
    degrees: int


SEOUL = Weather(city="Seoul", degrees=21)


@tool
def weather(city: str) -> str:
    """Tell how warm it is."""
    return f"21 degrees in {city}"


def model(gateway: Gateway, **more: Any) -> ChatOpenAI:
    return ChatOpenAI(base_url=gateway.v1, api_key=gateway.key, model="supervisor", max_retries=0, **more)


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("method", "scene"),
    [("json_schema", "weather"), ("json_mode", "weather"), ("function_calling", "weather call")],
)
def test_structured_output(
    gateway: Gateway, method: Literal["json_schema", "json_mode", "function_calling"], scene: str, streaming: bool
) -> None:
    """The schema reaches the provider as LangChain's method puts it, and the object comes back; twice for one call."""
    chain = model(gateway, streaming=streaming).with_structured_output(Weather, method=method)
    for _ in range(2):
        assert chain.invoke(f"scene: {scene}") == SEOUL
    [sent] = gateway.sent()
    if method == "function_calling":
        assert sent["tools"][0]["function"]["parameters"]["required"] == ["city", "degrees"]
        assert sent["tool_choice"]["function"]["name"] == "Weather"
    elif method == "json_schema":
        assert sent["response_format"]["json_schema"]["schema"]["required"] == ["city", "degrees"]
        assert sent["response_format"]["json_schema"]["strict"] is True
    else:
        assert sent["response_format"] == {"type": "json_object"}


def test_a_tool_and_its_result(gateway: Gateway) -> None:
    """Calls come whole, their ids go back with the results, and the last answer is a text with its usage."""
    bound = model(gateway).bind_tools([weather])
    asked = HumanMessage("scene: tools")
    for _ in range(2):
        called = bound.invoke([asked])
        assert isinstance(called, AIMessage)
        assert [(call["name"], call["args"], call["id"]) for call in called.tool_calls] == [
            ("weather", {"city": "Seoul"}, "call_a"),
            ("time", {}, "call_b"),
        ]
        assert called.response_metadata["finish_reason"] == "tool_calls"
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "scene: text"} for call in called.tool_calls]
    final = bound.invoke([asked, called, *results])
    assert final.content == "Hello."
    assert (final.usage_metadata["input_tokens"], final.usage_metadata["output_tokens"]) == (11, 7)
    first, second = gateway.sent()
    assert first["tools"][0]["function"]["name"] == "weather"
    assert [call["id"] for call in second["messages"][1]["tool_calls"]] == ["call_a", "call_b"]
    assert [each["tool_call_id"] for each in second["messages"][2:]] == ["call_a", "call_b"]


def test_a_stream(gateway: Gateway) -> None:
    """Texts, tool calls, finish reason and usage add up, from the provider and from the cache."""
    bound = model(gateway, stream_usage=True).bind_tools([weather])
    for _ in range(2):
        pieces = list(bound.stream("scene: tools"))
        total: Any = pieces[0]
        for piece in pieces[1:]:
            total += piece
        assert total.content == "Let me look."
        assert [(call["name"], call["args"]) for call in total.tool_calls] == [
            ("weather", {"city": "Seoul"}),
            ("time", {}),
        ]
        assert total.response_metadata["finish_reason"] == "tool_calls"
        assert total.usage_metadata["total_tokens"] == 18
        assert total.usage_metadata["input_token_details"]["cache_read"] == 9
    assert len(gateway.sent()) == 1


def test_a_refusal(gateway: Gateway) -> None:
    """It is raised as LangChain's own error, and is not kept."""
    chain = model(gateway).with_structured_output(Weather, method="json_schema")
    for _ in range(2):
        with pytest.raises(OpenAIRefusalError, match="I cannot help"):
            chain.invoke("scene: refusal")
    assert len(gateway.sent()) == 2


@pytest.mark.anyio
async def test_an_image(gateway: Gateway) -> None:
    """It reaches the provider as it was given."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}
    answer = await model(gateway).ainvoke([HumanMessage([{"type": "text", "text": "scene: text"}, image])])
    assert answer.content == "Hello."
    assert gateway.sent()[0]["messages"][0]["content"][1] == image
