"""One process of one built function, started and spoken to as the platform does it.

The process runs the bundle's own `vc__handler__python.py`, with the bundle's own packages, and of this machine nothing
but the interpreter and its standard library (`-S`). `vercel_runtime` in it connects to the Unix socket that
`VERCEL_IPC_PATH` names and sends JSON messages, each ended by a zero byte: `server-started` with its port,
`unrecoverable-error`, `log`, `handler-started`, and `end` when an invocation is over, work after its reply included.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self

from dev.redis_server import die_with
from dev.vercel.output import HANDLER, Function

START_S: Final = 30.0
END_S: Final = 30.0
_MAX_DURATION_S: Final = 300
_LOG_LINES: Final = 1000
_numbers = itertools.count(1)


class InstanceError(RuntimeError):
    """A function did not start, or did not come to an end; the message holds what it printed."""


def unpack(function: Function, directory: Path, *, bytecode: bool = True) -> None:
    """Put a function's bundle into a directory as it lies in /var/task; without `bytecode`, no compiled module."""
    made: set[Path] = set()
    for name, file in function.files.items():
        if not bytecode and name.endswith(".pyc"):
            continue
        target = directory / name
        if target.parent not in made:
            target.parent.mkdir(parents=True, exist_ok=True)
            made.add(target.parent)
        try:
            os.link(file.source, target)
        except OSError:  # another file system
            shutil.copy2(file.source, target)


@dataclass(slots=True)
class Instance:
    """A running instance. Made by `start`."""

    function: str
    max_duration_s: int
    freeze: bool
    process: asyncio.subprocess.Process
    output: Path
    begun_s: float
    """When the process was started, on the clock of `time.perf_counter`."""
    ready_s: float = 0.0
    """From then until it announced its port."""
    port: int = 0
    log: deque[str] = field(default_factory=lambda: deque(maxlen=_LOG_LINES))
    """The last messages that it logged or printed."""
    _open: set[int] = field(default_factory=set)
    _relayed: set[int] = field(default_factory=set)
    _idle: asyncio.Event = field(default_factory=asyncio.Event)
    _frozen: bool = False

    @classmethod
    @asynccontextmanager
    async def start(
        cls, function: Function, bundle: Path, python: Path, environ: Mapping[str, str], *, freeze: bool = False
    ) -> AsyncIterator[Self]:
        """Start a process from an unpacked bundle; enters when it listens, kills it in the end.

        `environ` is all that it sees beside what the platform sets. With `freeze` it is stopped while it has no
        invocation, from the end of the first one on.

        Raises:
            InstanceError: it ended, or announced no port in time.

        """
        async with AsyncExitStack() as stack:
            # Not below the project: the path of a Unix socket has at most 107 bytes.
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="breakwater-")))
            messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

            async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                with contextlib.closing(writer):
                    await _read(reader, messages)

            server = await asyncio.start_unix_server(connected, home / "ipc")
            stack.callback(server.close)
            output = home / "output"
            begun = time.perf_counter()
            with output.open("wb") as printed:
                process = await asyncio.create_subprocess_exec(
                    python,
                    "-S",
                    HANDLER,
                    cwd=bundle,
                    env=_environment(function, home, environ),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=printed,
                    stderr=asyncio.subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=die_with(os.getpid()),
                )
            stack.push_async_callback(_kill, process)
            instance = cls(function.name, function.max_duration_s or _MAX_DURATION_S, freeze, process, output, begun)
            await instance._until_started(messages)
            for watching in (instance._listen(messages), instance._until_ended()):
                stack.push_async_callback(_cancel, asyncio.create_task(watching))
            yield instance

    async def _until_started(self, messages: asyncio.Queue[dict[str, Any]]) -> None:
        ended = asyncio.create_task(self.process.wait())
        try:
            async with asyncio.timeout(START_S):
                while not self.port:
                    message = asyncio.create_task(messages.get())
                    await asyncio.wait((message, ended), return_when=asyncio.FIRST_COMPLETED)
                    if not message.done():
                        message.cancel()
                        raise InstanceError(f"{self.function} ended with {self.process.returncode}:\n{self.printed()}")
                    self._take(message.result())
                self.ready_s = time.perf_counter() - self.begun_s
        except TimeoutError:
            raise InstanceError(f"{self.function} announced no port in {START_S:.0f} s:\n{self.printed()}") from None
        finally:
            ended.cancel()

    async def _listen(self, messages: asyncio.Queue[dict[str, Any]]) -> None:
        while True:
            self._take(await messages.get())

    def _take(self, message: Mapping[str, Any]) -> None:
        payload = message.get("payload", {})
        match message.get("type"):
            case "server-started":
                self.port = payload["httpPort"]
            case "unrecoverable-error":
                self.log.append(payload.get("message", ""))
            case "log":
                self.log.append(base64.b64decode(payload["message"]).decode(errors="replace"))
            case "end":
                self._open.discard(payload["context"]["requestId"])
                self._settle()

    def printed(self) -> str:
        """What it logged and printed, for a person who wants to know why it does not work."""
        text = "\n".join([*self.log, self.output.read_text(errors="replace")[-4000:]]).strip()
        return text or "(it printed nothing)"

    @contextmanager
    def invocation(self) -> Iterator[dict[str, str]]:
        """One request: thaws the process, and yields the headers that the platform adds. To be left when the whole
        reply has been read, or given up; the process freezes when it says that the invocation is over, too.
        """
        number = next(_numbers)
        self._open.add(number)
        self._relayed.add(number)
        self._idle.clear()
        if self._frozen:
            self._frozen = False
            self.process.send_signal(signal.SIGCONT)
        deadline = datetime.now(UTC) + timedelta(seconds=self.max_duration_s)
        try:
            yield {
                "x-vercel-internal-invocation-id": f"local-{number}",
                "x-vercel-internal-request-id": str(number),
                "x-vercel-internal-deadline": deadline.isoformat(timespec="milliseconds"),
            }
        finally:
            self._relayed.discard(number)
            self._settle()

    async def _until_ended(self) -> None:
        await self.process.wait()
        self._open.clear()  # nobody is left to say that they are over
        self._settle()

    def _settle(self) -> None:
        if self._open or self._relayed:
            return
        if self.freeze and not self._frozen and self.process.returncode is None:
            self._frozen = True
            self.process.send_signal(signal.SIGSTOP)
        self._idle.set()

    async def settled(self) -> None:
        """Wait until every invocation is over, with the work after its reply. Raises InstanceError."""
        try:
            async with asyncio.timeout(END_S):
                while self._open or self._relayed:
                    await self._idle.wait()
        except TimeoutError:
            raise InstanceError(f"{self.function}: an invocation has no end:\n{self.printed()}") from None


def _environment(function: Function, home: Path, environ: Mapping[str, str]) -> dict[str, str]:
    return {
        "PATH": os.defpath,
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "TZ": ":UTC",
        "VERCEL": "1",
        "VERCEL_ENV": "production",
        "VERCEL_REGION": "dev1",
        **function.config.get("environment", {}),
        **environ,
        "VERCEL_IPC_PATH": str(home / "ipc"),
    }


async def _read(reader: asyncio.StreamReader, messages: asyncio.Queue[dict[str, Any]]) -> None:
    """Put each message of a connection into the queue until it closes."""
    pending = b""
    while chunk := await reader.read(65536):
        *whole, pending = (pending + chunk).split(b"\0")
        for message in whole:
            messages.put_nowait(json.loads(message))


async def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
