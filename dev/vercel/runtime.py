"""A whole deployment on this machine: every built function under the real runtime, and the edge in front of them.

    with Deployment(Path("build/vercel"), {"KV_REST_API_URL": ...}) as deployment:
        httpx.post(f"{deployment.url}/api/ai/supervisor", ...)

Real are the bundles and the runtime in them (`dev.vercel.instance`). Played here, from the documentation
(https://vercel.com/docs/headers/request-headers), is what lies between a client and an instance: the routes of the
output's `config.json` and its static files; the headers that say who the client is, overwritten whatever the client
sent; a deadline for each invocation; and the freezing of an instance while it has none.
"""

import asyncio
import contextlib
import itertools
import secrets
import shutil
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

import httpx
from starlette.responses import FileResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from dev.faults import CLOSE
from dev.serve import HOST, serve
from dev.vercel.build import real_python
from dev.vercel.edge import Call, Missing, Page, Redirect, Site, joined
from dev.vercel.instance import Instance, unpack
from dev.vercel.output import read_output
from dev.vercel.thread import InThread

CLIENT: Final = "x-test-client-address"
"""The request header by which a test chooses its address; this edge alone knows it and does not pass it on."""
INSTANCE: Final = "x-test-instance"
"""The reply header that says which instance answered, counted from 0."""

_HOP_BY_HOP: Final = frozenset({"connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade"})
_SET_BY_THE_EDGE: Final = ("x-vercel-forwarded-", "x-vercel-proxied-", "x-vercel-internal-", "x-forwarded-")
_REPLACED: Final = ("date", "server", "transfer-encoding", "x-vercel-internal-timing")
"""What an instance says to the platform, or what the server in front of it says itself."""

type Headers = list[tuple[bytes, bytes]]


class Deployment:
    """A context manager that runs a build output; `url` is its address.

    `environ` is what the functions find in their environment beside the platform's own. Each function has `instances`
    processes, which take turns. They are frozen while they have no request unless `freeze` says otherwise.
    """

    def __init__(self, tree: Path, environ: Mapping[str, str], *, instances: int = 1, freeze: bool = True) -> None:
        self._thread = InThread(lambda: _run(tree, environ, instances, freeze=freeze))
        self._running: _Running | None = None

    def __enter__(self) -> Self:
        """Start every instance. Raises NoOutput, InstanceError."""
        self._running = self._thread.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """End them all."""
        self._thread.__exit__(kind, error, tb)

    @property
    def url(self) -> str:
        """Where the edge listens."""
        return self._now.url

    @property
    def printed(self) -> str:
        """What the instances logged and printed, for a person."""
        everyone = itertools.chain.from_iterable(self._now.instances.values())
        return "\n".join(f"--- {instance.function}\n{instance.printed()}" for instance in everyone)

    @property
    def pids(self) -> list[int]:
        """The instances' process ids."""
        return [instance.process.pid for instance in itertools.chain.from_iterable(self._now.instances.values())]

    def settle(self) -> None:
        """Wait until every request so far is over, with the work after its reply. Raises InstanceError."""
        self._thread.call(self._now.settled())

    @property
    def _now(self) -> "_Running":
        if self._running is None:
            raise RuntimeError("the deployment has not been started")
        return self._running


@dataclass(frozen=True, slots=True)
class _Running:
    url: str
    instances: Mapping[str, Sequence[Instance]]

    async def settled(self) -> None:
        for instance in itertools.chain.from_iterable(self.instances.values()):
            await instance.settled()


@asynccontextmanager
async def _run(tree: Path, environ: Mapping[str, str], count: int, *, freeze: bool) -> AsyncIterator[_Running]:
    output, python = read_output(tree), real_python()
    async with AsyncExitStack() as stack:
        # Beside the output, so that files can be linked instead of copied.
        bundles = Path(tempfile.mkdtemp(dir=tree / ".vercel", prefix="run-"))
        stack.callback(shutil.rmtree, bundles)
        starting: list[AbstractAsyncContextManager[Instance]] = []
        for function in output.functions:
            bundle = bundles / function.name
            await asyncio.to_thread(unpack, function, bundle)
            starting += [Instance.start(function, bundle, python, environ, freeze=freeze) for _ in range(count)]
        # All at once, and all waited for: one that fails must not leave others behind that nobody ends.
        started = await asyncio.gather(*map(stack.enter_async_context, starting), return_exceptions=True)
        instances: dict[str, list[Instance]] = {}
        for instance in started:
            if isinstance(instance, BaseException):
                raise instance
            instances.setdefault(instance.function, []).append(instance)
        site = Site(output.routes, frozenset(instances), output.static)
        # A new connection for each request: a frozen instance cannot say that it has closed an old one.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        context = ssl.create_default_context()
        client = httpx.AsyncClient(
            verify=context,
            trust_env=False,
            timeout=None,  # noqa: S113 - an invocation ends by its own deadline
            limits=limits,
        )
        await stack.enter_async_context(client)
        served = await serve(Edge(site, tree / ".vercel" / "output" / "static", instances, client))
        stack.push_async_callback(served.stop)
        yield _Running(served.url, instances)


class Edge:
    """What lies between a client and the instances, as an ASGI app."""

    def __init__(
        self, site: Site, static: Path, instances: Mapping[str, Sequence[Instance]], client: httpx.AsyncClient
    ) -> None:
        self._site, self._static, self._client = site, static, client
        self._turns = {name: itertools.cycle(enumerate(each)) for name, each in instances.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            while (message := await receive())["type"]:
                await send({"type": f"{message['type']}.complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        path = scope.get("raw_path", b"").decode("latin-1") or quote(scope["path"])
        match self._site.resolve(path):
            case Call(name, added):
                exchange = _Exchange(self._client, *next(self._turns[name]), scope, receive, send)
                await exchange.run(path, joined(scope["query_string"].decode("latin-1"), added))
            case Redirect(location, status):
                query = scope["query_string"].decode("latin-1")
                target = f"{location}?{query}" if query else location
                await RedirectResponse(target, status)(scope, receive, send)
            case Page(file, headers, status) if scope["method"] in {"GET", "HEAD"}:
                headers = {"cache-control": "public, max-age=0, must-revalidate", **headers}
                await FileResponse(self._static / file, status, headers)(scope, receive, send)
            case Page():
                await _failure(405, "INVALID_REQUEST_METHOD", {"allow": "GET, HEAD"})(scope, receive, send)
            case Missing(status):
                await _failure(status, "NOT_FOUND")(scope, receive, send)


class _Left(Exception):
    """The client closed the connection before its request was complete."""


class _Exchange:
    """One request passed on to an instance, and the reply passed back, both as they come."""

    def __init__(
        self, client: httpx.AsyncClient, number: int, instance: Instance, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._client, self._number, self._instance = client, number, instance
        self._scope, self._receive, self._send = scope, receive, send
        self._id = f"dev1::dev1::{secrets.token_hex(3)}-{time.time_ns() // 1_000_000}-{secrets.token_hex(6)}"
        self._sent = asyncio.Event()
        self._replying = False

    async def run(self, path: str, query: str) -> None:
        """Pass the request on; gives up when the client leaves, which the function then sees as a disconnect."""
        with self._instance.invocation() as internal:
            relayed = asyncio.create_task(self._relay(self._request(path, query, internal)))
            gone = asyncio.create_task(self._gone())
            await asyncio.wait((relayed, gone), return_when=asyncio.FIRST_COMPLETED)
            gone.cancel()
            relayed.cancel()
            with contextlib.suppress(asyncio.CancelledError, _Left):
                await relayed

    def _request(self, path: str, query: str, internal: Mapping[str, str]) -> httpx.Request:
        headers = self._headers(internal)
        target = f"{path}?{query}" if query else path
        names = {name for name, _ in headers}
        body = self._body() if names & {b"content-length", b"transfer-encoding"} else None
        if body is None:
            self._sent.set()
        url = httpx.URL(scheme="http", host=HOST, port=self._instance.port, raw_path=target.encode("latin-1"))
        return httpx.Request(self._scope["method"], url, headers=headers, content=body)

    def _headers(self, internal: Mapping[str, str]) -> Headers:
        # Not the scope's client: uvicorn believes a peer on loopback what it says in X-Forwarded-For.
        address, host, kept = HOST, b"", []
        for raw, value in self._scope["headers"]:
            name = raw.decode("latin-1").lower()
            if name == CLIENT:
                address = value.decode("latin-1")
            elif name == "host":
                host = value
            if name not in (CLIENT, "x-real-ip", "x-vercel-id", "forwarded", *_HOP_BY_HOP) and not name.startswith(
                _SET_BY_THE_EDGE
            ):
                kept.append((raw.lower(), value))
        ours = {
            "x-forwarded-for": address,
            "x-vercel-forwarded-for": address,
            "x-real-ip": address,
            "x-forwarded-host": host.decode("latin-1"),
            "x-forwarded-proto": "https",
            "x-vercel-id": self._id,
            **internal,
        }
        return kept + [(name.encode(), value.encode("latin-1")) for name, value in ours.items()]

    async def _body(self) -> AsyncIterator[bytes]:
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise _Left
            more = message.get("more_body", False)
            if not more:
                self._sent.set()
            if chunk := message.get("body"):
                yield chunk
            if not more:
                return

    async def _gone(self) -> None:
        await self._sent.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _relay(self, request: httpx.Request) -> None:
        try:
            async with asyncio.timeout(self._instance.max_duration_s):
                reply = await self._client.send(request, stream=True)
                async with contextlib.aclosing(reply):
                    await self._relay_reply(reply)
        except TimeoutError:
            await self._fail(504, "FUNCTION_INVOCATION_TIMEOUT")
        except httpx.TransportError:
            await self._fail(500, "FUNCTION_INVOCATION_FAILED")

    async def _relay_reply(self, reply: httpx.Response) -> None:
        dropped = {name.encode() for name in (*_HOP_BY_HOP, *_REPLACED)}
        headers = [(name, value) for name, value in reply.headers.raw if name.lower() not in dropped]
        headers += [(b"x-vercel-id", self._id.encode()), (INSTANCE.encode(), b"%d" % self._number)]
        self._replying = True
        await self._send({"type": "http.response.start", "status": reply.status_code, "headers": headers})
        async for chunk in reply.aiter_raw():
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        await self._send({"type": "http.response.body", "body": b""})

    async def _fail(self, status: int, code: str) -> None:
        if self._replying:
            # A reply that was cut stays incomplete.
            self._scope["extensions"][CLOSE]()
        else:
            await _failure(status, code)(self._scope, self._receive, self._send)


def _failure(status: int, code: str, headers: Mapping[str, str] | None = None) -> Response:
    return PlainTextResponse(f"{code}\n", status, {**(headers or {}), "x-vercel-error": code})
