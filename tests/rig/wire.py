"""Before a Redis that is reached over TCP: the faults of ``dev.faults`` as RESP has them; round trips are counted."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from dev.faults import HANG_S, Fault, Faults
from dev.upstash import error_body

HOST = "127.0.0.1"
_CONNECTING = {"AUTH", "CLIENT", "HELLO", "SELECT"}
"""What opens a connection is no round trip of a request's, and does not fail."""

type Before = Callable[[bytes], Awaitable[bytes | None]]
"""Is told of each request, its commands as JSON; what it returns is the reply, to each of them."""


async def nothing_before(body: bytes) -> bytes | None:
    """All requests go on."""
    return None


class Wire:
    """A port that leads to a Redis. A context manager; runs in a thread of its own."""

    def __init__(self, url: str, faults: Faults, before: Before = nothing_before) -> None:
        self._to = (urlsplit(url).hostname or HOST, urlsplit(url).port or 6379)
        self._faults, self._before = faults, before
        self.round_trips = 0
        self._ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="wire", daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._ready.result(5)[2]

    @property
    def url(self) -> str:
        """The same, as settings have it."""
        return f"redis://{HOST}:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.result(5)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        loop, stop, _ = self._ready.result()
        loop.call_soon_threadsafe(stop.set)
        self._thread.join()

    async def _run(self) -> None:
        stop, carried = asyncio.Event(), set[asyncio.Task[None]]()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._carry(reader, writer))
            carried.add(task)
            task.add_done_callback(carried.discard)

        server = await asyncio.start_server(connected, HOST, 0)
        self._ready.set_result((asyncio.get_running_loop(), stop, server.sockets[0].getsockname()[1]))
        await stop.wait()
        server.close()
        for task in list(carried):
            task.cancel()
        await asyncio.gather(*carried, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there: asyncio.StreamWriter | None = None
        try:
            there_reader, there = await asyncio.open_connection(*self._to)
            while commands := await _request(reader):
                if not await self._serve(commands, _Ends(reader, writer, there_reader, there)):
                    return
        except (OSError, asyncio.IncompleteReadError):
            # One of both has left.
            pass
        finally:
            for each in (writer, there):
                if each is not None:
                    each.close()

    async def _serve(self, commands: list[list[bytes]], ends: "_Ends") -> bool:
        """One request; whether the connection stays."""
        if {command[0].decode().upper() for command in commands} <= _CONNECTING:
            await ends.pass_on(commands)
            return True
        self.round_trips += 1
        body = _as_json(commands)
        if (odd := await self._before(body)) is not None:
            ends.client.write(odd * len(commands))
            return True
        fault = self._faults.next("/pipeline", body)
        if fault is None:
            await ends.pass_on(commands)
            return True
        return await self._spoil(fault, commands, ends)

    async def _spoil(self, fault: Fault, commands: list[list[bytes]], ends: "_Ends") -> bool:
        match fault.kind:
            case "delay":
                self._faults.waits()
                replies = await ends.ask(commands)
                await asyncio.sleep(fault.delay_ms / 1000)
                ends.client.write(replies)
                return True
            case "one_failed":
                ends.client.write(b"-ERR injected failure of one command\r\n" + await ends.ask(commands[1:]))
                return True
            case "status":
                ends.client.write(_error(fault.status or 503) * len(commands))
                return True
            case "hang":
                self._faults.waits()
                async with asyncio.timeout(HANG_S):
                    await ends.reader.read()
            case "drop":
                await ends.ask(commands)
            case "cut":
                replies = await ends.ask(commands)
                ends.client.write(replies[: len(replies) // 2])
            case "html" | "not_json":
                ends.client.write(b"The service is starting, please wait.\r\n")
            case _:
                pass
        return False


@dataclass(frozen=True)
class _Ends:
    """Both ends of a connection."""

    reader: asyncio.StreamReader
    client: asyncio.StreamWriter
    there_reader: asyncio.StreamReader
    there: asyncio.StreamWriter

    async def ask(self, commands: list[list[bytes]]) -> bytes:
        """Redis' replies."""
        for command in commands:
            parts = b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in command)
            self.there.write(b"*%d\r\n%b" % (len(command), parts))
        return b"".join([await _reply(self.there_reader) for _ in commands])

    async def pass_on(self, commands: list[list[bytes]]) -> None:
        """The same, to the client."""
        self.client.write(await self.ask(commands))


async def _request(reader: asyncio.StreamReader) -> list[list[bytes]]:
    """The commands that came together; none where the client has left."""
    commands = [await _command(reader)] if not reader.at_eof() else []
    buffered: Any = reader
    # What was sent at once lies there at once: a request's last command is whole when nothing is left.
    while commands and commands[-1] and buffered._buffer:
        commands.append(await _command(reader))
    return [command for command in commands if command]


async def _command(reader: asyncio.StreamReader) -> list[bytes]:
    head = await reader.readline()
    if not head:
        return []
    found = list[bytes]()
    for _ in range(int(head[1:])):
        size = int((await reader.readline())[1:])
        found.append((await reader.readexactly(size + 2))[:-2])
    return found


async def _reply(reader: asyncio.StreamReader) -> bytes:
    """One reply as it was sent."""
    head = await reader.readuntil(b"\r\n")
    size = int(head[1:]) if head[:1] in b"$*" else 0
    if head[:1] == b"$" and size >= 0:
        return head + await reader.readexactly(size + 2)
    if head[:1] == b"*":
        return head + b"".join([await _reply(reader) for _ in range(size)])
    return head


def _as_json(commands: list[list[bytes]]) -> bytes:
    """As they would be sent over REST, so that faults find the same texts."""

    def told(part: bytes) -> str | int:
        text = part.decode(errors="replace")
        return int(text) if text.removeprefix("-").isdecimal() else text

    texts = [[told(part) for part in command] for command in commands]
    return json.dumps(texts, separators=(",", ":"), ensure_ascii=False).encode()


def _error(status: int) -> bytes:
    """What Redis says where Upstash would answer with this status."""
    words = {401: "NOAUTH Authentication required.", 429: error_body(429)["error"]}
    return f"-{words.get(status, 'LOADING Redis is loading the dataset in memory')}\r\n".encode()
