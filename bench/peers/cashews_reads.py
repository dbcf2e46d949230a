"""The eight queries through cashews, as its documentation has it: Redis, a lock, and tags to invalidate by.

With `BENCH_LIMIT` also its sliding limit, so many calls a minute and caller. What is cached is the body as it is sent.
Runs in cashews' own environment.
"""

import os
from collections.abc import Awaitable, Callable
from typing import Any

from cashews import RateLimitError, cache
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench.apps.monitoring import SECONDS, TIERS, body

cache.setup(os.environ["REDIS_URL"])
_limit = int(os.environ.get("BENCH_LIMIT", "0"))


def _query(number: int) -> Callable[[str], Awaitable[str]]:
    @cache(ttl=SECONDS[TIERS[number]], key=f"q{number}:{{item}}", tags=[f"q{number}", "all"], lock=True)
    async def query(item: str) -> str:
        return await body(item)

    found: Any = query
    return found  # type: ignore[no-any-return]


_queries = [_query(number) for number in range(len(TIERS))]


async def _read(number: int, item: str, caller: str) -> str:
    return await _queries[number](item)


_limited: Any = cache.slice_rate_limit(limit=_limit, period="1m", key="caller:{caller}")(_read) if _limit else _read


async def read(request: Request) -> Response:
    """One of the eight."""
    caller = request.headers.get("x-vercel-forwarded-for", "unknown")
    try:
        found = await _limited(int(request.path_params["number"]), request.path_params["item"], caller)
    except RateLimitError:
        return Response(status_code=429)
    return Response(found, media_type="application/json")


app = Starlette(routes=[Route("/api/read/q{number}/{item}", read)])
