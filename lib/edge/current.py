"""The request that is being served, for code that is called by a route without being passed the request."""

from contextvars import ContextVar

from ..base.values import dataclass
from .request import Request


@dataclass(slots=True, eq=False)
class _Current:
    """A request, for as long as it is served; tasks and connections that were begun meanwhile keep this alone."""

    request: Request | None
    """None once its after-work is sent or being sent: a task that outlives its request sends its own."""


_CURRENT: ContextVar[_Current | None] = ContextVar("breakwater_current", default=None)


def current() -> Request | None:
    """The request that is being served here, if there is one."""
    found = _CURRENT.get()
    return None if found is None else found.request


class serving:  # noqa: N801 - used like a function
    """Serve a request within the block."""

    __slots__ = ("_here", "_token")

    def __init__(self, request: Request) -> None:
        self._here = _Current(request)

    def __enter__(self) -> None:
        self._token = _CURRENT.set(self._here)

    def __exit__(self, *_: object) -> None:
        self._here.request = None
        _CURRENT.reset(self._token)
