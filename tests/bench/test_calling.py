"""The benchmark's own HTTP client reads replies whole, however they come."""

import pytest

from bench.calling import parse, post

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n"


@pytest.mark.parametrize("reply", [pytest.param(WHOLE, id="length"), pytest.param(CHUNKED, id="chunks")])
def test_a_whole_reply(reply: bytes) -> None:
    """Status, headers by lower-case name, body."""
    got = parse(bytearray(reply))
    assert got is not None
    assert (got.status, got.body) == (200, b"hello")
    assert got.header("nothing") == ""


@pytest.mark.parametrize("reply", [pytest.param(WHOLE, id="length"), pytest.param(CHUNKED, id="chunks")])
def test_a_reply_that_is_not_complete_is_none(reply: bytes) -> None:
    """Whatever is missing at its end."""
    # The last chunk's own end may be missing: nothing follows that could be misread.
    for cut in range(4, len(reply)):
        got = parse(bytearray(reply[: len(reply) - cut]))
        assert got is None or got.body == b"hello"


def test_a_request_says_how_long_it_is() -> None:
    """Head and JSON body."""
    head, _, body = post("/x", {"a": "é"}, {"x-y": "z"}).partition(b"\r\n\r\n")
    assert head.startswith(b"POST /x HTTP/1.1\r\n")
    assert b"\r\nx-y: z" in head
    assert b"content-length: %d" % len(body) in head
