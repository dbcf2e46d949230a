"""How Redis fails."""

from typing import Literal

type Kind = Literal[
    "timeout",
    "connection",
    "unauthorized",
    "throttled",
    "quota",
    "server",
    "protocol",
    "command",  # one command was refused, for what its key holds
    "resting",  # not called: it failed a moment ago
]


class RedisDown(Exception):
    """Redis gave no usable reply. ``kind`` says how; the message holds no token and no value."""

    def __init__(self, kind: Kind, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind: Kind = kind


def refused(error: str | None) -> Kind:
    """The kind of a reply that is an error, or (None) does not have the shape that its command promises."""
    if error is None:
        return "protocol"
    if is_quota(error):
        return "quota"
    if error.startswith(("NOPERM", "NOAUTH")):
        return "unauthorized"
    # Any other refusal (out of memory, read-only, still loading) would concern the next caller's key as well.
    return "command" if "WRONGTYPE" in error else "server"


def is_quota(text: str) -> bool:
    """Whether the vendor says that the month's or the day's commands are used up."""
    return "max requests limit" in text or "max daily request limit" in text
