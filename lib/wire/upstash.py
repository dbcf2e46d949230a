"""Upstash Redis over REST.

Our own, over httpx, because the vendor's client has no timeout, retries writes, drops the results beside a failed one
and does not look at the HTTP status (docs/decisions/0002). It never retries: a reply lost after execution costs the
caller one call, a retry could admit two.
"""

import asyncio
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import httpx

from lib.encode import to_json
from lib.rules.op import Command, CommandError, Op, Reply, UnreadableReply

type Kind = Literal[
    "timeout",
    "connection",
    "unauthorized",
    "throttled",
    "quota",
    "server",
    "protocol",
    "command",  # one command was refused, for what its key holds
    "resting",  # not asked: it failed a moment ago
]


class RedisDown(Exception):
    """Redis gave no usable reply. ``kind`` says how; the message holds no token and no value."""

    def __init__(self, kind: Kind, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind: Kind = kind


@dataclass(frozen=True, slots=True)
class Upstash:
    """A Redis reached by REST. ``sent`` is told how many commands each round trip carried, once it is on its way."""

    client: httpx.AsyncClient
    url: str
    token: str
    timeout_s: float
    connect_timeout_s: float
    sent: Callable[[Sequence[Command]], None] = lambda commands: None
    # The same for every call, and a good part of what one costs when httpx puts it together anew.
    _url: httpx.URL = field(init=False, repr=False)
    _headers: httpx.Headers = field(init=False, repr=False)

    def __post_init__(self) -> None:
        own = {"authorization": f"Bearer {self.token}", "content-type": "application/json"}
        encodings = {name: value for name, value in self.client.headers.items() if name == "accept-encoding"}
        object.__setattr__(self, "_url", httpx.URL(f"{self.url}/pipeline"))
        object.__setattr__(self, "_headers", httpx.Headers({**encodings, **own}))

    async def run[T](self, op: Op[T], left_s: float = math.inf) -> T:
        """Send an operation in one round trip of at most ``left_s`` seconds and read its replies. Raises RedisDown."""
        replies = await self.send(op.commands, left_s)
        try:
            return op.read(replies)
        except UnreadableReply as e:
            raise RedisDown(_refused(e.error), str(e)) from e

    async def send(self, commands: Sequence[Command], left_s: float = math.inf) -> list[Reply]:
        """Send commands in one round trip; not atomic. A refused command is a CommandError in its place."""
        if not commands:
            return []
        self.sent(commands)
        now = asyncio.get_running_loop().time
        started = now()
        try:
            # One bound for the whole round trip: a server that trickles its reply passes every read timeout.
            async with asyncio.timeout(min(self.timeout_s, left_s)) as patience:

                async def trace(event: str, _: object) -> None:
                    # A new connection may take longer (a cold start pays for TLS), and only that.
                    if event == "connection.connect_tcp.started":
                        patience.reschedule(started + min(self.connect_timeout_s + self.timeout_s, left_s))

                request = self._request(to_json(commands))
                request.extensions["trace"] = trace
                response = await self.client.send(request)
        except (TimeoutError, httpx.TimeoutException) as e:
            raise RedisDown("timeout", type(e).__name__) from e
        except httpx.HTTPError as e:
            raise RedisDown("connection", type(e).__name__) from e
        return _replies(response, len(commands))

    def _request(self, body: bytes) -> httpx.Request:
        timeout = httpx.Timeout(self.timeout_s, connect=self.connect_timeout_s)
        extensions = {"timeout": timeout.as_dict()}
        return httpx.Request("POST", self._url, headers=self._headers, content=body, extensions=extensions)


def _replies(response: httpx.Response, expected: int) -> list[Reply]:
    status = response.status_code
    if status != 200:
        raise RedisDown(_kind(status, response.text[:1000]), f"HTTP {status}")
    try:
        items = json.loads(response.content)
    except (ValueError, RecursionError) as e:
        raise RedisDown("protocol", "the reply is not JSON") from e
    if not isinstance(items, list) or len(items) != expected:
        raise RedisDown("protocol", f"the reply is not a list of {expected}")
    return [_reply(item) for item in items]


def _reply(item: object) -> Reply:
    match item:
        case {"error": str(message)}:
            return CommandError(message)
        case {"result": result}:
            return _checked(result)
    raise RedisDown("protocol", "an item of the reply has neither a result nor an error")


def _checked(result: object) -> Reply:
    if result is None or isinstance(result, str | int):
        return result
    if isinstance(result, list):
        return [_checked(each) for each in result]
    raise RedisDown("protocol", f"a result of type {type(result).__name__}")


def _refused(error: str | None) -> Kind:
    """What a reply says that is an error, or (None) has not the shape its command promises."""
    if error is None:
        return "protocol"
    if _is_quota(error):
        return "quota"
    # Any other refusal (out of memory, read-only, still loading) would meet the next caller's key as well.
    return "command" if "WRONGTYPE" in error else "server"


def _is_quota(text: str) -> bool:
    return "max requests limit" in text or "max daily request limit" in text


def _kind(status: int, text: str) -> Kind:
    if _is_quota(text):
        return "quota"
    if status in (401, 403):
        return "unauthorized"
    return "throttled" if status == 429 else "server"
