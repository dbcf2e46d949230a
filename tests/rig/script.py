"""A server that answers what a test tells it to."""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Receive, Scope, Send

from dev.faults import CLOSE, read_body
from dev.serve import ThreadedServer
from tests.rig.clock import until

GOOD = json.dumps({"answer": "Disk / is 41 % full.", "model": "scripted"}).encode()


@dataclass
class Script:
    """An AI backend that answers what it is told to. ``hold`` keeps calls until ``release``, or the caller leaves."""

    status: int = 200
    body: bytes = GOOD
    headers: Mapping[str, str] = field(default_factory=dict)
    hold: bool = False
    crowd: int = 0
    """Answer nobody before so many have asked."""
    cut: bool = False
    """Announce the whole body, send half of it and hang up."""
    trickle_s: float = 0.0
    """Send a byte at a time, with this much between two."""
    waits: Callable[[], None] | None = None
    """Called when a request begins to be kept waiting, by ``hold`` or ``trickle_s``: see ``PatientLoop.jump``."""
    url: str = ""
    asked: int = 0
    left: int = 0
    questions: list[Any] = field(default_factory=list)
    _loop: asyncio.AbstractEventLoop | None = None
    _go: asyncio.Event = field(default_factory=asyncio.Event)

    def reset(self, **about: Any) -> None:
        """Back to the beginning, but for what is given."""
        self.status, self.body, self.headers, self.hold, self.crowd = 200, GOOD, {}, False, 0
        self.cut, self.waits = False, None
        self.asked, self.left, self.trickle_s, self.questions = 0, 0, 0.0, []
        self.release()
        for name, value in about.items():
            setattr(self, name, value)

    def release(self) -> None:
        """Let everyone go who is held now."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._go.set()
        self._go = asyncio.Event()

    async def until(self, ready: Callable[["Script"], bool]) -> None:
        """Wait until the script, in its own thread, has seen what ``ready`` describes."""
        await until(lambda: ready(self))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = await read_body(receive)
        self._loop = asyncio.get_running_loop()
        self.questions.append(json.loads(body) if body else None)
        go = self._go
        self.asked += 1
        if self.waits is not None and (self.hold or self.trickle_s):
            self.waits()
        if self.crowd:
            if self.asked >= self.crowd:
                self._wake()
            else:
                await go.wait()
        elif self.hold and not await self._held(go, receive):
            self.left += 1
            return
        named = {"content-length": str(len(self.body)), "content-type": "application/json", **self.headers}
        headers = [(name.encode(), value.encode()) for name, value in named.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        if self.trickle_s:
            for at in range(len(self.body)):
                await send({"type": "http.response.body", "body": self.body[at : at + 1], "more_body": True})
                await asyncio.sleep(self.trickle_s)
            await send({"type": "http.response.body", "body": b""})
            return
        if self.cut:
            await send({"type": "http.response.body", "body": self.body[: len(self.body) // 2], "more_body": True})
            scope["extensions"][CLOSE]()
            await _gone(receive)
            return
        await send({"type": "http.response.body", "body": self.body})

    @staticmethod
    async def _held(go: asyncio.Event, receive: Receive) -> bool:
        """Whether the caller was still there when it was let go."""
        waits = [asyncio.ensure_future(go.wait()), asyncio.ensure_future(_gone(receive))]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return waits[0].done()
        finally:
            for wait in waits:
                wait.cancel()


async def _gone(receive: Receive) -> bool:
    while (await receive())["type"] != "http.disconnect":
        pass
    return True


@contextmanager
def scripted() -> Iterator[Script]:
    """A scripted server that listens."""
    script = Script()
    with ThreadedServer(script) as served:
        script.url = served.url
        yield script
