"""A Redis behind the stand-in for Upstash: its address, its faults, its bill, and operations run on it."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from starlette.types import ASGIApp

from dev.faults import Faults
from dev.redis_server import RedisServer
from dev.serve import GatheringProtocol, ThreadedServer
from dev.upstash import upstash_app
from lib.base.http import new_pool
from lib.redis.op import Op, Reply
from lib.redis.rest import Upstash
from lib.redis.tcp import Tcp
from tests.rig.control import Control
from tests.rig.wire import Before, Wire, nothing_before

TOKEN = "upstash-token"
PATIENT = {
    "REDIS_TIMEOUT_MS": "20000",
    "REDIS_CONNECT_TIMEOUT_MS": "20000",
    "REDIS_SLOW_MS": "60000",
    "FALLBACK_TIMEOUT_MS": "20000",
}
"""A busy machine is neither a slow store nor one that is away. A test of a timeout says which it means."""
NOT_BILLED = {"info", "config", "ping", "hello", "client", "command", "select", "auth", "multi", "exec"}


@dataclass
class Spent:
    """What a `Store.count()` block cost."""

    commands: int = 0
    """Billed commands."""
    round_trips: int = 0
    executed: dict[str, int] = field(default_factory=dict)
    """What Redis itself says it ran, by lower-case name (`INFO commandstats`); empty where it has no INFO."""


def executed(server: redis.Redis) -> dict[str, int]:
    """The commands that a Redis has run and that Upstash would bill, by lower-case name."""
    stats: Any = server.info("commandstats")
    calls = {str(name).removeprefix("cmdstat_").lower(): each["calls"] for name, each in stats.items()}
    return {name: count for name, count in calls.items() if name.split("|")[0] not in NOT_BILLED}


@dataclass(frozen=True)
class RedisFront:
    """The served stand-in, and the Redis behind it."""

    server: RedisServer
    url: str
    token: str
    faults: Faults
    control: Control
    wire: Wire
    """The other way to it, by TCP, with the same faults."""
    direct: redis.Redis
    """Redis itself, past the stand-in and its bill."""

    @property
    def environ(self) -> dict[str, str]:
        """What an instance has to be told to use it, patiently."""
        return {"KV_REST_API_URL": self.url, "KV_REST_API_TOKEN": self.token, **PATIENT}

    def environ_over(self, transport: str) -> dict[str, str]:
        """The same, by ``rest`` or by ``tcp``, past the stand-in."""
        return self.environ if transport == "rest" else {"REDIS_URL": self.wire.url, **PATIENT}

    def way(self, transport: str) -> Upstash | Tcp:
        """A connection of its own, patient."""
        return Tcp(self.wire.url, 10, 10) if transport == "tcp" else Upstash(new_pool(), self.url, self.token, 10, 10)

    def empty(self) -> None:
        """No key, no fault, no bill."""
        self.direct.flushall()
        self.faults.clear()
        self.forget_counts()

    def forget_counts(self) -> None:
        """Zero the counters of Redis and of the stand-in before it."""
        if self.server.kind != "fakeredis":
            self.direct.config_resetstat()
        self.control.reset()

    def executed(self) -> dict[str, int]:
        """Billed commands by lower-case name, by Redis' own account, those inside scripts too; none without INFO."""
        return {} if self.server.kind == "fakeredis" else executed(self.direct)

    @contextmanager
    def count(self) -> Iterator[Spent]:
        """What the block costs; the value is filled in when it ends."""
        spent, before, ran, passed = Spent(), self.control.stats(), self.executed(), self.wire.round_trips
        yield spent
        after = self.control.stats()
        spent.round_trips = after["http_requests"] - before["http_requests"] + self.wire.round_trips - passed
        grown = {name: calls - ran.get(name, 0) for name, calls in self.executed().items()}
        spent.executed = {name: calls for name, calls in grown.items() if calls}
        # What went past the stand-in only Redis itself knows of.
        spent.commands = sum(spent.executed.values()) or after["billed_commands"] - before["billed_commands"]


@dataclass
class OnRedis:
    """What every rig has: an empty Redis, and what was spent on it."""

    front: RedisFront

    @property
    def server(self) -> redis.Redis:
        """Redis itself, past the stand-in."""
        return self.front.direct

    def forget_counts(self) -> None:
        """All bills to zero."""
        self.front.forget_counts()

    def commands(self) -> dict[str, int]:
        """Billed commands by name since then, those inside scripts included."""
        return self.front.executed()

    def cost(self) -> tuple[int, int]:
        """Round trips to Redis and billed commands since then."""
        return self.front.control.requests(), sum(self.commands().values())

    def without_ttl(self) -> list[str]:
        """Keys that would never expire, and are not among the bounded number of epochs."""
        found: Any = self.server.keys("*")
        return [key for key in found if self.server.ttl(key) == -1 and not key.startswith("epoch:2")]


class Store:
    """Runs operations from synchronous tests by the real wire, on one connection that is kept."""

    def __init__(self, upstash: RedisFront, runner: asyncio.Runner, wire: Upstash | Tcp) -> None:
        self.upstash = upstash
        self.count = upstash.count
        self.url = wire.url
        self._runner = runner
        self._wire = wire

    def run[T](self, op: Op[T], /) -> T:
        """One operation, one round trip. Raises RedisDown."""
        return self._runner.run(self._wire.run(op))

    def run_at_once[T](self, ops: Sequence[Op[T]], /) -> list[T]:
        """Operations that are all under way at the same time, a round trip each."""

        async def together() -> list[T]:
            return await asyncio.gather(*(self._wire.run(op) for op in ops))

        return self._runner.run(together())

    def command(self, *command: str | int) -> Reply:
        """One command as it is; a refused one is a CommandError."""
        return self._runner.run(self._wire.send([command]))[0]


@contextmanager
def redis_front(
    server: RedisServer,
    before: Callable[[ASGIApp], ASGIApp] = lambda app: app,
    before_wire: Before = nothing_before,
) -> Iterator[RedisFront]:
    """A stand-in before a Redis that runs; ``before`` may put something before it, ``before_wire`` before TCP."""
    faults = Faults()
    app = before(upstash_app(server.url, TOKEN, faults=faults))
    with (
        ThreadedServer(app, protocol=GatheringProtocol) as served,
        Wire(server.url, faults, before_wire) as wire,
        redis.Redis.from_url(
            server.url, protocol=2, driver_info=None, decode_responses=True, retry=Retry(NoBackoff(), 0)
        ) as direct,
    ):
        yield RedisFront(server, served.url, TOKEN, faults, Control(served.url, wire), wire, direct)
