"""A server that answers what a test tells it to."""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Receive, Scope, Send

from dev.faults import CLOSE, read_body, respond
from dev.serve import ThreadedServer
from lib.ai.checks import trivial
from tests.rig.clock import until

CHECK = trivial("")
"""The question that an instance asks on its own account, whatever its text: its session tells it from a caller's."""
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
    refuse: bool = False
    """Hang up without a reply."""
    cut: float | None = None
    """Announce the whole body, send this share of it and hang up."""
    trickle_s: float = 0.0
    """Send a byte at a time, with this much between two."""
    only: str = ""
    """What it is told holds for questions with this text; others are answered well."""
    waits: Callable[[], None] | None = None
    """Called when a request begins to be kept waiting, by ``hold`` or ``trickle_s``: see ``PatientLoop.jump``."""
    then: Callable[[], None] | None = None
    """Called once, in a thread, when the next request comes; it is answered afterwards."""
    url: str = ""
    asked: int = 0
    checks: int = 0
    """How often it was asked our own question, which is not among those ``asked``."""
    left: int = 0
    questions: list[Any] = field(default_factory=list)
    _loop: asyncio.AbstractEventLoop | None = None
    _go: asyncio.Event = field(default_factory=asyncio.Event)

    def reset(self, **about: Any) -> None:
        """Back to the beginning, but for what is given."""
        self.status, self.body, self.headers, self.hold, self.crowd = 200, GOOD, {}, False, 0
        self.refuse, self.cut, self.waits, self.then, self.only = False, None, None, None, ""
        self.asked, self.checks, self.left, self.trickle_s, self.questions = 0, 0, 0, 0.0, []
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
        await self._note(body)
        if self.only and self.only.encode() not in (body or b""):
            await respond(send, 200, GOOD)
            return
        if self.waits is not None and (self.hold or self.trickle_s):
            self.waits()
        go = self._go
        if self.crowd:
            if self.asked >= self.crowd:
                self._wake()
            else:
                await go.wait()
        elif self.hold and not await self._held(go, receive):
            self.left += 1
            return
        if not self.refuse:
            await self._answer(send)
        if self.refuse or self.cut is not None:
            scope["extensions"][CLOSE]()
            await _gone(receive)

    async def _note(self, body: bytes | None) -> None:
        question = json.loads(body) if body else None
        self._loop = asyncio.get_running_loop()
        self.questions.append(question)
        if isinstance(question, dict) and question.get("sessionId") == CHECK.session:
            self.checks += 1
        else:
            self.asked += 1
        if self.then is not None:
            then, self.then = self.then, None
            # Not in the loop that then may have to carry it out.
            await asyncio.to_thread(then)

    async def _answer(self, send: Send) -> None:
        about = {"content-length": str(len(self.body)), "content-type": "application/json", **self.headers}
        headers = [(name.encode(), value.encode()) for name, value in about.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        if self.trickle_s:
            for at in range(len(self.body)):
                await send({"type": "http.response.body", "body": self.body[at : at + 1], "more_body": True})
                await asyncio.sleep(self.trickle_s)
        share = 1.0 if self.cut is None else self.cut
        rest = b"" if self.trickle_s else self.body[: int(len(self.body) * share)]
        await send({"type": "http.response.body", "body": rest, "more_body": self.cut is not None})

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
