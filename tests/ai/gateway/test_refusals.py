"""What is refused through ``/api/v1``: by a provider, in its words, or because none can do it."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from dev.scenes import SCENES, Scene, chunk
from lib.breaker.circuit import Circuit
from tests.ai.gateway.test_requests import CONVERSATIONS, FIELDS
from tests.rig.callers import a_caller
from tests.rig.gateway import KEY, Gateway, Gateways

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("scene", "status", "code", "param", "words"),
    [
        ("unsupported", 400, "unsupported_parameter", "seed", "Unsupported parameter: 'seed'"),
        ("bad value", 400, "invalid_type", "temperature", "Invalid type for 'temperature'."),
        ("too long", 400, "context_length_exceeded", None, "8192 tokens"),
        ("mistral", 400, "backend_rejected", "max_tokens", "Input should be larger"),
        ("google", 400, "INVALID_ARGUMENT", None, "Bad turn order."),
        ("xai", 400, "bad-request", None, "No such image."),
        ("fastapi", 400, "backend_rejected", None, "No."),
        ("vllm", 400, "BadRequestError", None, "No such lora."),
        ("extra forbidden", 400, "unsupported_parameter", "seed", "Extra inputs"),
        ("extra forbidden at mistral", 400, "unsupported_parameter", "seed", "Extra inputs"),
        ("unknown name", 400, "unsupported_parameter", "seed", 'Unknown name "seed"'),
        ("too long in a reply", 400, "context_length_exceeded", None, "8192 tokens"),
        ("flagged in a reply", 400, "content_filter", None, "flagged by moderation"),
        ("no model", 404, "model_not_found", None, "does not exist"),
        ("moderation", 400, "content_filter", None, "flagged by moderation"),
        ("throttled", 429, "backend_throttled", None, "no capacity"),
        ("forbidden", 502, "backend_unauthorized", None, "secret or key"),
        ("down", 502, "backend_failed", None, "failed"),
        ("html", 502, "backend_failed", None, "failed"),
    ],
)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_a_providers_refusal(
    gateway: Gateway, scene: str, status: int, code: str, param: str | None, words: str, stream: bool
) -> None:
    """In OpenAI's shape, whatever the provider's: its words on the request are told, those on our key are not."""
    reply = await gateway.chat(scene, stream=stream)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (status, code, param)
    assert words in error["message"]
    assert "sk-" not in reply.text
    if status in (400, 404):
        assert gateway.circuit("openai") == Circuit()


@pytest.mark.parametrize("where", ["refusal", "reply", "stream"])
@pytest.mark.parametrize("ask", [Gateway.chat, Gateway.ask], ids=["chat", "supervisor"])
async def test_a_provider_that_quotes_our_key(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, where: str, ask: Callable[..., Awaitable[httpx.Response]]
) -> None:
    """Its words are told without the key, wherever they come; and without what looks like another's."""
    error = {"error": {"message": f"Bad tool for {KEY} of org-abcdef123456.", "type": "invalid_request_error"}}
    events = (chunk({"content": "Hel"}), error) if where == "stream" else (error,)
    monkeypatch.setitem(SCENES, "quote", Scene(error, 400) if where == "refusal" else Scene(error, events=events))
    reply = await ask(gateway, "quote", stream=where == "stream")
    assert "Bad tool for *** of ***." in reply.text
    assert KEY not in reply.text


CANNOT = ("tools", "response_format", "n", "logprobs", "audio", "web_search_options")


async def test_what_a_supervisors_backend_cannot_do(gateways: Gateways) -> None:
    """Its answers are texts: the field is named, and nothing is sent; a provider beside it that can do it answers."""
    made = gateways.backend(OPENAI_API_KEY=None)
    wishes: list[tuple[str, dict[str, Any]]] = [
        *((name, {name: FIELDS[name]}) for name in CANNOT),
        ("messages", {"messages": CONVERSATIONS["an image"]}),
        ("messages", {"messages": CONVERSATIONS["tool calls"]}),
        ("messages", {"messages": CONVERSATIONS["a prefill"]}),
        ("messages", {"messages": CONVERSATIONS["a name"]}),
    ]
    for param, wish in wishes:
        reply = await made.chat(**wish)
        error = reply.json()["error"]
        assert (reply.status_code, error["code"], error["param"]) == (400, "unsupported_parameter", param)
    assert not made.other.seen
    both = gateways.backend()
    for param, wish in wishes:
        reply = await both.chat(**wish)
        assert (reply.status_code, reply.headers["x-attempts"]) == (200, f"cloud-run;cannot:{param}, openai;answered")
    assert not made.other.seen


async def test_what_no_provider_can_do_together(gateways: Gateways) -> None:
    """One has no seed and the other one no further choices: neither field alone is what nobody can do."""
    made = gateways.two(OPENAI_DIALECT="gemini")
    wish: dict[str, Any] = {"seed": 1, "n": 2}
    reply = await made.chat(**wish)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (400, "unsupported_parameter", "seed")
    assert "seed, n ask for together" in error["message"]
    for name, value in wish.items():
        assert (await made.chat(**{name: value})).status_code == 200


async def test_a_parameter_that_a_provider_refuses_goes_to_the_next(gateways: Gateways) -> None:
    """It is free, counted to nobody, and not sent there again for a while; without it the provider is asked as ever."""
    made = gateways.two()
    first = await made.chat("unsupported", seed=1)
    assert first.headers["x-attempts"] == "openai;unsupported, groq;unsupported"
    assert (first.status_code, first.json()["error"]["param"]) == (400, "seed")
    again = await made.chat("text", seed=1)
    assert (again.status_code, again.json()["error"]["code"]) == (400, "unsupported_parameter")
    assert (await made.chat("text")).headers["x-attempts"] == "openai;answered"
    somebody_else = await made.chat("text", {"x-forwarded-for": a_caller()}, seed=1)
    assert somebody_else.headers["x-attempts"] == "openai;answered"
    assert made.circuit("openai") == made.circuit("groq") == Circuit()
