"""Everything under ``/api/v1`` beside chat completions: models, what is not served, and errors in OpenAI's shape."""

import json
from pathlib import Path

import httpx
import pytest

from dev.routes import routes_app
from lib.ai.openai_errors import status_of
from lib.base.events import RequestDone
from lib.edge.problems import KINDS
from tests.rig.guard import Rig

pytestmark = pytest.mark.anyio

GROQ = {"GROQ_API_KEY": "k", "GROQ_MODEL": "llama-3.3-70b-versatile"}
GEMINI = {"GEMINI_API_KEY": "k", "GEMINI_MODEL": "gemini-2.5-flash"}
CHAT = "/api/v1/chat/completions"


def test_rewrites_lead_everything_under_v1_to_a_function() -> None:
    """Named paths first, then whatever else; and ``useChat``'s question for a stream."""
    rewrites = json.loads((Path(__file__).parents[2] / "vercel.json").read_text())["rewrites"]
    found = [
        (each["source"], each["destination"])
        for each in rewrites
        if each["source"].startswith(("/api/v1", "/api/ai/supervisor"))
    ]
    assert found == [
        ("/api/ai/supervisor/:id/stream", "/api/ai/resume"),
        ("/api/v1/models", "/api/v1/others"),
        ("/api/v1/models/:id+", "/api/v1/others"),
        ("/api/v1/:path*", "/api/v1/others"),
    ]


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/api/v1", 404, "unsupported_endpoint"),
        ("/api/v1/responses", 404, "unsupported_endpoint"),
        ("/api/v1/models", 200, '"supervisor"'),
        ("/api/v1/models/groq%2Fllama", 404, "model_not_found"),
        ("/api/v1/models/groq/llama", 404, "model_not_found"),
        ("/api/v1/chat/completions", 405, "method_not_allowed"),
        ("/api/ai/supervisor", 405, "method_not_allowed"),
        ("/api/ai/supervisor/a%2Fb/stream", 204, ""),
    ],
)
async def test_the_local_server_leads_there(monkeypatch: pytest.MonkeyPatch, path: str, status: int, says: str) -> None:
    """By the project's own vercel.json and files."""
    monkeypatch.setenv("REDIS_ENABLED", "false")
    monkeypatch.setenv("CLOUD_RUN_AI_URL", "http://127.0.0.1:9")
    transport = httpx.ASGITransport(app=routes_app(Path(__file__).parents[2]))
    async with httpx.AsyncClient(transport=transport, base_url="http://breakwater") as http:
        reply = await http.get(path)
    assert (reply.status_code, says in reply.text) == (status, True)


async def test_models_are_those_that_are_configured(rig: Rig) -> None:
    """First all providers in their order, then each one's models; a backend of one's own has no model to name."""
    instance = rig.instance(**GROQ, **GEMINI, AI_PROVIDERS="groq,cloud-run,gemini")
    reply = await instance.http.get("/api/v1/models")
    listed = reply.json()
    assert (reply.status_code, listed["object"]) == (200, "list")
    assert [(each["id"], each["object"], each["owned_by"]) for each in listed["data"]] == [
        ("supervisor", "model", "breakwater"),
        ("groq/llama-3.3-70b-versatile", "model", "groq"),
        ("gemini/gemini-2.5-flash", "model", "gemini"),
    ]
    assert rig.script.asked == 0


@pytest.mark.parametrize(
    ("path", "found"),
    [
        pytest.param("groq/llama-3.3-70b-versatile", "groq/llama-3.3-70b-versatile", id="with its provider"),
        pytest.param("groq%2Fllama-3.3-70b-versatile", "groq/llama-3.3-70b-versatile", id="encoded"),
        pytest.param("llama-3.3-70b-versatile", "llama-3.3-70b-versatile", id="the provider's own name"),
        pytest.param("supervisor", "supervisor", id="all providers in their order"),
    ],
)
async def test_one_model(rig: Rig, path: str, found: str) -> None:
    """By any of its names, however a client encodes the slash."""
    reply = await rig.instance(**GROQ).http.get(f"/api/v1/models/{path}")
    assert (reply.status_code, reply.json()["id"]) == (200, found)


@pytest.mark.parametrize("name", ["gpt-5", "groq", "cloud-run", "groq/", "groq/x/y", "%00", "서버", "x" * 5_000])
async def test_a_model_that_is_not_configured(rig: Rig, name: str) -> None:
    """404 in OpenAI's shape, with the parameter and what there is."""
    reply = await rig.instance(**GROQ).http.get(f"/api/v1/models/{name}")
    error = reply.json()["error"]
    code = "unsupported_endpoint" if name.endswith("/") else "model_not_found"
    assert (reply.status_code, error["code"], error["type"]) == (404, code, "invalid_request_error")
    assert len(reply.text) < 1_500
    if code == "model_not_found":
        assert error["param"] == "model"
        assert "groq/llama-3.3-70b-versatile" in error["message"]


async def test_models_that_are_restricted(rig: Rig) -> None:
    """``AI_MODELS`` says what may be named, and by which name; the others are not found."""
    http = rig.instance(**GROQ, **GEMINI, AI_MODELS="fast=groq/llama-3.3-70b-versatile").http
    listed = (await http.get("/api/v1/models")).json()["data"]
    assert [(each["id"], each["owned_by"]) for each in listed] == [("supervisor", "breakwater"), ("fast", "groq")]
    assert (await http.get("/api/v1/models/fast")).json()["owned_by"] == "groq"
    assert (await http.get("/api/v1/models/gemini-2.5-flash")).status_code == 404
    body = {"model": "gemini-2.5-flash", "messages": [{"role": "user", "content": "q"}]}
    refused = await http.post(CHAT, json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")


async def test_listing_models_uses_up_no_questions(rig: Rig) -> None:
    """A client that lists models on each start keeps its questions: they count as other requests do."""
    instance = rig.instance(RATELIMIT_AI="1/minute", RATELIMIT_API="2/minute")
    headers = {"x-forwarded-for": "203.0.113.9"}
    statuses = [(await instance.http.get("/api/v1/models", headers=headers)).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    body = {"model": "m", "messages": [{"role": "user", "content": "q"}]}
    assert (await instance.http.post(CHAT, json=body, headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "says"),
    [
        pytest.param("POST", "/api/v1/responses", "openai.chat(", id="responses"),
        pytest.param("GET", "/api/v1/responses/resp_1", "chat/completions", id="a response"),
        pytest.param("POST", "/api/v1/completions", "messages", id="text completions"),
        pytest.param("POST", "/api/v1/embeddings", "ask a provider", id="embeddings"),
        pytest.param("POST", "/api/v1/images/generations", "ask a provider", id="images"),
        pytest.param("POST", "/api/v1/audio/transcriptions", "ask a provider", id="audio"),
        pytest.param("POST", "/api/v1/moderations", "ask a provider", id="moderations"),
        pytest.param("DELETE", "/api/v1/files/f-1", "ask a provider", id="files"),
        pytest.param("GET", "/api/v1/chat/completions/chatcmpl-1", "not kept", id="a stored completion"),
        pytest.param("POST", "/api/v1/v1/chat/completions", "twice", id="v1 twice"),
        pytest.param("POST", "/api/v1/chat/completion", "chat/completions", id="misspelt"),
        pytest.param("GET", "/api/v1", "chat/completions", id="the base itself"),
        pytest.param("GET", "/api/v1/others", "chat/completions", id="the function's own path"),
        pytest.param("BREW", "/api/v1/%2Fmodels", "chat/completions", id="an encoded slash"),
    ],
)
async def test_what_is_not_served_says_what_to_use(rig: Rig, method: str, path: str, says: str) -> None:
    """404 in OpenAI's shape, which every SDK shows after one call; it costs nothing and is logged."""
    instance = rig.instance()
    rig.forget_counts()
    reply = await instance.http.request(method, path, json={})
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (404, "unsupported_endpoint", None)
    assert error["type"] == "invalid_request_error"
    assert says in error["message"]
    assert reply.headers["content-type"] == "application/json"
    assert rig.cost() == (0, 0)
    assert [(each.status, each.reason) for each in instance.seen(RequestDone)] == [(404, "unsupported_endpoint")]


async def test_a_browser_can_read_that_it_is_not_served(rig: Rig) -> None:
    """The preflight of an allowed origin passes there as well, whatever the method."""
    instance, origin = rig.instance(ALLOWED_ORIGINS="https://app.example"), "https://app.example"
    for method in ("POST", "GET", "DELETE"):
        asked = {"origin": origin, "access-control-request-method": method}
        preflight = await instance.http.options("/api/v1/responses", headers=asked)
        assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, origin)
    reply = await instance.http.post("/api/v1/responses", json={}, headers={"origin": origin})
    assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (404, origin)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [("GET", CHAT, "POST, OPTIONS"), ("PUT", CHAT, "POST, OPTIONS"), ("POST", "/api/v1/models", "GET, HEAD, OPTIONS")],
)
async def test_another_method(rig: Rig, method: str, path: str, allow: str) -> None:
    """405 in OpenAI's shape, with ``Allow``."""
    reply = await rig.instance().http.request(method, path)
    assert (reply.status_code, reply.headers["allow"]) == (405, allow)
    assert reply.json()["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize("chat", ["chat-1", "%EC%84%9C%EB%B2%84", "a%2Fb", "x" * 2_000])
async def test_no_stream_to_resume(rig: Rig, chat: str) -> None:
    """``useChat`` asks with each page; 204 lets it go on. Nothing is counted for it."""
    instance = rig.instance()
    rig.forget_counts()
    reply = await instance.http.get(f"/api/ai/supervisor/{chat}/stream")
    assert (reply.status_code, reply.content) == (204, b"")
    assert rig.cost() == (0, 0)


@pytest.mark.parametrize("path", ["/api/ai/resume", "/api/ai/supervisor//stream", "/api/ai/supervisor/a/b/stream"])
async def test_what_is_no_chats_stream(rig: Rig, path: str) -> None:
    """The function's own path, and paths that name no chat, are not found."""
    reply = await rig.instance().http.get(path)
    assert (reply.status_code, reply.json()["code"]) == (404, "not_found")


# ---------------------------------------------------------------- statuses

NOT_AGAIN = {"x-should-retry": "false"}


@pytest.mark.parametrize("code", sorted(KINDS))
@pytest.mark.parametrize("wait_s", [None, 1, 600, 601, 86_400])
def test_no_status_that_clients_repeat_in_vain(code: str, wait_s: int | None) -> None:
    """None is 408, 409 or 422; what is 5xx, and what is a spent budget, says that it is not to be repeated."""
    status, headers = status_of(KINDS[code].status, code, wait_s)
    assert status not in (408, 409, 422)
    assert (headers == NOT_AGAIN) is (status >= 500 or status == 402 or code in ("budget_spent", "backend_throttled"))


@pytest.mark.parametrize("code", ["budget_spent", "backend_throttled"])
@pytest.mark.parametrize(("wait_s", "status"), [(1, 429), (600, 429), (601, 402), (80_000, 402), (None, 402)])
def test_a_spent_budget(code: str, wait_s: int | None, status: int) -> None:
    """It is a 429 where it frees within ten minutes, and a 402, which nobody repeats, where it frees later."""
    assert status_of(503, code, wait_s)[0] == status


def test_a_callers_limit_is_repeated() -> None:
    """It frees by itself, and the SDKs wait for ``Retry-After``."""
    assert status_of(429, "rate_limited", 30) == (429, {})
