"""Instructor, by every mode of OpenAI's chat protocol."""

from collections.abc import Iterable
from typing import Any

import instructor
import pytest
from instructor import Mode
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel, create_model

from tests.clients.libraries.conftest import Gateway


class Weather(BaseModel):
    """How warm it is."""

    city: str
    degrees: int


SEOUL = {"city": "Seoul", "degrees": 21}
MODES = [
    (Mode.TOOLS, "weather call"),
    (Mode.TOOLS_STRICT, "weather call"),
    (Mode.FUNCTIONS, "weather function"),
    (Mode.JSON, "weather"),
    (Mode.JSON_O1, "weather"),
    (Mode.JSON_SCHEMA, "weather"),
    (Mode.MD_JSON, "weather in a fence"),
]


def asked(scene: str) -> Any:
    return [{"role": "user", "content": f"scene: {scene}"}]


@pytest.mark.parametrize(("mode", "scene"), MODES, ids=[mode.name for mode, _ in MODES])
def test_an_object(gateway: Gateway, mode: Mode, scene: str) -> None:
    """The object comes back, twice for one call; the schema reaches the provider, as this mode has it."""
    with OpenAI(base_url=gateway.v1, api_key=gateway.key, max_retries=0) as plain:
        client = instructor.from_openai(plain, mode=mode)
        for _ in range(2):
            found = client.create(model="m", messages=asked(scene), response_model=Weather, max_retries=0)
            assert found.model_dump() == SEOUL
            assert found._raw_response.usage.total_tokens == 18
    [sent] = gateway.sent()
    if "tools" in sent:
        assert sent["tools"][0]["function"]["parameters"]["required"] == ["city", "degrees"]
        assert sent["tool_choice"]["function"]["name"] == "Weather"
    elif "functions" in sent:
        assert (sent["functions"][0]["name"], sent["function_call"]["name"]) == ("Weather", "Weather")
    elif mode in (Mode.JSON_SCHEMA, Mode.JSON_O1):
        assert sent["response_format"]["json_schema"]["schema"]["required"] == ["city", "degrees"]
    else:
        assert sent.get("response_format") == ({"type": "json_object"} if mode == Mode.JSON else None)
        assert "degrees" in str(sent["messages"])


def test_parallel_tools(gateway: Gateway) -> None:
    """An object for each of two calls."""
    weather, time = create_model("weather", city=(str, ...)), create_model("time")
    with OpenAI(base_url=gateway.v1, api_key=gateway.key, max_retries=0) as plain:
        client = instructor.from_openai(plain, mode=Mode.PARALLEL_TOOLS)
        for _ in range(2):
            wanted: Any = Iterable[weather | time]  # type: ignore[valid-type]
            found = list(client.create(model="m", messages=asked("tools"), response_model=wanted, max_retries=0))
            assert [(type(each), each.model_dump()) for each in found] == [(weather, {"city": "Seoul"}), (time, {})]
    [sent] = gateway.sent()
    assert [each["function"]["name"] for each in sent["tools"]] == ["weather", "time"]


@pytest.mark.parametrize("mode", [Mode.RESPONSES_TOOLS, Mode.RESPONSES_TOOLS_WITH_INBUILT_TOOLS], ids=lambda m: m.name)
def test_the_modes_of_another_protocol(gateway: Gateway, mode: Mode) -> None:
    """What the Responses API would do is refused, in words that say what to use."""
    with OpenAI(base_url=gateway.v1, api_key=gateway.key, max_retries=0) as plain:
        client = instructor.from_openai(plain, mode=mode)
        with pytest.raises(Exception, match="The Responses API is not served"):
            client.create(model="m", messages=asked("weather"), response_model=Weather, max_retries=0)
    assert gateway.sent() == []


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("mode", "scene"), [(Mode.TOOLS, "weather call"), (Mode.JSON, "weather"), (Mode.JSON_SCHEMA, "weather")]
)
async def test_a_partial_object(gateway: Gateway, mode: Mode, scene: str) -> None:
    """Streamed, from the provider and from the cache: it grows until it is whole."""
    async with AsyncOpenAI(base_url=gateway.v1, api_key=gateway.key, max_retries=0) as plain:
        client = instructor.from_openai(plain, mode=mode)
        for _ in range(2):
            found = [
                each async for each in client.create_partial(model="m", messages=asked(scene), response_model=Weather)
            ]
            assert found[-1].model_dump() == SEOUL
    assert len(gateway.sent()) == 1
