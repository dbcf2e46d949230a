"""curl, the OpenAI SDK for JavaScript and the AI SDK's chat, unchanged, on a real server.

The JavaScript packages are pinned in ``js/``; ``npm ci`` puts them into a cache folder once a lock file.
"""

import json
import shutil
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

import pytest

from dev.serve import serve
from lib.ai.providers.port import Piece, ProviderFailed
from lib.ai.question import AnyQuestion
from lib.base.clock import Clock
from tests.clients.javascript import javascript, run
from tests.rig.ai import FakeProvider, Kit, words_of

pytestmark = pytest.mark.anyio


@dataclass
class Breaking(FakeProvider):
    """A fake that breaks off when it is asked to."""

    async def ask(
        self, question: AnyQuestion, *, request_id: str, left_s: float, stream: bool
    ) -> AsyncGenerator[Piece]:
        """See ``Provider``."""
        self.fails = ProviderFailed("cut", "asked to") if words_of(question).endswith("cut") else None
        self.fails_after = 1
        async for piece in super().ask(question, request_id=request_id, left_s=left_s, stream=stream):
            yield piece


@pytest.fixture
def provider() -> Breaking:
    return Breaking()


@pytest.fixture
async def url(k: Kit, provider: Breaking) -> AsyncIterator[str]:
    served = await serve(k.instance(provider, limits="off", clock=Clock()).app)
    yield served.url
    await served.stop()


async def test_openai_for_javascript(url: str, provider: Breaking) -> None:
    """JSON, a stream, a broken one, and errors in its own terms."""
    found = await javascript("openai.mjs", url)
    text = "Disk / is 41 % full."
    assert found["whole"] == {"text": text, "finish": "stop", "object": "chat.completion"}
    assert (found["streamed"]["text"], found["streamed"]["finish"]) == (text, "stop")
    assert found["streamed"]["usage"]["total_tokens"] == 100
    assert found["invalid"] == {
        "name": "BadRequestError",
        "status": 400,
        "code": "invalid_request",
        "type": "invalid_request_error",
        "param": "messages",
    }
    assert found["cut"]["code"] == "backend_failed"
    assert (found["limited"]["name"], found["limited"]["code"]) == ("RateLimitError", "rate_limited")
    assert provider.asked == 2


async def test_the_ai_sdks_chat(url: str, provider: Breaking) -> None:
    """What useChat sends and reads: pieces, metadata, a replay, a regeneration, history, a broken stream, an error."""
    found = await javascript("chat.mjs", url)
    text = "Disk / is 41 % full."
    assert (found["first"]["text"], found["first"]["role"]) == (text, "assistant")
    # How many of the pieces the SDK shows one by one is its own affair.
    assert found["first"]["seen"] >= 3
    metadata = found["first"]["metadata"]
    assert (metadata["sessionId"], metadata["cached"], metadata["model"]) == ("chat-1", False, "fake-1")
    assert metadata["attempts"] == [{"provider": provider.name, "outcome": "answered"}]
    assert found["again"]["text"] == text
    assert found["again"]["metadata"]["cached"] is True
    assert found["regenerated"]["metadata"]["cached"] is False
    assert found["history"]["text"] == text
    assert found["cut"]["text"] == "Disk / is "
    assert "broke off" in found["cut"]["error"]
    assert found["invalid"] == "invalid_request"
    assert provider.asked == 4


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on the PATH")
async def test_curl(url: str) -> None:
    """JSON with its headers, and a stream without buffering."""
    asked = ("-sS", "-H", "content-type: application/json", "-d", '{"query": "How full is the disk?"}')
    whole = await run("curl", "-i", *asked, f"{url}/api/ai/supervisor")
    head, _, body = whole.replace("\r\n", "\n").partition("\n\n")
    assert json.loads(body)["answer"] == "Disk / is 41 % full."
    assert "x-cache: MISS" in head
    stream = await run("curl", "-N", "-H", "accept: text/event-stream", *asked, f"{url}/api/ai/supervisor")
    assert '"type":"finish"' in stream
    assert stream.rstrip().endswith("data: [DONE]")
