"""What a resource's reply says, as it is sent and as it is stored: nothing of it is parsed again."""

import hashlib
import json
from typing import Literal

from ..base.values import dataclass
from .pages import as_json

type Kind = Literal["value", "empty", "absent"]

_KINDS: dict[str, Kind] = {"value": "value", "empty": "empty", "absent": "absent"}


@dataclass(frozen=True, slots=True)
class Body:
    """JSON in UTF-8. ``empty`` and ``absent``: a list of nothing, and nothing at all, are values like others."""

    kind: Kind
    etag: str
    """Quoted, as the header has it."""
    content: bytes

    @classmethod
    def of(cls, value: object) -> "Body":
        """A value as JSON has it; None is absent. Raises TypeError and ValueError for what JSON cannot hold."""
        return cls.sent(as_json(value).encode(errors="replace"), value)

    @classmethod
    def sent(cls, content: bytes, value: object) -> "Body":
        """JSON as somebody sent it, and what it says."""
        kind: Kind = "absent" if value is None else "empty" if value == [] else "value"
        return cls(kind, f'"{hashlib.sha256(content).hexdigest()[:24]}"', content)


HEAD_CHARS = 64
"""What a stored body has before it takes less."""


class BodyCodec:
    """How a body is stored: kind and ETag on one line, then the body. It is cut at the first line break."""

    def dump(self, value: Body) -> str:
        """As text."""
        return f"{value.kind}|{value.etag}\n{value.content.decode()}"

    def load(self, text: str) -> Body | None:
        """The body that a text stores; None where it stores none."""
        head, cut, content = text.partition("\n")
        kind, _, etag = head.partition("|")
        if not cut or kind not in _KINDS or not etag.startswith('"'):
            return None
        return Body(_KINDS[kind], etag, content.encode())


def _no_json(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def parsed(content: bytes) -> object:
    """What a JSON text says. Raises ValueError for what is none (``NaN``, which Python writes), or not UTF-8."""
    try:
        return json.loads(content.decode(), parse_constant=_no_json)
    except RecursionError as e:
        raise ValueError("nested too deeply") from e
