"""Runs an asynchronous context manager in an event loop of its own thread, so that the caller's thread may block."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from types import TracebackType


class InThread[T]:
    """A context manager whose value is what the asynchronous one yields.

        with InThread(lambda: Stack.start({}, directory)) as stack:
            ...

    One thread from the first to the last line of it: on Linux a server may live no longer than the thread that started
    it (see `dev.redis_server`).
    """

    def __init__(self, context: Callable[[], AbstractAsyncContextManager[T]]) -> None:
        self._context = context
        self._ready: Future[tuple[T, asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = threading.Thread(target=self._run, name="dev.vercel", daemon=True)
        self._failed: BaseException | None = None

    def __enter__(self) -> T:
        """Return once the context is entered; raises what that raised."""
        self._thread.start()
        return self._ready.result()[0]

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Leave the context, and wait for the thread's end; raises what the exit raised."""
        _, loop, leave = self._ready.result()
        loop.call_soon_threadsafe(leave.set)
        self._thread.join()
        if self._failed is not None:
            raise self._failed

    def call[R](self, work: Coroutine[object, object, R]) -> R:
        """Run a coroutine in that loop, and wait for its result."""
        _, loop, _ = self._ready.result()
        return asyncio.run_coroutine_threadsafe(work, loop).result()

    def _run(self) -> None:
        try:
            asyncio.run(self._live())
        except BaseException as error:  # noqa: BLE001 - it belongs to the thread that waits
            if self._ready.done():
                self._failed = error
            else:
                self._ready.set_exception(error)

    async def _live(self) -> None:
        async with self._context() as value:
            leave = asyncio.Event()
            self._ready.set_result((value, asyncio.get_running_loop(), leave))
            await leave.wait()
