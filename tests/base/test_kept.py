"""Kept connections that the other side ends just as they are reused: retried where nothing can have been executed."""

import errno
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpcore
import httpx
import pytest

from lib.base.http import new_client, new_pool
from lib.base.kept import Looking, _Stream

pytestmark = pytest.mark.anyio

REPLY = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
BODY = b"x" * 200


@dataclass
class Server:
    """Executes what it reads whole, and counts it; what it does after so many requests is up to the test."""

    listener: socket.socket
    dies: Callable[[int], bool] = lambda number: False
    """Whether it ends the connection instead of replying to a request that it has executed."""
    executed: int = 0
    kept: list[socket.socket] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}/"

    def serve(self) -> None:
        """Until the listener is closed."""
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.kept.append(connection)
            self.threads.append(threading.Thread(target=self._talk, args=(connection,), daemon=True))
            self.threads[-1].start()

    def _talk(self, connection: socket.socket) -> None:
        read = b""
        while True:
            try:
                more = connection.recv(65_536)
            except OSError:
                more = b""
            if not more:
                connection.close()
                return
            read += more
            if len(read.partition(b"\r\n\r\n")[2]) >= len(BODY):
                self.executed, read = self.executed + 1, b""
                if self.dies(self.executed):
                    connection.close()
                    return
                connection.sendall(REPLY)

    def end_all(self) -> None:
        """End every connection that is kept."""
        for each in self.kept:
            with suppress(OSError):
                # Unless it is closed already.
                each.shutdown(socket.SHUT_RDWR)
        self.kept.clear()


@contextmanager
def serving(**about: Any) -> Iterator[Server]:
    """A server in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Server(listener, **about)
        threading.Thread(target=server.serve, daemon=True).start()
        yield server
        server.end_all()
        listener.shutdown(socket.SHUT_RDWR)
        for thread in server.threads:
            thread.join()


@pytest.mark.parametrize(
    ("looking", "failed"), [pytest.param(False, 149, id="as httpcore is"), pytest.param(True, 0, id="as it is here")]
)
async def test_ended_just_as_it_is_reused(looking: bool, failed: int) -> None:
    """CASE 16: aimed at, every reuse fails without the last look, and none with it; nothing is executed twice."""
    failures = 0
    with serving() as server:
        async with new_pool() if looking else httpcore.AsyncConnectionPool() as pool:
            await pool.request("POST", server.url, content=BODY)
            for _ in range(149):
                before = server.executed
                ended: list[str] = []

                async def trace(event: str, _: Any, ended: list[str] = ended) -> None:
                    # Between httpcore's own look and the first byte; the retry is left alone.
                    if event == "http11.send_request_headers.started" and not ended:
                        ended.append(event)
                        server.end_all()

                try:
                    await pool.request("POST", server.url, content=BODY, extensions={"trace": trace})
                except (httpcore.NetworkError, httpcore.ProtocolError):
                    failures += 1
                    assert server.executed == before
                    await pool.request("POST", server.url, content=BODY)
                assert server.executed == before + 1
    assert failures == failed


async def test_providers_are_called_in_the_same_way() -> None:
    """httpx as well: the client that everything but Redis is called by."""
    with serving() as server:
        async with new_client() as client:
            assert (await client.post(server.url, content=BODY)).text == "ok"
            ended: list[str] = []

            async def trace(event: str, _: Any) -> None:
                if event == "http11.send_request_headers.started" and not ended:
                    ended.append(event)
                    server.end_all()

            assert (await client.post(server.url, content=BODY, extensions={"trace": trace})).text == "ok"
            assert (len(ended), server.executed) == (1, 2)


@pytest.mark.parametrize("number", [1, 2], ids=["a new connection", "a kept one"])
async def test_what_may_have_been_executed_is_not_sent_again(number: int) -> None:
    """CASE 16: a server that executes and dies before its reply looks alike, but for the refusal; it is asked once."""
    with serving(dies=lambda executed: executed == number) as server:
        async with new_client() as client:
            for _ in range(number - 1):
                await client.post(server.url, content=BODY)
            with pytest.raises(httpx.RemoteProtocolError):
                await client.post(server.url, content=BODY)
            assert server.executed == number


class Inner(httpcore.AsyncNetworkStream):
    """A connection that a test makes fail."""

    def __init__(self, raw: socket.socket, fails: OSError | None, error: int = 0) -> None:
        self.raw, self.fails, self.error, self.replies = raw, fails, error, [b"reply"]

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's own
        """A reply, and then the failure, or an end."""
        if self.replies:
            return self.replies.pop()
        if self.fails is not None:
            raise httpcore.ReadError from self.fails
        return b""

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore's own
        """Nobody reads it."""

    def get_extra_info(self, info: str) -> Any:
        """Its socket, with an error pending."""
        return self if info == "socket" else False

    def fileno(self) -> int:
        """An open socket, on which nothing arrives."""
        return self.raw.fileno()

    def getsockopt(self, level: int, option: int) -> int:
        """SO_ERROR."""
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_ERROR)
        return self.error


@pytest.fixture
def raw() -> Iterator[socket.socket]:
    """A socket that is connected, to one that is silent."""
    one, other = socket.socketpair()
    with one, other:
        yield one


@pytest.mark.parametrize(
    ("fails", "error", "again"),
    [
        pytest.param(BrokenPipeError(), 0, True, id="ended, then reset"),
        pytest.param(ConnectionResetError(), 0, False, id="reset alone"),
        pytest.param(None, errno.EPIPE, True, id="ended, and reset a moment later"),
        pytest.param(None, errno.ECONNRESET, False, id="ended, and another error"),
        pytest.param(None, 0, False, id="ended"),
    ],
)
@pytest.mark.parametrize("kept", [True, False], ids=["kept", "new"])
async def test_what_a_failure_says(
    raw: socket.socket, fails: OSError | None, error: int, again: bool, kept: bool
) -> None:
    """Only an end that came before what was written, on a connection that was kept, is no failure."""
    inner = Inner(raw, fails, error)
    stream = _Stream(inner)
    if kept:
        await stream.write(b"head")
        await stream.write(b"")
        assert await stream.read(100) == b"reply"
    inner.replies.clear()
    await stream.write(b"head")
    await stream.write(b"body")
    try:
        found = await stream.read(100)
    except httpcore.ConnectionNotAvailable:
        assert again
        assert kept
    except httpcore.ReadError:
        assert fails is not None
        assert not (again and kept)
    else:
        assert found == b""
        assert not (again and kept)


async def test_a_failure_in_the_middle_of_a_reply(raw: socket.socket) -> None:
    """A byte of a reply: it was executed, whatever the error is."""
    stream = _Stream(Inner(raw, BrokenPipeError()))
    await stream.write(b"head")
    await stream.write(b"")
    await stream.read(100)
    with pytest.raises(httpcore.ReadError):
        await stream.read(100)


def test_pools_look() -> None:
    """Redis' connections and everybody else's."""
    assert isinstance(new_pool()._network_backend, Looking)
