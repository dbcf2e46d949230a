"""The official OpenAI SDK for Python, unchanged, against ``/api/v1/chat/completions`` on a real server."""

from collections.abc import AsyncIterator

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionUserMessageParam

from dev.serve import serve
from lib.ai.providers.port import ProviderFailed
from lib.ai.question import ChatRequest
from lib.base.clock import Clock
from tests.rig.ai import FakeProvider, Kit, over
from tests.rig.instance import Instance

pytestmark = pytest.mark.anyio

ASKED: ChatCompletionUserMessageParam = {"role": "user", "content": "How full is the disk?"}


@pytest.fixture
def provider() -> FakeProvider:
    return FakeProvider()


@pytest.fixture
def made(k: Kit, provider: FakeProvider) -> Instance:
    return k.instance(provider, clock=Clock())


@pytest.fixture
async def client(k: Kit, made: Instance) -> AsyncIterator[AsyncOpenAI]:
    served = await serve(made.app)
    async with AsyncOpenAI(base_url=f"{served.url}/api/v1", api_key="any", max_retries=0) as client:
        yield client
    await served.stop()


async def test_a_completion(client: AsyncOpenAI, made: Instance, provider: FakeProvider) -> None:
    """As from OpenAI, and from the cache the second time."""
    for cache in ("MISS", "HIT"):
        raw = await client.chat.completions.with_raw_response.create(model="m", messages=[ASKED])
        answer = raw.parse()
        assert raw.headers["x-cache"] == cache
        assert answer.choices[0].message.content == "Disk / is 41 % full."
        assert (answer.choices[0].finish_reason, answer.object, answer.model) == ("stop", "chat.completion", "fake-1")
        assert answer.usage is not None
        assert answer.usage.total_tokens == 100
        await over(made, 1)
    assert answer.model_extra is not None
    assert answer.model_extra["x_breakwater"]["saved"]["provider"] == provider.name
    assert provider.asked == 1


async def test_a_stream(client: AsyncOpenAI, made: Instance, provider: FakeProvider) -> None:
    """Chunk by chunk, with usage, and replayed the second time."""
    for _ in range(2):
        stream = await client.chat.completions.create(
            model="m",
            messages=[ASKED],
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
        texts = [c.choices[0].delta.content or "" for c in chunks if c.choices]
        assert "".join(texts) == "Disk / is 41 % full."
        assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.total_tokens == 100
        await over(made, 1)
    assert provider.asked == 1


async def test_the_sdks_own_stream_reader(client: AsyncOpenAI) -> None:
    """``client.chat.completions.stream`` assembles the same completion."""
    async with client.chat.completions.stream(model="m", messages=[ASKED]) as stream:
        final = await stream.get_final_completion()
    assert final.choices[0].message.content == "Disk / is 41 % full."


async def test_a_broken_stream_raises(client: AsyncOpenAI, provider: FakeProvider) -> None:
    """After its first token: what came is seen, then an error, not an end."""
    provider.fails, provider.fails_after = ProviderFailed("cut", "gone"), 1
    stream = await client.chat.completions.create(model="m", messages=[ASKED], stream=True)
    seen = ""
    with pytest.raises(openai.APIError, match="broke off"):  # noqa: PT012 - it is the reading that fails
        async for chunk in stream:
            seen += chunk.choices[0].delta.content or ""
    assert seen == "Disk / is "


async def test_parts_and_the_developers_role(client: AsyncOpenAI, provider: FakeProvider) -> None:
    """Newer clients say ``developer`` for ``system`` and send text in parts."""
    await client.chat.completions.create(
        model="m",
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "How full "}, {"type": "text", "text": "is it?"}]},
        ],
        temperature=0.2,
        max_completion_tokens=50,
    )
    question = provider.questions[0]
    assert isinstance(question, ChatRequest)
    assert question.body["messages"] == [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "How full "}, {"type": "text", "text": "is it?"}]},
    ]
    assert question.body["max_completion_tokens"] == 50


async def test_errors_are_the_sdks_own(client: AsyncOpenAI, provider: FakeProvider) -> None:
    """Each status is the exception that the SDK documents, with code and type."""
    with pytest.raises(openai.BadRequestError) as invalid:
        await client.chat.completions.create(model="m", messages=[])
    assert (invalid.value.code, invalid.value.type, invalid.value.param) == (
        "invalid_request",
        "invalid_request_error",
        "messages",
    )
    provider.fails = ProviderFailed("server", "HTTP 500")
    with pytest.raises(openai.InternalServerError) as failed:
        # By the SDK's defaults it would repeat the call twice.
        await client.with_options(max_retries=2).chat.completions.create(
            model="m", messages=[{"role": "user", "content": "How full is it now?"}]
        )
    assert failed.value.code == "backend_failed"
    assert failed.value.response.headers["x-should-retry"] == "false"
    assert provider.asked == 1
    provider.fails = None
    # What was wrong with the requests before counts as well.
    for _ in range(8):
        await client.chat.completions.create(model="m", messages=[ASKED])
    with pytest.raises(openai.RateLimitError) as limited:
        await client.chat.completions.create(model="m", messages=[ASKED])
    assert (limited.value.code, limited.value.type) == ("rate_limited", "rate_limit_error")
    assert int(limited.value.response.headers["retry-after"]) >= 1
