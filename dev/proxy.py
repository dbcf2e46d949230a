"""A TCP proxy that breaks connections as networks do, below HTTP: for what `dev.faults` cannot act out.

with Proxy("127.0.0.1", 5432) as proxy:
    proxy.fault = "reset"

pass     carries everything
refuse   listens no more: a new connection is refused, those there are closed
hang     accepts, reads, and never answers
reset    resets the connection at the first byte of a request
lose     lets the request through, and resets the connection instead of carrying the reply
trickle  carries the reply a byte at a time, 20 ms apart
flap     carries every other request and resets the rest
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Literal, Self, get_args

type Fault = Literal["pass", "refuse", "hang", "reset", "lose", "trickle", "flap"]

FAULTS: tuple[Fault, ...] = get_args(Fault.__value__)
HOST = "127.0.0.1"
_TRICKLE_S = 0.02
# On, and zero seconds: close() sends a reset and forgets what was not sent.
_RESET = struct.pack("ii", 1, 0)


class Proxy:
    """A port on loopback that leads to another. A context manager; runs in a thread of its own.

    ``waits`` is called when a request begins to be kept waiting, by `hang` or `trickle`: tests that set the time by
    hand move it on then.
    """

    def __init__(self, host: str, port: int, waits: Callable[[], None] = lambda: None) -> None:
        self._waits = waits
        self._to = (host, port)
        self._fault: Fault = "pass"
        self._requests = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="dev.proxy", daemon=True)
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self.port = int(probe.getsockname()[1])

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self.port}"

    def set(self, fault: Fault) -> None:
        """Break connections in this way from now on; returns when it has taken effect."""
        loop, _ = self._ready.result()
        asyncio.run_coroutine_threadsafe(self._set(fault), loop).result(5)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.result(5)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        loop, stop = self._ready.result()
        loop.call_soon_threadsafe(stop.set)
        self._thread.join()

    async def _run(self) -> None:
        stop = asyncio.Event()
        await self._listen()
        self._ready.set_result((asyncio.get_running_loop(), stop))
        await stop.wait()
        await self._set("refuse")

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._carry, HOST, self.port)

    async def _set(self, fault: Fault) -> None:
        was, self._fault = self._fault, fault
        if fault == "refuse" and self._server is not None:
            self._server.close()
            self._server = None
            for writer in list(self._writers):
                writer.close()
        elif was == "refuse" and fault != "refuse":
            await self._listen()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            there_reader, there = await asyncio.open_connection(*self._to)
        except OSError:
            self._reset(writer)
            return
        back = asyncio.ensure_future(self._back(there_reader, writer))
        waits = False
        try:
            while data := await reader.read(65_536):
                if self._fault == "hang":
                    if not waits:
                        waits = True
                        self._waits()
                    continue
                self._requests += 1
                if self._fault == "reset" or (self._fault == "flap" and self._requests % 2):
                    self._reset(writer)
                    return
                there.write(data)
                await there.drain()
        except (ConnectionError, OSError):
            pass
        finally:
            back.cancel()
            self._writers.discard(writer)
            for each in (there, writer):
                with contextlib.suppress(ConnectionError, OSError):
                    each.close()

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                if self._fault == "lose":
                    self._reset(writer)
                    return
                if self._fault != "trickle":
                    writer.write(data)
                    await writer.drain()
                    continue
                self._waits()
                for at in range(len(data)):
                    writer.write(data[at : at + 1])
                    await writer.drain()
                    await asyncio.sleep(_TRICKLE_S)
        except (ConnectionError, OSError):
            # What was reset behind the proxy is closed before it: nobody waits for a server that is gone.
            pass
        finally:
            writer.close()

    @staticmethod
    def _reset(writer: asyncio.StreamWriter) -> None:
        connection = writer.get_extra_info("socket")
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        writer.transport.abort()
