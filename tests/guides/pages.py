"""What a page of the documents holds in its fences, and what is to be done with it.

Each block of shell or Python is run as it is written, in the order of the page, unless a comment before it says
otherwise:

    <!-- file: api/prices.py -->       it is this file of a project, and is written there
    <!-- examples/script.py -->        it is this whole file of the repository
    <!-- part of examples/x.py -->     it is a part of this file of the repository
    <!-- not run: why -->              it is not run

A block of ``text`` or ``json`` after one that is run is what that prints; ``...`` in it stands for anything.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "docs" / "clients.md",
    ROOT / "docs" / "operations.md",
    *sorted((ROOT / "docs" / "guides").glob("*.md")),
]

_BLOCK = re.compile(r"(?:<!-- (?P<note>[^\n]*?) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)```\n", re.S)

type Kind = Literal["run", "file", "whole", "part", "not run", "shown"]


@dataclass(frozen=True)
class Block:
    """One block of a page. ``expected`` is what it prints, where the page says so."""

    language: str
    kind: Kind
    about: str
    text: str
    expected: str | None = None


def blocks(page: str) -> list[Block]:
    """The blocks of a page, in order. Raises ValueError for a comment that says nothing known."""
    found: list[Block] = []
    for match in _BLOCK.finditer(page):
        language, text = match["language"], match["text"]
        if language in ("text", "json") and found and found[-1].kind == "run" and found[-1].expected is None:
            last = found.pop()
            found.append(Block(last.language, last.kind, last.about, last.text, text))
            continue
        kind, about = _kind(match["note"], language)
        found.append(Block(language, kind, about, text))
    return found


def python_of(page: Path) -> list[str]:
    """All Python that a page shows."""
    return [each.text for each in blocks(page.read_text()) if each.language == "python"]


def _kind(note: str | None, language: str) -> tuple[Kind, str]:
    if note is None:
        return ("run", "") if language in ("sh", "python") else ("shown", "")
    for begins, kind in _NOTES.items():
        if note.startswith(begins):
            return kind, note.removeprefix(begins).strip()
    return "whole", note


_NOTES: dict[str, Kind] = {"file:": "file", "part of": "part", "not run:": "not run"}


def prints(expected: str, printed: str) -> bool:
    """Whether what was printed is what the page shows; ``...`` stands for anything, with the white space around it."""
    pattern = ".*".join(re.escape(part) for part in re.split(r"\s*\.\.\.\s*", expected.strip()))
    return re.fullmatch(pattern, printed.strip(), re.S) is not None
