"""Kept connections that the other side closes just as they are reused: the request goes out on another one instead.

A server ends a connection that nobody has used for a while, at a moment of its own. httpcore looks whether it has done
so when it chooses a connection, but the request is written some turns of the event loop later, its head before its
body; whoever is closed in between has its request fail, although nobody can have executed it. Here head and body go out
as one, and the last look is taken just before. Where the other side has ended the connection by then, nothing has been
written, and httpcore takes another connection, as it does for one that was taken by somebody else.

The end may also be on its way while the request is written. The other side's machine then refuses what arrives for a
connection that is closed: a reset after its end. Linux tells this apart: the error is EPIPE where the end came before
the reset, ECONNRESET where a reset came alone. After an end nothing is read any more, so with EPIPE and no byte of a
reply nobody can have executed the request. A process that reads it whole, executes it and dies ends the connection too,
but resets nothing.

Everything else is counted as before: whether it was executed is not known.
"""

import asyncio
import errno
import select
import socket
import ssl
from collections.abc import Iterable
from typing import Any

import httpcore

_REFUSED_WITHIN_S = (0.0, 0.001, 0.004, 0.015, 0.05, 0.1)


def _can_be_read(raw: Any) -> bool:
    """Whether a socket has something to be read, its end included; true of one that is closed."""
    if raw is None or (number := raw.fileno()) < 0:
        return True
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(number, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([number], [], [], 0)[0])


def _is_refusal(error: BaseException) -> bool:
    """Whether an error says that the connection was ended before what was written arrived."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, BrokenPipeError):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


class _Stream(httpcore.AsyncNetworkStream):
    """A connection that is looked at before each request but its first."""

    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner
        self._raw: Any = None
        """Its socket, once it was looked at."""
        self._head: bytes | None = None
        self._begins = True
        """What is written next is a request's head."""
        self._kept = False
        """A reply has been read before."""
        self._replied = False
        """A byte of the present reply has been read."""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's own
        """See httpcore."""
        if self._head is not None:
            await self.write(b"", timeout)
        try:
            found = await self._inner.read(max_bytes, timeout)
        except httpcore.ReadError as e:
            if self._kept and not self._replied and _is_refusal(e):
                raise httpcore.ConnectionNotAvailable from e
            raise
        if found:
            self._begins = self._kept = self._replied = True
        elif self._kept and not self._replied and await self._is_refused():
            raise httpcore.ConnectionNotAvailable
        return found

    async def _is_refused(self) -> bool:
        """Whether the other side, which has ended the connection, refuses what was written: within a round trip."""
        raw = self._socket()
        for wait_s in _REFUSED_WITHIN_S:
            if raw is None or raw.fileno() < 0:
                return False
            if (error := raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)) != 0:
                return bool(error == errno.EPIPE)
            await asyncio.sleep(wait_s)
        return False

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore's own
        """See httpcore; a request's head waits for what follows it. Raises ConnectionNotAvailable."""
        if self._begins:
            # What follows is at least an empty write, which ends the request.
            self._head, self._begins, self._replied = buffer, False, False
            return
        if self._head is not None:
            buffer, self._head = self._head + buffer, None
            # Nothing is due to be read here: what can be read is the other side's end.
            if self._kept and _can_be_read(self._socket()):
                raise httpcore.ConnectionNotAvailable
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        """See httpcore."""
        await self._inner.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's own
    ) -> httpcore.AsyncNetworkStream:
        """See httpcore."""
        return _Stream(await self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        """See httpcore, which asks several times a request whether there is something to be read.

        To find the socket costs more than to look at it: anyio collects all that it knows of a connection.
        """
        return _can_be_read(self._socket()) if info == "is_readable" else self._inner.get_extra_info(info)

    def _socket(self) -> Any:
        if self._raw is None:
            self._raw = self._inner.get_extra_info("socket")
        return self._raw


class Looking(httpcore.AsyncNetworkBackend):
    """Makes such connections."""

    def __init__(self) -> None:
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's own
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """See httpcore."""
        return _Stream(await self._inner.connect_tcp(host, port, timeout, local_address, socket_options))

    async def sleep(self, seconds: float) -> None:
        """See httpcore."""
        await self._inner.sleep(seconds)
