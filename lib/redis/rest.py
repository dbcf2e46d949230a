"""Upstash Redis over REST.

Our own, because the vendor's client has no timeout, retries writes, drops the results beside a failed one and does not
look at the HTTP status (docs/decisions/0002). Over httpcore, the layer below httpx: redirects, cookies and encodings
have no part here, and cost a quarter of a call (docs/performance.md). It never retries: a reply lost after execution
costs the caller one call, a retry could admit two.
"""

import asyncio
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import field

import httpcore

from ..base.connecting import why
from ..base.encode import to_json
from ..base.values import dataclass
from .errors import Kind, RedisDown
from .op import Command, CommandError, Op, Reply, UnreadableReply


@dataclass(frozen=True, slots=True, eq=False)
class Upstash:
    """A Redis that is reached by REST. ``sent`` is called with the commands of each round trip when it is sent."""

    pool: httpcore.AsyncConnectionPool
    url: str
    token: str = field(repr=False)
    timeout_s: float
    connect_timeout_s: float
    sent: Callable[[Sequence[Command]], None] = lambda commands: None
    _url: httpcore.URL = field(init=False, repr=False)
    _headers: Sequence[tuple[bytes, bytes]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        headers = {
            "authorization": f"Bearer {self.token}",
            "content-type": "application/json",
            "accept-encoding": "identity",
        }
        object.__setattr__(self, "_url", httpcore.URL(f"{self.url}/pipeline"))
        object.__setattr__(self, "_headers", [(name.encode(), value.encode()) for name, value in headers.items()])

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
        # One bound for the whole round trip: a server that trickles its reply passes every read timeout.
        bound_s, extensions = self.timeout_s, None
        if not self._is_connected():
            # A new connection may take longer (a cold start pays for TLS), and only that.
            bound_s += self.connect_timeout_s
            others = dict.fromkeys(("pool", "read", "write"), self.timeout_s)
            extensions = {"timeout": {**others, "connect": self.connect_timeout_s}}
        body = to_json(commands)
        try:
            async with asyncio.timeout(min(bound_s, left_s)):
                response = await self.pool.request(
                    "POST", self._url, headers=self._headers, content=body, extensions=extensions
                )
        except (TimeoutError, httpcore.TimeoutException) as e:
            raise RedisDown("timeout", type(e).__name__) from e
        except (httpcore.NetworkError, httpcore.ProtocolError) as e:
            raise RedisDown("connection", why(e, self._url.host.decode())) from e
        return _replies(response, len(commands))

    def _is_connected(self) -> bool:
        """Whether an idle connection is available; the pool takes it before another request can."""
        return any(each.is_idle() and not each.has_expired() for each in self.pool.connections)


def _replies(response: httpcore.Response, expected: int) -> list[Reply]:
    status = response.status
    if status != 200:
        raise RedisDown(_kind(status, response.content[:4000].decode(errors="replace")), f"HTTP {status}")
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


_PLAIN = frozenset((int, str, type(None)))


def _checked(result: object) -> Reply:
    if result is None or isinstance(result, str | int):
        return result
    if isinstance(result, list):
        # A reading of the ledger is a thousand numbers.
        return [each if type(each) in _PLAIN else _checked(each) for each in result]
    raise RedisDown("protocol", f"a result of type {type(result).__name__}")


def _refused(error: str | None) -> Kind:
    """The kind of a reply that is an error, or (None) does not have the shape that its command promises."""
    if error is None:
        return "protocol"
    if _is_quota(error):
        return "quota"
    # Any other refusal (out of memory, read-only, still loading) would concern the next caller's key as well.
    return "command" if "WRONGTYPE" in error else "server"


def _is_quota(text: str) -> bool:
    return "max requests limit" in text or "max daily request limit" in text


def _kind(status: int, text: str) -> Kind:
    if _is_quota(text):
        return "quota"
    if status in (401, 403):
        return "unauthorized"
    return "throttled" if status == 429 else "server"
