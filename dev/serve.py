"""ASGI apps on loopback: in the running event loop (`serve`) or in a thread of their own (`ThreadedServer`).

uvicorn underneath, with three changes: it leaves signals to whoever runs the stack, it never touches the logging
configuration, and every request's scope offers to close its connection (`dev.faults.CLOSE`).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from dev.faults import CLOSE

HOST = "127.0.0.1"
_GRACE_S = 1
_START_S = 30.0


class ClosableProtocol(H11Protocol):
    """HTTP/1.1 whose requests may ask for their connection to be closed, without a reply or in the middle of one."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn does
        """Let every request on this connection find the way to close it in its scope."""
        super().connection_made(transport)
        app = self.app

        async def closable(scope: Scope, receive: Receive, send: Send) -> None:
            # Not abort(): what was written before must arrive, and the client shall see an orderly end, not a reset.
            scope["extensions"] = {**scope.get("extensions", {}), CLOSE: transport.close}
            await app(scope, receive, send)

        self.app = closable


class _Gathering:
    """A transport that writes what one turn of the event loop sends at once: head and body of a reply together."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._kept: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Keep it until the end of this turn."""
        if not self._kept:
            asyncio.get_running_loop().call_soon(self._flush)
        self._kept.append(data)

    def close(self) -> None:
        """Write what is kept, then close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        kept, self._kept = b"".join(self._kept), []
        if kept:
            self._transport.write(kept)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class GatheringProtocol(ClosableProtocol):
    """HTTP/1.1 whose replies arrive in one piece, so that reading them costs the same however busy the machine is."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn does
        """Put the gathering transport in the place of the connection's own."""
        super().connection_made(_Gathering(transport))  # type: ignore[arg-type] # all that a transport does


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, which says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


class Served:
    """An app that is being served in this event loop."""

    def __init__(self, server: _Server, task: asyncio.Task[None], port: int) -> None:
        self._server = server
        self._task = task
        self.port = port
        self.url = f"http://{HOST}:{port}"

    async def stop(self) -> None:
        """Stop listening, give running requests a second, end the app's lifespan. May be called twice."""
        self._server.should_exit = True
        await asyncio.wait([self._task])
        if not self._task.cancelled() and (error := self._task.exception()):
            raise error


async def serve(app: ASGIApp, port: int = 0, protocol: type[ClosableProtocol] = ClosableProtocol) -> Served:
    """Serve `app` on loopback, on a free port unless one is given, and return once it listens.

    Raises OSError when the port is taken, RuntimeError when the app's lifespan does not start.
    """
    listener = _listen(port)
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="auto",
        access_log=False,
        # Else uvicorn trusts X-Forwarded-For from loopback, before our own rule about proxies is applied.
        proxy_headers=False,
        log_config=None,
        log_level="error",
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=_GRACE_S,
    )
    server = _Server(config)
    task = asyncio.create_task(_run(server, listener))
    listening = asyncio.create_task(server.listening.wait())
    try:
        await asyncio.wait([task, listening], return_when=asyncio.FIRST_COMPLETED)
    finally:
        listening.cancel()
    if task.done():
        await task
    return Served(server, task, listener.getsockname()[1])


def _listen(port: int) -> socket.socket:
    # The protocol is named, which socket.create_server() does not do: asyncio turns Nagle's algorithm off only where it
    # sees IPPROTO_TCP. With it on, head and body of a reply go out in two packets, 40 ms apart.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(512)
    except OSError:
        listener.close()
        raise
    return listener


async def _run(server: _Server, listener: socket.socket) -> None:
    with listener:
        try:
            await server.serve(sockets=[listener])
        except SystemExit as ended:  # uvicorn's way to report a lifespan that failed; the app's error is in the log
            raise RuntimeError("the app could not be started: its lifespan failed") from ended


class ThreadedServer:
    """A context manager that serves an app from an event loop in a daemon thread, so that a test's own loop is free."""

    def __init__(self, app: ASGIApp, port: int = 0, protocol: type[ClosableProtocol] = ClosableProtocol) -> None:
        self.port = port
        self.url = ""
        self._app = app
        self._protocol = protocol
        self._ready: Future[tuple[Served, asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = threading.Thread(target=self._run, name="dev.serve", daemon=True)

    def start(self) -> Self:
        """Return once the app listens; `url` and `port` say where."""
        self._thread.start()
        served, _, _ = self._ready.result(_START_S)
        self.port, self.url = served.port, served.url
        return self

    def stop(self) -> None:
        """Stop serving and wait for the thread's end."""
        if self._thread.is_alive():
            _, loop, stop = self._ready.result()
            loop.call_soon_threadsafe(stop.set)
            self._thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)  # it belongs to the thread that waits in start()

    async def _serve(self) -> None:
        stop = asyncio.Event()
        served = await serve(self._app, self.port, self._protocol)
        self._ready.set_result((served, asyncio.get_running_loop(), stop))
        await stop.wait()
        await served.stop()
