"""What the tests share: a real Redis behind the Upstash stand-in, and a real Postgres behind the Supabase stand-in.

Servers live as long as the session and are never flushed: every test has subjects of its own (`subject`, `subjects`).
"""

import asyncio
import itertools
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import redis as redis_py
from redis.backoff import NoBackoff
from redis.retry import Retry

from dev.faults import Faults
from dev.postgres import Postgres
from dev.redis_server import RedisServer
from dev.serve import ThreadedServer
from dev.supabase import SigningKey, supabase_app
from dev.upstash import upstash_app
from lib.base.http import new_pool
from lib.redis.op import Op, Reply
from lib.redis.rest import Upstash

if TYPE_CHECKING:
    from tests.rig.ai import Kit
    from tests.rig.guard import Rig
    from tests.rig.ledger import Outside, World
    from tests.rig.redis import RedisFront
    from tests.rig.script import Script

SLOW = (
    "tests/ai/providers/test_contract.py",
    "tests/ai/test_budgets.py::test_processes_share_a_budget",
    "tests/blackbox",
    "tests/breaker/test_scenarios.py",
    "tests/breaker/test_shared.py::test_failures_at_once_from_several_processes",
    "tests/browser",
    "tests/cache/test_flights.py::test_a_killed_leader",
    "tests/cache/test_flights.py::test_twenty_concurrent_misses_in_four_processes",
    "tests/clients",
    "tests/dev/test_redis_server.py",
    "tests/dev/test_rollback.py",
    "tests/dev/test_stack.py",
    "tests/dev/test_supabase.py",
    "tests/faults",
    "tests/guides/test_guides.py::test_what_a_page_shows_is_run",
    "tests/limits/test_coming_back.py",
    "tests/limits/test_limits_sql.py",
    "tests/limits/test_return_sql.py",
    "tests/limits/test_windows.py::test_a_burst",
    "tests/limits/test_windows.py::test_clocks_that_differ",
    "tests/limits/test_windows.py::test_eight_processes",
    "tests/limits/test_windows.py::test_never_more_than_the_limit",
    "tests/limits/test_windows.py::test_the_retry_time_is_exact",
    "tests/packaging/test_wheel.py",
    "tests/vercel/test_runtime.py",
)
"""What `make test QUICK=1` leaves out: directories, files, and tests whose names begin like this."""

_SSL = ssl.create_default_context()
_COUNT = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow."""
    for item in items:
        if item.nodeid.startswith(SLOW):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Tests marked `anyio` run on asyncio, as the functions do."""
    return "asyncio"


@dataclass(frozen=True)
class UpstashStandIn:
    """The served stand-in, and the Redis behind it."""

    server: RedisServer
    url: str
    token: str
    faults: Faults
    control: httpx.Client
    direct: redis_py.Redis
    """Redis itself, past the stand-in and its bill."""

    def stats(self) -> dict[str, Any]:
        """`http_requests`, `billed_commands`, and `commands` by lower-case name, since the session began."""
        found: dict[str, Any] = self.control.get("/_control/stats").json()
        return found


@dataclass
class Spent:
    """What a `Store.count()` block cost."""

    commands: int = 0
    """Billed commands."""
    round_trips: int = 0
    executed: dict[str, int] = field(default_factory=dict)
    """What Redis itself says it ran, by lower-case name (`INFO commandstats`); empty where it has no INFO."""


class Counting:
    """A context that measures commands and round trips; its value is filled when the block ends."""

    def __init__(self, upstash: UpstashStandIn) -> None:
        self._upstash = upstash
        self._spent = Spent()

    def __enter__(self) -> Spent:
        self._before, self._ran = self._upstash.stats(), self._commandstats()
        return self._spent

    def __exit__(self, *_: object) -> None:
        after, ran = self._upstash.stats(), self._commandstats()
        self._spent.commands = after["billed_commands"] - self._before["billed_commands"]
        self._spent.round_trips = after["http_requests"] - self._before["http_requests"]
        grown = {name: calls - self._ran.get(name, 0) for name, calls in ran.items() if name != "info"}
        self._spent.executed = {name: calls for name, calls in grown.items() if calls}

    def _commandstats(self) -> dict[str, int]:
        if self._upstash.server.kind == "fakeredis":
            return {}
        stats = self._upstash.direct.info("commandstats")
        return {name.removeprefix("cmdstat_").lower(): each["calls"] for name, each in stats.items()}


class Store:
    """Runs operations from synchronous tests by the real wire, on one connection that is kept."""

    def __init__(self, upstash: UpstashStandIn, runner: asyncio.Runner, wire: Upstash) -> None:
        self.upstash = upstash
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

    def count(self) -> Counting:
        """`with redis.count() as spent: ...` and then `spent.commands`, `spent.round_trips`, `spent.executed`."""
        return Counting(self.upstash)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """The best Redis that this machine has."""
    with RedisServer.start() as server:
        yield server


@pytest.fixture(scope="session")
def _upstash(redis_server: RedisServer) -> Iterator[UpstashStandIn]:
    faults, token = Faults(), "test-token"
    direct = redis_py.Redis.from_url(
        redis_server.url, protocol=2, driver_info=None, decode_responses=True, retry=Retry(NoBackoff(), 0)
    )
    with (
        ThreadedServer(upstash_app(redis_server.url, token, faults=faults)) as served,
        httpx.Client(base_url=served.url, timeout=10, verify=_SSL) as control,
        direct,
    ):
        yield UpstashStandIn(redis_server, served.url, token, faults, control, direct)


@pytest.fixture
def upstash(_upstash: UpstashStandIn) -> Iterator[UpstashStandIn]:
    """The Upstash stand-in: `url`, `token`, `faults`, `stats()`, `direct`. A fault ends with its test."""
    yield _upstash
    _upstash.faults.clear()


@pytest.fixture(scope="session")
def _store(_upstash: UpstashStandIn) -> Iterator[Store]:
    with asyncio.Runner() as runner:
        pool = new_pool()
        yield Store(_upstash, runner, Upstash(pool, _upstash.url, _upstash.token, 10, 10))
        runner.run(pool.aclose())


@pytest.fixture
def redis(_store: Store, upstash: UpstashStandIn) -> Store:
    """Runs operations on the real Redis by the real wire: `run(op)`, `command(...)`, `count()`."""
    assert upstash is _store.upstash
    return _store


@pytest.fixture(scope="session")
def subjects() -> Callable[[], str]:
    """Makes subjects that no other test has."""
    return lambda: f"subject-{next(_COUNT)}"


@pytest.fixture
def subject(subjects: Callable[[], str]) -> str:
    """A subject that no other test has."""
    return subjects()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A real Postgres with the migrations applied."""
    with Postgres.start(tmp_path_factory.mktemp("postgres") / "data") as server:
        yield server


@dataclass(frozen=True)
class SupabaseStandIn:
    """The served stand-in, and what signs for it."""

    url: str
    service_key: str
    anon_key: str
    jwt_secret: str
    """For HS256 tokens, with `dev.supabase.sign_user_token`."""
    signing_key: SigningKey
    """For ES256 tokens, whose public half is in the JWKS."""
    faults: Faults
    control: httpx.Client

    def stats(self) -> dict[str, Any]:
        """`http_requests`, and `rpc_calls` by function, since the session began."""
        found: dict[str, Any] = self.control.get("/_control/stats").json()
        return found


@pytest.fixture(scope="session")
def _supabase(postgres: Postgres) -> Iterator[SupabaseStandIn]:
    service_key, anon_key = "sb_secret_local", "sb_publishable_local"
    jwt_secret, signing_key, faults = "a secret of at least thirty-two bytes", SigningKey.generate("current"), Faults()
    app = supabase_app(
        postgres.uri,
        service_key=service_key,
        anon_key=anon_key,
        jwt_secret=jwt_secret,
        faults=faults,
        signing_keys=(signing_key,),
    )
    with ThreadedServer(app) as served, httpx.Client(base_url=served.url, timeout=10, verify=_SSL) as control:
        yield SupabaseStandIn(served.url, service_key, anon_key, jwt_secret, signing_key, faults, control)


@pytest.fixture
def supabase(_supabase: SupabaseStandIn) -> Iterator[SupabaseStandIn]:
    """The Supabase stand-in: `url`, `service_key`, `jwt_secret`, `faults`, `stats()`. A fault ends with its test."""
    yield _supabase
    _supabase.faults.clear()


@pytest.fixture(scope="module")
def front() -> "Iterator[RedisFront]":
    """A Redis of the module's own behind its stand-in: these tests flush it and reset its statistics."""
    from tests.rig.redis import redis_front

    with redis_front() as started:
        yield started


@pytest.fixture(scope="module")
def script() -> "Iterator[Script]":
    """A backend that does what a test tells it."""
    from tests.rig.script import scripted

    with scripted() as backend:
        yield backend


@pytest.fixture
async def rig(front: "RedisFront", supabase: SupabaseStandIn, script: "Script") -> "AsyncIterator[Rig]":
    """Instances between real stores and the scripted backend."""
    from tests.rig.guard import rigged

    async with rigged(front, supabase, script) as parts:
        yield parts


@pytest.fixture(scope="module")
def outside() -> "Iterator[Outside]":
    """A server for everything outside but Redis: the AI backend, webhooks, and Upstash's developer API."""
    from tests.rig.ledger import outsides

    with outsides() as started:
        yield started


@pytest.fixture
async def world(front: "RedisFront", outside: "Outside") -> "AsyncIterator[World]":
    """Whole instances on an empty Redis, with time that is set by hand."""
    from tests.rig.ledger import worlds

    async with worlds(front, outside) as made:
        yield made


@pytest.fixture
async def k(front: "RedisFront") -> "AsyncIterator[Kit]":
    """Instances of the AI path around an empty Redis, with providers that the test holds."""
    from tests.rig.ai import kit

    async with kit(front) as made:
        yield made
