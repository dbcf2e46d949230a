"""`vercel build` on a copy of the tree, by the pinned CLI, without a login; writes below build/ only.

In a copy, because the build writes a pyproject.toml and a uv.lock into the tree, and the next one would then ignore
edits of requirements.txt. The copy holds what git knows or would add, so that no ignored file gets in: a deployment
by git push has no other files either.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dev.vercel.output import FILES

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "vercel"
TOOLS = ROOT / "build" / "vercel-tools"

PROJECT_FILE = ".vercel/project.json"
PROJECT = {"projectId": "prj_local", "orgId": "team_local", "settings": {"framework": None}}
"""What `vercel link` would write; without a login any id does."""
MIN_NODE = 20
PYTHON = (3, 12)
"""What the functions run on, see .python-version."""
UV = "uv==0.13.8"
"""The CLI installs requirements.txt with it."""

type Which = Callable[[str], str | None]


class BuildError(RuntimeError):
    """The build cannot be done; the message is for a person."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What a build needs: the CLI's script, and a directory with nothing but `uv` and a real `python3.12`."""

    node: Path
    cli: Path
    path: Path


def build(root: Path, target: Path, tools: Tools, *, bytecode: bool, extra: Mapping[str, str] | None = None) -> None:
    """Build a fresh copy of the tree at `root` in `target`; `extra` files, by path, are added to the copy.

    With `bytecode` the bundles ship compiled modules. Raises BuildError.
    """
    if target.exists():
        if not (target / FILES).is_file():
            raise BuildError(f"{target} exists and is not a build of ours: remove it, or choose another with --dir")
        shutil.rmtree(target)
    copied, written = tracked(root), dict(extra or {})
    files = sorted({*copied, *written})
    written |= {PROJECT_FILE: json.dumps(PROJECT), FILES: json.dumps(files)}
    for name in (*copied, *written):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
    for name in copied:
        shutil.copy2(root / name, target / name)
    for name, text in written.items():
        (target / name).write_text(text, "utf-8")
    command = [str(tools.node), str(tools.cli), "build", "--yes", "--global-config", str(tools.path.parent / "config")]
    done = subprocess.run(command, cwd=target, env=_environment(tools, bytecode=bytecode), check=False)
    if done.returncode or not (target / ".vercel" / "output" / "config.json").is_file():
        raise BuildError(f"vercel build failed with code {done.returncode}, see above")


def _environment(tools: Tools, *, bytecode: bool) -> dict[str, str]:
    # Neither a login nor another project's settings, nor the interpreter we happen to run in, may change the build.
    drop = ("VERCEL", "NOW_", "PYTHON", "VIRTUAL_ENV", "UV_PYTHON", "UV_PROJECT")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(drop)}
    path = os.pathsep.join([str(tools.path), str(tools.node.parent), kept.get("PATH", os.defpath)])
    compiled = {"VERCEL_PYTHON_COMPILEALL": "1"} if bytecode else {}
    return {**kept, **compiled, "PATH": path, "VERCEL_TELEMETRY_DISABLED": "1"}


def tracked(root: Path) -> list[str]:
    """What git knows and what it would add, so that a build needs no commit first. Raises BuildError."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        check=False,
    )
    if listed.returncode:
        raise BuildError(f"git does not know the files of {root}: {listed.stderr.decode().strip()}")
    names = {name for name in listed.stdout.decode().split("\0") if name}
    return sorted(name for name in names if (root / name).is_file())  # one that is deleted is still known


def tools(directory: Path = TOOLS, which: Which = shutil.which) -> Tools:
    """Find node, npm and Python, and install the pinned CLI and uv below `directory` once. Raises BuildError."""
    node, npm = _node(which), which("npm")
    if npm is None:
        raise BuildError("npm is not installed; it comes with Node.js, or as a package of its own (apt install npm)")
    python = real_python(which)
    path = directory / "bin"
    path.mkdir(parents=True, exist_ok=True)
    _link(path / "python3.12", python)
    _link(path / "uv", _uv(directory / "uv"))
    return Tools(node, _cli(directory / "cli", npm), path)


def _node(which: Which) -> Path:
    found = which("node")
    if found is None:
        raise BuildError(f"Node.js is not installed; the Vercel CLI needs {MIN_NODE} or newer (https://nodejs.org)")
    version = _output([found, "--version"])
    if int(version.removeprefix("v").partition(".")[0] or 0) < MIN_NODE:
        raise BuildError(f"{found} is Node.js {version}; the Vercel CLI needs {MIN_NODE} or newer")
    return Path(found).resolve()


def real_python(which: Which = shutil.which) -> Path:
    """A Python 3.12 itself, not a version manager's shim, which uv cannot use. Raises BuildError."""
    if sys.version_info[:2] == PYTHON:
        return Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    shim = which("python3.12")
    if shim is None:
        raise BuildError("Python 3.12, which the functions run on, is not installed (uv python install 3.12)")
    return Path(_output([shim, "-c", "import sys; print(sys._base_executable)"])).resolve()


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        raise BuildError(f"{command[0]} does not run: {error}") from error


def _link(link: Path, target: Path) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def _uv(directory: Path) -> Path:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    _once(directory, UV, [*command, "--target", str(directory), UV])
    return directory / "bin" / "uv"


def _cli(directory: Path, npm: str) -> Path:
    here = Path(__file__).parent
    lock = (here / "package-lock.json").read_bytes()
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(here / name, directory / name)
    # Not `npm ci`: it wants the optional packages of every system in the lock file, and not every registry has them.
    command = [npm, "install", "--omit=optional", "--ignore-scripts", "--no-save", "--no-audit", "--no-fund"]
    _once(directory, hashlib.sha256(lock).hexdigest(), command)
    return directory / "node_modules" / "vercel" / "dist" / "vc.js"


def _once(directory: Path, wanted: str, command: list[str]) -> None:
    """Run an installation in `directory`, unless what is wanted is there already."""
    stamp = directory / ".stamp"
    if stamp.is_file() and stamp.read_text("utf-8") == wanted:
        return
    print(f"- installing into {directory.relative_to(ROOT) if directory.is_relative_to(ROOT) else directory}")
    stamp.unlink(missing_ok=True)
    directory.mkdir(parents=True, exist_ok=True)
    if subprocess.run(command, cwd=directory, check=False).returncode:
        raise BuildError(f"could not be installed, see above: {' '.join(command)}")
    stamp.write_text(wanted, "utf-8")
