"""The OpenAI SDK for Python, version 2 and 3, sync and async: objects, tools, images, streams, errors, models."""

from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from tests.clients.libraries.conftest import Gateway


class Weather(BaseModel):
    """How warm it is."""

    city: str
    degrees: int


SEOUL = Weather(city="Seoul", degrees=21)
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}


def asked(scene: str, *parts: Any) -> Any:
    """The messages of a question."""
    return [{"role": "user", "content": [{"type": "text", "text": f"scene: {scene}"}, *parts]}]


def sync(gateway: Gateway) -> OpenAI:
    return OpenAI(base_url=gateway.v1, api_key=gateway.key, max_retries=0)


def test_a_parsed_object(gateway: Gateway) -> None:
    """``parse`` sends the schema and reads the object, from the provider and from the cache."""
    with sync(gateway) as client:
        for _ in range(2):
            reply = client.chat.completions.parse(model="m", messages=asked("weather"), response_format=Weather)
            assert reply.choices[0].message.parsed == SEOUL
            assert reply.usage is not None
            assert reply.usage.prompt_tokens_details is not None
            assert reply.usage.prompt_tokens_details.cached_tokens == 9
    [sent] = gateway.sent()
    assert sent["response_format"]["json_schema"]["schema"]["required"] == ["city", "degrees"]


@pytest.mark.anyio
async def test_a_parsed_stream(gateway: Gateway) -> None:
    """Likewise in pieces, with the tool calls of a tool that the SDK parses."""
    tools = [openai.pydantic_function_tool(Weather)]
    async with AsyncOpenAI(base_url=gateway.v1, api_key=gateway.key, max_retries=0) as client:
        for _ in range(2):
            async with client.chat.completions.stream(
                model="m", messages=asked("weather"), response_format=Weather
            ) as stream:
                assert (await stream.get_final_completion()).choices[0].message.parsed == SEOUL
            async with client.chat.completions.stream(model="m", messages=asked("weather call"), tools=tools) as stream:
                final = await stream.get_final_completion()
            assert final.choices[0].finish_reason == "tool_calls"
            assert [each.function.parsed_arguments for each in final.choices[0].message.tool_calls or ()] == [SEOUL]
    assert [each.get("tools") for each in gateway.sent()] == [None, tools]


def test_a_refusal(gateway: Gateway) -> None:
    """It is in ``refusal``, nothing is parsed, and nothing kept."""
    with sync(gateway) as client:
        for _ in range(2):
            reply = client.chat.completions.parse(model="m", messages=asked("refusal"), response_format=Weather)
            message = reply.choices[0].message
            assert (message.parsed, message.refusal) == (None, "I cannot help with that.")
            with client.chat.completions.stream(
                model="m", messages=asked("refusal"), response_format=Weather
            ) as stream:
                streamed = stream.get_final_completion().choices[0].message
            assert (streamed.parsed, streamed.refusal) == (None, "I cannot help with that.")
    assert len(gateway.sent()) == 4


@pytest.mark.parametrize("scene", ["length", "content filter"])
def test_what_was_cut_is_not_parsed(gateway: Gateway, scene: str) -> None:
    """The SDK raises its own errors by the finish reason."""
    raised = openai.LengthFinishReasonError if scene == "length" else openai.ContentFilterFinishReasonError
    with sync(gateway) as client, pytest.raises(raised):
        client.chat.completions.parse(model="m", messages=asked(scene), response_format=Weather)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_megabyte_with_an_image(gateway: Gateway, stream: bool) -> None:
    """A body of 1 MB reaches the provider unchanged, and another image is another question."""
    images = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{'A' * 1_000_000}{n}AA="}} for n in "12"
    ]
    with sync(gateway) as client:
        for image in (*images, images[0]):
            reply: Any = client.chat.completions.create(model="m", messages=asked("text", image), stream=stream)
            said = (
                [each.choices[0].delta.content or "" for each in reply] if stream else reply.choices[0].message.content
            )
            assert "".join(said) == "Hello."
    assert [each["messages"] for each in gateway.sent()] == [asked("text", image) for image in images]


def test_models(gateway: Gateway) -> None:
    """What is configured is listed and can be retrieved; another is the SDK's NotFoundError."""
    with sync(gateway) as client:
        names = [each.id for each in client.models.list()]
        assert names
        for name in names:
            assert client.models.retrieve(name).id == name
        with pytest.raises(openai.NotFoundError) as missing:
            client.models.retrieve("nobody/nothing")
    assert missing.value.code == "model_not_found"


def test_what_is_not_served(gateway: Gateway) -> None:
    """The SDK shows what to use instead."""
    with sync(gateway) as client:
        for call in (
            lambda: client.responses.create(model="m", input="hello"),
            lambda: client.embeddings.create(model="m", input="hello"),
        ):
            with pytest.raises(openai.NotFoundError) as refused:
                call()
            assert refused.value.code == "unsupported_endpoint"
    assert gateway.sent() == []


def test_errors_are_raised_after_one_call(gateway: Gateway) -> None:
    """With the SDK's own two retries: the provider's words, or ours, and no second call."""
    with OpenAI(base_url=gateway.v1, api_key=gateway.key) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(model="m", messages=asked("bad value"))
        assert (refused.value.param, refused.value.code) == ("temperature", "invalid_type")
        with pytest.raises(openai.InternalServerError):
            client.chat.completions.create(model="m", messages=asked("html"))
    assert len(gateway.sent()) == 2
