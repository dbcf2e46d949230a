"""Server-sent events: what WHATWG HTML, section 9.2.6, says of their parsing."""

from collections.abc import AsyncIterator, Iterable

import pytest

from lib.ai.providers.sse import events

pytestmark = pytest.mark.anyio

NO_LINE_ENDS = "a\u2028b\u2029c\u0085d\x0be\x0cf"
"""What ``str.splitlines`` takes for line ends, and the protocol does not."""


async def chunked(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def read(chunks: Iterable[bytes]) -> list[tuple[str, str]]:
    return [(event.event, event.data) async for event in events(chunked(chunks))]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        pytest.param("data: a\n\ndata: b\n\n", [("message", "a"), ("message", "b")], id="LF"),
        pytest.param("data: a\r\n\r\ndata: b\r\n\r\n", [("message", "a"), ("message", "b")], id="CRLF"),
        pytest.param("data: a\r\rdata: b\r\r", [("message", "a"), ("message", "b")], id="CR"),
        pytest.param("data: a\r\n\ndata: b\r\n\r", [("message", "a"), ("message", "b")], id="mixed"),
        pytest.param("data: a\ndata:\ndata: b\n\n", [("message", "a\n\nb")], id="several-lines"),
        pytest.param("data:a\n\ndata:  b\n\n", [("message", "a"), ("message", " b")], id="one-space-is-no-data"),
        pytest.param(": hello\n\n:\ndata: a\n: b\n\n", [("message", "a")], id="comments"),
        pytest.param("event: x\ndata: a\n\ndata: b\n\n", [("x", "a"), ("message", "b")], id="an-event-has-one-name"),
        pytest.param("event: x\n\ndata: a\n\n", [("message", "a")], id="no-data-no-event"),
        pytest.param("id: 7\n\nretry: 5\n\ndata: a\n\n\n\n", [("message", "a")], id="an-id-makes-no-event"),
        pytest.param("data\n\ndata: a\n\n", [("message", "a")], id="a-field-without-colon"),
        pytest.param("unknown: x\ndata: a\n\n", [("message", "a")], id="unknown-fields"),
        pytest.param("\ufeffdata: a\n\n", [("message", "a")], id="byte-order-mark"),
        pytest.param("data: \ufeffa\n\n", [("message", "\ufeffa")], id="later-it-is-text"),
        pytest.param("data: a\n\ndata: b", [("message", "a")], id="unfinished-line"),
        pytest.param("data: a\n\ndata: b\n", [("message", "a")], id="unfinished-event"),
        pytest.param(f"data: {NO_LINE_ENDS}\n\n", [("message", NO_LINE_ENDS)], id="no-line-ends"),
        pytest.param("data: 산🏔\n\n", [("message", "산🏔")], id="UTF-8"),
        pytest.param("", [], id="empty"),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 1000], ids=["bytes", "threes", "whole"])
async def test_events(stream: str, expected: list[tuple[str, str]], size: int) -> None:
    """The same events, however the network cuts the stream."""
    body = stream.encode()
    assert await read(body[i : i + size] for i in range(0, len(body), size)) == expected


async def test_what_is_not_utf_8() -> None:
    """Broken bytes become replacement characters, as the standard's decoder has it; they do not end the stream."""
    assert await read([b"data: a\xff\n\n", b"data: b\n\n"]) == [("message", "a\ufffd"), ("message", "b")]


async def test_errors_pass_through() -> None:
    """What breaks the chunks is seen as it is, after the events before it."""

    async def broken() -> AsyncIterator[bytes]:
        yield b"data: a\n\n"
        raise ConnectionResetError

    received = events(broken())
    assert (await anext(received)).data == "a"
    with pytest.raises(ConnectionResetError):
        await anext(received)
