"""The local servers that everything measured talks to, each in a process of its own.

python -m bench.stand_ins upstash PORT REDIS_URL TOKEN       Upstash's protocol over a real Redis (dev/upstash.py)
python -m bench.stand_ins supabase PORT POSTGRES_URL         Supabase's over a real PostgreSQL (dev/supabase.py)
python -m bench.stand_ins backend PORT                       an AI backend that answers at once
python -m bench.stand_ins delay PORT UPSTREAM_PORT           a wire that is longer than it looks
"""

import asyncio
import json
import sys

from starlette.types import ASGIApp, Receive, Scope, Send

from dev.faults import read_body, respond
from dev.serve import serve
from dev.supabase import supabase_app
from dev.upstash import upstash_app

SERVICE_KEY = "sb_secret_bench"
SIGNING_SECRET = "bench-bench-bench-bench-bench-bench-bench-bench"  # noqa: S105 - nobody but this machine sees it
SET_DELAY = b"DELAY "


def answer_of(size: int) -> str:
    """An answer of so many characters."""
    return ("Disk / is 41 % full, and nothing is on fire. " * (size // 45 + 1))[:size]


async def backend(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers at once, in the project's own protocol and in OpenAI's; ``size`` in a question asks for a longer one."""
    if scope["type"] == "lifespan":
        while (message := await receive())["type"]:
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    asked = json.loads(await read_body(receive) or b"{}")
    if scope["path"].endswith("/chat/completions"):
        text = answer_of(_size(asked["messages"][-1]["content"]))
        body = {
            "id": "chatcmpl-bench",
            "object": "chat.completion",
            "created": 1_763_553_600,
            "model": asked.get("model", "bench"),
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21},
        }
    else:
        body = {"answer": answer_of(_size(asked.get("query", ""))), "model": "bench"}
    await respond(send, 200, json.dumps(body).encode())


def _size(question: str) -> int:
    last = question.rsplit(" ", 1)[-1]
    return int(last) if last.isdigit() else 300


async def delay(port: int, upstream: int) -> None:
    """Pass bytes on, holding back what comes from upstream; a connection that begins with DELAY sets by how much."""
    held_s = 0.0

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal held_s
        first = await reader.read(1 << 16)
        if first.startswith(SET_DELAY):
            held_s = float(first.removeprefix(SET_DELAY)) / 1000
            writer.write(b"OK")
            writer.close()
            return
        if not first:
            writer.close()
            return
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", upstream)
        loop = asyncio.get_running_loop()

        def emit(chunk: bytes) -> None:
            if not writer.is_closing():
                writer.write(chunk)

        async def back() -> None:
            while chunk := await up_reader.read(1 << 16):
                # What is sent together arrives together; the order stays, as the delay is the same for all.
                loop.call_later(held_s, emit, chunk)
            loop.call_later(held_s, writer.close)

        returning = asyncio.create_task(back())
        up_writer.write(first)
        while chunk := await reader.read(1 << 16):
            up_writer.write(chunk)
        up_writer.close()
        await returning

    server = await asyncio.start_server(connected, "127.0.0.1", port)
    await server.serve_forever()


async def _main(name: str, port: int, *more: str) -> None:
    if name == "delay":
        await delay(port, int(more[0]))
        return
    app: ASGIApp
    if name == "upstash":
        app = upstash_app(more[0], more[1])
    elif name == "supabase":
        app = supabase_app(more[0], service_key=SERVICE_KEY, anon_key="sb_publishable_bench", jwt_secret=SIGNING_SECRET)
    else:
        app = backend
    await serve(app, port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:]))
