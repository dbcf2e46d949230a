"""What a guarded call of the door takes from the request that it is made in, or has for itself outside of one."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import field
from typing import TYPE_CHECKING

from ..afterwards import Afterwards
from ..base.values import dataclass
from ..call import Finish
from ..edge import sending
from ..edge.current import current
from ..edge.request import Request

if TYPE_CHECKING:
    from ..parts import Parts

_PATIENCE_S = 30.0
"""How long a guarded call outside of a request may take, beside what it computes."""
_SOON_S = 1.0
"""So long what a guarded call leaves waits for its request to end: meanwhile other instances wait for its value."""


@dataclass(frozen=True, slots=True)
class Work:
    """One guarded call's id, deadline, and what it leaves to be done."""

    request_id: str
    deadline: float
    after: Afterwards
    request: Request | None
    later: list[Finish] = field(default_factory=list)


@asynccontextmanager
async def working(parts: "Parts") -> AsyncIterator[Work]:
    """What a guarded call takes from its request. Outside of one, what it leaves is sent when the block ends.

    So it is in a request that other parts serve, whose Redis is another one.
    """
    request, longest = current(), parts.clock.monotonic() + parts.settings.max_duration_ms / 1000
    if request is None or request.parts is not parts:
        work = Work(os.urandom(16).hex(), longest, Afterwards(), request)
    else:
        # Off Vercel a request may stream for hours.
        deadline = request.deadline if parts.settings.on_vercel else longest
        work = Work(request.id, deadline, request.after, request)
    try:
        yield work
    finally:
        if request is not None and work.after is request.after and current() is request:
            request.later += work.later
            if request.later or not request.after.is_empty:
                sending.early(request, parts, _SOON_S)
        else:
            # There is no request, or it was over before this was: a task may outlive it.
            for each in work.later:
                await each(send=False)
            await parts.guard.outbox.try_send(work.after, _PATIENCE_S)
            await parts.settle()
