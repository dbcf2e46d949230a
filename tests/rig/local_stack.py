"""`make run` as a person starts it: a process of its own, with a folder of its own and any free port."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lib.ai.providers.registry import PROVIDERS

ROOT = Path(__file__).parents[2]
# What a developer's own environment may name, and these tests must not reach.
NAMED = (
    "KV_REST_API_URL",
    "UPSTASH_REDIS_REST_URL",
    "SUPABASE_URL",
    "REDIS_ENABLED",
    "ADMIN_TOKEN",
    "AI_PROVIDERS",
    *(name for each in PROVIDERS for name in each.needed.names),
)


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
def command(data: Path, **environ: str) -> Iterator[Command]:
    """Start the command in a process group of its own, as a terminal does, and end it with the block."""
    env = {name: value for name, value in os.environ.items() if name not in NAMED}
    with subprocess.Popen(
        [sys.executable, "-m", "dev", "--data", str(data)],
        cwd=ROOT,
        env={**env, "PORT": "0", **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        watchdog = threading.Timer(120, process.kill)
        watchdog.start()
        try:
            yield Command(process, data, [])
        finally:
            watchdog.cancel()
            process.terminate()  # not kill: a PostgreSQL would stay behind
            process.communicate(timeout=60)


def until_ready(running: Command) -> None:
    assert running.process.stdout is not None
    for line in running.process.stdout:
        running.printed.append(line.rstrip("\n"))
        if line == "ready\n":
            return
    raise AssertionError(f"it ended before it was ready: {running.process.communicate()}")
