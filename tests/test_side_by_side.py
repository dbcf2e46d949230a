"""Release 0.1 and this one on the same Redis, as they are for a while during every deployment.

0.1 is taken from the repository's history and runs as its own processes under Vercel's runtime.
"""

import io
import subprocess
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench.calling import Connection, Got
from bench.processes import function
from bench.subjects import ask
from dev.serve import ThreadedServer
from tests.rig.callers import a_caller
from tests.rig.redis import RedisFront, Store
from tests.rig.script import Script

ROOT = Path(__file__).parents[1]
OLD = "3a014c5"
"""The commit of release 0.1."""


@pytest.fixture(scope="module")
def old_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of release 0.1."""
    packed = subprocess.run(["git", "archive", OLD, "api", "lib"], cwd=ROOT, capture_output=True, check=False)
    if packed.returncode:
        pytest.skip(f"the history of this checkout does not reach back to {OLD}")
    directory = tmp_path_factory.mktemp("release-0.1")
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as files:
        files.extractall(directory, filter="data")
    return directory


@dataclass(frozen=True)
class Both:
    """A running supervisor of each release."""

    old: Connection
    new: Connection
    script: Script


@pytest.fixture(scope="module")
def script() -> Iterator[Script]:
    """The backend of both."""
    made = Script()
    with ThreadedServer(made) as served:
        made.url = served.url
        yield made


@pytest.fixture(scope="module")
def both(old_tree: Path, script: Script, _upstash: RedisFront) -> Iterator[Both]:
    """Both, over one Redis and one backend."""
    environ = {
        **_upstash.environ,
        "CLOUD_RUN_AI_URL": script.url,
        "LEDGER_FLUSH_COMMANDS": "1",
    }
    with (
        function("release-0.1", "api/ai/supervisor.py", environ, old_tree) as old,
        function("this-release", "api/ai/supervisor.py", environ) as new,
    ):
        made = Both(Connection(old.port), Connection(new.port), script)
        yield made
        made.old.close()
        made.new.close()


def asked(connection: Connection, query: str, caller: str) -> Got:
    """The reply to a question."""
    return connection.send(ask(query, caller))


def test_a_caller_has_a_limit_in_each(both: Both, redis: Store) -> None:
    """Each counts in keys of its own: neither misreads the other's, and a deployment gives a caller one limit more."""
    caller = a_caller()
    for number in range(10):
        replies = [asked(each, f"question {number}", caller) for each in (both.old, both.new)]
        assert [reply.status for reply in replies] == [200, 200]
        assert [reply.header("x-ratelimit-remaining") for reply in replies] == [str(9 - number)] * 2
    assert [asked(each, "one more", caller).status for each in (both.old, both.new)] == [429, 429]
    names: Any = redis.command("KEYS", "rl:*")
    assert {"-cm4}" in str(name) for name in names} == {True, False}


def test_neither_reads_what_the_other_keeps(both: Both) -> None:
    """The same question is a miss for each, then a hit for each; nothing is misread."""
    caller = a_caller()
    both.script.reset()
    found = [asked(each, "the same", caller).header("x-cache") for each in (both.old, both.new) * 2]
    assert found == ["MISS", "MISS", "HIT", "HIT"]
    assert both.script.asked == 2


def test_each_has_circuits_of_its_own(both: Both, redis: Store) -> None:
    """0.1 closes a backend for failures alone, this release by a check: what the one decides is not the other's."""
    both.script.reset(status=500)
    assert [asked(both.old, "fails", a_caller()).status for _ in range(4)] == [502, 502, 502, 503]
    assert [asked(both.new, "fails as well", a_caller()).status for _ in range(3)] == [502, 502, 502]
    give_up = time.monotonic() + 30
    # The check follows the reply.
    while '"open"' not in str(redis.command("GET", "cb:2:cloud-run")):
        assert time.monotonic() < give_up
        time.sleep(0.01)
    assert asked(both.new, "fails as well", a_caller()).status == 503
    # This release has also asked on its own account, twice after a doubtful answer.
    assert (both.script.asked, both.script.checks) == (6, 2)
    redis.command("DEL", "cb:cloud-run", "cb:2:cloud-run")
    both.script.reset()
    assert [asked(each, "again", a_caller()).status for each in (both.old, both.new)] == [200, 200]


def test_each_has_a_ledger_of_its_own(both: Both, redis: Store) -> None:
    """Both count, each in the layout that it knows; an invalidation by counting does not reach random epochs."""
    for each in (both.old, both.new):
        asked(each, "counted", a_caller())
    names: Any = redis.command("KEYS", "ledger:*")
    assert {str(name).split(":")[1] for name in names} == {"1", "2"}
