"""Many users on kept connections who ask at times of their own, whether the server keeps up or not."""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from bench.calling import Got, parse


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: when it is due, in seconds from the beginning, and who sends it."""

    due_s: float
    user: int
    request: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """What came, and how many milliseconds after the request was due: waiting for a busy server counts."""

    got: Got
    ms: float


class _Line:
    """A user's connection: a server closes one that was idle for some seconds, and the user opens another."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, request: bytes) -> Got:
        """One request, and its whole reply. Raises ConnectionError."""
        for _ in range(2):
            if self._open is None:
                self._open = await asyncio.open_connection("127.0.0.1", self._port)
            if (got := await self._exchange(*self._open, request)) is not None:
                return got
            await self.close()
        raise ConnectionError("the server closed the connection")

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> Got | None:
        writer.write(request)
        data = bytearray()
        while (got := parse(data)) is None:
            try:
                chunk = await reader.read(1 << 18)
            except ConnectionResetError:
                chunk = b""
            if not chunk:
                return None
            data += chunk
        return got

    async def close(self) -> None:
        """Hang up."""
        if self._open is not None:
            writer = self._open[1]
            self._open = None
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


async def _user(port: int, asks: Sequence[Ask], began: float) -> list[Reply]:
    """One user's requests, one after the other."""
    line, found = _Line(port), list[Reply]()
    for ask in asks:
        await asyncio.sleep(began + ask.due_s - time.perf_counter())
        got = await line.send(ask.request)
        found.append(Reply(got, (time.perf_counter() - began - ask.due_s) * 1000))
    await line.close()
    return found


async def _crowd(ports: Sequence[int], asks: Sequence[Ask]) -> list[Reply]:
    by_user: dict[int, list[Ask]] = {}
    for ask in asks:
        by_user.setdefault(ask.user, []).append(ask)
    began = time.perf_counter()
    users = (_user(ports[user % len(ports)], own, began) for user, own in by_user.items())
    return [reply for own in await asyncio.gather(*users) for reply in own]


def crowd(ports: Sequence[int], asks: Sequence[Ask]) -> list[Reply]:
    """Send everything when it is due, each user to an instance of their own choice; all replies, in no order."""
    return asyncio.run(_crowd(ports, asks))


def figures(replies: Sequence[Reply]) -> dict[str, Any]:
    """How long replies took, and where they came from by their own account."""
    took = sorted(each.ms for each in replies)
    states = Counter(each.got.header("x-cache") or "none" for each in replies)
    good = sum(each.got.status == 200 for each in replies)
    return {
        "replies": len(replies),
        "failed": len(replies) - good,
        "p50": round(statistics.median(took), 2),
        "p95": round(rank(took, 0.95), 2),
        "p99": round(rank(took, 0.99), 2),
        "longest": round(took[-1], 1),
        "by_x_cache": dict(states),
    }


def rank(took: Sequence[float], share: float) -> float:
    """The least of them that so large a share does not exceed."""
    return sorted(took)[max(0, math.ceil(len(took) * share) - 1)]
