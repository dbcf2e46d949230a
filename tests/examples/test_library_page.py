"""docs/library.md: each of its programs is a file of examples/, and all of its other code runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lib import GuardMiddleware, Verdict
from lib.data.options import RouteOptions
from tests.rig.redis import RedisFront

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "library.md").read_text()
INCLUDED = re.findall(r"<!-- (examples/\S+) -->\n```python\n(.*?)```", PAGE, re.S)
OTHERS = re.findall(r"(?<! -->\n)```python\n(.*?)```", PAGE, re.S)

RUN = """
import ast, asyncio, sys

async def main():
    space = {"__name__": "page"}
    for block in sys.argv[1:]:
        code = compile(block, "docs/library.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        found = eval(code, space)
        if found is not None:
            await found
    verdict, weather, answer = space["verdict"], space["weather"], space["answer"]
    print(verdict.allowed, verdict.remaining, weather, answer, callable(space["app"]), callable(space["guarded"]))
    await space["bw"].aclose()

asyncio.run(main())
"""


@pytest.mark.parametrize(("file", "text"), INCLUDED, ids=[file for file, _ in INCLUDED])
def test_a_program_is_the_example(file: str, text: str) -> None:
    """What the page shows is the file, which a test runs."""
    assert text == (ROOT / file).read_text()


def test_every_example_is_shown() -> None:
    """Each file of examples/ stands on the page."""
    assert sorted(file for file, _ in INCLUDED) == sorted(
        str(path.relative_to(ROOT)) for path in (ROOT / "examples").rglob("*.py")
    )


def test_the_code_of_the_page_runs(front: RedisFront, tmp_path: Path) -> None:
    """All other blocks, one after the other, as they stand there."""
    (tmp_path / "breakwater").symlink_to(ROOT / "lib")
    environ = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "PYTHONPATH": str(tmp_path),
        **front.environ,
    }
    command = [sys.executable, "-W", "error", "-c", RUN, *OTHERS]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.splitlines()[:1] == ["True 4 {'sky': 'clear'} {'sky': 'clear'} True True"], done.stderr


def _first_column(heading: str) -> list[str]:
    table = PAGE.partition(f"| {heading} | |\n")[2].partition("\n\n")[0]
    return re.findall(r"^\| `(\w+)` \|", table, re.M)


def test_every_option_is_described() -> None:
    """The tables of the page name each option of a route and each field of a verdict, and no other."""
    assert _first_column("option") == list(RouteOptions.__annotations__)
    assert _first_column("of the verdict") == list(Verdict.__dataclass_fields__)
    parameters = set(GuardMiddleware.__init__.__annotations__) - {"app", "return"}
    assert {each for each in parameters if each not in PAGE} == set()
