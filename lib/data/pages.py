"""What a route's function returns, as a reply and as a stored value."""

import base64
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import field

from starlette.responses import Response

from ..base.encode import to_json
from ..base.values import dataclass

_NOT_KEPT = frozenset({"set-cookie", "www-authenticate"})
"""A reply with one of these belongs to one request."""
_OURS = frozenset({"content-length", "content-type"})


@dataclass(frozen=True, slots=True)
class Page:
    """A reply's status, media type, headers and body, as they are sent."""

    status: int
    media: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def may_be_stored(self) -> bool:
        """Only a plain success is: an error that is served for a while would hide its own end."""
        return self.status == 200 and not self.headers.keys() & _NOT_KEPT


def page_of(value: object) -> Page:
    """What a function returned: a Response as it is, bytes as they are, anything else as JSON.

    Raises TypeError for what is none of these, and for a Response that is streamed.
    """
    if isinstance(value, Response):
        if not hasattr(value, "body"):
            raise TypeError("a guarded route returns a whole Response, not one that is streamed")
        media = value.headers.get("content-type", "application/octet-stream")
        headers = {name: text for name, text in value.headers.items() if name not in _OURS}
        return Page(value.status_code, media, bytes(value.body), headers)
    if isinstance(value, bytes | bytearray):
        return Page(200, "application/octet-stream", bytes(value))
    return Page(200, "application/json", to_json(plain(value)))


def plain(value: object) -> object:
    """A value as JSON has it: dataclasses and pydantic's models become objects. Raises TypeError."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return value


class PageCodec:
    """How a page is stored: status, media type, encoding and headers on one line, then the body as it is sent."""

    def dump(self, value: Page) -> str:
        """The page as text; a body that is no UTF-8 in base64."""
        try:
            body, encoding = value.body.decode(), "utf-8"
        except UnicodeDecodeError:
            body, encoding = base64.b64encode(value.body).decode(), "base64"
        head = json.dumps([value.status, value.media, encoding, dict(value.headers)], separators=(",", ":"))
        return f"{head}\n{body}"

    def load(self, text: str) -> Page | None:
        """The page that a text stores; None where it stores none."""
        head, _, body = text.partition("\n")
        try:
            match json.loads(head):
                case [int(status), str(media), "utf-8", dict(headers)]:
                    return Page(status, media, body.encode(), headers)
                case [int(status), str(media), "base64", dict(headers)]:
                    return Page(status, media, base64.b64decode(body, validate=True), headers)
        except (ValueError, RecursionError):
            return None
        return None


@dataclass(frozen=True, slots=True)
class Held:
    """Any value that JSON can hold, None included."""

    value: object


class HeldCodec:
    """How a value is stored that is no page: as JSON, in a list, so that no text is empty."""

    def dump(self, value: Held) -> str:
        """The value as text. Raises TypeError and ValueError for what JSON cannot hold."""
        return json.dumps([plain(value.value)], separators=(",", ":"), ensure_ascii=False, allow_nan=False)

    def load(self, text: str) -> Held | None:
        """The stored value; None where the text stores none."""
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return None
        return Held(found[0]) if isinstance(found, list) and len(found) == 1 else None
