"""What stands between the instance of a fault test and its stores: a door before each, and who says that it waits."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from dev.faults import Fault, Faults, read_body, respond
from dev.proxy import Proxy
from tests.rig.clock import PatientLoop

USED_UP = b'{"error":"ERR max requests limit exceeded. Limit: 500000, Usage: 500001."}'


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

    waits: Waits = field(default_factory=Waits)
    app: ASGIApp = field(init=False)
    text: str = ""
    then: Callable[[], None] | None = None
    odd: tuple[int, bytes] | None = None
    late_s: float = 0.0
    """What a reply takes, by the instance's time."""

    def before(self, app: ASGIApp) -> ASGIApp:
        """The store behind the door."""
        self.app = app
        return self

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

    async def before_wire(self, body: bytes) -> bytes | None:
        """The same where Redis is reached by TCP: an odd reply, if there is one."""
        await self._before(body)
        return None if self.odd is None else b"-%b\r\n" % json.loads(self.odd[1])["error"].encode()

    async def _before(self, body: bytes) -> None:
        if self.then is not None and self.text.encode() in body:
            then, self.then = self.then, None
            # Not in the loop that then has to carry it out.
            await asyncio.to_thread(then)
        if self.late_s and self.waits.loop is not None:
            await asyncio.wrap_future(self.waits.loop.move(self.late_s))


@dataclass
class Broken:
    """One store, and the ways to break it."""

    door: Door
    faults: Faults
    proxy: Proxy
    kill: Callable[[], None]
    restart: Callable[[], None]
    dead: bool = False

    def set(self, fault: str) -> None:
        """Break it: ``tcp ...`` by the proxy, ``process ...`` for real, ``http ...`` by what it answers.

        ``late ...`` lets each reply take so many seconds.
        """
        how, _, what = fault.partition(" ")
        if how == "tcp":
            self.proxy.set(what)  # type: ignore[arg-type] # a name out of a table
        elif how == "process":
            self.kill()
            self.dead = True
        elif fault == "http used up":
            self.door.odd = (400, USED_UP)
        elif how == "late":
            self.door.late_s = float(what)
        elif how == "http":
            kind, _, detail = what.partition(" ")
            about = {"delay": "delay_ms", "status": "status", "html": "status"}.get(kind)
            extra = {about: int(detail)} if about and detail else {}
            self.faults.set(Fault.model_validate({"kind": kind, **extra}))

    def heal(self) -> None:
        """As if nothing had been."""
        self.proxy.set("pass")
        self.faults.clear()
        self.door.odd = self.door.then = None
        self.door.late_s = 0.0
        if self.dead:
            self.restart()
            self.dead = False
