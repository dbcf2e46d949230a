"""Requests that nobody should send: the same kinds of nonsense to each route that takes JSON, and some of its own."""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

JSON = {"content-type": "application/json"}

type Maker = Callable[[random.Random], bytes]


@dataclass(frozen=True)
class Malformed:
    """One request, and the kind of nonsense that it is."""

    kind: str
    body: bytes
    headers: dict[str, str]
    method: str = "POST"


@dataclass(frozen=True)
class Nonsense:
    """What is sent to one route."""

    good: bytes
    """JSON with all usual fields, and no message: a client may correct a method, and then this has to be refused."""
    values: str
    """A body with a place for any value."""
    texts: tuple[str, ...]
    """Bodies with a place within a text."""
    max_bytes: int
    own: Mapping[str, Maker]
    """Further bodies, by kind."""
    headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Further headers that are wrong by themselves, or at least odd."""

    def requests(self, count: int, seed: int) -> Iterator[Malformed]:
        """So many; the same in every run."""
        r = random.Random(seed)  # noqa: S311 - it is no secret
        return (self._next(r) for _ in range(count))

    @property
    def kinds(self) -> Mapping[str, Maker]:
        """What is wrong with bodies."""
        shared = (self.random_bytes, self.truncated, self.flipped, self.deep, self.no_number)
        return {each.__name__: each for each in (*shared, self.lone_surrogate, self.huge_number, self.encoded)} | dict(
            self.own
        )

    def _next(self, r: random.Random) -> Malformed:
        which = r.random()
        if which < 0.005:
            return Malformed("too_large", b" " * (self.max_bytes + 1 + r.randrange(3)), JSON)
        if which < 0.08:
            return Malformed("media", self.good, {"content-type": r.choice(MEDIA)})
        if which < 0.14:
            return Malformed("method", r.choice((b"", self.good)), JSON, r.choice(METHODS))
        kinds, odd = self.kinds, {**ODD, **self.headers}
        kind = r.choice(list(kinds))
        headers = dict(JSON)
        if which < 0.35:
            for name in r.sample(list(odd), r.randrange(1, 4)):
                headers[name] = r.choice(odd[name])
        return Malformed(kind, kinds[kind](r), headers)

    def random_bytes(self, r: random.Random) -> bytes:
        """Anything but UTF-8."""
        return r.randbytes(r.randrange(400)) + b"\xff"

    def truncated(self, r: random.Random) -> bytes:
        """A part."""
        return self.good[: r.randrange(len(self.good) - 1)]

    def flipped(self, r: random.Random) -> bytes:
        """Valid JSON with one byte replaced by one that is valid nowhere."""
        body = bytearray(self.good)
        body[r.randrange(len(body))] = r.choice((0x00, 0x1F, 0x80, 0xC0, 0xFF))
        return bytes(body)

    def deep(self, r: random.Random) -> bytes:
        """Deeper than anybody reads."""
        depth = r.choice((201, 500, 5_000, 10_000))
        opened, closed = r.choice((("[", "]"), ('{"a":', "}")))
        whole = r.random() < 0.5
        inner = opened * depth + ("1" + closed * depth if whole else "")
        return (self.values % inner).encode()

    def no_number(self, r: random.Random) -> bytes:
        """What JSON does not have."""
        value = r.choice(("NaN", "Infinity", "-Infinity", "[NaN]", '{"b":-Infinity}', "nan", "+1", ".5", "0x1", "01"))
        return (self.values % value).encode()

    def lone_surrogate(self, r: random.Random) -> bytes:
        """Half a character."""
        return (r.choice(self.texts) % f"\\u{r.randrange(0xD800, 0xE000):04x}").encode()

    def huge_number(self, r: random.Random) -> bytes:
        """Beyond every bound."""
        number = r.choice(("9" * r.randrange(4_400, 9_000), "1e999", "-1e4000", "9" * 400 + "e400"))
        return (self.values % number).encode()

    def encoded(self, r: random.Random) -> bytes:
        """In another encoding."""
        return self.good.decode().encode(r.choice(("utf-16", "utf-16-le", "utf-32", "utf-8-sig")))


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


def _wrong_type(r: random.Random) -> bytes:
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


def _no_text(r: random.Random) -> bytes:
    number = r.choice(("9" * r.randrange(4_400, 9_000), "1e999", "-1e4000", "9" * 400 + "e400"))
    return (r.choice(('{"query":%s}', '{"query":"cpu?","sessionId":%s}')) % number).encode()


def _duplicate_keys(r: random.Random) -> bytes:
    return b'{"query":"cpu?","query":"again?","query":%d}' % r.randrange(100)


def _unknown_field(r: random.Random) -> bytes:
    name = "".join(r.choice("abcXYZ_-. \u00e9한\U0001f642'\"\\/<>{}$") for _ in range(r.randrange(1, 300)))
    return json.dumps({"query": "cpu?", name: 1}, ensure_ascii=r.random() < 0.5).encode()


def _too_long(r: random.Random) -> bytes:
    text = r.choice(("x", "한", "\U0001f642", " x", "\\u0000"))
    return f'{{"query":"{text * 8_001}"}}'.encode()[:60_000] + (b'"}' if len(text.encode()) * 8_001 > 59_900 else b"")


def _no_object(r: random.Random) -> bytes:
    return r.choice((b"[]", b"null", b"5", b'"cpu?"', b"true", b"[{}]", b'[{"query":"cpu?"}]', b"{}", b""))


def _blank(r: random.Random) -> bytes:
    text = "".join(r.choice(" \t\n\r\u00a0\u2003\u3000\u2028") for _ in range(r.randrange(30)))
    return json.dumps({"query": text}).encode()


SUPERVISOR = Nonsense(
    json.dumps({"query": "cpu?", "sessionId": "s", "parameters": {"a": [1, 2]}, "messages": []}).encode(),
    '{"query":"cpu?","parameters":{"a":%s}}',
    ('{"query":"%s"}', '{"query":"q","sessionId":"%s"}', '{"query":"q","parameters":{"%s":1}}'),
    65_536,
    {
        "wrong_type": _wrong_type,
        "no_text": _no_text,
        "duplicate_keys": _duplicate_keys,
        "unknown_field": _unknown_field,
        "too_long": _too_long,
        "no_object": _no_object,
        "blank": _blank,
    },
)


def _chat_wrong_type(r: random.Random) -> bytes:
    wrong: dict[str, tuple[Any, ...]] = {
        "model": (5, None, "", [], {"a": 1}, "x" * 201),
        "messages": (5, None, "q", [], {}, ["q"], [None], [[]], [5]),
        "stream": ("yes", 1, 0, [], {}),
        "stream_options": (5, "x", [], True),
        "user": (5, True, [], {"id": "x"}, "x" * 513),
    }
    name = r.choice(list(wrong))
    good = {"model": "m", "messages": [{"role": "user", "content": "cpu?"}]}
    return json.dumps({**good, name: r.choice(wrong[name])}).encode()


def _chat_missing(r: random.Random) -> bytes:
    given: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "cpu?"}], "temperature": 0.5}
    del given[r.choice(("model", "messages"))]
    return json.dumps(given).encode()


def _chat_no_object(r: random.Random) -> bytes:
    return r.choice((b"[]", b"null", b"5", b'"cpu?"', b"[{}]", b"{}", b"", b'{"messages":[{}]}', b'{"query":"cpu?"}'))


def _chat_duplicate_keys(r: random.Random) -> bytes:
    return b'{"model":"m","messages":[{"role":"user","content":"x"}],"model":%d}' % r.randrange(100)


CHAT = Nonsense(
    json.dumps(
        {"model": "m", "messages": [], "temperature": 0.5, "tools": [{"type": "function"}], "n": 1, "stream": False}
    ).encode(),
    '{"model":"m","messages":[{"role":"user","content":"cpu?"}],"a":%s}',
    (
        '{"model":"%s","messages":[{}]}',
        '{"model":"m","messages":[{"role":"user","content":"%s"}]}',
        '{"model":"m","messages":[{"role":"user","content":"x"}],"%s":1}',
    ),
    4 * 1024 * 1024,
    {
        "wrong_type": _chat_wrong_type,
        "missing": _chat_missing,
        "no_object": _chat_no_object,
        "duplicate_keys": _chat_duplicate_keys,
    },
    {"x-stainless-retry-count": ("x", "-1"), "idempotency-key": ("\u00ff" * 300,), "openai-organization": ("",)},
)
