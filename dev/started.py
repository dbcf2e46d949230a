"""`make run` as a person starts it: a process of its own, here with data of its own and any free port.

For what tries the local stack from outside: tests, and `dev.rollback`.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lib.ai.providers.registry import PROVIDERS

ROOT = Path(__file__).resolve().parent.parent
# What a developer's own environment may name, and must not be reached here.
NAMED = (
    "KV_REST_API_URL",
    "UPSTASH_REDIS_REST_URL",
    "SUPABASE_URL",
    "REDIS_ENABLED",
    "REDIS_URL",
    "REDIS",
    "DATABASE_URL",
    "ADMIN_TOKEN",
    "AI_PROVIDERS",
    *(name for each in PROVIDERS for name in each.needed.names),
)

_PATIENCE_S = 300
"""After so long it is ended, whatever happens."""


@dataclass
class Command:
    """`python -m dev`, and what it has printed until `ready`."""

    process: subprocess.Popen[str]
    data: Path
    printed: list[str]

    @property
    def url(self) -> str:
        """Where it serves the project."""
        return next(line.split()[-1] for line in self.printed if line.startswith("API "))


@contextmanager
def command(data: Path, root: Path = ROOT, /, **environ: str) -> Iterator[Command]:
    """Start it for the project in ``root``, in a process group of its own as a terminal does; end it with the block."""
    env = {name: value for name, value in os.environ.items() if name not in NAMED}
    with subprocess.Popen(
        [sys.executable, "-m", "dev", "--data", str(data)],
        cwd=root,
        env={**env, "PORT": "0", **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        watchdog = threading.Timer(_PATIENCE_S, process.kill)
        watchdog.start()
        try:
            yield Command(process, data, [])
        finally:
            watchdog.cancel()
            process.terminate()  # not kill: a PostgreSQL would stay behind
            process.communicate(timeout=60)


def until_ready(running: Command) -> None:
    """Return once it is ready. Raises RuntimeError with what it said where it ends before."""
    for line in running.process.stdout or ():
        running.printed.append(line.rstrip("\n"))
        if line == "ready\n":
            return
    raise RuntimeError(f"it ended before it was ready: {running.process.communicate()}")
