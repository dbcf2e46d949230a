"""An instance of the functions as a platform keeps it: all routes, exactly as the files of api/ declare them."""

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

from api.ai import analyze, resume, supervisor
from api.cron import daily
from api.fleet import app as fleet
from api.health import app as health
from api.ops import app as ops
from api.read import app as data
from api.v1 import others
from api.v1.chat import completions
from lib.ai.answers import Answer, AnswerCodec
from lib.ai.chain import Chain
from lib.ai.completions import Chunk
from lib.ai.question import AnyQuestion
from lib.ai.tries import Asking
from lib.app.wiring import build
from lib.base.caller import Caller
from lib.base.clock import Clock
from lib.base.events import Event, Listener
from lib.call import Call, Outcome, Streaming
from lib.databases.resources import TABLE as DATABASES
from lib.guard import Guard
from lib.limits.limiter import Limits
from lib.parts import Parts
from lib.redis.op import Command
from lib.redis.store_time import StoreTime
from lib.settings import Settings
from tests.rig.callers import a_caller

DATA = ("/api/cache/", "/api/rankings/", *(path.partition("{")[0] for path in DATABASES))
"""The beginnings of the paths that one function serves."""
ADMIN = {"authorization": "Bearer admin-token-for-tests"}

_numbers = itertools.count(1)

type AnswerOutcome = Outcome[Chunk, Answer]


@dataclass(frozen=True)
class Built:
    """An instance whose parts a test has built."""

    parts: Parts

    async def __call__(self) -> Parts:
        """The parts."""
        return self.parts

    async def goodbye(self) -> None:
        """Flush what was counted."""
        await self.parts.ledger.close()

    async def aclose(self) -> None:
        """The same: whoever has built the parts closes them."""
        await self.goodbye()


def apps(parts: Parts) -> Mapping[str, ASGIApp]:
    """The application of each path."""
    built = Built(parts)
    return {
        "/api/ai/supervisor": replace(supervisor.app, instance=built),
        "/api/llm/analyze": replace(analyze.app, instance=built),
        "/api/v1/chat/completions": replace(completions.app, instance=built),
        "/api/ai/supervisor/[id]/stream": replace(resume.app, instance=built),
        "/api/v1/models": replace(others.app, instance=built),
        "/api/v1/models/[id]": replace(others.app, instance=built),
        "/api/health": replace(health, instance=built),
        "/api/cron/daily": replace(daily.app, instance=built),
        **dict.fromkeys(ops.routes, replace(ops, instance=built)),
        **{_documented(path): replace(data, instance=built) for path, _ in data.rows},
        **{_documented(path): replace(fleet, instance=built) for path, _ in fleet.rows},
    }


def _documented(path: Sequence[str]) -> str:
    """A path of data routes as the documents have it: ``/api/cache/menu/[id]``."""
    return "/" + "/".join(path).translate(str.maketrans("{}", "[]"))


def routes(parts: Parts) -> ASGIApp:
    """All of them as one application, by path."""
    by_path = apps(parts)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"] if scope["type"] != "lifespan" else "/api/health"
        # What no route has, a rewrite may still lead to a function of several paths.
        if path.startswith("/api/v1"):
            other = "/api/v1/models"
        elif path.startswith("/api/ai/supervisor/"):
            other = "/api/ai/supervisor/[id]/stream"
        elif path.startswith(DATA):
            other = "/api/data"
        elif path.startswith("/api/servers/"):
            other = "/api/servers"
        else:
            other = "/api/admin"
        await by_path.get(path, by_path[other])(scope, receive, send)

    return app


@dataclass(frozen=True)
class Asked:
    """One request: what the guard is asked to do, and the question."""

    call: Call
    question: AnyQuestion
    caller: Caller


@dataclass
class Instance:
    """One instance with its own memory and connections: its parts, a client of its routes, and what it told."""

    parts: Parts
    events: list[Event]
    caller: str = ""
    """The address of whoever asks, unless a test says who; somebody new each time if there is none."""
    session: str = ""
    """The session of each question, if any."""
    app: ASGIApp = field(init=False)
    http: httpx.AsyncClient = field(init=False)
    sent: list[Sequence[Command]] = field(default_factory=list)
    """What was sent to Redis, where the instance was built to note it."""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.app = routes(self.parts)
        transport: Any = httpx.ASGITransport(app=self.app)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://breakwater", timeout=None)  # noqa: S113 - in process

    @property
    def guard(self) -> Guard:
        """What every request passes."""
        return self.parts.guard

    @property
    def chain(self) -> Chain:
        """The AI providers."""
        return Chain.of(self.parts)

    @property
    def limits(self) -> Limits:
        """Who counts."""
        return self.guard.limits

    async def ask(
        self, query: str = "which disk is fullest?", caller: str = "", **headers_and_body: Any
    ) -> httpx.Response:
        """POST a question; keyword arguments with a capital first letter are headers (``Cache_Control``)."""
        headers = {k.replace("_", "-"): str(v) for k, v in headers_and_body.items() if k[0].isupper()}
        body = {k: v for k, v in headers_and_body.items() if not k[0].isupper()}
        if self.session:
            body = {"sessionId": self.session, **body}
        return await self.http.post(
            "/api/ai/supervisor",
            json={"query": query, **body},
            headers={"x-forwarded-for": caller or self.caller or a_caller(), **headers},
        )

    async def ask_anew(self, **headers_and_body: Any) -> httpx.Response:
        """As ``ask``, a question that nobody has asked before."""
        return await self.ask(f"question {next(_numbers)}", **headers_and_body)

    async def left_when(
        self, when: Callable[[], Awaitable[None]], query: str = "never mind", caller: str = ""
    ) -> list[dict[str, Any]]:
        """Ask over bare ASGI, and disconnect once ``when`` returns; every message that the app sent."""
        body = json.dumps({"query": query}).encode()
        messages: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            await when()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(dict(message))

        address = (caller or self.caller or a_caller()).encode()
        headers = [(b"content-type", b"application/json"), (b"x-forwarded-for", address)]
        about = {"method": "POST", "path": "/api/ai/supervisor", "headers": headers, "client": ("127.0.0.1", 1)}
        await self.app({"type": "http", **about}, receive, send)
        return sent

    async def health(self) -> httpx.Response:
        """GET the health report."""
        return await self.http.get("/api/health")

    async def act(self, **action: object) -> httpx.Response:
        """POST an admin action."""
        return await self.http.post("/api/admin", json=action, headers=ADMIN)

    async def overview(self) -> Any:
        """GET the overview's body."""
        reply = await self.http.get("/api/overview", headers=ADMIN)
        assert reply.status_code == 200, reply.text
        return reply.json()

    async def handle(self, asked: Asked) -> AnswerOutcome:
        """As the edge does, up to the reply."""
        return await self.guard.handle(asked.call, Asking(self.chain, asked.question, asked.caller.id), AnswerCodec())

    async def whole(self, asked: Asked) -> AnswerOutcome:
        """As the edge does, write-back included; a stream is read to its end."""
        outcome = await self.handle(asked)
        try:
            if isinstance(outcome.result, Streaming):
                async for _ in outcome.result.pieces:
                    pass
        finally:
            if isinstance(outcome.result, Streaming):
                await outcome.result.pieces.aclose()
            await outcome.after()
        return outcome

    def seen[E: Event](self, kind: type[E]) -> list[E]:
        """The events of one kind so far."""
        return [event for event in self.events if isinstance(event, kind)]

    def note(self, commands: Sequence[Command]) -> None:
        """Commands go to Redis, in one round trip."""
        self.sent.append(commands)
        self._changed.set()

    def counts(self) -> tuple[int, int]:
        """Round trips and commands since the last look; those inside a script count as the vendor bills them."""
        found = len(self.sent), sum(3 if c[0] == "EVAL" else 1 for commands in self.sent for c in commands)
        self.sent.clear()
        return found

    async def until_sent(self, round_trips: int) -> None:
        """Until so many round trips were begun since the last look; a minute at most."""
        async with asyncio.timeout(60):
            while len(self.sent) < round_trips:
                self._changed.clear()
                await self._changed.wait()

    async def aclose(self) -> None:
        """Give its connections back."""
        await self.http.aclose()
        await self.parts.aclose()
        stock: Any = self.limits.stock
        if stock is not None and stock._redis is not None:
            await stock._redis.close()


def started(
    environ: Mapping[str, str | None],
    clock: Clock | None,
    *listeners: Listener,
    caller: str = "",
    session: str = "",
    store_time: StoreTime | None = None,
) -> Instance:
    """An instance as its environment says; a variable that is given as None is left out.

    With ``store_time`` it corrects its clock by the store's, and ``clock`` is None.
    """
    given = {name: value for name, value in environ.items() if value is not None}
    events: list[Event] = []
    parts = build(Settings.from_env(given), clock, (events.append, *listeners), store_time)
    return Instance(parts, events, caller, session)


async def together[T](calls: Sequence[Awaitable[T]]) -> list[T]:
    """All at once."""
    return list(await asyncio.gather(*calls))
