"""Upstash Redis over REST.

Our own, because the vendor's client has no timeout, retries writes, drops the results beside a failed one and does not
look at the HTTP status (docs/decisions/0002). Over httpcore, the layer below httpx: redirects, cookies and encodings
have no part here, and cost a quarter of a call (docs/performance.md). It never retries: a reply lost after execution
costs the caller one call, a retry could admit two.
"""

import asyncio
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field

import httpcore

from ..base.connecting import why
from ..base.encode import to_json
from ..base.values import dataclass
from .errors import Kind, RedisDown, is_quota, refused
from .op import Command, CommandError, Op, Reply, UnreadableReply
from .store_time import StoreTime

_TIME: Command = ("TIME",)


@dataclass(slots=True, eq=False)
class _UnderWay:
    """When a request left, once there was a connection for it, and when its reply began."""

    time: StoreTime
    sent: float
    received: float = 0.0

    async def trace(self, event: str, _: Mapping[str, object]) -> None:
        """See httpcore's ``trace``."""
        if event == "http11.send_request_headers.started":
            self.sent = self.time.local_ms()
        elif event == "http11.receive_response_headers.complete":
            self.received = self.time.local_ms()


@dataclass(frozen=True, slots=True, eq=False)
class Upstash:
    """A Redis reached by REST.

    ``sent`` is told what each round trip carries, once it is on its way; ``time``, where there is one, learns from the
    replies what time it is.
    """

    pool: httpcore.AsyncConnectionPool
    url: str
    token: str = field(repr=False)
    timeout_s: float
    connect_timeout_s: float
    sent: Callable[[Sequence[Command]], None] = lambda commands: None
    time: StoreTime | None = None
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
            raise RedisDown(refused(e.error), str(e)) from e

    async def send(self, commands: Sequence[Command], left_s: float = math.inf) -> list[Reply]:
        """Send commands in one round trip; not atomic. A refused command is a CommandError in its place."""
        if not commands:
            return []
        time = self.time
        if time is None:
            self.sent(commands)
            return _replies(await self._post(commands, left_s, None), len(commands))
        sent = time.local_ms()
        if time.offset.asks(sent):
            return await self._send_and_ask_time(time, [*commands, _TIME], left_s)
        self.sent(commands)
        response = await self._post(commands, left_s, None)
        if time.offset.looks(sent) and (date := _date(response)):
            time.dated(date, sent, time.local_ms())
        return _replies(response, len(commands))

    async def _send_and_ask_time(self, time: StoreTime, commands: Sequence[Command], left_s: float) -> list[Reply]:
        """Send commands of which the last asks for the store's time; its reply is not among those returned."""
        self.sent(commands)
        under_way = _UnderWay(time, time.local_ms())
        try:
            response = await self._post(commands, left_s, under_way)
            *replies, told = _replies(response, len(commands))
        except BaseException:
            time.offset.untimed(time.local_ms())
            raise
        time.heard(told, under_way.sent, under_way.received or time.local_ms())
        return replies

    async def _post(self, commands: Sequence[Command], left_s: float, under_way: _UnderWay | None) -> httpcore.Response:
        # One bound for the whole round trip: a server that trickles its reply passes every read timeout.
        bound_s, extensions = self.timeout_s, dict[str, object]()
        if not self._is_connected():
            # A new connection may take longer (a cold start pays for TLS), and only that.
            bound_s += self.connect_timeout_s
            others = dict.fromkeys(("pool", "read", "write"), self.timeout_s)
            extensions["timeout"] = {**others, "connect": self.connect_timeout_s}
        if under_way is not None:
            extensions["trace"] = under_way.trace
        body = to_json(commands)
        try:
            async with asyncio.timeout(min(bound_s, left_s)):
                return await self.pool.request(
                    "POST", self._url, headers=self._headers, content=body, extensions=extensions
                )
        except (TimeoutError, httpcore.TimeoutException) as e:
            raise RedisDown("timeout", type(e).__name__) from e
        except (httpcore.NetworkError, httpcore.ProtocolError) as e:
            raise RedisDown("connection", why(e, self._url.host.decode())) from e

    async def aclose(self) -> None:
        """Close all connections."""
        await self.pool.aclose()

    def _is_connected(self) -> bool:
        """Whether an idle connection is available; the pool takes it before another request can."""
        return any(each.is_idle() and not each.has_expired() for each in self.pool.connections)


def _date(response: httpcore.Response) -> str:
    """When the reply was made, as it says; empty where it does not."""
    return next((value.decode("latin-1") for name, value in response.headers if name.lower() == b"date"), "")


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


def _kind(status: int, text: str) -> Kind:
    if is_quota(text):
        return "quota"
    if status in (401, 403):
        return "unauthorized"
    return "throttled" if status == 429 else "server"
