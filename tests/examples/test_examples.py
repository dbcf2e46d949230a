"""The files of examples/, each run as it is. The FastAPI one runs where the wheel is installed (tests/packaging)."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from bench.processes import function
from tests.rig.redis import RedisFront

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to import `breakwater` from: the same tree as `lib`."""
    folder = tmp_path_factory.mktemp("installed")
    (folder / "breakwater").symlink_to(ROOT / "lib")
    return folder


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the example's `api/` beside `lib/`."""
    root = tmp_path_factory.mktemp("deployed")
    (root / "api").symlink_to(EXAMPLES / "vercel" / "api")
    (root / "lib").symlink_to(ROOT / "lib")
    return root


def run(file: str, installed: Path, *more: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run an example, or (``-c``) code that uses one, in a process of its own, with these variables and no others."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-W", "error", file if file == "-c" else EXAMPLES / file, *more],
        env={**kept, "PYTHONPATH": str(installed), **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_every_example_is_run() -> None:
    """Whoever adds one adds a test of it."""
    found = {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*.py")}
    assert found == {"vercel/api/hello.py", "fastapi_app.py", "resources.py", "script.py", "strict_windows.py"}


def test_the_script(front: RedisFront, installed: Path) -> None:
    """It computes once, prints what was computed, and is refused the fourth time."""
    environ = {**front.environ}
    runs = [run("script.py", installed, **environ) for _ in range(4)]
    assert [each.returncode for each in runs] == [0, 0, 0, 1], runs[0].stderr
    assert [each.stdout for each in runs[:3]] == ["{'servers': 3, 'disks': 12}\n"] * 3
    assert [each.stderr for each in runs] == ["computing\n", "", "", ""]
    assert runs[3].stdout.startswith("Try again in ")


def test_the_script_without_settings(installed: Path) -> None:
    """It says what to set."""
    done = run("script.py", installed)
    assert done.returncode == 1
    assert "KV_REST_API_URL: missing; connect Upstash Redis" in done.stderr


READING = """
import asyncio, httpx
from examples.resources import app, bw, change

async def main():
    async with bw, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as http:
        async def ask(drink):
            reply = await http.get(f"/api/prices/{drink}")
            print(reply.status_code, reply.headers.get("x-cache"), reply.text[:4])
        await ask("lungo")
        await ask("lungo")
        await change("lungo", 3.5)
        await ask("lungo")
        await ask("tea")

asyncio.run(main())
"""


@pytest.mark.parametrize("transport", ["rest", "tcp"])
def test_resources(front: RedisFront, installed: Path, transport: str) -> None:
    """The origin is asked once; what is written is read at once, and what is not there is said."""
    front.empty()
    environ = {**front.environ_over(transport), "PYTHONPATH": f"{installed}:{ROOT}"}
    done = run("-c", installed, READING, **environ)
    assert done.stdout.splitlines() == ["200 MISS 3.0", "200 HIT 3.0", "200 HIT 3.5", '404 None {"ty'], done.stderr


def test_strict_windows(upstash: RedisFront, installed: Path) -> None:
    """Three calls are allowed, the fourth is refused."""
    environ = {"UPSTASH_REDIS_REST_URL": upstash.url, "UPSTASH_REDIS_REST_TOKEN": upstash.token}
    done = run("strict_windows.py", installed, **environ)
    assert done.stdout.splitlines() == ["1 allowed 2", "2 allowed 1", "3 allowed 0", "4 refused 0"], done.stderr


def test_a_vercel_function(front: RedisFront, deployed: Path) -> None:
    """The file of five lines under Vercel's own runtime: limited, shared, and found again."""
    lines = [line for line in (EXAMPLES / "vercel/api/hello.py").read_text().splitlines() if line]
    assert len(lines) <= 5
    environ = {**front.environ}
    with function("hello", "api/hello.py", environ, deployed) as served, httpx.Client(base_url=served.url) as http:
        asks = [("/api/hello", "192.0.2.1"), ("/api/hello", "192.0.2.2"), ("/api/hello?name=me", "192.0.2.1")]
        replies = [http.get(path, headers={"x-vercel-forwarded-for": caller}) for path, caller in asks]
    assert [each.json() for each in replies] == [{"hello": "world"}, {"hello": "world"}, {"hello": "me"}]
    assert [each.headers["x-cache"] for each in replies] == ["MISS", "HIT", "MISS"]
    assert [each.headers["x-ratelimit-remaining"] for each in replies] == ["99", "99", "98"]
