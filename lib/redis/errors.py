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
