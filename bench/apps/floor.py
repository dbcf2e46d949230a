"""The floor: a bare ASGI function that makes one HTTP call on a kept connection, and nothing else.

The call is a `GET` from Redis over REST through httpx, as every request of Breakwater makes one at least.

With `BENCH_SPARED=1` the same function is spared what Breakwater spares: modules that are not there are not looked for
(lib/base/absent.py), and the call goes through httpcore. What is left between that one and a hit is deciding and
replying.
"""

import logging
import os
import ssl
import sys
from typing import Any

import httpcore
import httpx

from lib.base.absent import spare_searching

# httpcore looks for it four times a call; without this the floor would be a good deal higher.
sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type] # the import system, 5.3.1: None is "not there"
logging.getLogger("httpx").setLevel(logging.WARNING)

_URL = os.environ["KV_REST_API_URL"] + "/pipeline"
_HEADERS = {"authorization": f"Bearer {os.environ['KV_REST_API_TOKEN']}", "content-type": "application/json"}
_CALL = b'[["GET","floor"]]'


class Bare:
    """Through httpx."""

    def __init__(self) -> None:
        self._client = httpx.AsyncClient(verify=ssl.create_default_context(), trust_env=False)
        self._url = httpx.URL(_URL)

    async def call(self) -> bytes:
        """The reply's body."""
        reply = await self._client.send(httpx.Request("POST", self._url, headers=_HEADERS, content=_CALL))
        return reply.content


class Spared:
    """Through httpcore."""

    def __init__(self) -> None:
        spare_searching()
        self._pool = httpcore.AsyncConnectionPool(ssl_context=ssl.create_default_context())
        self._url = httpcore.URL(_URL)
        self._headers = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]

    async def call(self) -> bytes:
        """The reply's body."""
        return (await self._pool.request("POST", self._url, headers=self._headers, content=_CALL)).content


_caller: Bare | Spared | None = None


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Read the body, make the call, pass its reply on."""
    global _caller  # noqa: PLW0603 - one client for an instance
    if scope["type"] == "lifespan":
        while (message := await receive())["type"]:
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    while (await receive()).get("more_body"):
        pass
    if _caller is None:
        _caller = Spared() if os.environ.get("BENCH_SPARED") else Bare()
    body = await _caller.call()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
