"""What a build was made of (`Tree`), and what came out of it (`Output`), as values that the checks read.

The output's format is Vercel's Build Output API (https://vercel.com/docs/build-output-api). A function's bundle is not
all in its `.func` directory: `filePathMap` in its `.vc-config.json` names the other files, relative to the tree.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

VENDOR = "_vendor/"
"""Where a bundle has its packages."""
HANDLER = "vc__handler__python.py"
"""The file that Vercel adds to each bundle and starts."""

FILES = ".vercel/files.json"
"""The list of what was copied, in a build of ours."""


class NoOutput(RuntimeError):
    """There is no build output where one was expected."""


@dataclass(frozen=True, slots=True)
class File:
    """One file of a bundle: where the build left it, and its size in bytes."""

    source: Path
    size: int


@dataclass(frozen=True, slots=True)
class Function:
    """One function: its name is its path, as `api/ai/supervisor`; `files` are the whole bundle by path within it."""

    name: str
    files: Mapping[str, File]
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """The bundle's size in bytes, uncompressed, as Vercel's limit counts it."""
        return sum(file.size for file in self.files.values())

    @property
    def own(self) -> list[str]:
        """What the bundle has of this project: all but the packages and Vercel's handler."""
        return sorted(name for name in self.files if not name.startswith(VENDOR) and name != HANDLER)

    @property
    def max_duration_s(self) -> int | None:
        """How long one request may take."""
        return self.config.get("maxDuration")


@dataclass(frozen=True, slots=True)
class Output:
    """A parsed build output."""

    functions: tuple[Function, ...] = ()
    static: frozenset[str] = frozenset()
    """The static files, as `index.html`."""
    routes: tuple[Mapping[str, Any], ...] = ()
    crons: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Tree:
    """What was built: the paths of all files, vercel.json, and the distributions that requirements.txt pins."""

    files: frozenset[str] = frozenset()
    config: Mapping[str, Any] = field(default_factory=dict)
    requirements: Mapping[str, str] = field(default_factory=dict)


def read_output(tree: Path) -> Output:
    """Parse what `vercel build` left below `tree`. Raises NoOutput."""
    directory = tree / ".vercel" / "output"
    try:
        config = json.loads((directory / "config.json").read_text("utf-8"))
    except FileNotFoundError:
        raise NoOutput(f"no build output in {directory}: run `python -m dev.vercel build`") from None
    found = sorted((directory / "functions").rglob("*.func"))
    return Output(
        functions=tuple(_function(tree, directory / "functions", path) for path in found if path.is_dir()),
        static=frozenset(_files(directory / "static")),
        routes=tuple(config.get("routes", ())),
        crons=tuple(config.get("crons", ())),
    )


def _function(tree: Path, functions: Path, directory: Path) -> Function:
    config = json.loads((directory / ".vc-config.json").read_text("utf-8"))
    sources = {name: tree / source for name, source in config.pop("filePathMap", {}).items()}
    sources |= {name: directory / name for name in _files(directory) if name != ".vc-config.json"}
    files = {name: File(source, source.stat().st_size) for name, source in sources.items()}
    return Function(directory.relative_to(functions).as_posix().removesuffix(".func"), files, config)


def _files(directory: Path) -> Iterable[str]:
    return (path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())


def read_tree(root: Path) -> Tree:
    """Parse what the build at `root` was made of. Raises NoOutput."""
    try:
        files = json.loads((root / FILES).read_text("utf-8"))
    except FileNotFoundError:
        raise NoOutput(f"{root} is not a build of ours: run `python -m dev.vercel build`") from None
    return Tree(
        frozenset(files),
        json.loads((root / "vercel.json").read_text("utf-8")),
        pins((root / "requirements.txt").read_text("utf-8")),
    )


def pins(text: str) -> dict[str, str]:
    """The version of each distribution that a requirements file pins, by its normal name."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, pinned, rest = line.partition("==")
        if pinned and not name.lstrip().startswith("#"):
            found[normal(name.partition("[")[0])] = rest.split(";")[0].split()[0]
    return found


def normal(name: str) -> str:
    """A distribution's name as packaging tools compare it (PEP 503)."""
    return "-".join(part for part in name.strip().lower().replace("_", "-").replace(".", "-").split("-") if part)
