"""Server-sent events, read as they come; the decoding is httpx-sse's."""

from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing

import httpx
from httpx_sse import EventSource, ServerSentEvent


async def events(chunks: AsyncIterable[bytes]) -> AsyncGenerator[ServerSentEvent]:
    """The events in ``chunks`` that carry data; one that is unfinished at the end is dropped, as WHATWG HTML demands.

    Nothing here bounds the size: ``chunks`` must. What they raise is passed on.
    """
    # httpx-sse reads an httpx response and would decode it by its Content-Type. WHATWG HTML, section 9.2.5, knows one
    # encoding, UTF-8, whatever the header says, and a byte order mark that is no part of the first line.
    stream = httpx.Response(
        200, headers={"content-type": "text/event-stream"}, content=chunks, default_encoding="utf-8-sig"
    )
    async with aclosing(EventSource(stream).aiter_sse()) as received:
        async for event in received:
            if event.data:
                yield event
