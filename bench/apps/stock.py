"""The usual composition of the stock libraries: two sliding windows of `upstash_ratelimit`, an answer cache and a
circuit breaker through `upstash_redis`, a call by httpx; one statement after the other, as their documentation has it.

With `BENCH_PIPELINE=1` the same in as few round trips as these libraries allow: the windows' own scripts, the cached
answer and the breaker in one pipeline, and what is written afterwards in another.
"""

import hashlib
import os
import ssl
import time
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from upstash_ratelimit.asyncio import Ratelimit, SlidingWindow
from upstash_redis.asyncio import Redis

_MINUTE, _DAY = (10, 60_000), (100, 86_400_000)
_CACHE_S, _COOLDOWN_S, _THRESHOLD = 3600, 60, 3

_redis = Redis(os.environ["KV_REST_API_URL"], os.environ["KV_REST_API_TOKEN"], allow_telemetry=False)
_minute = Ratelimit(_redis, SlidingWindow(_MINUTE[0], _MINUTE[1], "ms"), prefix="stock:minute")
_day = Ratelimit(_redis, SlidingWindow(_DAY[0], _DAY[1], "ms"), prefix="stock:day")
_backend = os.environ["CLOUD_RUN_AI_URL"]
_client: httpx.AsyncClient | None = None


async def ask(request: Request) -> Response:  # noqa: PLR0911 - one reply after the other, as it is usually written
    """One guarded question."""
    body = await request.json()
    caller = request.headers.get("x-vercel-forwarded-for", "unknown")
    key = "stock:answer:" + hashlib.sha256(f"{caller}\0{body['query']}".encode()).hexdigest()
    if _PIPELINED:
        return await _ask_pipelined(caller, key, body)
    minute = await _minute.limit(caller)
    if not minute.allowed:
        return _refusal(minute.reset)
    day = await _day.limit(caller)
    if not day.allowed:
        return _refusal(day.reset)
    if answer := await _redis.get(key):
        return JSONResponse({"answer": answer, "cached": True})
    if int(await _redis.get("stock:failures") or 0) >= _THRESHOLD:
        return JSONResponse({"error": "the backend rests"}, 503)
    answer = await _compute(body)
    if answer is None:
        await _redis.incr("stock:failures")
        await _redis.expire("stock:failures", _COOLDOWN_S)
        return JSONResponse({"error": "the backend failed"}, 502)

    async def keep() -> None:
        await _redis.set(key, answer, ex=_CACHE_S)
        await _redis.delete("stock:failures")

    return JSONResponse({"answer": answer, "cached": False}, background=BackgroundTask(keep))


async def _ask_pipelined(caller: str, key: str, body: Any) -> Response:
    now_ms = int(time.time() * 1000)
    together = _redis.pipeline()
    for name, (limit, length_ms) in (("minute", _MINUTE), ("day", _DAY)):
        at = now_ms // length_ms
        keys = [f"stock:{name}:{caller}:{at}", f"stock:{name}:{caller}:{at - 1}"]
        together.eval(SlidingWindow.SCRIPT, keys, [str(each) for each in (limit, now_ms, length_ms, 1)])
    together.get(key)
    together.get("stock:failures")
    replies: Any = await together.exec()
    minute, day, answer, failures = replies
    if minute < 0 or day < 0:
        return _refusal(now_ms / 1000 + 60)
    if answer:
        return JSONResponse({"answer": answer, "cached": True})
    if int(failures or 0) >= _THRESHOLD:
        return JSONResponse({"error": "the backend rests"}, 503)
    answer = await _compute(body)
    if answer is None:
        failing = _redis.pipeline()
        failing.incr("stock:failures")
        failing.expire("stock:failures", _COOLDOWN_S)
        await failing.exec()
        return JSONResponse({"error": "the backend failed"}, 502)

    async def keep() -> None:
        storing = _redis.pipeline()
        storing.set(key, answer, ex=_CACHE_S)
        storing.delete("stock:failures")
        await storing.exec()

    return JSONResponse({"answer": answer, "cached": False}, background=BackgroundTask(keep))


async def _compute(body: Any) -> str | None:
    global _client  # noqa: PLW0603 - one client for an instance
    if _client is None:
        _client = httpx.AsyncClient(verify=ssl.create_default_context(), trust_env=False)
    try:
        reply = await _client.post(_backend, json={"query": body["query"]}, timeout=60)
        return str(reply.raise_for_status().json()["answer"])
    except (httpx.HTTPError, ValueError, KeyError):
        return None


def _refusal(reset_s: float) -> Response:
    wait_s = max(1, int(reset_s - time.time()) + 1)
    return JSONResponse({"error": "too many requests"}, 429, {"retry-after": str(wait_s)})


_PIPELINED = bool(os.environ.get("BENCH_PIPELINE"))

app = Starlette(routes=[Route("/api/ai/supervisor", ask, methods=["POST"])])
