"""What a route's function returns, as a reply and as it is stored."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydantic
import pytest
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse

from lib.data.pages import Page, PageCodec, page_of

CODEC = PageCodec()


@dataclasses.dataclass(frozen=True)
class Disk:
    """A value of somebody's program."""

    name: str
    percent: int


class Host(pydantic.BaseModel):
    """Another one."""

    name: str
    disks: list[Disk] = []


JSON = "application/json"
RESULTS: Mapping[str, tuple[Any, tuple[int, str, bytes]]] = {
    "null": (None, (200, JSON, b"null")),
    "a text": ("\ud55c\uae00", (200, JSON, '"\ud55c\uae00"'.encode())),
    "an object": ({"a": [1, 2.5, True]}, (200, JSON, b'{"a":[1,2.5,true]}')),
    "half a surrogate pair": ("\ud800", (200, JSON, b'"?"')),
    "a dataclass": (Disk("/", 41), (200, JSON, b'{"name":"/","percent":41}')),
    "a list of dataclasses": ([Disk("/", 41)], (200, JSON, b'[{"name":"/","percent":41}]')),
    "a model": (Host(name="a", disks=[Disk("/", 1)]), (200, JSON, b'{"name":"a","disks":[{"name":"/","percent":1}]}')),
    "models in an object": ({"hosts": (Host(name="web-1"),)}, (200, JSON, b'{"hosts":[{"name":"web-1","disks":[]}]}')),
    "bytes": (b"\x00\xff", (200, "application/octet-stream", b"\x00\xff")),
    "a bytearray": (bytearray(b"abc"), (200, "application/octet-stream", b"abc")),
    "a page": (HTMLResponse("<p>"), (200, "text/html; charset=utf-8", b"<p>")),
    "another status": (JSONResponse({"no": 1}, 404), (404, JSON, b'{"no":1}')),
    "a redirect": (RedirectResponse("/x"), (307, "application/octet-stream", b"")),
    "nothing": (Response(status_code=204), (204, "application/octet-stream", b"")),
}  # fmt: skip


@pytest.mark.parametrize(("value", "found"), RESULTS.values(), ids=RESULTS)
def test_what_a_function_returns(value: Any, found: tuple[int, str, bytes]) -> None:
    """A Response as it is, bytes as they are, anything else as JSON; stored and read again it is the same."""
    page = page_of(value)
    assert (page.status, page.media, page.body) == found
    assert CODEC.load(CODEC.dump(page)) == page


def test_headers() -> None:
    """Those of a Response come along, repeated ones as a list; each cookie stays apart, and no length is repeated."""
    response = JSONResponse(1, headers={"X-One": "1", "Cache-Control": "max-age=5"})
    response.headers.append("x-one", "2")
    response.set_cookie("a", "1")
    response.set_cookie("b", "2; and more")
    page = page_of(response)
    assert page.headers == {"x-one": "1, 2", "cache-control": "max-age=5"}
    assert [each.partition("=")[0] for each in page.cookies] == ["a", "b"]


NOT_KEPT: Mapping[str, Response] = {
    "created": Response(status_code=201),
    "partial": Response(status_code=206),
    "a redirect": RedirectResponse("/x"),
    "not found": Response(status_code=404),
    "an error": Response(status_code=500),
    "a cookie": Response(headers={"set-cookie": "a=1"}),
    "a question who it is": Response(headers={"www-authenticate": "Bearer"}),
}


@pytest.mark.parametrize("response", NOT_KEPT.values(), ids=NOT_KEPT)
def test_what_is_not_kept(response: Response) -> None:
    """Only a plain success is kept: neither an error nor what belongs to one request."""
    assert not page_of(response).may_be_stored
    assert page_of(Response()).may_be_stored


async def chunks() -> Any:
    yield b"one"


NO_PAGES: Mapping[str, Any] = {
    "a set": {1},
    "bytes in a list": [b"x"],
    "an object": object(),
    "a class": Disk,
    "a file": FileResponse(Path(__file__)),
    "a stream": StreamingResponse(chunks()),
    "background work": Response(background=BackgroundTask(print)),
}


@pytest.mark.parametrize("value", NO_PAGES.values(), ids=NO_PAGES)
def test_what_is_no_page(value: Any) -> None:
    """It is a TypeError that says what to return."""
    with pytest.raises(TypeError, match="return"):
        page_of(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "null\nx",
        "[]\nx",
        '[200,"a","utf-8"]\nx',
        '["200","a","utf-8",{}]\nx',
        '[200,"a","utf-16",{}]\nx',
        '[200,"a","base64",{}]\n?',
        "[" * 100_000,
    ],
    ids=lambda text: text[:24],
)
def test_what_stores_no_page(text: str) -> None:
    """What another version has stored, or nobody, is a miss."""
    assert CODEC.load(text) is None


@pytest.mark.parametrize("body", [b"", b"\n", b"line\nline\n", b"\xff\n", "\ud55c\uae00".encode(), b"[1]\n\x00"])
def test_any_body_is_stored(body: bytes) -> None:
    """A body comes back as it was, whatever bytes it has."""
    page = Page(200, "text/plain", body, {"x-one": "\u00e9"})
    assert CODEC.load(CODEC.dump(page)) == page
