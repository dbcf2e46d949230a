"""dev/setup.sh, where there is no Python that will do."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("sh", "awk", "ls", "dirname", "cat", "cksum", "grep", "rm", "mkdir")

INSTALL = (
    "setup: Install one (uv python install 3.12; pyenv install 3.12; or your system's package), or name one: "
    "PYTHON=/path/to/python make"
)


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A checkout's setup beside a PATH that has no Python."""
    (tmp_path / "dev").mkdir()
    shutil.copy(ROOT / "dev" / "setup.sh", tmp_path / "dev")
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found is not None
        (commands / name).symlink_to(found)
    return tmp_path


def setup(bare: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "dev/setup.sh"],
        cwd=bare,
        env={"PATH": str(bare / "bin"), "HOME": str(bare), **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def command(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_every_python_that_was_tried_is_named(bare: Path) -> None:
    """Too old, broken or not there: each with what it is, and the way out."""
    command(bare / "bin" / "python3", 'case "$2" in *version_info*) exit 1;; *) echo 3.11.7;; esac')
    command(bare / ".pyenv/versions/3.13.1/bin/python", "exit 1")
    done = setup(bare)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "setup: Breakwater needs Python 3.12 or newer, and none was found. Tried:",
        "  python3.12: not found",
        "  python3.13: not found",
        f"  {bare}/.pyenv/versions/3.13.1/bin/python: does not run",
        "  python3.14: not found",
        f"  {bare}/bin/python3: 3.11.7",
        "  python: not found",
        INSTALL,
    ]
    assert not (bare / ".venv").exists()


def test_the_python_that_is_named_is_the_only_one_tried(bare: Path) -> None:
    """Whoever names one learns of that one."""
    done = setup(bare, PYTHON="/no/such/python")
    assert done.returncode == 1
    assert "  /no/such/python: not found" in done.stderr
    assert "python3.12" not in done.stderr
