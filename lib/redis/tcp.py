"""Redis over TCP, by redis-py's connections: the second transport of the port (``store.py``).

Only its connections: its client retries, and its pipelines turn replies into values of its own. A round trip has one
bound, as over REST, and is never repeated. A connection whose round trip did not end is closed: the replies that are
still on their way would be taken for those of the next one.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..base.connecting import why
from ..base.values import dataclass
from .errors import Kind, RedisDown, is_quota, refused
from .op import Command, CommandError, Op, Reply, UnreadableReply
from .store_time import StoreTime

if TYPE_CHECKING:
    from redis.asyncio.connection import Connection

_TIME: Command = ("TIME",)
_MOST = 100
"""So many round trips at once; the others wait for theirs."""
_IDLE_S = 240.0
"""A connection that has been idle for longer is not used again: servers and networks give up on such."""


@dataclass(slots=True, eq=False)
class Tcp:
    """A Redis reached by ``redis://`` or ``rediss://``. ``sent`` and ``time``: as in :class:`..rest.Upstash`.

    ``ca``: certificates (PEM, or the path of a file) that sign the server's; without it those that the system trusts.
    """

    url: str = field(repr=False)
    timeout_s: float
    connect_timeout_s: float
    sent: Callable[[Sequence[Command]], None] = lambda commands: None
    time: StoreTime | None = None
    ca: str | None = None
    _idle: "list[tuple[Connection, float]]" = field(default_factory=list)
    """Connections, each with when it was last used; the last one used is at the end."""
    _room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_MOST))

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
        asks = time is not None and time.offset.asks(time.local_ms())
        try:
            replies, began, ended = await self._exchange([*commands, _TIME] if asks else commands, left_s)
        except BaseException:
            if asks and time is not None:
                time.offset.untimed(time.local_ms())
            raise
        if asks and time is not None:
            time.heard(replies.pop(), began, ended)
        return replies

    async def aclose(self) -> None:
        """Close all connections."""
        while self._idle:
            connection, _ = self._idle.pop()
            await connection.disconnect(nowait=True)

    async def _exchange(self, commands: Sequence[Command], left_s: float) -> tuple[list[Reply], float, float]:
        """The replies, and when the commands left and the last reply was there, in local milliseconds."""
        connection: Connection | None = None
        whole = False
        try:
            async with asyncio.timeout(min(self.timeout_s, left_s)) as bound, self._room:
                connection = await self._take()
                if connection is None:
                    # A new connection may take longer, and only that: not what is said on it.
                    ends_s = asyncio.get_running_loop().time() + self._longest_s(left_s)
                    bound.reschedule(ends_s)

                    async def greet(made: "Connection") -> None:
                        bound.reschedule(min(ends_s, asyncio.get_running_loop().time() + self.timeout_s))
                        await made.on_connect()

                    connection = _made(self.url, self.ca, greet)
                    await connection.connect()  # type: ignore[no-untyped-call]
                self.sent(commands)
                began = self._now_ms()
                await connection.send_packed_command(packed(commands), check_health=False)
                replies = [await _reply(connection) for _ in commands]
                whole = True
                return replies, began, self._now_ms()
        except TimeoutError as e:
            raise RedisDown("timeout", type(e).__name__) from e
        except Exception as e:
            raise RedisDown(_kind(e), why(e, urlsplit(self.url).hostname)) from e
        finally:
            if connection is not None and whole:
                self._idle.append((connection, asyncio.get_running_loop().time()))
            elif connection is not None:
                await connection.disconnect(nowait=True)

    def _longest_s(self, left_s: float) -> float:
        return min(self.timeout_s + self.connect_timeout_s, left_s)

    async def _take(self) -> "Connection | None":
        """An idle connection that is still open, as far as can be seen from here."""
        now = asyncio.get_running_loop().time()
        while self._idle:
            connection, used = self._idle.pop()
            reader = connection._reader
            if reader is not None and not reader.at_eof() and now - used < _IDLE_S:
                return connection
            await connection.disconnect(nowait=True)
        return None

    def _now_ms(self) -> float:
        return self.time.local_ms() if self.time is not None else 0.0


def _made(url: str, ca: str | None, greet: "Callable[[Connection], Awaitable[None]]") -> "Connection":
    """A connection that is not open yet; ``greet`` is called when it is, and signs in."""
    # Only where this transport is used.
    from redis.asyncio.connection import Connection, parse_url
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    options: dict[str, Any] = dict(parse_url(url))
    kind = options.pop("connection_class", Connection)
    if ca is not None and url.startswith("rediss://"):
        options["ssl_ca_data" if ca.startswith("-----BEGIN") else "ssl_ca_certs"] = ca
    made: Connection = kind(
        **options,
        # One deadline for the round trip, which is ours.
        socket_timeout=None,
        socket_connect_timeout=None,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        client_name="breakwater",
        redis_connect_func=greet,
        driver_info=None,
        decode_responses=True,
        # What is not UTF-8 was not written by us.
        encoding_errors="replace",
    )
    return made


def packed(commands: Sequence[Command]) -> bytes:
    """Commands as the protocol has them: arrays of texts. redis-py packs any value, at three times the cost."""
    pieces = list[bytes]()
    for command in commands:
        words = [str(word).encode(errors="replace") for word in command]
        pieces.append(b"*%d\r\n" % len(words))
        pieces += [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
    return b"".join(pieces)


async def _reply(connection: "Connection") -> Reply:
    from redis.exceptions import NoPermissionError, ResponseError

    try:
        return _checked(await connection.read_response())
    except NoPermissionError as e:
        return CommandError(f"NOPERM {e}")
    except ResponseError as e:
        if is_quota(str(e)):
            # Said of one command, it is true of all.
            raise RedisDown("quota", type(e).__name__) from e
        return CommandError(str(e))


def _checked(reply: object) -> Reply:
    if reply is None or isinstance(reply, str | int):
        return reply
    if isinstance(reply, list):
        return [_checked(each) for each in reply]
    if isinstance(reply, Exception):
        return CommandError(str(reply))
    raise RedisDown("protocol", f"a result of type {type(reply).__name__}")


def _kind(error: Exception) -> Kind:
    from redis.exceptions import (
        AuthenticationError,
        AuthorizationError,
        BusyLoadingError,
        InvalidResponse,
        ResponseError,
    )
    from redis.exceptions import TimeoutError as RedisTimeout

    match error:
        case RedisDown(kind=kind):
            return kind
        case AuthenticationError() | AuthorizationError():
            return "unauthorized"
        case RedisTimeout():
            return "timeout"
        case InvalidResponse():
            return "protocol"
        case BusyLoadingError() | ResponseError():
            return "server"
    return "connection"
