"""Dialects before servers that refuse what those providers refuse, in their own words, and before one that ignores it.

Which provider refuses what: decision 31.
"""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from dev.faults import read_body
from dev.scenes import Scene
from dev.scripted import Scripted, reply_with
from dev.serve import ThreadedServer
from lib.breaker.circuit import Circuit
from tests.rig.ai import Kit
from tests.rig.gateway import CHAT, Gateways, gateways_on

pytestmark = pytest.mark.anyio

EVERYBODYS = frozenset(
    {
        *("model", "messages", "stream", "temperature", "top_p", "max_tokens", "stop", "tools", "tool_choice"),
        *("response_format", "parallel_tool_calls"),
    }
)
IN_MESSAGES = frozenset({"role", "content", "tool_calls", "tool_call_id", "name"})


def google(name: str) -> Scene:
    words = f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.'
    return Scene([{"error": {"code": 400, "message": words, "status": "INVALID_ARGUMENT"}}], 400)


def mistral(name: str) -> Scene:
    words = {"type": "extra_forbidden", "msg": "Extra inputs are not permitted", "loc": ["body", *name.split(".")]}
    return Scene({"object": "error", "message": {"detail": [words]}, "type": "invalid_request_error"}, 422)


def groq(name: str) -> Scene:
    words = {"message": f"property '{name}' is unsupported", "type": "invalid_request_error"}
    return Scene({"error": words}, 400)


@dataclass
class Strict(Scripted):
    """Plays scenes to requests that it takes."""

    words: Callable[[str], Scene] = groq
    takes: frozenset[str] | None = None
    """The fields of a request that it knows; None: any but those that it ``refuses``."""
    refuses: Callable[[Mapping[str, Any]], str | None] = lambda body: None
    foreign: frozenset[str] = frozenset()
    """Members of messages, and of tool calls in them, that it refuses."""
    refused: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            raise NotImplementedError(scope["type"])
        sent = await read_body(receive) or b"{}"
        name = self._refused_in(json.loads(sent))
        if name is None:

            async def again() -> dict[str, Any]:
                return {"type": "http.request", "body": sent}

            await super().__call__(scope, again, send)
            return
        self.refused.append(name)
        await reply_with(send, self.words(name))

    def _refused_in(self, body: Mapping[str, Any]) -> str | None:
        for message in body["messages"]:
            calls = message.get("tool_calls") or []
            for name in [*message, *(each for call in calls for each in call)]:
                if name in self.foreign:
                    return f"messages.0.{name}"
        unknown = () if self.takes is None else [name for name in body if name not in self.takes]
        return next(iter(unknown), self.refuses(body))


def groqs(body: Mapping[str, Any]) -> str | None:
    if any(message.get("name") for message in body["messages"]):
        return "name"
    asked = [name for name in ("logprobs", "top_logprobs", "logit_bias") if body.get(name)]
    return "n" if body.get("n", 1) > 1 else next(iter(asked), None)


STRICT: dict[str, Callable[[], Strict]] = {
    "gemini": lambda: Strict(
        google, EVERYBODYS | {"stream_options", "n", "max_completion_tokens"}, foreign=frozenset({"reasoning_content"})
    ),
    "mistral": lambda: Strict(
        mistral,
        EVERYBODYS | {"n", "random_seed", "presence_penalty"},
        foreign=frozenset({"reasoning_content", "extra_content"}),
    ),
    "groq": lambda: Strict(groq, None, groqs, frozenset({"extra_content"})),
    "cohere": lambda: Strict(groq, None, lambda body: "stream_options" if "stream_options" in body else None),
}


@dataclass
class Strictly:
    """A gateway before a strict server."""

    gateways: Gateways
    server: Strict


@pytest.fixture(params=sorted(STRICT))
async def strictly(k: Kit, request: pytest.FixtureRequest) -> AsyncIterator[Strictly]:
    server = STRICT[request.param]()
    with ThreadedServer(server) as served:
        async with gateways_on(k, [(server, served.url), (Scripted(), served.url)]) as gateways:
            yield Strictly(gateways, server)


@pytest.fixture
def dialect(request: pytest.FixtureRequest) -> str:
    """The dialect of the server."""
    return str(request.node.callspec.params["strictly"])


TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = {"id": "1", "type": "function", "function": {}, "extra_content": {"google": {"thought_signature": "x"}}}
ASKED = {"role": "user", "content": "scene: text"}
HISTORY = [ASKED, {"role": "assistant", "content": "a", "reasoning_content": "b", "tool_calls": [CALL]}, ASKED]
WISHES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "a stream": {"stream": True},
    "a stream with its usage": {"stream": True, "stream_options": {"include_usage": True}},
    "max_completion_tokens": {"max_completion_tokens": 9},
    "max_tokens": {"max_tokens": 9},
    "seed": {"seed": 1},
    "frequency_penalty": {"frequency_penalty": 0.5},
    "presence_penalty": {"presence_penalty": 0.5},
    "logprobs": {"logprobs": True, "top_logprobs": 2},
    "logit_bias": {"logit_bias": {"1": 1}},
    "two choices": {"n": 2},
    "one choice": {"n": 1},
    "tools": {"tools": [TOOL], "tool_choice": "auto"},
    "a schema": {"response_format": {"type": "json_object"}},
    "a name": {"messages": [{**ASKED, "name": "ann"}]},
    "a history of elsewhere": {"messages": HISTORY},
    "a made-up name": {"a_made_up_name": 1},
}
KNOWN_TO_REFUSE = {
    "gemini": {"seed", "frequency_penalty", "presence_penalty"},
    "groq": {"logprobs", "logit_bias", "two choices", "a name"},
}
LEARNED = {
    # What is not documented is sent, and what the server says is passed on.
    "gemini": {"logprobs", "logit_bias", "a made-up name"},
    "mistral": {"frequency_penalty", "logprobs", "logit_bias", "a made-up name"},
}


@pytest.mark.parametrize("wish", WISHES)
async def test_a_strict_server(strictly: Strictly, dialect: str, wish: str) -> None:
    """It gets nothing that it is known to refuse; the rest it serves, or says itself that it does not."""
    made = strictly.gateways(OPENAI_DIALECT=dialect)
    reply = await made.post(CHAT, {"model": "m", "messages": [ASKED], **WISHES[wish]})
    refused = wish in KNOWN_TO_REFUSE.get(dialect, ()) or wish in LEARNED.get(dialect, ())
    assert reply.status_code == (400 if refused else 200), reply.text
    if refused:
        error = reply.json()["error"]
        assert (error["code"], error["type"]) == ("unsupported_parameter", "invalid_request_error")
        assert error["param"] in (*WISHES[wish], "messages")
    assert len(strictly.server.refused) == (wish in LEARNED.get(dialect, ()))
    assert made.circuit("openai") == Circuit()


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_without_its_dialect(strictly: Strictly, dialect: str, stream: bool) -> None:
    """Who asks for nothing that it refuses is served; what the guard adds to streams can be left out by name."""
    plain = strictly.gateways()
    reply = await plain.chat(stream=stream)
    refuses = stream and dialect in ("mistral", "cohere")
    assert reply.status_code == (400 if refuses else 200)
    if refuses:
        assert reply.json()["error"]["param"] == "stream_options"
    told = strictly.gateways(OPENAI_OMIT="stream_options")
    assert (await told.chat(stream=stream)).status_code == 200


@pytest.mark.parametrize("dialect", ["openai", "gemini", "groq", "mistral", "cohere"])
async def test_a_server_that_ignores_what_it_does_not_know(gateways: Gateways, dialect: str) -> None:
    """Whatever is not known to be refused is sent and answered; fewer choices than were asked for are not kept."""
    made = gateways(OPENAI_DIALECT=dialect)
    for wish, more in WISHES.items():
        if wish in KNOWN_TO_REFUSE.get(dialect, ()):
            continue
        replies = [await made.post(CHAT, {"model": "m", "messages": [ASKED], "top_k": 1, **more}) for _ in range(2)]
        assert [each.status_code for each in replies] == [200, 200]
        if wish == "two choices":
            assert replies[1].headers["x-cache"] == "MISS"
