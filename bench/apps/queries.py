"""The eight queries by hand: each read is a query; with `REDIS_URL` one GET, and on a miss the query and a SETEX."""

import os

import redis.asyncio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench.apps.monitoring import SECONDS, TIERS, body

_redis = redis.asyncio.Redis.from_url(os.environ["REDIS_URL"]) if "REDIS_URL" in os.environ else None


async def read(request: Request) -> Response:
    """One of the eight."""
    number, item = int(request.path_params["number"]), request.path_params["item"]
    if _redis is None:
        return Response(await body(item), media_type="application/json")
    key = f"tms:bench:q{number}:{item}"
    found = await _redis.get(key)
    if found is None:
        found = await body(item)
        await _redis.setex(key, SECONDS[TIERS[number]], found)
    return Response(found, media_type="application/json")


app = Starlette(routes=[Route("/api/read/q{number}/{item}", read)])
