"""Runs scripts of ``js/`` with their packages, which ``npm ci`` puts into a cache folder once a lock file."""

import asyncio
import hashlib
import json
import os
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest

JS = Path(__file__).parent / "js"
_WANTED = os.environ.get("BREAKWATER_JS") == "1"


async def run(*command: str, cwd: Path | None = None) -> str:
    """What a command prints; fails the test with what it complained of."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, errors.decode()[-2000:]
    return out.decode()


@cache
def _cached() -> Path:
    """Where the packages of this very lock file are, or will be."""
    digest = hashlib.sha256((JS / "package-lock.json").read_bytes()).hexdigest()[:16]
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "breakwater" / f"js-{digest}"


async def javascript(script: str, argument: str) -> Any:
    """Run a script of ``js/`` with its packages; its one line of JSON."""
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    if missing and not _WANTED:
        pytest.skip(f"no {' and no '.join(missing)} on the PATH; with BREAKWATER_JS=1 this fails instead")
    folder = _cached()
    folder.mkdir(parents=True, exist_ok=True)
    for source in JS.iterdir():
        if source.is_file():
            shutil.copy(source, folder)
    if not (folder / "node_modules" / ".package-lock.json").exists():
        await run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", cwd=folder)
    return json.loads(await run("node", script, argument, cwd=folder))
