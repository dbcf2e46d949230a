"""What a refusal means, in the words of providers that say it by status and code alone no more than half."""

import json
from typing import Any

import httpx
import pytest

from lib.ai.providers.port import Kind
from lib.ai.providers.refusals import refused
from lib.ai.verdicts import cannot, is_final
from lib.pieces import Fault


def openai(message: str, **more: object) -> dict[str, Any]:
    """An error as most put it."""
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None, **more}}


def openrouter(message: str, code: int) -> dict[str, Any]:
    """Numbered."""
    return {"error": {"message": message, "code": code}, "user_id": "user_1"}


def meant(status: int, body: object) -> tuple[Kind, Fault]:
    """What kind of failure it is, and whose."""
    failure = refused(httpx.Response(status), json.dumps(body).encode())
    return failure.kind, failure.fault


NO_TOOLS = "registry.ollama.ai/library/gemma3:4b does not support tools"
NO_ENDPOINTS = "No endpoints found that support"
NO_IMAGES = (
    "Failed to deserialize the JSON body into the target type: messages[3]: unknown variant `image_url`, expected"
)
FLAG = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
MISTRALS = {"object": "error", "type": "invalid_request_error", "param": None, "code": "3051"}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(400, openai(NO_TOOLS, type="api_error"), id="Ollama, tools"),
        pytest.param(400, openai(FLAG), id="vLLM, tools"),
        pytest.param(404, openrouter(f"{NO_ENDPOINTS} tool use. To learn more", 404), id="OpenRouter, tools"),
        pytest.param(404, openrouter(f"{NO_ENDPOINTS} the provided 'tool_choice' value.", 404), id="a value"),
        pytest.param(404, openrouter(f"{NO_ENDPOINTS} image input", 404), id="OpenRouter, images"),
        pytest.param(400, openai(f"{NO_IMAGES}, expected `text`", code="invalid_request_error"), id="DeepSeek, images"),
        pytest.param(400, openai("messages[0].content must be a string"), id="Groq, images"),
        pytest.param(
            400,
            openai(
                "'messages.0' : for 'role:user' the following must be satisfied"
                "[('messages.0.content' : value must be a string)]"
            ),
            id="Groq, images, in its later words",
        ),
        pytest.param(
            400, {**MISTRALS, "message": "Image input is not enabled for this model"}, id="images that are not enabled"
        ),
        pytest.param(400, openai("`tool calling` is not supported with this model"), id="two words"),
        pytest.param(
            400, [{"error": {"code": 400, "message": "Logprobs is not enabled for models/gemini-2.5-pro"}}], id="Gemini"
        ),
    ],
)
def test_what_a_model_cannot_do(status: int, body: object) -> None:
    """It says so without a field's name: another provider may do it, and it is no outage."""
    assert meant(status, body) == ("unsupported", "caller")


def test_the_field_that_a_model_cannot_do_is_named() -> None:
    """So that this caller's is not sent there again."""
    told = refused(httpx.Response(400), json.dumps(openai(NO_TOOLS)).encode()).told
    assert told is not None
    assert (told.param, told.message) == ("tools", NO_TOOLS)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(400, openrouter("openai/gpt-9 is not a valid model ID", 400), id="OpenRouter"),
        pytest.param(404, openrouter("No endpoints found for openai/gpt-9.", 404), id="OpenRouter, retired"),
        pytest.param(
            400,
            {"object": "error", "message": "Invalid model: m", "type": "invalid_model", "param": None, "code": "1500"},
            id="Mistral",
        ),
        pytest.param(400, openai("Model Not Exist", code="invalid_request_error"), id="DeepSeek"),
        pytest.param(
            404,
            {
                "error": {
                    "code": "DeploymentNotFound",
                    "message": "The API deployment for this resource does not exist.",
                }
            },
            id="Azure",
        ),
        pytest.param(403, openai("No access to m.", code="model_not_found"), id="OpenAI, without access"),
    ],
)
def test_a_model_that_does_not_exist(status: int, body: object) -> None:
    """It is a setting of ours, and not the caller's fault."""
    assert meant(status, body) == ("no_model", "ours")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(
            {
                "code": "Client specified an invalid argument",
                "error": "Incorrect API key provided: xa***ys. You can obtain an API key from https://console.x.ai.",
            },
            id="xAI",
        ),
        pytest.param(
            [
                {
                    "error": {
                        "code": 400,
                        "message": "API key not valid. Please pass a valid API key.",
                        "status": "INVALID_ARGUMENT",
                    }
                }
            ],
            id="Google, without details",
        ),
    ],
)
def test_a_key_that_is_refused_with_400(body: object) -> None:
    """Another provider is asked, and what is said of our key is told to nobody."""
    failure = refused(httpx.Response(400), json.dumps(body).encode())
    assert (failure.kind, failure.fault, failure.told) == ("unauthorized", "ours", None)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(openai("Insufficient Balance", type="unknown_error"), id="DeepSeek"),
        pytest.param(openrouter("Insufficient credits.", 402), id="OpenRouter"),
        pytest.param({}, id="in no words"),
    ],
)
def test_no_credit_is_left(body: object) -> None:
    """402 is a quota that is spent, and no fault of the server's."""
    assert meant(402, body) == ("quota", "theirs")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(
            {
                "object": "error",
                "message": "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens.",
                "type": "BadRequestError",
                "param": None,
                "code": 400,
            },
            id="vLLM",
        ),
        pytest.param(openrouter("This endpoint's maximum context length is 8192 tokens.", 400), id="OpenRouter"),
        pytest.param(
            [
                {
                    "error": {
                        "code": 400,
                        "message": "The input token count (1200293) exceeds the maximum number of tokens allowed"
                        " (1048576).",
                        "status": "INVALID_ARGUMENT",
                    }
                }
            ],
            id="Gemini",
        ),
        pytest.param(
            openai(
                "request (4390 tokens) exceeds the available context size (4096 tokens), try increasing it",
                type="exceed_context_size_error",
                code=400,
            ),
            id="llama.cpp",
        ),
        pytest.param(
            {"code": "bad", "error": "This model's maximum prompt length is 131072 but the request contains 131073."},
            id="xAI",
        ),
        pytest.param(openai("Too long.", code="context_length_exceeded"), id="OpenAI"),
    ],
)
def test_a_request_that_is_too_long(body: object) -> None:
    """Another model may take more, and clients that shorten what they send know it by OpenAI's code."""
    failure = refused(httpx.Response(400), json.dumps(body).encode())
    assert (failure.kind, failure.told and failure.told.code) == ("rejected", "context_length_exceeded")
    assert cannot(failure)
    assert not is_final(failure, safety_failover=False)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        pytest.param(400, openai("Invalid type for 'temperature'."), "rejected", id="a value"),
        pytest.param(400, openai("messages[0].role must be one of 'user', 'system'"), "rejected", id="a role"),
        pytest.param(404, {"detail": "Not Found"}, "server", id="a path"),
        pytest.param(404, openai("This endpoint is not supported."), "server", id="a path, in words"),
        pytest.param(500, openai("Streaming is not supported right now."), "server", id="a fault of the server's"),
        pytest.param(400, openai("Your model answer is not valid."), "rejected", id="a model in other words"),
    ],
)
def test_what_stays_as_it_was(status: int, body: object, kind: str) -> None:
    """Words that are near to these."""
    assert meant(status, body)[0] == kind
