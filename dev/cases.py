"""Which tests name which case of ``docs/cases.md``: ``python -m dev.cases [--check]``.

Writes the table at the end of the page; with ``--check`` it only compares, for CI.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "cases.md"
HEADING = "## Tests\n"

_NUMBERS = re.compile(r"\bCASES? (\d+(?:(?:, | and | to |-)\d+)*)")
_RANGES = re.compile(r"(\d+)(?:(?: to |-)(\d+))?")
_CASE = re.compile(r"^(\d+)\. (.*?)(?=^\d+\. |^## |\Z)", re.M | re.S)

type Tests = dict[int, dict[str, list[str]]]
"""By case and file the tests that name it; no test where only the file's docstring does."""


def numbers(text: str) -> Iterator[int]:
    """The cases that a text names, as in ``CASE 4``, ``CASES 3 and 17``, ``CASES 19 to 22, 24``."""
    for named in _NUMBERS.finditer(text):
        for first, last in _RANGES.findall(named[1]):
            yield from range(int(first), int(last or first) + 1)


def cases(page: str) -> dict[int, str]:
    """The text of each case, by its number."""
    return {int(number): " ".join(text.split()) for number, text in _CASE.findall(page.partition(HEADING)[0])}


def named(directory: Path) -> Tests:
    """What the docstrings of the tests in a directory name."""
    found: Tests = {}
    for path in sorted(directory.rglob("*.py")):
        tree, file = ast.parse(path.read_text()), str(path.relative_to(ROOT))
        for number in numbers(ast.get_docstring(tree) or ""):
            found.setdefault(number, {}).setdefault(file, [])
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                for number in numbers(ast.get_docstring(node) or ""):
                    found.setdefault(number, {}).setdefault(file, []).append(node.name)
    return found


def with_table(page: str, tests: Tests) -> str:
    """The page with its table written anew."""
    before, heading, _ = page.partition(HEADING)
    if not heading:
        raise SystemExit(f"{TARGET.relative_to(ROOT)} has no heading {HEADING.strip()!r}")
    rows = [
        f"| {number} | `{file}` | {', '.join(f'`{name}`' for name in sorted(names)) or 'as a whole'} |"
        for number, files in sorted(tests.items())
        for file, names in sorted(files.items())
    ]
    return "\n".join([f"{before}{HEADING}", "| case | file | tests |", "|--:|---|---|", *rows]) + "\n"


def main(arguments: list[str]) -> int:
    """Write the table, or compare it."""
    page = TARGET.read_text()
    current = with_table(page, named(ROOT / "tests"))
    if arguments == ["--check"]:
        if page != current:
            print("docs/cases.md is not current: run `make cases` and commit it", file=sys.stderr)
            return 1
        return 0
    TARGET.write_text(current)
    print(f"wrote {TARGET.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
