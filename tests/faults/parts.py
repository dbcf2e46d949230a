"""Around the instance of a fault test: a door before each store, and a provider that fails as it is told."""

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from dev.faults import CLOSE, read_body, respond
from tests.rig.clock import PatientLoop


@dataclass
class Waits:
    """Whoever keeps a request waiting says so here. Once all wait that will, time moves on in the instance's loop."""

    loop: PatientLoop | None = None
    crowd: int = 1
    """How many requests will be kept waiting at one time."""
    waiting: int = 0

    def __call__(self) -> None:
        """To the next timer, which is that of the call that waits."""
        self.waiting += 1
        if self.waiting == self.crowd and self.loop is not None:
            self.waiting = 0
            self.loop.jump()


@dataclass
class Door:
    """Stands before a store: tells when a request with a certain text comes, and may answer in its place."""

    app: ASGIApp
    text: str = ""
    then: Callable[[], None] | None = None
    odd: tuple[int, bytes] | None = None
    late_s: float = 0.0
    """What a reply takes, by the instance's time."""
    waits: Waits = field(default_factory=Waits)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = await read_body(receive)
        if body is None:
            return
        await self._before(body)
        if self.odd is not None:
            await respond(send, *self.odd)
            return
        first = True

        async def again() -> Any:
            nonlocal first
            if first:
                first = False
                return {"type": "http.request", "body": body, "more_body": False}
            return await receive()

        await self.app(scope, again, send)

    async def _before(self, body: bytes) -> None:
        if self.then is not None and self.text.encode() in body:
            then, self.then = self.then, None
            # Not in the loop that then has to carry it out.
            await asyncio.to_thread(then)
        if self.late_s and self.waits.loop is not None:
            await asyncio.wrap_future(self.waits.loop.move(self.late_s))


ANSWER = "Disk / is 41 % full."


@dataclass
class ScriptedProvider:
    """An AI backend that fails in the way it is told to, and counts how often it was asked.

    ``hang`` keeps a request waiting, and says so by ``waits``; ``hold`` keeps it until its caller leaves.
    """

    waits: Callable[[], None]
    how: str = "ok"
    then: Callable[[], None] | None = None
    asked: int = 0
    left: int = 0
    entered: threading.Event = field(default_factory=threading.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = await read_body(receive)
        self.asked += 1
        if self.then is not None:
            then, self.then = self.then, None
            await asyncio.to_thread(then)
        self.entered.set()
        how, streams = self.how, bool(body and json.loads(body).get("stream"))
        if how.isdecimal():
            await respond(send, int(how), b'{"error":{"message":"no"}}')
        elif how == "html":
            await respond(send, 502, b"<html>502</html>", b"text/html")
        elif how == "not_json":
            await respond(send, 200, b"please wait", b"text/plain")
        elif how == "empty":
            await respond(send, 200, json.dumps({"answer": " "}).encode())
        elif how == "too_large":
            await respond(send, 200, json.dumps({"answer": "x" * 1_100_000}).encode())
        elif how in ("hang", "hold", "refuse"):
            await self._leave(how, scope, receive)
        elif how.startswith("cut") or streams:
            await self._stream(how, streams, scope, receive, send)
        else:
            await respond(send, 200, json.dumps({"answer": ANSWER, "model": "scripted"}).encode())

    async def _leave(self, how: str, scope: Scope, receive: Receive) -> None:
        if how == "hang":
            self.waits()
        elif how != "hold":
            scope["extensions"][CLOSE]()
        while (await receive())["type"] != "http.disconnect":
            pass
        self.left += 1

    async def _stream(self, how: str, streams: bool, scope: Scope, receive: Receive, send: Send) -> None:
        kind = b"text/event-stream" if streams else b"application/json"
        start = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]}
        if not streams:
            start["headers"] = [(b"content-type", kind), (b"content-length", b"500")]
        await send(start)
        await send({"type": "http.response.body", "body": b": here\n\n" if streams else b'{"ans', "more_body": True})
        if how == "cut before":
            await self._leave(how, scope, receive)
            return
        for word in ANSWER.split(" "):
            event = b"data: " + json.dumps({"delta": word + " "}).encode() + b"\n\n"
            await send({"type": "http.response.body", "body": event, "more_body": True})
            if how == "cut after":
                await self._leave(how, scope, receive)
                return
        done = b"data: " + json.dumps({"answer": ANSWER, "model": "scripted", "done": True}).encode() + b"\n\n"
        await send({"type": "http.response.body", "body": done + b"data: [DONE]\n\n"})
