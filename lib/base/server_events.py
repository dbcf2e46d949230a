"""What happens to servers that report."""

from typing import ClassVar

from .events import WARNING, Event
from .values import dataclass


@dataclass(frozen=True, slots=True)
class ServerChanged(Event):
    """A trouble of a server, or of all servers of a reporter, began or ended (``fleet/watch.py``)."""

    event: ClassVar[str] = "server_changed"
    level: ClassVar[int] = WARNING
    reporter: str
    server: str
    """Empty where it is about the reporter."""
    what: str
    began: bool
    value: float | None
