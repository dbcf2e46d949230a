"""The floor: a bare ASGI function that makes one HTTP call on a kept connection, and nothing else.

The call is a `GET` from Redis over REST through httpx, as every request of Breakwater makes one at least. What makes
httpx cheaper for Breakwater makes it cheaper here, so that the floor is one.
"""

import logging
import os
import ssl
import sys
from typing import Any

import httpx

sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type] # as lib/wire/http.py does, and why is said there
logging.getLogger("httpx").setLevel(logging.WARNING)  # likewise

_URL = httpx.URL(os.environ["KV_REST_API_URL"] + "/pipeline")
_HEADERS = {"authorization": f"Bearer {os.environ['KV_REST_API_TOKEN']}", "content-type": "application/json"}
_CALL = b'[["GET","floor"]]'
_client: httpx.AsyncClient | None = None


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Read the body, make the call, pass its reply on."""
    global _client  # noqa: PLW0603 - one client for an instance
    if scope["type"] == "lifespan":
        while (message := await receive())["type"]:
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    while (await receive()).get("more_body"):
        pass
    if _client is None:
        _client = httpx.AsyncClient(verify=ssl.create_default_context(), trust_env=False)
    reply = await _client.send(httpx.Request("POST", _URL, headers=_HEADERS, content=_CALL))
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(reply.content))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": reply.content})
