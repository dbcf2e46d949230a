"""Ten thousand requests that nobody should send, half of them to each AI route: each is refused in words."""

import asyncio
from collections import Counter
from collections.abc import Callable

import httpx
import pytest

from tests.blackbox.nonsense import CHAT, SUPERVISOR, Nonsense
from tests.blackbox.target import Target

COUNT = 5_000
"""For each route."""
SEED = 20_261_120
CONNECTIONS = 6


def told_as_problem(reply: httpx.Response) -> bool:
    """Whether the reply is the client's error, said as problem+json."""
    media, about = reply.headers.get("content-type"), reply.headers.get("x-request-id")
    if not (400 <= reply.status_code < 500 and media == "application/problem+json" and about):
        return False
    if reply.request.method == "HEAD":
        return reply.content == b""
    problem = reply.json()
    source = "guard" if problem["code"] == "rate_limited" else "client"
    return bool((problem["status"], problem["source"]) == (reply.status_code, source) and problem["detail"])


def told_as_openai_does(reply: httpx.Response) -> bool:
    """Whether the reply is the client's error in OpenAI's shape, with a status that no client repeats."""
    media, about = reply.headers.get("content-type"), reply.headers.get("x-request-id")
    if not (reply.status_code in (400, 405, 413, 415, 429) and media == "application/json" and about):
        return False
    if reply.request.method == "HEAD":
        return reply.content == b""
    error = reply.json()["error"]
    kind = "rate_limit_error" if error["code"] == "rate_limited" else "invalid_request_error"
    return bool(error["message"] and error["type"] == kind and "param" in error)


def code_of(reply: httpx.Response) -> str:
    """The error's code, in either shape."""
    body = reply.json()
    return str(body.get("error", body)["code"])


@pytest.mark.parametrize(
    ("path", "nonsense", "told"),
    [
        pytest.param("/api/ai/supervisor", SUPERVISOR, told_as_problem, id="supervisor"),
        pytest.param("/api/v1/chat/completions", CHAT, told_as_openai_does, id="chat"),
    ],
)
@pytest.mark.anyio
async def test_ten_thousand(
    target: Target, path: str, nonsense: Nonsense, told: Callable[[httpx.Response], bool]
) -> None:
    """Every one is a client error in the shape of its route, over a few kept connections; then all works as before."""
    waiting = nonsense.requests(COUNT, SEED)
    seen: Counter[tuple[str, int]] = Counter()
    wrong: list[str] = []

    async def work(http: httpx.AsyncClient) -> None:
        for each in waiting:
            # Somebody new each time, or a refusal by the limiter would stand in for the answer that is looked for.
            headers = {**target.caller_headers(), **each.headers}
            raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
            about = f"{each.kind}: {each.method} {each.headers} {each.body[:120]!r}: "
            try:
                reply = await http.request(each.method, path, content=each.body, headers=raw)
            except httpx.HTTPError as error:
                seen[each.kind, 0] += 1
                wrong.append(about + repr(error))
                continue
            seen[each.kind, reply.status_code] += 1
            # Requests without a usable address share one, and malformed requests count: they may meet its limit.
            shared = "x-forwarded-for" in each.headers and reply.status_code == 429
            if not (told(reply) or (shared and code_of(reply) == "rate_limited")):
                wrong.append(about + f"{reply.status_code} {reply.headers.get('content-type')}")

    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    async with httpx.AsyncClient(base_url=target.url, timeout=30, verify=False, trust_env=False, limits=limits) as http:  # noqa: S501
        await asyncio.gather(*(work(http) for _ in range(CONNECTIONS)))
    assert sum(seen.values()) == COUNT
    assert {kind for kind, _ in seen} == {*nonsense.kinds, "media", "method", "too_large"}
    assert not wrong, f"{len(wrong)} of {COUNT}, the first: {wrong[:10]}"
    assert target.ask("cpu?").status_code == 200
