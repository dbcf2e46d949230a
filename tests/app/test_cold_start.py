"""A cold start's budget: which modules a function loads before it is ready, and which for its first answer.

Counted instead of timed, so that it says the same on every machine; `python -m bench.first_answer` has the times.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rig.redis import RedisFront
from tests.rig.script import Script

ROOT = Path(__file__).parents[2]

LATER = ("supabase", "postgrest", "upstash_redis", "upstash_ratelimit", "jwt", "cryptography", "fastapi", "realtime")
"""Heavy, and needed by some requests only: imported where they are first needed, or never."""
READY = {"api.ai.supervisor": 246, "api.v1.chat.completions": 246, "api.health": 245}
"""Modules that a route may load before it is ready: some more than today. Raise a number with a reason only."""

COUNT = """
import json, sys
before = set(sys.modules)
__import__(sys.argv[1])
print(json.dumps(sorted(set(sys.modules) - before)))
"""


@pytest.fixture(scope="module", params=READY)
def loaded(request: pytest.FixtureRequest) -> tuple[str, list[str]]:
    """A route, and every module that importing it loads."""
    command = [sys.executable, "-c", COUNT, request.param]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return request.param, json.loads(done.stdout)


def test_heavy_packages_wait(loaded: tuple[str, list[str]]) -> None:
    """Before a request comes, neither heavy packages are loaded nor those that every request needs."""
    _, modules = loaded
    packages = {name.partition(".")[0] for name in modules}
    assert sorted(packages & {*LATER, "pydantic", "httpx", "httpcore"}) == []


def test_modules_are_few(loaded: tuple[str, list[str]]) -> None:
    """The number of modules stays within the budget."""
    route, modules = loaded
    assert len(modules) <= READY[route], f"{route} loads {len(modules)} modules: {' '.join(modules)}"


ANSWER = """
import asyncio, json, sys

async def answer(app, method, path, body):
    messages = [{"type": "http.request", "body": body, "more_body": False}]
    replied = []
    async def receive():
        return messages.pop(0) if messages else await asyncio.Event().wait()
    async def send(message):
        replied.append(message)
    headers = {"content-type": "application/json", "x-vercel-forwarded-for": sys.argv[4]}
    await app(
        {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "https",
            "path": path, "raw_path": path.encode(), "query_string": b"", "client": ("127.0.0.1", 1),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        },
        receive,
        send,
    )
    return replied[0]["status"], b"".join(message.get("body", b"") for message in replied)

app = __import__(sys.argv[1], fromlist=["app"]).app
status, body = asyncio.run(answer(app, *sys.argv[2:4], b'{"query": "which disk is fullest?"}'))
print(json.dumps({"status": status, "body": body.decode(), "modules": sorted(n for n, m in sys.modules.items() if m)}))
"""

NEEDED = {"anyio", "certifi", "h11", "httpcore", "sniffio", "starlette", "typing_extensions", "vercel_runtime"}
"""The packages of others that a first answer from the cache may load (sniffio where it happens to be installed)."""
BODIES = {"annotated_types", "pydantic", "pydantic_core", "typing_inspection"}
"""What reading a body adds."""
NEVER = (
    *("starlette.middleware", "h2"),
    *("lib.ai.providers.cloud_run", "lib.ai.providers.replies", "lib.ops", "lib.limits.stock"),
)
"""What no first answer from the cache needs."""
# pydantic looks at uuid and zoneinfo by itself.
NOT_FOR_DATA = (
    *NEVER,
    "uuid",
    "zoneinfo",
    "lib.edge.replies",
    "lib.ai.chain",
    "lib.ai.question",
    "lib.ai.providers.port",
)
FIRST_HITS = {
    "data": ("bench.apps.data", "GET", "/api/data", NEEDED, NOT_FOR_DATA, 120),
    "ai": ("api.ai.supervisor", "POST", "/api/ai/supervisor", NEEDED | BODIES, NEVER, 132),
}
"""A route, the packages that its first hit may load, what it must not load, and how many modules of ours it may."""


@pytest.mark.parametrize(("module", "method", "path", "packages", "never", "most"), FIRST_HITS.values(), ids=FIRST_HITS)
def test_a_first_hit(
    upstash: RedisFront,
    script: Script,
    module: str,
    method: str,
    path: str,
    packages: set[str],
    never: tuple[str, ...],
    most: int,
) -> None:
    """In a new function the first answer comes from the cache, and only what serving it takes is loaded."""
    script.reset()
    environ = {
        "PATH": os.environ["PATH"],
        **upstash.environ,
        "CLOUD_RUN_AI_URL": script.url,
        "VERCEL": "1",
    }
    command = [sys.executable, "-c", ANSWER, module, method, path, f"192.0.2.{len(path)}"]
    for _ in range(2):
        done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert (found["status"], '"cached":true' in found["body"]) == (200, True), found["body"]
    installed = {name.partition(".")[0] for name in found["modules"]} - sys.stdlib_module_names - {"__main__"}
    others = {name for name in installed if not name.startswith("_")} - {"lib", "api", "bench"}
    assert sorted(others - packages) == []
    assert [name for name in found["modules"] if name.startswith(never)] == []
    ours = [name for name in found["modules"] if name.partition(".")[0] == "lib"]
    assert len(ours) <= most, f"{len(ours)}: {' '.join(ours)}"


IMPORTED = """
import json, logging, os, sys
def state():
    import json, logging, os, sys
    loggers = {name: (each.level, len(each.handlers), len(each.filters))
               for name, each in logging.root.manager.loggerDict.items() if isinstance(each, logging.Logger)}
    return dict(os.environ), {n for n, m in sys.modules.items() if m is None}, loggers, logging.root.level, \\
        len(logging.root.handlers), list(sys.path), list(sys.meta_path), sys.gettrace()
before = state()
for name in sys.argv[1:]:
    __import__(name)
after = state()
own = after[2].pop("breakwater", None)
for name, logger in list(after[2].items()):
    if logger == (logging.NOTSET, 0, 0):
        del after[2][name]
assert own in (None, (logging.NOTSET, 0, 0)), own
assert after == before, (before, after)
"""


def test_importing_has_no_side_effect() -> None:
    """Importing the library changes no variable of the environment, no module of others, and no logging."""
    paths = sorted((ROOT / "lib").rglob("*.py"))
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths]
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, *names], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
