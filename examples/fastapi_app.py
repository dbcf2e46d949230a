"""A FastAPI application behind the guard.

In a checkout: ``pip install ./lib fastapi uvicorn``, then ``uvicorn --app-dir examples fastapi_app:app``.

Each caller may make ten calls a minute below ``/api``. What a city's weather is, is asked once in half a minute for all
callers; while the weather service fails, what it said within the last hour is served.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from breakwater import Breakwater, GuardMiddleware
from fastapi import FastAPI, Request

bw = Breakwater.from_env()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with bw:
        yield


app = FastAPI(lifespan=lifespan)
app.add_middleware(GuardMiddleware, breakwater=bw, limit="10/minute", paths="/api/*")


@app.get("/api/weather/{city}")
async def weather(city: str) -> dict[str, object]:
    return await bw.cached(f"weather:{city}", lambda: ask(city), fresh=30, stale=3600, tags="weather")


async def ask(city: str) -> dict[str, object]:
    async with bw.circuit("weather"):
        # In the place of a call that costs something.
        return {"city": city, "sky": "clear"}


@app.post("/api/weather/refresh")
async def refresh(request: Request) -> dict[str, object]:
    who = request.client.host if request.client else "unknown"
    verdict = await bw.limit(f"refresh:{who}", "1/hour")
    if verdict.allowed:
        await bw.invalidate("weather")
    return {"refreshed": verdict.allowed, "retryAfter": verdict.retry_after_s}
