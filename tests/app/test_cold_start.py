"""A cold start's budget: which modules a function loads, before it is ready and with its first request.

Counted instead of timed, so that it says the same on every machine; `python -m dev.vercel cold` has the milliseconds.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LATER = ("supabase", "postgrest", "upstash_redis", "upstash_ratelimit", "jwt", "cryptography", "fastapi", "realtime")
"""Heavy, and needed by some requests only: imported where they are first needed, or never."""
FIRST_REQUEST = "lib.app.wiring,lib.app.settings,lib.ai.schemas,lib.ai.respond,lib.ai.providers.cloud_run"
BUDGET = {
    "api.ai.supervisor": 240,
    "api.v1.chat.completions": 240,
    "api.health": 240,
    f"api.ai.supervisor,{FIRST_REQUEST}": 420,
}
"""Modules that a route may load before it is ready, and with its first request: some more than today. Raise it
knowingly."""

COUNT = """
import json, sys
# httpx loads its command line where these are installed; a bundle has none of them.
for name in ("click", "pygments", "rich"):
    sys.modules[name] = None
before = set(sys.modules)
for name in sys.argv[1].split(","):
    __import__(name)
print(json.dumps(sorted(set(sys.modules) - before)))
"""


@pytest.fixture(scope="module", params=BUDGET)
def loaded(request: pytest.FixtureRequest) -> tuple[str, list[str]]:
    """A route, and every module that importing it loads."""
    command = [sys.executable, "-c", COUNT, request.param]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return request.param, json.loads(done.stdout)


def test_heavy_packages_wait(loaded: tuple[str, list[str]]) -> None:
    """None of the heavy packages is loaded before a request needs it."""
    _, modules = loaded
    assert sorted({name.partition(".")[0] for name in modules} & set(LATER)) == []


def test_modules_are_few(loaded: tuple[str, list[str]]) -> None:
    """The number of modules stays within the budget."""
    route, modules = loaded
    assert len(modules) <= BUDGET[route], f"{route} loads {len(modules)} modules: {' '.join(modules)}"
