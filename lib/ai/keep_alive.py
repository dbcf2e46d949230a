"""Streams whose first piece is long in coming: the head goes out in time, and comments keep the connection.

Until the first piece, providers still fail over behind it. Whatever refuses a request without asking anybody (limit,
cache, circuit, budget) does so before, with its own status.
"""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing
from typing import Any, Protocol

from starlette.requests import ClientDisconnect

from ..base.events import Event
from ..base.values import dataclass
from ..call import Progress
from ..edge import outcomes
from ..edge.accept import EVENT_STREAM
from ..edge.errors import as_problem
from ..edge.problems import Problem
from ..edge.request import Reply, Request

UNBUFFERED = {"x-accel-buffering": "no"}
"""Tells proxies not to buffer the reply."""

HEAD_S = 5.0
"""Nobody waits longer for a head."""
COMMENT_S = 10.0
_COMMENT = b": keep-alive\n\n"


class Form(Protocol):
    """What has to be known of a route's stream before it begins."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers that a stream has of its own."""

    def broken(self, request: Request, problem: Problem) -> bytes:
        """The event of an error that has come after the head."""


def _unheard(event: Event) -> None:
    """Reports nothing."""


async def kept_alive(request: Request, progress: Progress, making: Coroutine[Any, Any, Reply], form: Form) -> Reply:
    """A streamed reply as soon as it is there, or after 5 s one that begins with comments. Raises what making it does.

    ``progress`` is that of the call which ``making`` makes: before the call waits for its value, no head goes out.
    """
    request.left = asyncio.get_running_loop().create_future()
    coming = asyncio.ensure_future(making)
    try:
        await asyncio.wait((coming,), timeout=HEAD_S)
        if not coming.done():
            await asyncio.wait((coming, progress.waits), return_when=asyncio.FIRST_COMPLETED)
    except BaseException:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
        raise
    if coming.done():
        return coming.result()
    if progress.quota is not None:
        outcomes.limited(request, progress.mode, progress.quota, progress.now_ms)
    late = _Late(request, coming, form)
    return Reply(200, late.body(), {**form.headers, **UNBUFFERED}, EVENT_STREAM, late.after)


@dataclass(slots=True, eq=False)
class _Late:
    """A reply that is still being made while its head and comments go out."""

    request: Request
    coming: "asyncio.Future[Reply]"
    form: Form

    async def body(self) -> AsyncGenerator[bytes]:
        """Comments, then the events of the reply, or the one of its error."""
        try:
            while not self.coming.done():
                yield _COMMENT
                await asyncio.wait((self.coming,), timeout=COMMENT_S)
            try:
                reply = self.coming.result()
            except ClientDisconnect:
                self.request.notes.decision = "client_left"
                return
            except Exception as e:  # noqa: BLE001 - `after` raises what was not expected, and it is logged
                yield self.form.broken(self.request, as_problem(self.request, e, _unheard))
                return
            if not isinstance(reply.body, bytes):
                async with aclosing(reply.body) as events:
                    async for each in events:
                        yield each
        finally:
            self._leave()

    def _leave(self) -> None:
        """Nobody reads on: what the reply waits for ends, unless others want it."""
        if not self.coming.done():
            self.request.notes.decision = "client_left"
        if self.request.left is not None and not self.request.left.done():
            self.request.left.set_result(None)

    async def after(self) -> None:
        """What the reply leaves to do, whatever became of it."""
        self._leave()
        try:
            reply = await self.coming
        except ClientDisconnect:
            return
        except Problem as e:
            after = e.after
        else:
            after = reply.after
            if not isinstance(reply.body, bytes):
                await reply.body.aclose()
        if after is not None:
            await after()
