"""Child processes that are measured, and what they cost.

Functions run under `vercel_runtime`, the very package that runs them on Vercel: the comparisons too, so that the
runtime's own cost is the same for all.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil  # type: ignore[import-untyped]  # it ships no types

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
_AS_DEPLOYED = ROOT / "build" / "bench" / "functions" / "bin" / "python"
"""Where it is there: an environment with requirements.txt and the runtime, and nothing of what developing needs."""
_START_S = 120.0
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class StartError(RuntimeError):
    """A child did not come up; the message holds what it printed."""


def cpu_s(pid: int) -> float:
    """Processor seconds of a process and of all below it, threads that ended included."""
    try:
        everyone = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.NoSuchProcess:
        return 0.0
    return sum(map(_own_cpu_s, everyone))


def _own_cpu_s(pid: int) -> float:
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            # The CPU clock of another process, in nanoseconds (clock_getcpuclockid(3)); psutil counts in 10 ms.
            return time.clock_gettime_ns((~pid << 3) | 2) / 1e9
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def memory_mb(pid: int) -> float:
    """What a process and all below it occupy of memory and share with nobody (USS)."""
    total = 0.0
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for each in [process, *process.children(recursive=True)]:
            total += each.memory_full_info().uss
    return total / 1e6


@dataclass(slots=True)
class Child:
    """A context manager: a process that serves HTTP on ``host:port``. Ended with all below it in the end."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    home: tempfile.TemporaryDirectory[str]
    """Its own, removed with it: what it prints (`log`), and what it was given."""
    host: str = "127.0.0.1"

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self.host}:{self.port}"

    def cpu_s(self) -> float:
        """Processor seconds so far."""
        return cpu_s(self.process.pid)

    def memory_mb(self) -> float:
        """Memory now."""
        return memory_mb(self.process.pid)

    def stop(self) -> None:
        """End it, and whatever it has started."""
        with contextlib.suppress(psutil.NoSuchProcess):
            below = psutil.Process(self.process.pid).children(recursive=True)
            for each in below:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
        self.process.kill()
        self.process.wait()
        self.home.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _die_with_us() -> None:
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def own_home(name: str) -> tempfile.TemporaryDirectory[str]:
    """A directory of a child's own."""
    return tempfile.TemporaryDirectory(prefix=f"bench-{name}-")


def _log(home: tempfile.TemporaryDirectory[str]) -> Path:
    return Path(home.name) / "log"


def _spawn(
    arguments: Sequence[str],
    environ: Mapping[str, str],
    home: tempfile.TemporaryDirectory[str],
    directory: Path = ROOT,
) -> subprocess.Popen[bytes]:
    with _log(home).open("wb") as printed:
        return subprocess.Popen(
            arguments,
            cwd=directory,
            env={"PATH": os.environ.get("PATH", os.defpath), "HOME": os.environ.get("HOME", "/tmp"), **environ},  # noqa: S108 - some home
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            preexec_fn=_die_with_us if _LIBC else None,  # noqa: PLW1509 - one system call, no lock taken
        )


def server(
    name: str,
    arguments: Sequence[str],
    environ: Mapping[str, str],
    port: int,
    home: tempfile.TemporaryDirectory[str] | None = None,
) -> Child:
    """Start a program that will listen on ``port``; returns once it does. Raises StartError.

    ``home``: its own directory, where its files are there already.
    """
    home = home or own_home(name)
    child = Child(name, _spawn(arguments, environ, home), port, home)
    deadline = time.monotonic() + _START_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return child
        if child.process.poll() is not None or time.monotonic() > deadline:
            raise _not_started(child)
        time.sleep(0.05)


def _not_started(child: Child) -> StartError:
    printed = _log(child.home).read_text(errors="replace")[-2000:]
    child.stop()
    return StartError(f"{child.name} did not start:\n{printed}")


def stand_in(name: str, *arguments: str) -> Child:
    """One of the local servers of `bench.stand_ins`, in a process of its own."""
    port = free_port()
    return server(name, [PYTHON, "-m", "bench.stand_ins", name, str(port), *arguments], {}, port)


def as_deployed() -> bool:
    """Whether functions run with the packages of a deployment, and with no others."""
    return _AS_DEPLOYED.exists()


def function(name: str, file: str, environ: Mapping[str, str], root: Path = ROOT, python: Path | None = None) -> Child:
    """A Python function as Vercel runs it: ``file``, of the checkout ``root``, holds ``app``. Raises StartError.

    ``python``: of an environment of its own, for what others have made.
    """
    home = own_home(name)
    path = Path(home.name) / "ipc"
    announced: list[int] = []
    started = threading.Event()

    def listen(listener: socket.socket) -> None:
        # The runtime writes here at every request's beginning and end; a full pipe would hold it up.
        connection, _ = listener.accept()
        pending = b""
        with connection, listener:
            while chunk := connection.recv(65536):
                if started.is_set():
                    continue
                *whole, pending = (pending + chunk).split(b"\0")
                for message in map(json.loads, whole):
                    if message["type"] == "server-started":
                        announced.append(int(message["payload"]["httpPort"]))
                        started.set()

    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(1)
    threading.Thread(target=listen, args=(listener,), daemon=True).start()
    module = file.removesuffix(".py").replace("/", ".")
    process = _spawn(
        [str(python or (_AS_DEPLOYED if as_deployed() else PYTHON)), "-c", "import vercel_runtime.vc_init"],
        {
            "VERCEL": "1",
            "VERCEL_IPC_PATH": str(path),
            "__VC_HANDLER_MODULE_NAME": module,
            "__VC_HANDLER_ENTRYPOINT": file,
            "__VC_HANDLER_ENTRYPOINT_ABS": str(root / file),
            "__VC_HANDLER_VARIABLE_NAME": "app",
            "PYTHONPATH": str(root),
            **environ,
        },
        home,
        root,
    )
    child = Child(name, process, 0, home)
    deadline = time.monotonic() + _START_S
    while not started.wait(0.05):
        if process.poll() is not None or time.monotonic() > deadline:
            raise _not_started(child)
    child.port = announced[0]
    return child
