"""Ten thousand requests that nobody should send: each is refused in words, none breaks anything."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.blackbox.target import Target

PATH = "/api/ai/supervisor"
COUNT = 10_000
SEED = 20_261_120
CONNECTIONS = 6
JSON = {"content-type": "application/json"}


@dataclass(frozen=True)
class Malformed:
    """One request, and the kind of nonsense that it is."""

    kind: str
    body: bytes
    headers: dict[str, str]
    method: str = "POST"


GOOD = json.dumps({"query": "cpu?", "sessionId": "s", "parameters": {"a": [1, 2]}, "messages": []}).encode()


def random_bytes(r: random.Random) -> bytes:
    return r.randbytes(r.randrange(400)) + b"\xff"


def truncated(r: random.Random) -> bytes:
    return GOOD[: r.randrange(len(GOOD) - 1)]


def flipped(r: random.Random) -> bytes:
    """Valid JSON with one byte replaced by one that is valid nowhere."""
    body = bytearray(GOOD)
    body[r.randrange(len(body))] = r.choice((0x00, 0x1F, 0x80, 0xC0, 0xFF))
    return bytes(body)


def deep(r: random.Random) -> bytes:
    depth = r.choice((201, 500, 5_000, 10_000))
    opened, closed = r.choice((("[", "]"), ('{"a":', "}")))
    whole = r.random() < 0.5
    inner = opened * depth + ("1" + closed * depth if whole else "")
    return f'{{"query":"cpu?","parameters":{{"a":{inner}}}}}'.encode()


def no_number(r: random.Random) -> bytes:
    value = r.choice(("NaN", "Infinity", "-Infinity", "[NaN]", '{"b":-Infinity}', "nan", "+1", ".5", "0x1", "01"))
    return f'{{"query":"cpu?","parameters":{{"a":{value}}}}}'.encode()


def lone_surrogate(r: random.Random) -> bytes:
    code = r.randrange(0xD800, 0xE000)
    escaped = f"\\u{code:04x}"
    place = r.choice(('{"query":"%s"}', '{"query":"q","sessionId":"%s"}', '{"query":"q","parameters":{"%s":1}}'))
    return (place % escaped).encode()


def wrong_type(r: random.Random) -> bytes:
    value: Any = r.choice((5, 1.5, True, None, [], ["q"], {"a": 1}))
    field = r.choice(("query", "messages", "sessionId", "parameters", "messages.0", "role", "content"))
    messages: dict[str, Any] = {
        "messages.0": [value],
        "role": [{"role": value, "content": "x"}],
        "content": [{"role": "user", "content": value if value != [] else 7}],
    }
    if field in messages:
        return json.dumps({"messages": messages[field]}).encode()
    if field == "query":
        return json.dumps({"query": value}).encode()
    if field == "sessionId" and value is None:
        value = 5
    if field == "messages" and value is None:
        value = 5
    if field == "parameters" and isinstance(value, dict):
        value = "a"
    return json.dumps({"query": "cpu?", field: value}).encode()


def huge_number(r: random.Random) -> bytes:
    """As a number where none belongs, or beyond every bound where one does."""
    number = r.choice(("9" * r.randrange(4_400, 9_000), "1e999", "-1e4000", "9" * 400 + "e400"))
    place = r.choice(('{"query":%s}', '{"query":"cpu?","parameters":{"a":%s}}', '{"query":"cpu?","sessionId":%s}'))
    return (place % number).encode()


def duplicate_keys(r: random.Random) -> bytes:
    return b'{"query":"cpu?","query":"again?","query":%d}' % r.randrange(100)


def unknown_field(r: random.Random) -> bytes:
    name = "".join(r.choice("abcXYZ_-. \u00e9한\U0001f642'\"\\/<>{}$") for _ in range(r.randrange(1, 300)))
    return json.dumps({"query": "cpu?", name: 1}, ensure_ascii=r.random() < 0.5).encode()


def too_long(r: random.Random) -> bytes:
    text = r.choice(("x", "한", "\U0001f642", " x", "\\u0000"))
    return f'{{"query":"{text * 8_001}"}}'.encode()[:60_000] + (b'"}' if len(text.encode()) * 8_001 > 59_900 else b"")


def no_object(r: random.Random) -> bytes:
    return r.choice((b"[]", b"null", b"5", b'"cpu?"', b"true", b"[{}]", b'[{"query":"cpu?"}]', b"{}", b""))


def blank(r: random.Random) -> bytes:
    text = "".join(r.choice(" \t\n\r\u00a0\u2003\u3000\u2028") for _ in range(r.randrange(30)))
    return json.dumps({"query": text}).encode()


def encoded(r: random.Random) -> bytes:
    return GOOD.decode().encode(r.choice(("utf-16", "utf-16-le", "utf-32", "utf-8-sig")))


BODIES: dict[str, Callable[[random.Random], bytes]] = {
    make.__name__: make
    for make in (
        random_bytes,
        truncated,
        flipped,
        deep,
        no_number,
        lone_surrogate,
        wrong_type,
        huge_number,
        duplicate_keys,
        unknown_field,
        too_long,
        no_object,
        blank,
        encoded,
    )
}
MEDIA = (
    "",
    "text/plain",
    "application/jsonp",
    "application/",
    "/",
    "application/xml",
    ";",
    "a" * 500,
    "\u00ff",
    "json",
)
METHODS = (
    "GET",
    "PUT",
    "PATCH",
    "DELETE",
    "TRACE",
    "HEAD",
    "BREW",
    "get",
    "post",
    "P0ST",
    "PROPFIND",
    "!#$%",
    "M" * 90,
)
ODD: dict[str, tuple[str, ...]] = {
    "authorization": (
        "Bearer", "Bearer ..", "Bearer a.b.c", "Bearer " + "A" * 8_000, "\u00ff\u00fe", "Basic =", "Bearer e30.e30.e30",
        "Bearer eyJhbGciOiJFUzI1NiIsImtpZCI6IngifQ.e30.AAAA",
    ),
    "cache-control": ("max-age=" + "9" * 500, "=,=,;", "no-cache=\"", "\u00ff", "max-age=-1, max-age=x"),
    "x-forwarded-for": ("", ",,,", "999.1.1.1", "::1%eth0", "[::", "\u00ff", "1.2.3.4," * 200, "1:2"),
    "accept": ("\u00ff", "x" * 4_000),
    "origin": ("null", "\u00ff", "https://evil.example"),
    "content-encoding": ("gzip", "br, br", "\u00ff"),
    "cookie": ("=" * 1_000, "\u00ff"),
    "x-vercel-id": ("\u00ff", "x" * 4_000, ""),
    "range": ("bytes=5-1",),
    "traceparent": ("00-00-00-00",),
}  # fmt: skip


def malformed(r: random.Random) -> Malformed:
    """The next request."""
    which = r.random()
    if which < 0.005:
        return Malformed("too_large", b" " * (65_536 + 1 + r.randrange(3)), JSON)
    if which < 0.08:
        return Malformed("media", GOOD, {"content-type": r.choice(MEDIA)})
    if which < 0.14:
        return Malformed("method", r.choice((b"", GOOD)), JSON, r.choice(METHODS))
    kind = r.choice(list(BODIES))
    headers = dict(JSON)
    if which < 0.35:
        for name in r.sample(list(ODD), r.randrange(1, 4)):
            headers[name] = r.choice(ODD[name])
    return Malformed(kind, BODIES[kind](r), headers)


def told(reply: httpx.Response) -> bool:
    """Whether the reply is the client's error, said as problem+json."""
    media, about = reply.headers.get("content-type"), reply.headers.get("x-request-id")
    if not (400 <= reply.status_code < 500 and media == "application/problem+json" and about):
        return False
    if reply.request.method == "HEAD":
        return reply.content == b""
    problem = reply.json()
    source = "guard" if problem["code"] == "rate_limited" else "client"
    return bool((problem["status"], problem["source"]) == (reply.status_code, source) and problem["detail"])


@pytest.mark.anyio
async def test_ten_thousand(target: Target) -> None:
    """Every one is a client error in problem+json, over a handful of kept connections; then all works as before."""
    r = random.Random(SEED)  # noqa: S311 - the same nonsense in every run
    waiting = iter([malformed(r) for _ in range(COUNT)])
    seen: Counter[tuple[str, int]] = Counter()
    wrong: list[str] = []

    async def work(http: httpx.AsyncClient) -> None:
        for each in waiting:
            # Somebody new each time, or a refusal by the limiter would stand in for the answer that is looked for.
            headers = {**target.caller_headers(), **each.headers}
            raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
            about = f"{each.kind}: {each.method} {each.headers} {each.body[:120]!r}: "
            try:
                reply = await http.request(each.method, PATH, content=each.body, headers=raw)
            except httpx.HTTPError as error:
                seen[each.kind, 0] += 1
                wrong.append(about + repr(error))
                continue
            seen[each.kind, reply.status_code] += 1
            # Requests without a usable address share one, and malformed requests count: they may meet its limit.
            shared = "x-forwarded-for" in each.headers and reply.status_code == 429
            if not (told(reply) or (shared and reply.json()["code"] == "rate_limited")):
                wrong.append(about + f"{reply.status_code} {reply.headers.get('content-type')}")

    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    async with httpx.AsyncClient(base_url=target.url, timeout=30, verify=False, trust_env=False, limits=limits) as http:  # noqa: S501
        await asyncio.gather(*(work(http) for _ in range(CONNECTIONS)))
    assert sum(seen.values()) == COUNT
    assert {kind for kind, _ in seen} == {*BODIES, "media", "method", "too_large"}
    assert not wrong, f"{len(wrong)} of {COUNT}, the first: {wrong[:10]}"
    assert target.ask("cpu?").status_code == 200
