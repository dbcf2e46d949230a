"""What a build needs, and what it says when that is missing; the build itself is `python -m dev.vercel build`."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from dev.vercel.build import BuildError, build, real_python, tools, tracked
from dev.vercel.build import Tools as BuildTools


def which(**found: Path | None) -> Callable[[str], str | None]:
    """A PATH with these programs only."""
    return lambda name: str(found[name]) if found.get(name) else None


@pytest.fixture
def old_node(tmp_path: Path) -> Path:
    """A Node.js that is too old."""
    script = tmp_path / "node"
    script.write_text("#!/bin/sh\necho v16.20.2\n")
    script.chmod(0o755)
    return script


def test_without_node(tmp_path: Path) -> None:
    """The error says what to install."""
    with pytest.raises(BuildError, match=r"Node\.js is not installed; the Vercel CLI needs 20 or newer"):
        tools(tmp_path, which())


def test_old_node(tmp_path: Path, old_node: Path) -> None:
    """The error names the version that was found."""
    with pytest.raises(BuildError, match=r"is Node\.js v16\.20\.2; the Vercel CLI needs 20"):
        tools(tmp_path, which(node=old_node))


def test_broken_node(tmp_path: Path) -> None:
    """A program that does not run is named."""
    with pytest.raises(BuildError, match="gone does not run"):
        tools(tmp_path, which(node=tmp_path / "gone"))


def test_without_npm(tmp_path: Path, old_node: Path) -> None:
    """Node.js alone is not enough, as on Debian."""
    old_node.write_text("#!/bin/sh\necho v22.1.0\n")
    with pytest.raises(BuildError, match="npm is not installed"):
        tools(tmp_path, which(node=old_node))


def test_real_python() -> None:
    """The Python is a 3.12 itself: started alone, it says that it is no environment of another."""
    python = real_python()
    code = "import sys; print(sys.version_info[:2] == (3, 12), sys.prefix == sys.base_prefix)"
    assert subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout == "True True\n"
    assert not python.is_symlink()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A git checkout with every kind of file."""
    root = tmp_path / "checkout"
    root.mkdir()
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True, env={"PATH": os.environ["PATH"], "HOME": "/"})
    for name in ("kept.py", "gone.py", ".env.local"):
        (root / name).write_text("")
    (root / ".gitignore").write_text(".env.*\n")
    subprocess.run(["git", "add", "kept.py", "gone.py"], cwd=root, check=True)
    (root / "gone.py").unlink()
    (root / "new.py").write_text("")
    return root


def test_tracked(checkout: Path) -> None:
    """What git knows or would add is copied: not what it ignores, nor what was deleted."""
    assert tracked(checkout) == [".gitignore", "kept.py", "new.py"]


def test_no_checkout(tmp_path: Path) -> None:
    """Outside a checkout there is no saying what a push would deploy."""
    with pytest.raises(BuildError, match="git does not know the files"):
        tracked(tmp_path)


def test_foreign_directory(checkout: Path, tmp_path: Path) -> None:
    """A directory that is no build of ours is not removed."""
    precious = tmp_path / "precious"
    precious.mkdir()
    with pytest.raises(BuildError, match="is not a build of ours"):
        build(checkout, precious, BuildTools(precious, precious, precious), bytecode=False)
    assert precious.is_dir()


def test_failed_build(checkout: Path, tmp_path: Path) -> None:
    """A build that leaves no output is an error, whatever its exit code."""
    with pytest.raises(BuildError, match="vercel build failed with code 0"):
        build(checkout, tmp_path / "build", BuildTools(Path("/bin/true"), Path("cli"), tmp_path), bytecode=False)
