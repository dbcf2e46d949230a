"""The proxy that breaks connections: what it does when the server behind it breaks them."""

import asyncio
import socket
import struct

import pytest

from dev.proxy import HOST, Proxy

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("how", ["closed", "reset"])
async def test_a_server_that_goes_takes_the_client_along(how: str) -> None:
    """A client that waits for the reply of a server that was killed learns of it at once."""

    async def gone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(4)
        if how == "reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.close()

    server = await asyncio.start_server(gone, HOST, 0)
    async with server:
        with Proxy(HOST, server.sockets[0].getsockname()[1]) as proxy:
            reader, writer = await asyncio.open_connection(HOST, proxy.port)
            writer.write(b"ping")
            assert await reader.read() == b""
            writer.close()
