"""What the black-box suite talks to: a base URL, the control routes of the parts behind it, and nothing else."""

import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.rig.control import Control

ROOT = Path(__file__).parents[2]
ORIGIN = "https://blackbox.example"
ENVIRONMENT = {
    # The suite waits for these two; where functions live in processes of their own, health needs 15000 for the second.
    "REDIS_COOLDOWN_MS": "500",
    "BREAKER_COOLDOWN_MS": "2000",
    # It waits for the first and the last of these, too, when a part gives no answer. None is so short that a busy
    # machine is taken for a part that failed.
    "REDIS_TIMEOUT_MS": "3000",
    "REDIS_CONNECT_TIMEOUT_MS": "10000",
    "REDIS_SLOW_MS": "10000",
    "FALLBACK_TIMEOUT_MS": "10000",
    "AI_TIMEOUT_MS": "5000",
    "ALLOWED_ORIGINS": ORIGIN,
}
"""What the functions behind any target are started with, beside what names their parts."""
_SEED = os.getpid() % 200 + 20


@dataclass(frozen=True)
class Target:
    """A running deployment."""

    url: str
    redis: Control
    supabase: Control
    backend: Control
    caller_header: str
    http: httpx.Client
    _callers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def caller_headers(self) -> dict[str, str]:
        """Headers that make a request come from somebody who has not called before, in this run or another."""
        number = next(self._callers)
        return {self.caller_header: f"10.{_SEED}.{number >> 8 & 255}.{number & 255}"}

    def ask(self, query: object = "which disk is fullest?", **headers_and_body: Any) -> httpx.Response:
        """POST a question, as somebody new unless ``caller`` says who."""
        caller = headers_and_body.pop("caller", None) or self.caller_headers()
        headers = headers_and_body.pop("headers", {})
        body = {**({} if query is None else {"query": query}), **headers_and_body}
        return self.http.post("/api/ai/supervisor", json=body, headers={**caller, **headers})

    def eventually[T](self, what: Callable[[], T], good: Callable[[T], bool], within_s: float = 60) -> T:
        """Ask again until it is good: cool-downs and cached reports of a process that is not ours end by themselves."""
        give_up = time.monotonic() + within_s
        while not good(found := what()):
            if time.monotonic() > give_up:
                raise AssertionError(f"still {found} after {within_s} s")
            time.sleep(0.05)
        return found

    def calm(self) -> None:
        """No faults, Redis in use, the circuit closed."""
        for control in (self.redis, self.supabase, self.backend):
            control.clear()
        self.eventually(
            self.ask, lambda reply: (reply.status_code, reply.headers.get("x-guard-mode")) == (200, "redis")
        )


@contextmanager
def target(directory: Path, environ: Mapping[str, str] = os.environ) -> Iterator[Target]:
    """The deployment that ``BLACKBOX_URL`` names, else a local stack of one's own with its data in ``directory``."""
    if url := environ.get("BLACKBOX_URL"):
        urls = [environ[f"BLACKBOX_{name}_CONTROL"] for name in ("REDIS", "SUPABASE", "BACKEND")]
        header = environ.get("BLACKBOX_CALLER_HEADER", "x-vercel-forwarded-for")
        with _client(url) as http:
            yield Target(url, Control(urls[0]), Control(urls[1]), Control(urls[2]), header, http)
        return
    with _local_stack(directory, environ) as urls_by_name:
        url = urls_by_name["API"]
        controls = [Control(urls_by_name[name]) for name in ("Redis", "Supabase", "AI backend")]
        with _client(url) as http:
            yield Target(url, controls[0], controls[1], controls[2], "x-forwarded-for", http)


def _client(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, timeout=30, trust_env=False, verify=url.startswith("https"))


@contextmanager
def _local_stack(directory: Path, environ: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """``python -m dev`` on a free port; the address of each part by its name in the table that it prints."""
    kept = {name: environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in environ}
    with (
        (directory / "log").open("w") as log,
        subprocess.Popen(
            [sys.executable, "-m", "dev", "--data", str(directory / "data")],
            cwd=ROOT,
            env={**kept, "PORT": "0", "TRUSTED_PROXIES": "127.0.0.1/32", **ENVIRONMENT},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        watchdog = threading.Timer(120, process.kill)
        watchdog.start()
        try:
            printed: list[str] = []
            for line in process.stdout or ():
                printed.append(line.rstrip())
                if line == "ready\n":
                    break
            else:
                raise AssertionError(f"the stack did not start: {printed}, {(directory / 'log').read_text()}")
            watchdog.cancel()
            rows = [line.split("  ") for line in printed if line.endswith(tuple("0123456789")) and "http://" in line]
            yield {row[0]: row[-1].strip() for row in rows}
        finally:
            watchdog.cancel()
            process.terminate()  # not kill: a PostgreSQL would stay behind
            process.communicate(timeout=60)
