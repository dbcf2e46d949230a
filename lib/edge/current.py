"""The request that is being served, for code that is called by a route and has no request in its hands."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ..base.values import dataclass
from .request import Request


@dataclass(slots=True, eq=False)
class _Current:
    """A request, for as long as it is served."""

    request: Request
    over: bool = False
    """Its after-work is sent or being sent: what comes later (a task that outlives its request) sends its own."""


_CURRENT: ContextVar[_Current | None] = ContextVar("breakwater_current", default=None)


def current() -> Request | None:
    """The request that is being served here, if there is one."""
    found = _CURRENT.get()
    return None if found is None or found.over else found.request


@contextmanager
def serving(request: Request) -> Iterator[None]:
    """Serve a request within the block."""
    here = _Current(request)
    token = _CURRENT.set(here)
    try:
        yield
    finally:
        here.over = True
        _CURRENT.reset(token)
