"""A webhook: somebody else's address that takes JSON. It never takes long and never breaks anything."""

import asyncio
from collections.abc import Mapping

import httpx
from pydantic_core import to_json

_TIMEOUT_S = 3.0


class WebhookDown(Exception):
    """The webhook did not take the message. The text names neither its address nor what was sent."""


async def post(client: httpx.AsyncClient, url: str, body: Mapping[str, object]) -> None:
    """Deliver a message. Raises WebhookDown."""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            response = await client.post(
                url, content=to_json(body), headers={"content-type": "application/json"}, timeout=_TIMEOUT_S
            )
    except (TimeoutError, httpx.HTTPError, httpx.InvalidURL) as e:
        raise WebhookDown(type(e).__name__) from e
    if not response.is_success:
        raise WebhookDown(f"HTTP {response.status_code}")
