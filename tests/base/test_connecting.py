"""A host that cannot be found is named, by each of the parts that call another one."""

import pytest

from lib.ai.providers.lazy import LazyProvider
from lib.ai.providers.port import ProviderFailed
from lib.ai.providers.registry import read
from lib.ai.question import Message, Question
from lib.base.connecting import why
from lib.base.http import new_client, new_pool
from lib.limits.supabase import Supabase, SupabaseDown
from lib.redis.errors import RedisDown
from lib.redis.op import Op
from lib.redis.rest import Upstash

pytestmark = pytest.mark.anyio

# RFC 6761: no such name exists, with a network or without.
HOST = "nowhere.invalid"
NOT_FOUND = f"ConnectError: the host {HOST} cannot be found"


async def test_redis() -> None:
    """In the reason that the log line has."""
    async with new_pool() as pool:
        wire = Upstash(pool, f"https://{HOST}", "token", 30, 30)
        with pytest.raises(RedisDown, match=f"connection: {NOT_FOUND}"):
            await wire.run(Op((("PING",),), lambda replies: replies))


async def test_supabase() -> None:
    """Likewise."""
    async with new_client() as client:
        with pytest.raises(SupabaseDown, match=f"connection: {NOT_FOUND}"):
            await Supabase(lambda: client, f"https://{HOST}", "key", 30).size()


@pytest.mark.parametrize(
    "variables",
    [
        {"CLOUD_RUN_AI_URL": f"https://{HOST}/ask"},
        {"GEMINI_API_KEY": "key", "GEMINI_BASE_URL": f"https://{HOST}"},
        {"GROQ_API_KEY": "key", "GROQ_BASE_URL": f"https://{HOST}/v1"},
    ],
    ids=["cloud-run", "gemini", "groq"],
)
async def test_a_provider(variables: dict[str, str]) -> None:
    """Likewise, whatever its protocol."""
    (settings,), _ = read(variables, (), 30, 30)
    async with new_client() as client:
        provider = LazyProvider(settings, lambda: client)
        question = Question("s", (Message("user", "cpu?"),), {})
        with pytest.raises(ProviderFailed, match=NOT_FOUND) as failed:
            async for _ in provider.ask(question, request_id="r", left_s=30, stream=False):
                pass
    assert (failed.value.kind, failed.value.went_out) == ("connection", False)


async def test_a_host_that_refuses_is_not_named() -> None:
    """It is there: the kind of the error says enough."""
    assert why(ConnectionRefusedError(), HOST) == "ConnectionRefusedError"
