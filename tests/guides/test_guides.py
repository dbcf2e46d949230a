"""README, operations, clients and every guide: their blocks are run as they are written, against the local stack."""

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from dotenv import dotenv_values

from dev.redis_server import RedisServer
from dev.started import NAMED, Command, command, until_ready
from lib.settings import Settings
from tests.guides.pages import PAGES, ROOT, Block, blocks, prints
from tests.rig.redis import RedisFront, redis_front

ADDRESSES = ("http://127.0.0.1:3000", "https://example.vercel.app")
"""Where the pages call Breakwater: the local stack, or a deployment. All that is replaced in a block."""
TOKEN = "a-token-of-the-tests-of-guides"
# They run everything, or take a minute by themselves: each has a test of its own.
ELSEWHERE = {"make run", "make test", ".venv/bin/python -m dev.rollback"}

PYTHON = """
import ast, asyncio, sys

async def main():
    space = {"__name__": "page"}
    for block in sys.argv[1:]:
        code = compile(block, "page", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        found = eval(code, space)
        if found is not None:
            await found
        print("\\x00", end="")
    if "bw" in space:
        await space["bw"].aclose()

asyncio.run(main())
"""

PATHS = [pytest.param(path, id=str(path.relative_to(ROOT))) for path in PAGES]


def of_kind(path: Path, *kinds: str) -> list[Block]:
    """The blocks of a page that are to be treated so."""
    return [each for each in blocks(path.read_text()) if each.kind in kinds]


def is_elsewhere(block: Block) -> bool:
    """Whether each of its commands is run by another test."""
    commands = {line.partition("#")[0].strip() for line in block.text.splitlines()}
    return commands <= ELSEWHERE


def here(block: Block, running: Command) -> str:
    """A block that calls the local stack at the port that it has."""
    text = block.text
    for address in ADDRESSES:
        text = text.replace(address, running.url)
    return text


def project(path: Path, folder: Path) -> Path:
    """A copy of what a deployment holds, with the page's files written into it."""
    root = folder / "project"
    shutil.copytree(ROOT, root, ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True)
    for block in of_kind(path, "file"):
        (root / block.about).write_text(block.text)
    return root


LEFT_OUT = (
    ".git",
    ".venv",
    ".dev",
    "build",
    "bench",
    "docs",
    "examples",
    "tests",
    "supabase",
    "node_modules",
    "__pycache__",
    ".*_cache",
)
"""What the local stack does not need."""


@contextmanager
def stack(root: Path, folder: Path) -> Iterator[Command]:
    """The local stack that serves that copy. An `.env` in it is the page's own, which is read and not used here."""
    dotenv = root / ".env"
    dotenv.unlink(missing_ok=True)
    (root / "supabase").symlink_to(ROOT / "supabase")
    with command(folder / "data", root, ADMIN_TOKEN=TOKEN, RATELIMIT_AI_SUPERVISOR="off") as running:
        until_ready(running)
        yield running


def environment(front: RedisFront, folder: Path) -> dict[str, str]:
    """What a shell or a program of the page has: the token, a Redis, and the module as installed."""
    installed = folder / "installed"
    installed.mkdir()
    (installed / "breakwater").symlink_to(ROOT / "lib")
    kept = {name: value for name, value in os.environ.items() if name not in NAMED}
    return {
        **kept,
        "ADMIN_TOKEN": TOKEN,
        "PYTHONPATH": str(installed),
        "REDIS_TIMEOUT_MS": "10000",
        "REDIS_CONNECT_TIMEOUT_MS": "10000",
        "KV_REST_API_URL": front.url,
        "KV_REST_API_TOKEN": front.token,
    }


def run(arguments: list[str], environ: Mapping[str, str], folder: Path) -> str:
    """What it prints; fails the test where it fails, or complains."""
    done = subprocess.run(
        arguments, env=dict(environ), cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, f"{arguments[-1]}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("path", [each for each in PATHS if of_kind(each.values[0], "run")])  # type: ignore[arg-type]
def test_what_a_page_shows_is_run(path: Path, tmp_path: Path) -> None:
    """Each block of shell and of Python works as it is written, and prints what the page says."""
    wanted = [each for each in of_kind(path, "run") if not is_elsewhere(each)]
    root = project(path, tmp_path)
    with RedisServer.start() as redis, redis_front(redis) as front, stack(root, tmp_path) as running:
        environ = environment(front, tmp_path)
        for block in wanted:
            if block.language == "sh":
                printed = run(["bash", "-c", f"set -euo pipefail\n{here(block, running)}"], environ, tmp_path)
                assert prints(block.expected or "...", printed), f"{block.text}\nprinted\n{printed}"
        programs = [each for each in wanted if each.language == "python"]
        if programs:
            each_printed = run(
                [sys.executable, "-c", PYTHON, *(here(each, running) for each in programs)], environ, tmp_path
            )
            for block, printed in zip(programs, each_printed.split("\x00"), strict=False):
                assert prints(block.expected or "...", printed), f"{block.text}\nprinted\n{printed}"


@pytest.mark.parametrize("path", PATHS)
def test_what_a_page_shows_of_a_file_is_in_it(path: Path) -> None:
    """A block that is a file of the repository, or a part of one, is the same there."""
    for block in of_kind(path, "whole"):
        assert block.text == (ROOT / block.about).read_text(), block.about
    for block in of_kind(path, "part"):
        assert block.text in (ROOT / block.about).read_text(), block.about


@pytest.mark.parametrize("path", PATHS)
def test_what_is_not_run_says_why(path: Path) -> None:
    """A reason, and a test that it names exists."""
    for block in of_kind(path, "not run"):
        assert len(block.about) > 10
        named = [word.strip(".,;") for word in block.about.split() if word.startswith("tests/")]
        assert [each for each in named if not (ROOT / each).exists()] == []


def test_a_settings_file_of_a_page_can_be_used() -> None:
    """A `.env` that a page shows is one that the settings accept."""
    files = [block for path in PAGES for block in of_kind(path, "file") if block.about == ".env"]
    assert files
    for block in files:
        given = {name: value or "" for name, value in dotenv_values(stream=io.StringIO(block.text)).items()}
        assert Settings.from_env({"REDIS_ENABLED": "false", **given}).providers


@pytest.mark.parametrize(
    ("expected", "printed", "holds"),
    [
        ("a\n", "a", True),
        ("a ... c", "a b\nb c", True),
        ("a", "a b", False),
        ("a.c", "abc", False),
        ("a ... c", "a b", False),
    ],
)
def test_the_comparison_notices(expected: str, printed: str, holds: bool) -> None:
    """Dots alone stand for anything."""
    assert prints(expected, printed) is holds
