"""HTTP callers that cost next to nothing, so that what is measured is the server."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Got:
    """A reply."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float = 0.0

    def header(self, name: str) -> str:
        """A header, or an empty text."""
        return self.headers.get(name, "")


def post(path: str, body: object, headers: Mapping[str, str]) -> bytes:
    """The bytes of a POST request with a JSON body."""
    content = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "host: bench", "content-type: application/json"]
    lines += [f"content-length: {len(content)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def get(path: str, headers: Mapping[str, str]) -> bytes:
    """The bytes of a GET request."""
    lines = [f"GET {path} HTTP/1.1", "host: bench", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


class Connection:
    """A kept connection, used by one caller at a time; blocking."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None

    def send(self, request: bytes) -> Got:
        """One request and its whole reply. Raises OSError."""
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=120)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        started = time.perf_counter()
        self._socket.sendall(request)
        data = bytearray()
        while (reply := parse(data)) is None:
            chunk = self._socket.recv(1 << 18)
            if not chunk:
                self.close()
                raise ConnectionError("the server closed the connection")
            data += chunk
        seconds = time.perf_counter() - started
        if reply.header("connection").lower() == "close":
            self.close()
        return Got(reply.status, reply.headers, reply.body, seconds)

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def parse(data: bytearray) -> Got | None:
    """The reply that ``data`` holds, None while it is not complete."""
    head, found, rest = bytes(data).partition(b"\r\n\r\n")
    if not found:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    status = int(first.split(" ", 2)[1])
    if "content-length" in headers:
        length = int(headers["content-length"])
        return Got(status, headers, rest[:length]) if len(rest) >= length else None
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = _joined(rest)
        return None if body is None else Got(status, headers, body)
    return Got(status, headers, b"")


def _joined(rest: bytes) -> bytes | None:
    body, at = bytearray(), 0
    while True:
        end = rest.find(b"\r\n", at)
        if end < 0:
            return None
        size = int(rest[at:end].split(b";")[0], 16)
        if len(rest) < end + 2 + size + 2:
            return None
        if size == 0:
            return bytes(body)
        body += rest[end + 2 : end + 2 + size]
        at = end + 2 + size + 2


async def flood(port: int, requests: Sequence[bytes], callers: int) -> tuple[float, list[Got]]:
    """Send all requests over ``callers`` connections at once; the seconds it took, and the replies."""
    waiting = iter(requests)
    replies: list[Got] = []

    async def caller(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for request in waiting:
            started = time.perf_counter()
            writer.write(request)
            data = bytearray()
            while (reply := parse(data)) is None:
                chunk = await reader.read(1 << 18)
                if not chunk:
                    raise ConnectionError("the server closed the connection")
                data += chunk
            replies.append(Got(reply.status, reply.headers, reply.body, time.perf_counter() - started))
        writer.close()

    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(callers)]
    started = time.perf_counter()
    await asyncio.gather(*(caller(*each) for each in connections))
    return time.perf_counter() - started, replies
