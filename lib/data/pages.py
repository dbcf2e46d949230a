"""What a route's function returns, as a reply and as a stored value."""

import base64
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import field
from enum import Enum

from starlette.responses import Response

from ..base.values import dataclass

_OURS = frozenset({"content-length", "content-type"})


@dataclass(frozen=True, slots=True)
class Page:
    """A reply's status, media type, headers and body, as they are sent."""

    status: int
    media: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    """By their names in lower case."""
    cookies: tuple[str, ...] = ()
    """Values of ``Set-Cookie``. They belong to the request that computed the page, and are never stored."""

    @property
    def may_be_stored(self) -> bool:
        """Only a plain success is: an error that is served for a while would hide its own end."""
        return self.status == 200 and not self.cookies and "www-authenticate" not in self.headers


def ends_older(status: int) -> bool:
    """Whether a reply says that an older value is not right any more: there is no such thing, or nobody may see it.

    A failure does not (RFC 5861, section 4), and neither does a source that has had too many requests.
    """
    return 400 <= status < 500 and status != 429


def page_of(value: object) -> Page:
    """What a function returned: a Response as it is, bytes as they are, anything else as JSON.

    Raises TypeError for what is none of these, and for a Response that is more than a body: one that is streamed, or
    that has something to be done in the background.
    """
    if isinstance(value, Response):
        if not hasattr(value, "body") or value.background is not None:
            raise TypeError("return a Response with its body; where it is cached, without background work")
        headers, cookies = headers_of(value)
        media = value.headers.get("content-type", "application/octet-stream")
        return Page(value.status_code, media, bytes(value.body), headers, cookies)
    if isinstance(value, bytes | bytearray):
        return Page(200, "application/octet-stream", bytes(value))
    return Page(200, "application/json", as_json(value).encode(errors="replace"))


def headers_of(response: Response) -> tuple[dict[str, str], tuple[str, ...]]:
    """The headers of a response by name, repeated ones as a list (RFC 9110, section 5.3), and its cookies."""
    headers, cookies = dict[str, str](), list[str]()
    for name, text in response.headers.items():
        if name == "set-cookie":
            cookies.append(text)
        elif name not in _OURS:
            headers[name] = f"{headers[name]}, {text}" if name in headers else text
    return headers, tuple(cookies)


def plain(value: object) -> object:
    """What JSON has for a value that it does not know, wherever it stands in another. Raises TypeError.

    Dataclasses, pydantic's models and mappings become objects; dates, UUIDs and decimals become texts.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Enum):
        return value.value
    if hasattr(value, "isoformat"):
        return value.isoformat()
    # Whoever has such a value has imported these.
    from decimal import Decimal
    from uuid import UUID

    if isinstance(value, Decimal | UUID):
        return str(value)
    raise TypeError(f"JSON cannot hold a {type(value).__name__}; return what it can, bytes, or a Response")


as_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=plain).encode
"""A value as JSON text, in few characters. Raises TypeError and ValueError for what JSON cannot hold."""


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
    """Any value that JSON can hold, None included, and its text."""

    value: object
    text: str

    @classmethod
    def of(cls, value: object) -> "Held":
        """A value as whoever reads it later gets it: what is no JSON becomes what JSON has for it. Raises TypeError.

        In a list, so that no text is empty.
        """
        # As a page is encoded: half a surrogate pair cannot be sent.
        text = as_json([value]).encode(errors="replace").decode()
        return cls(json.loads(text)[0], text)


class HeldCodec:
    """How a value is stored that is no page: as its text."""

    def dump(self, value: Held) -> str:
        """The text."""
        return value.text

    def load(self, text: str) -> Held | None:
        """The stored value; None where the text stores none."""
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return None
        return Held(found[0], text) if isinstance(found, list) and len(found) == 1 else None
