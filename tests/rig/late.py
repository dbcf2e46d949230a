"""Streams whose first piece is long in coming, through a real server, in time that a test moves on."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest

from dev.serve import serve
from tests.rig.ai import FakeProvider
from tests.rig.clock import patient
from tests.rig.instance import Instance

SUPERVISOR, CHAT = "/api/ai/supervisor", "/api/v1/chat/completions"
ROUTES = pytest.mark.parametrize("path", [SUPERVISOR, CHAT], ids=["supervisor", "chat"])
QUESTION = "which disk is fullest?"
BODIES: dict[str, dict[str, Any]] = {
    SUPERVISOR: {"query": QUESTION, "sessionId": "s", "stream": True},
    CHAT: {"model": "m", "messages": [{"role": "user", "content": QUESTION}], "stream": True},
}
COMMENT = ": keep-alive\n\n"


async def pass_by(seconds: float) -> None:
    """Let so much time pass."""
    await asyncio.wrap_future(patient().move(seconds))


class Stream:
    """A reply that is being read."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._texts = response.aiter_text()

    async def some(self) -> str:
        """What comes next."""
        return await anext(self._texts)

    async def rest(self) -> str:
        """All that still comes."""
        return "".join([text async for text in self._texts])


async def _stopped(stopping: Coroutine[Any, Any, None]) -> None:
    """A server looks once in a while whether it is to stop: time passes until it has."""
    stopped = asyncio.ensure_future(stopping)
    while not stopped.done():
        await pass_by(1)
    await stopped


class Clients:
    """Clients of instances on real servers."""

    def __init__(self, closing: AsyncExitStack) -> None:
        self.closing = closing

    async def of(self, made: Instance) -> httpx.AsyncClient:
        """One of this instance."""
        served = await serve(made.app)
        self.closing.push_async_callback(_stopped, served.stop())
        client = httpx.AsyncClient(base_url=served.url, timeout=None, trust_env=False)  # noqa: S113 - its time jumps
        return await self.closing.enter_async_context(client)

    async def stream(self, client: httpx.AsyncClient, path: str) -> Stream:
        """The head of a reply, and its events to come."""
        return Stream(await self.closing.enter_async_context(client.stream("POST", path, json=BODIES[path])))


@asynccontextmanager
async def some_clients() -> AsyncIterator[Clients]:
    """Clients; at the end they and their servers are gone."""
    async with AsyncExitStack() as closing:
        yield Clients(closing)


def events(text: str) -> list[Any]:
    """The data of each event; ``[DONE]`` as it is, comments left out."""
    found = [part.removeprefix("data: ") for part in text.split("\n\n") if part and not part.startswith(":")]
    return [each if each == "[DONE]" else json.loads(each) for each in found]


def text_of(path: str, found: list[Any]) -> str:
    """The answer in a stream's events."""
    if path == CHAT:
        choices = [choice for e in found if e != "[DONE]" for choice in e.get("choices", ())]
        return "".join(choice["delta"].get("content", "") for choice in choices)
    return "".join(e["delta"] for e in found if e != "[DONE]" and e["type"] == "text-delta")


def provenance_in(path: str, found: list[Any]) -> Any:
    """Where the answer came from, in the stream's own words."""
    return found[0]["x_breakwater"] if path == CHAT else found[0]["messageMetadata"]


async def late(clients: Clients, client: httpx.AsyncClient, path: str, asked: FakeProvider) -> Stream:
    """A stream whose head has come before its first piece."""
    coming = asyncio.ensure_future(clients.stream(client, path))
    await asked.until_asked()
    await pass_by(4.9)
    assert not coming.done()
    await pass_by(0.2)
    return await coming
