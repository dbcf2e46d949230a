"""Instances whose providers are played by scripts (`dev.scripted`), over real servers; fixtures in tests/ai/gateway."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from dev.scenes import MODEL
from dev.scripted import Scripted
from lib.base.clock import Clock
from lib.breaker import stored
from lib.breaker.circuit import Circuit
from lib.redis import keys
from tests.rig.ai import Kit, over
from tests.rig.callers import a_caller
from tests.rig.instance import Instance, started

CHAT, SUPERVISOR = "/api/v1/chat/completions", "/api/ai/supervisor"
KEY = "ours-0123456789abcdef"
"""The provider's key: it looks like no vendor's."""
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
FILE = {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,AAAA"}
"""The same picture as ``useChat`` sends it."""


@dataclass
class Gateway:
    """An instance whose providers are played by scripts."""

    made: Instance
    scripted: Scripted
    other: Scripted
    kit: Kit
    caller: str
    requests: int = 0

    async def chat(self, scene: str = "text", headers: Mapping[str, str] | None = None, **more: Any) -> httpx.Response:
        """A request for a scene; its reply when all is over, write-back included."""
        body = {"model": "m", "messages": [{"role": "user", "content": f"scene: {scene}"}], **more}
        return await self.post(CHAT, body, headers)

    async def ask(self, scene: str = "text", headers: Mapping[str, str] | None = None, **more: Any) -> httpx.Response:
        """The same on the supervisor's route."""
        return await self.post(SUPERVISOR, {"query": f"scene: {scene}", **more}, headers)

    async def post(self, path: str, body: object, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """The same with any body, to any route."""
        return await self.send(path, json.dumps(body).encode(), headers)

    async def send(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """The same with any bytes."""
        self.requests += 1
        given = {"content-type": "application/json", "x-forwarded-for": self.caller, **(headers or {})}
        reply = await self.made.http.post(path, content=body, headers=given)
        await over(self.made, self.requests)
        return reply

    @property
    def sent(self) -> dict[str, Any]:
        """The last request that the provider got."""
        return self.scripted.seen[-1]

    def circuit(self, name: str) -> Circuit:
        """A provider's circuit as Redis holds it."""
        text: Any = self.kit.server.get(keys.circuit(name))
        return stored.parse(text)


@dataclass
class Gateways:
    """Makes gateways. ``servers``: two scripts with their addresses."""

    kit: Kit
    servers: list[tuple[Scripted, str]]
    made: list[Instance] = field(default_factory=list)

    def __call__(self, **more: str | None) -> Gateway:
        """A new one, with OpenAI's provider alone; keyword arguments are further variables, None leaves one out."""
        (scripted, url), (other, _) = self.servers
        scripted.seen.clear()
        other.seen.clear()
        environ = {
            **self.kit.front.environ,
            "TRUSTED_PROXIES": "127.0.0.1/32",
            "RATELIMIT_AI": "off",
            "RATELIMIT_AI_SUPERVISOR": "off",
            "OPENAI_API_KEY": KEY,
            "OPENAI_BASE_URL": url,
            "OPENAI_MODEL": MODEL,
            **more,
        }
        self.made.append(started(environ, Clock()))
        return Gateway(self.made[-1], scripted, other, self.kit, a_caller())

    def two(self, **more: str | None) -> Gateway:
        """OpenAI's provider, then Groq's, which is the other script."""
        return self(**{"GROQ_API_KEY": "x", "GROQ_BASE_URL": self.servers[1][1], "AI_PROVIDERS": "openai,groq", **more})

    def backend(self, **more: str | None) -> Gateway:
        """A supervisor's backend, which is the other script, before OpenAI's provider."""
        return self(**{"CLOUD_RUN_AI_URL": f"{self.servers[1][1]}/supervisor", **more})


@asynccontextmanager
async def gateways_on(kit: Kit, servers: list[tuple[Scripted, str]]) -> AsyncIterator[Gateways]:
    """Gateways for one test."""
    making = Gateways(kit, servers)
    yield making
    for each in making.made:
        await each.aclose()


def bare(reply: httpx.Response) -> Any:
    """A reply without what the guard adds."""
    body = reply.json()
    del body["x_breakwater"]
    return body


def events(reply: httpx.Response) -> list[Any]:
    """The data of each event; ``[DONE]`` as it is."""
    found = [line.removeprefix("data: ") for line in reply.text.split("\n\n") if line]
    return [each if each == "[DONE]" else json.loads(each) for each in found]


def joined(found: list[Any]) -> dict[int, dict[str, Any]]:
    """What a plain client makes of a stream: texts, tool calls and the last finish reason of each choice."""
    choices: dict[int, dict[str, Any]] = {}
    for each in found:
        for choice in each["choices"] if isinstance(each, dict) else ():
            at = choices.setdefault(choice["index"], {"calls": {}})
            at["finish"] = choice.get("finish_reason") or at.get("finish")
            for name in ("content", "refusal", "reasoning_content"):
                if isinstance(text := choice["delta"].get(name), str):
                    at[name] = at.get(name, "") + text
            for call in choice["delta"].get("tool_calls") or ():
                known = at["calls"].setdefault(
                    call["index"], {"id": call.get("id"), "type": call.get("type"), "is": ""}
                )
                known["is"] += call["function"].get("name", "") + call["function"].get("arguments", "")
    return choices
