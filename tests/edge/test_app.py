"""The edge: errors, methods, origins, who calls, what is logged, and the client that leaves."""

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import asdict
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from api.ai import supervisor
from api.v1.chat import completions
from dev.supabase import SigningKey, sign_user_token
from lib.base.clock import Clock
from lib.base.env import BadSettings
from lib.base.events import Crashed, RequestDone, SignInKeysUnavailable, TokenRefused
from lib.base.log import log
from lib.edge.app import endpoint
from lib.edge.request import Reply, Request
from lib.parts import Parts
from tests.rig.callers import a_caller
from tests.rig.clock import about_timeouts
from tests.rig.guard import Rig, leaving
from tests.rig.instance import Built, routes, together
from tests.rig.script import GOOD, scripted
from tests.rig.supabase import SupabaseStandIn

pytestmark = pytest.mark.anyio
PATH = "/api/ai/supervisor"
CHAT = "/api/v1/chat/completions"


# ---------------------------------------------------------------- errors

JSON = {"content-type": "application/json"}
ERRORS: dict[str, tuple[bytes, dict[str, str], int, str, str | None]] = {
    "empty": (b"", JSON, 400, "invalid_json", None),
    "no-json": (b"{", JSON, 400, "invalid_json", None),
    "lone-surrogate": (rb'{"query":"\ud800"}', JSON, 400, "invalid_json", None),
    "not-utf-8": (b'{"query":"\xff"}', JSON, 400, "invalid_json", None),
    "deep": (b'{"query":"q","parameters":{"a":' + b"[" * 9_999, JSON, 400, "invalid_json", None),
    "no-media-type": (b"{}", {}, 415, "unsupported_media_type", None),
    "text": (b"{}", {"content-type": "text/plain"}, 415, "unsupported_media_type", None),
    "form": (b"q=1", {"content-type": "application/x-www-form-urlencoded"}, 415, "unsupported_media_type", None),
    "compressed": (b"{}", {**JSON, "content-encoding": "gzip"}, 415, "unsupported_media_type", None),
    "too-large": (b" " * 65_537, JSON, 413, "body_too_large", None),
    "list": (b"[]", JSON, 422, "invalid_request", "body"),
    "null": (b"null", JSON, 422, "invalid_request", "body"),
    "nothing-asked": (b"{}", JSON, 422, "invalid_request", "query"),
    "empty-query": (b'{"query":""}', JSON, 422, "invalid_request", "query"),
    "blank-query": (b'{"query":" \\n\\u3000"}', JSON, 422, "invalid_request", "query"),
    "number-as-query": (b'{"query":5}', JSON, 422, "invalid_request", "query"),
    "long-query": (json.dumps({"query": "x" * 8_001}).encode(), JSON, 422, "invalid_request", "query"),
    "unknown-field": (b'{"query":"q","que":1}', JSON, 422, "invalid_request", "que"),
    "empty-session": (b'{"query":"q","sessionId":""}', JSON, 422, "invalid_request", "sessionId"),
    "long-session": (b'{"query":"q","sessionId":"%s"}' % (b"s" * 129), JSON, 422, "invalid_request", "sessionId"),
    "no-messages": (b'{"messages":[]}', JSON, 422, "invalid_request", "messages"),
    "wrong-role": (b'{"messages":[{"role":"tool","content":"x"}]}', JSON, 422, "invalid_request", "messages.0.role"),
    "last-not-user": (b'{"messages":[{"role":"assistant","content":"x"}]}', JSON, 422, "invalid_request", "messages"),
    "list-as-parameters": (b'{"query":"q","parameters":[]}', JSON, 422, "invalid_request", "parameters"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "headers", "status", "code", "field"), ERRORS.values(), ids=ERRORS)
async def test_client_error(
    rig: Rig, body: bytes, headers: dict[str, str], status: int, code: str, field: str | None
) -> None:
    """A request that cannot be understood is told what to change, as problem+json, before anybody is asked."""
    instance = rig.instance()
    reply = await instance.http.post(PATH, content=body, headers=headers)
    problem = reply.json()
    assert (reply.status_code, problem["code"]) == (status, code)
    assert reply.headers["content-type"] == "application/problem+json"
    assert problem == {
        **problem,
        "type": f"urn:breakwater:problem:{code}",
        "status": status,
        "source": "client",
        "requestId": reply.headers["x-request-id"],
    }
    assert problem["title"]
    assert problem["detail"]
    if field is not None:
        assert problem["errors"][0]["field"].startswith(field)
    # It counts like every other request: the count, and the new key's TTL. No provider is asked.
    assert (rig.upstash.requests(), rig.script.asked) == (2, 0)
    assert reply.headers["x-ratelimit-remaining"] == "9"
    assert instance.seen(Crashed) == []


MISSING = {
    "another-name": (PATH, {"prompt": "cpu?"}, "query: missing; send query, or messages"),
    "another-name-and-session": (PATH, {"sessionId": 5, "text": "cpu?"}, "query: missing; send query, or messages"),
    "empty-ones": (PATH, {"query": None, "messages": None}, "query: missing; send query, or messages"),
    "a-role": (PATH, {"messages": [{"text": "cpu?", "content": 5}]}, "messages.0.role: missing; "),
    "a-field-too-many": (PATH, {"query": "cpu?", "temperature": 1}, "temperature: not a field of this request"),
    "a-model": (CHAT, {"messages": [], "stream": "maybe"}, "model: missing; "),
    "everything": (CHAT, {"prompt": "cpu?", "stream": "maybe"}, "model: missing; messages: missing; stream: "),
}


@pytest.mark.parametrize(("path", "body", "expected"), MISSING.values(), ids=MISSING)
async def test_what_is_missing_comes_first(rig: Rig, path: str, body: dict[str, Any], expected: str) -> None:
    """Whoever sends a field under another name learns which one is meant, before what else is wrong."""
    problem = (await rig.instance().http.post(path, json=body)).json()
    detail = problem["detail"] if path == PATH else problem["error"]["message"]
    assert detail.startswith(expected)


NO_NUMBERS = {
    "nan": "NaN",
    "infinity": "-Infinity",
    "overflow": "[1e999]",
    "overflow-below": '{"b":-1e4000}',
    "overflow-of-digits": "9" * 400 + "e400",
    "digits": "9" * 5_000,
}


@pytest.mark.parametrize("value", NO_NUMBERS.values(), ids=NO_NUMBERS)
async def test_number_that_is_none(rig: Rig, value: str) -> None:
    """A parameter that no JSON number can hold is the client's error, by whichever name; no provider is asked."""
    instance = rig.instance()
    content = f'{{"query":"q","parameters":{{"a":{value}}}}}'.encode()
    reply = await instance.http.post(PATH, content=content, headers=JSON)
    assert (reply.status_code, reply.json()["code"]) in [(400, "invalid_json"), (422, "invalid_request")]
    assert reply.headers["content-type"] == "application/problem+json"
    assert (rig.upstash.requests(), rig.script.asked) == (2, 0)
    assert instance.seen(Crashed) == []


async def test_too_large_without_a_length(rig: Rig) -> None:
    """A body that does not say how long it is, is read no further than the limit."""

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 4_096

    reply = await rig.instance().http.post(PATH, content=endless(), headers=JSON)
    assert (reply.status_code, reply.json()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "TRACE", "BREW"])
async def test_method_not_allowed(rig: Rig, method: str) -> None:
    """Another method is 405 with ``Allow``."""
    reply = await rig.instance().http.request(method, PATH)
    assert (reply.status_code, reply.headers["allow"]) == (405, "POST, OPTIONS")
    assert reply.headers["content-type"] == "application/problem+json"


async def test_head_and_options(rig: Rig) -> None:
    """Where GET is allowed HEAD is; OPTIONS says what is."""
    http = rig.instance().http
    assert (await http.head("/api/health")).status_code == 200
    options = await http.options("/api/health")
    assert (options.status_code, options.headers["allow"], options.content) == (204, "GET, HEAD, OPTIONS", b"")
    assert options.headers["x-request-id"]


async def test_misconfigured(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """A deployment without its variables answers 500 with their names, and never a value."""

    class Misconfigured(Built):
        async def __call__(self) -> Parts:
            raise BadSettings(["CLOUD_RUN_AI_URL: missing"])

    async def unused(request: Request, parts: Parts) -> Reply:
        raise AssertionError

    transport = httpx.ASGITransport(app=endpoint(Misconfigured(rig.instance().parts), post=unused))
    async with httpx.AsyncClient(transport=transport, base_url="http://breakwater") as http:
        with caplog.at_level(logging.INFO, "breakwater"):
            reply = await http.post(PATH)
    assert (reply.status_code, reply.json()["code"], reply.json()["source"]) == (500, "misconfigured", "guard")
    assert "CLOUD_RUN_AI_URL: missing" in reply.json()["detail"]
    lines = [json.loads(line) for line in caplog.messages]
    assert [line["status"] for line in lines if line["event"] == "request"] == [500]


@pytest.mark.parametrize("path", [supervisor.ROUTE, completions.ROUTE])
async def test_ai_routes_without_a_provider(rig: Rig, path: str) -> None:
    """They answer 500 with what to set, before a body is read; nothing is counted."""
    instance = rig.instance(CLOUD_RUN_AI_URL=None)
    transport = httpx.ASGITransport(app=routes(instance.parts))
    async with httpx.AsyncClient(transport=transport, base_url="http://breakwater") as http:
        rig.forget_counts()
        reply = await http.post(path, content=b"not JSON")
    text = reply.text
    assert (reply.status_code, "misconfigured" in text) == (500, True)
    assert all(name in text for name in ("CLOUD_RUN_AI_URL", "GEMINI_API_KEY", "GROQ_API_KEY", "OPENAI_API_KEY"))
    assert rig.cost() == (0, 0)


async def test_bug_is_told_and_logged(rig: Rig) -> None:
    """An exception nobody expected is a 500 with an id, an event with the traceback, and a log line of its own."""
    instance = rig.instance()

    async def broken(request: Request, parts: Parts) -> Reply:
        raise ZeroDivisionError("a bug")

    transport = httpx.ASGITransport(app=endpoint(Built(instance.parts), post=broken))
    async with httpx.AsyncClient(transport=transport, base_url="http://breakwater") as http:
        reply = await http.post(PATH)
    body = reply.json()
    assert (reply.status_code, body["code"], body["source"]) == (500, "internal_error", "guard")
    assert ("a bug in Breakwater" in body["detail"], "ZeroDivisionError" in reply.text) == (True, False)
    (crashed,) = instance.seen(Crashed)
    assert (crashed.request_id, "a bug" in crashed.traceback) == (reply.headers["x-request-id"], True)
    assert [done.status for done in instance.seen(RequestDone)] == [500]


async def test_a_bug_in_a_stream_is_a_failure(rig: Rig) -> None:
    """The head is out, so that its status stands; the request has failed all the same. CASE 40."""
    instance = rig.instance()

    async def broken() -> AsyncGenerator[bytes]:
        yield b"a beginning"
        raise ZeroDivisionError("a bug")

    async def streams(request: Request, parts: Parts) -> Reply:
        request.notes.decision = "compute"
        return Reply(200, broken())

    sent = list[Any]()

    async def receive() -> Any:
        # The client stays.
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": PATH, "query_string": b"", "headers": []}
    await endpoint(Built(instance.parts), post=streams)(scope, receive, send)
    assert [each.get("body") for each in sent] == [None, b"a beginning"]
    (crashed,) = instance.seen(Crashed)
    assert "a bug" in crashed.traceback
    assert [(done.status, done.decision) for done in instance.seen(RequestDone)] == [(200, "fail")]


# ---------------------------------------------------------------- origins

ORIGIN = "https://app.example"
PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}


async def test_cors(rig: Rig) -> None:
    """An allowed origin may ask and read our headers, on errors too; another one learns nothing."""
    http = rig.instance(ALLOWED_ORIGINS=f"{ORIGIN}, https://other.example").http
    preflight = await http.options(PATH, headers={"origin": ORIGIN, **PREFLIGHT})
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == ORIGIN
    assert "POST" in preflight.headers["access-control-allow-methods"]
    error = await http.post(PATH, headers={"origin": ORIGIN})
    assert (error.status_code, error.headers["access-control-allow-origin"]) == (415, ORIGIN)
    assert "X-RateLimit-Remaining" in error.headers["access-control-expose-headers"]
    assert "Origin" in error.headers["vary"]
    strange = await http.post(PATH, headers={"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in strange.headers


@pytest.mark.parametrize(
    ("allowed", "origin", "may"),
    [
        pytest.param("https://app.example/", "https://app.example", True, id="a slash in the setting"),
        pytest.param("https://*.example.com", "https://a.example.com", True, id="a subdomain"),
        pytest.param("https://*.example.com", "https://a.b.example.com", True, id="a deeper one"),
        pytest.param("https://*.example.com", "https://example.com", False, id="the domain itself"),
        pytest.param("https://*.example.com", "https://.example.com", False, id="an empty subdomain"),
        pytest.param("https://*.example.com", "https://evilexample.com", False, id="another domain that ends alike"),
        pytest.param("https://*.example.com", "https://a.example.com.evil.org", False, id="one that begins alike"),
        pytest.param("https://*.example.com", "http://a.example.com", False, id="another scheme"),
        pytest.param("https://*.example.com", "https://a.example.com:8443", False, id="another port"),
        pytest.param("https://*.example.com:8443", "https://a.example.com:8443", True, id="its port"),
        pytest.param("*", "https://anything.example", True, id="all"),
        pytest.param("*", "null", True, id="a page without an origin"),
        pytest.param("https://app.example", "null", False, id="which is no other page"),
    ],
)
async def test_which_origins_may_call(rig: Rig, allowed: str, origin: str, *, may: bool) -> None:
    """An allowed origin is named in the reply, and no other one is; where all are allowed none is named."""
    http = rig.instance(ALLOWED_ORIGINS=allowed).http
    named = None if not may else "*" if allowed == "*" else origin
    for reply in (
        await http.post(PATH, headers={"origin": origin}),
        await http.options(PATH, headers={"origin": origin, **PREFLIGHT}),
    ):
        assert reply.headers.get("access-control-allow-origin") == named


SENT_BY_SDKS = (
    "x-stainless-lang", "x-stainless-retry-count", "x-stainless-timeout", "traceparent", "tracestate", "baggage",
    "idempotency-key", "user-agent", "openai-organization", "x-session-id", "api-key", "x-my-own",
)  # fmt: skip
NOT_A_PAGES = ("x-forwarded-for", "X-Real-IP", "x-vercel-forwarded-for", "x-vercel-protection-bypass", "forwarded")


@pytest.mark.parametrize("path", [PATH, completions.ROUTE, "/api/v1/models"])
@pytest.mark.parametrize("header", [*SENT_BY_SDKS, *NOT_A_PAGES])
async def test_headers_that_pages_may_send(rig: Rig, path: str, header: str) -> None:
    """Whatever an SDK adds in a browser; nothing that says who calls, or opens a protected deployment."""
    http = rig.instance(ALLOWED_ORIGINS=ORIGIN).http
    method = "GET" if path.endswith("models") else "POST"
    asked = {"access-control-request-method": method, "access-control-request-headers": f"content-type,{header}"}
    preflight = await http.options(path, headers={"origin": ORIGIN, **asked})
    assert preflight.status_code == (400 if header in NOT_A_PAGES else 200)
    allowed = preflight.headers.get("access-control-allow-headers", "").lower().split(", ")
    assert (header.lower() in allowed) is (header not in NOT_A_PAGES)


async def test_cors_refusal_is_a_problem(rig: Rig) -> None:
    """A preflight that is refused is no exception: problem+json, an id, a log line."""
    instance = rig.instance(ALLOWED_ORIGINS=ORIGIN)
    reply = await instance.http.options(PATH, headers={"origin": "https://evil.example", **PREFLIGHT})
    assert "access-control-allow-origin" not in reply.headers
    assert "x-request-id" in reply.headers
    if reply.status_code >= 400:
        assert reply.headers["content-type"] == "application/problem+json"
    assert len(instance.seen(RequestDone)) == 1


async def test_without_origins(rig: Rig) -> None:
    """With no origin allowed no header speaks of origins."""
    reply = await rig.instance().http.post(PATH, headers={"origin": ORIGIN})
    assert not [name for name in reply.headers if name.startswith("access-control")]


# ---------------------------------------------------------------- who calls

USER = "6f1f0c0e-0000-4000-8000-00000000beef"
OTHER_KEY = SigningKey.generate("current")
STRANGE_KEY = SigningKey.generate("strange")


def raw_token(header: dict[str, Any], claims: dict[str, Any], signature: bytes | None = None, key: bytes = b"") -> str:
    """A token signed by hand, for what no library would sign."""
    parts = [base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=") for each in (header, claims)]
    signed = hmac.new(key, b".".join(parts), hashlib.sha256).digest() if signature is None else signature
    return b".".join([*parts, base64.urlsafe_b64encode(signed).rstrip(b"=")]).decode()


def claims(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    all_of_them = {
        "sub": USER,
        "role": "authenticated",
        "aud": "authenticated",
        "iat": now,
        "exp": now + 600,
        **changed,
    }
    return {name: value for name, value in all_of_them.items() if value is not None}


def public_pem(key: SigningKey) -> bytes:
    return key.private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


TOKENS: dict[str, tuple[Callable[[SupabaseStandIn], str], str]] = {
    "hs256": (lambda s: sign_user_token(USER, s.jwt_secret), "user"),
    "es256": (lambda s: sign_user_token(USER, s.signing_key), "user"),
    "anon-role": (lambda s: sign_user_token(USER, s.jwt_secret, role="anon"), "address"),
    "anonymous-sign-in": (lambda s: jwt.encode(claims(is_anonymous=True), s.jwt_secret, "HS256"), "address"),
    "service-role": (lambda s: sign_user_token(USER, s.jwt_secret, role="service_role"), "address"),
    "expired": (lambda s: sign_user_token(USER, s.jwt_secret, lifetime_s=-60), "address"),
    "expired-es256": (lambda s: sign_user_token(USER, s.signing_key, lifetime_s=-60), "address"),
    "forged": (lambda s: sign_user_token(USER, "another secret of at least thirty-two bytes"), "address"),
    "forged-es256": (lambda s: sign_user_token(USER, OTHER_KEY), "address"),
    "unknown-key": (lambda s: sign_user_token(USER, STRANGE_KEY), "address"),
    "alg-none": (lambda s: raw_token({"alg": "none"}, claims(), b""), "address"),
    "alg-None": (lambda s: raw_token({"alg": "None", "kid": "current"}, claims(), b""), "address"),
    "public-key-as-secret": (
        lambda s: raw_token({"alg": "HS256", "kid": "current"}, claims(), key=public_pem(s.signing_key)),
        "address",
    ),
    "secret-under-es256": (
        lambda s: raw_token({"alg": "ES256", "kid": "current"}, claims(), key=s.jwt_secret.encode()),
        "address",
    ),
    "rs256-of-an-ec-key": (
        lambda s: raw_token({"alg": "RS256", "kid": "current"}, claims(), key=s.jwt_secret.encode()),
        "address",
    ),
    "no-audience": (lambda s: jwt.encode(claims(aud=None), s.jwt_secret, "HS256"), "address"),
    "other-audience": (lambda s: jwt.encode(claims(aud="someone"), s.jwt_secret, "HS256"), "address"),
    "no-expiry": (lambda s: jwt.encode(claims(exp=None), s.jwt_secret, "HS256"), "address"),
    "no-subject": (lambda s: jwt.encode(claims(sub=None), s.jwt_secret, "HS256"), "address"),
    "empty-subject": (lambda s: jwt.encode(claims(sub=""), s.jwt_secret, "HS256"), "address"),
    "number-as-subject": (lambda s: raw_token({"alg": "HS256"}, claims(sub=5), key=s.jwt_secret.encode()), "address"),
    "list-as-role": (lambda s: jwt.encode(claims(role=["authenticated"]), s.jwt_secret, "HS256"), "address"),
    "number-as-kid": (lambda s: raw_token({"alg": "ES256", "kid": 5}, claims(), key=b"x" * 32), "address"),
    "list-as-alg": (lambda s: raw_token({"alg": ["HS256"]}, claims(), key=s.jwt_secret.encode()), "address"),
    "critical-header": (
        lambda s: raw_token({"alg": "HS256", "crit": ["x"], "x": 1}, claims(), key=s.jwt_secret.encode()),
        "address",
    ),
    "opaque": (lambda s: "sb_publishable_something", "address"),
    "garbage": (lambda s: "a.b.c", "address"),
    "deep-header": (lambda s: base64.urlsafe_b64encode(b"[" * 3_000 + b"]" * 3_000).decode() + ".e30.x", "address"),
    "too-long": (lambda s: sign_user_token(USER, s.jwt_secret, claims={"x": "y" * 9_000}), "address"),
}


@pytest.mark.parametrize(("token", "kind"), TOKENS.values(), ids=TOKENS)
async def test_sign_in(rig: Rig, supabase: SupabaseStandIn, token: Callable[[SupabaseStandIn], str], kind: str) -> None:
    """A valid token of a signed-in user names the user; any other bearer is limited by address, and never a 500."""
    # Tokens are signed by the machine's clock.
    rig.time.ms = time.time_ns() // 1_000_000
    instance = rig.instance()
    reply = await instance.ask(Authorization=f"Bearer {token(supabase)}")
    assert reply.status_code == 200
    (done,) = instance.seen(RequestDone)
    assert done.caller_kind == kind
    assert instance.seen(Crashed) == []


async def test_shared_secret_has_to_be_configured(rig: Rig, supabase: SupabaseStandIn) -> None:
    """A project without a shared secret accepts published keys only."""
    instance = rig.instance(SUPABASE_JWT_SECRET=None)
    await instance.ask(Authorization=f"Bearer {sign_user_token(USER, supabase.jwt_secret)}")
    await instance.ask(Authorization=f"Bearer {sign_user_token(USER, supabase.signing_key)}")
    assert [done.caller_kind for done in instance.seen(RequestDone)] == ["address", "user"]


async def test_user_is_limited_as_one(rig: Rig, supabase: SupabaseStandIn) -> None:
    """A user has one allowance from all addresses; two users at one address have two."""
    instance, address = rig.instance(), a_caller()
    one, two = (f"Bearer {sign_user_token(name, supabase.jwt_secret)}" for name in ("user-one", "user-two"))
    moving = [(await instance.ask("same", a_caller(), Authorization=one)).status_code for _ in range(11)]
    assert moving == [200] * 10 + [429]
    assert (await instance.ask("same", address, Authorization=one)).status_code == 429
    assert (await instance.ask("same", address, Authorization=two)).status_code == 200
    assert (await instance.ask("same", address)).status_code == 200


async def test_keys_are_fetched_at_most_once_a_minute(rig: Rig) -> None:
    """Tokens that name ever new keys make us fetch the published ones once, not once each."""
    instance = rig.instance()
    tokens = [sign_user_token(USER, SigningKey(f"made-up-{n}", STRANGE_KEY.private)) for n in range(12)]
    await together([instance.ask(Authorization=f"Bearer {token}") for token in tokens])
    assert rig.supabase.requests() == 1
    assert len(instance.seen(TokenRefused)) == 12


@about_timeouts
@pytest.mark.parametrize("fault", ["hang", "refuse", "status", "html", "cut", "not_json"])
async def test_keys_unavailable(rig: Rig, supabase: SupabaseStandIn, fault: str) -> None:
    """While the keys cannot be had a token's bearer is limited by address, and the request is served."""
    rig.supabase.fault(fault)
    instance = rig.instance()
    reply = await instance.ask(Authorization=f"Bearer {sign_user_token(USER, supabase.signing_key)}")
    assert reply.status_code == 200
    assert [done.caller_kind for done in instance.seen(RequestDone)] == ["address"]
    assert len(instance.seen(SignInKeysUnavailable)) == 1


KEY_SETS = {
    "list": b"[]",
    "null": b"null",
    "no-keys": b"{}",
    "empty": b'{"keys":[]}',
    "numbers": b'{"keys":[1,2]}',
    "number": b'{"keys":5}',
    "half-a-key": b'{"keys":[{"kty":"EC","kid":"current","crv":"P-256"}]}',
    "unknown-kind": b'{"keys":[{"kty":"PQ","kid":"current"}]}',
    "secret-kind": b'{"keys":[{"kty":"oct","kid":"current","k":"c2VjcmV0","alg":"HS256"}]}',
}


@pytest.mark.parametrize("content", KEY_SETS.values(), ids=KEY_SETS)
async def test_unusable_keys(rig: Rig, supabase: SupabaseStandIn, content: bytes) -> None:
    """Keys that cannot be read are keys that are not there."""
    with scripted() as keys:
        keys.body = content
        instance = rig.instance(SUPABASE_URL=keys.url)
        reply = await instance.ask(Authorization=f"Bearer {sign_user_token(USER, supabase.signing_key)}")
    assert reply.status_code == 200
    assert [done.caller_kind for done in instance.seen(RequestDone)] == ["address"]
    assert instance.seen(Crashed) == []


async def test_forged_address(rig: Rig) -> None:
    """A client that no trusted proxy vouches for cannot choose the address it is limited by."""
    instance = rig.instance(TRUSTED_PROXIES=None)
    statuses = [
        (await instance.ask("same", a_caller(), X_Real_Ip=a_caller(), X_Vercel_Forwarded_For=a_caller())).status_code
        for _ in range(11)
    ]
    assert statuses == [200] * 10 + [429]


async def test_on_vercel(rig: Rig) -> None:
    """On Vercel the edge's header names the caller, and its id is the request's."""
    instance = rig.instance(VERCEL="1", TRUSTED_PROXIES=None)
    for number in range(11):
        reply = await instance.ask(
            "same", a_caller(), X_Vercel_Forwarded_For="203.0.113.77", X_Vercel_Id=f"icn1::abc-{number}"
        )
    assert (reply.status_code, reply.headers["x-request-id"]) == (429, "icn1::abc-10")
    assert (await instance.ask("same", X_Vercel_Forwarded_For="203.0.113.78")).status_code == 200


# ---------------------------------------------------------------- what is logged

MARKERS = {
    "address": "198.51.100.123",
    "query": "marker-in-the-query",
    "session": "marker-in-the-session",
    "answer": "marker-in-the-answer",
    "history": "marker-in-the-history",
    "parameter": "marker-in-a-parameter",
    "cookie": "marker-in-a-cookie",
    "field": "marker-in-a-field-name",
    "url": "marker-in-the-url",
    "user": "marker-in-the-user",
}


def ours(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged, but for the lines of the tests' own client, which is an httpx client as well."""
    return [line for line in caplog.messages if "http://breakwater/" not in line]


async def test_logs_tell_no_secret(rig: Rig, supabase: SupabaseStandIn, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever happens to a request, no event and no line holds a token, an address, a question or an answer."""
    instance = rig.instance(log)
    token = sign_user_token(MARKERS["user"], supabase.jwt_secret)
    forged = sign_user_token(MARKERS["user"], "another secret of at least thirty-two bytes")
    body = {
        "query": MARKERS["query"],
        "sessionId": MARKERS["session"],
        "messages": [{"role": "user", "content": MARKERS["history"]}],
        "parameters": {"a": MARKERS["parameter"]},
    }
    headers = {"x-forwarded-for": MARKERS["address"], "cookie": f"a={MARKERS['cookie']}"}

    async def ask(**more: str) -> None:
        url = f"{PATH}?q={MARKERS['url']}"
        await instance.http.post(url, json=body, headers={**headers, **more})
        rig.time.ms += 10_000

    with caplog.at_level(logging.INFO):
        for status, content in ((200, GOOD.replace(b"Disk /", MARKERS["answer"].encode())), (500, GOOD), (200, b"{")):
            rig.script.reset(status=status, body=content)
            await ask()
            await ask(authorization=f"Bearer {token}")
            await ask(authorization=f"Bearer {forged}")
        rig.script.reset(body=GOOD.replace(b"Disk /", MARKERS["answer"].encode()))
        for kind in ("refuse", "status", "html", "not_json", "one_failed", "cut"):
            rig.upstash.fault(kind)
            rig.supabase.fault("status" if kind == "one_failed" else kind)
            await ask()
        rig.upstash.clear()
        rig.supabase.clear()
        for _ in range(12):
            await ask()
            rig.time.ms -= 10_000
        await instance.http.post(PATH, json={MARKERS["field"]: MARKERS["query"]}, headers=headers)
        rig.server.set(rig.server.keys("rl:*")[0], "x" * 5)
        await ask()
    secrets = [*MARKERS.values(), token, forged, *(rig.environ[name] for name in rig.environ if "_KEY" in name)]
    secrets += [rig.environ["KV_REST_API_TOKEN"], rig.environ["CLOUD_RUN_API_SECRET"], supabase.jwt_secret]
    told = [json.dumps(asdict(event)) for event in instance.events] + ours(caplog)
    assert len(told) > 40
    assert [secret for secret in secrets if any(secret in line for line in told)] == []


async def test_one_line_a_request(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """A request is one line of JSON at the level at which Vercel's root logger listens, and no other line."""
    instance, caller = rig.instance(log), a_caller()
    with caplog.at_level(logging.INFO):
        replies = [await instance.ask("same", caller) for _ in range(2)]
        replies.append(await instance.http.get(PATH))
    lines = ours(caplog)
    assert [line for line in lines if not line.startswith("{")] == []
    records = [json.loads(line) for line in lines]
    assert [(each["event"], each["request_id"]) for each in records] == [
        ("request", reply.headers["x-request-id"]) for reply in replies
    ]
    assert [(each["status"], each["decision"], each.get("cache")) for each in records] == [
        (200, "compute", "miss"),
        (200, "serve", "hit"),
        (405, "refuse", None),
    ]
    assert {"caller", "mode", "remaining", "spent_ms", "route", "method"} <= records[0].keys()


async def test_listener_that_fails(rig: Rig) -> None:
    """A listener's failure never reaches a request."""

    def broken(event: object) -> None:
        raise RuntimeError("a listener's bug")

    assert (await rig.instance(broken).ask()).status_code == 200


# ---------------------------------------------------------------- the client that leaves


async def test_leaving_while_sending(rig: Rig) -> None:
    """A client that leaves in the middle of its own body costs nothing."""
    instance = rig.instance()
    messages = [{"type": "http.disconnect"}, {"type": "http.request", "body": b'{"que', "more_body": True}]
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    transport: Any = instance.http._transport
    scope = {
        "type": "http",
        "method": "POST",
        "path": PATH,
        "headers": [(b"content-type", b"application/json")],
        "client": None,
    }
    await transport.app(scope, receive, send)
    assert sent == []
    assert [(done.status, done.decision) for done in instance.seen(RequestDone)] == [(499, "client_left")]
    assert rig.upstash.requests() == 0


@about_timeouts
async def test_leaving_while_redis_is_asked(rig: Rig) -> None:
    """A client that leaves while Redis is being asked ends the request there; the backend is never asked."""
    instance = rig.instance()
    rig.upstash.fault("hang")

    async def asked() -> None:
        await rig.script.until(lambda _: rig.upstash.requests() == 1)

    assert await instance.left_when(asked) == []
    assert rig.script.asked == 0
    assert [done.status for done in instance.seen(RequestDone)] == [499]


async def test_leaving_leaves_the_instance_usable(rig: Rig) -> None:
    """After twenty clients have left, the instance serves the next one as if nothing had been."""
    instance = rig.instance()
    for number in range(20):
        rig.script.reset(hold=True)
        await leaving(instance, rig.script, f"question {number}")
    rig.script.reset()
    assert (await instance.ask()).headers["x-guard-mode"] == "redis"
    assert instance.seen(Crashed) == []


async def test_clock_is_handed_in(rig: Rig) -> None:
    """Times in headers come from the injected clock."""
    reply = await rig.instance().ask()
    assert isinstance(rig.time.clock, Clock)
    assert int(reply.headers["x-ratelimit-reset"]) - rig.time.ms // 1000 in range(1, 86_400 * 2)
