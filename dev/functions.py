"""One file of `api/` as a function: imported at its first request, and answered for as Vercel does when it fails.

On Vercel each function is a process of its own; here all of them share one.
"""

import asyncio
import hashlib
import importlib
import importlib.util
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("dev.functions")


def _load(path: Path, root: Path) -> ModuleType:
    """Import a function's file, under its own dotted name where that name means this very file.

    The name need not be an identifier: the import system takes `api.servers.[id]` as it is. A tree that is not on
    the import path gets unique names, so that it cannot pass for the project's own modules.
    """
    name = ".".join(path.relative_to(root).with_suffix("").parts)
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        found = None
    if found and found.origin and Path(found.origin).resolve() == path.resolve():
        return importlib.import_module(name)
    name = f"{name}@{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot import {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


class Lifespan:
    """Runs an ASGI app's lifespan: started once an instance, stopped with the server."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._state: dict[str, Any] = {}
        self._failure: str | None = None
        self._startup_sent = False
        self._started, self._stop, self._stopped = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> Mapping[str, Any]:
        """Run the startup and return the state it leaves; RuntimeError when the app says that it failed."""
        self._task = asyncio.create_task(self._run())
        await self._started.wait()
        if self._failure is not None:
            raise RuntimeError(f"lifespan startup failed: {self._failure}")
        return self._state

    async def stop(self) -> None:
        """Run the shutdown."""
        self._stop.set()
        await self._stopped.wait()

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self._state}
        try:
            await self._app(scope, self._receive, self._send)
        except Exception as error:
            # ASGI: an app without a lifespan raises here, and is served without one.
            if self._started.is_set() or self._failure is not None:
                log.exception("lifespan failed")
            else:
                log.debug("no lifespan: %r", error)
        finally:
            self._started.set()
            self._stopped.set()

    async def _receive(self) -> Message:
        if not self._startup_sent:
            self._startup_sent = True
            return {"type": "lifespan.startup"}
        await self._stop.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Message) -> None:
        match message["type"]:
            case "lifespan.startup.complete":
                self._started.set()
            case "lifespan.startup.failed":
                self._failure = message.get("message") or "no reason given"
            case "lifespan.shutdown.complete" | "lifespan.shutdown.failed":
                self._stopped.set()


class Function:
    """One file of `api/`: imported, and its lifespan started, when the first request comes."""

    def __init__(self, path: Path, root: Path) -> None:
        self._path, self._root = path, root
        self._instance: tuple[ASGIApp, Lifespan, Mapping[str, Any]] | None = None
        self._starting = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; an exception becomes a plain 500 and a traceback in the log."""
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            app, state = await self._ready()
            await app({**scope, "state": dict(state)}, receive, watched)
        except Exception:
            log.exception("%s failed on %s %s", self._path.relative_to(self._root), scope["method"], scope["path"])
            if not started:
                await plain_error(500, "A server error has occurred", "FUNCTION_INVOCATION_FAILED")(
                    scope, receive, send
                )
            # A response that was cut in the middle stays incomplete: the server closes the connection.

    async def _ready(self) -> tuple[ASGIApp, Mapping[str, Any]]:
        async with self._starting:
            if self._instance is None:
                # A failure leaves no instance: the next request starts a new one, as on Vercel.
                app: ASGIApp = _load(self._path, self._root).app
                lifespan = Lifespan(app)
                self._instance = app, lifespan, await lifespan.start()
            app, _, state = self._instance
            return app, state

    async def stop(self) -> None:
        """Run the app's shutdown, if it was started."""
        if self._instance is not None:
            _, lifespan, _ = self._instance
            self._instance = None
            await lifespan.stop()


def plain_error(status: int, text: str, code: str, headers: Mapping[str, str] | None = None) -> Response:
    """Vercel's own error page."""
    return PlainTextResponse(f"{text}\n\n{code}\n", status, {**(headers or {}), "x-vercel-error": code})
