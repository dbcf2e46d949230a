"""The provider by script, as the local stack starts it."""

from pathlib import Path

import httpx
import pytest

from dev.scenes import MODEL, SCENES
from dev.stack import Stack

pytestmark = pytest.mark.anyio

GIVEN = {"PROVIDER": "scripted", "REDIS_ENABLED": "false", "SUPABASE_URL": "https://supabase.example"}


async def test_a_provider_by_script(tmp_path: Path) -> None:
    """It stands where OpenAI's provider does, lists its scenes, plays them, and shows what it was sent."""
    async with Stack.start(GIVEN, tmp_path) as stack, httpx.AsyncClient() as http:
        url = stack.environment["OPENAI_BASE_URL"]
        assert stack.environment["OPENAI_MODEL"] == MODEL
        assert "CLOUD_RUN_AI_URL" not in stack.environment

        async def ask(text: str) -> httpx.Response:
            body = {"model": "m", "messages": [{"role": "user", "content": text}]}
            return await http.post(f"{url}/chat/completions", json=body)

        listed = (await ask("hello")).json()["choices"][0]["message"]["content"]
        assert all(name in listed for name in SCENES)
        assert (await ask("scene: tools")).json() == SCENES["tools"].body
        assert (await ask("scene: throttled")).headers["retry-after"] == "7"
        stats = (await http.get(f"{url}/_control/stats")).json()
        assert [each["messages"][0]["content"] for each in stats["requests"]] == [
            "hello",
            "scene: tools",
            "scene: throttled",
        ]
