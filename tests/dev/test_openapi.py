"""The description of the API: what a route that describes itself says, and that nothing is missing."""

from pathlib import Path

import pytest

from dev.openapi import describe, operations_of
from dev.routes import served
from tests.guides.pages import python_of

ROOT = Path(__file__).parents[2]
FILE = '''"""GET /api/inventory: what is in stock."""

from lib import Breakwater


async def inventory(asked: object) -> list[str]:
    """What is in stock, by shelf.

    The rest is for whoever reads the file.
    """
    return []


app = Breakwater.from_env().route(inventory, {options})
'''


@pytest.mark.parametrize(
    ("options", "method", "may_fail"),
    [
        pytest.param('limit="20/minute", cache=30', "get", True, id="cached"),
        pytest.param('limit="20/minute", methods=("POST",)', "post", False, id="not cached"),
    ],
)
def test_a_guarded_function_describes_itself(tmp_path: Path, options: str, method: str, may_fail: bool) -> None:
    """Its docstring's first line, its methods, and what the guard may reply instead of it."""
    file = tmp_path / "inventory.py"
    file.write_text(FILE.format(options=options))
    (found,) = operations_of("/api/inventory", file)
    assert (found.path, found.method, found.summary) == ("/api/inventory", method, "What is in stock, by shelf")
    assert "rate_limited" in found.problems
    assert ("backend_failed" in found.problems) is may_fail


def test_a_data_route_describes_itself(tmp_path: Path) -> None:
    """By its file's docstring, where its table has the file's path."""
    (code,) = [each for each in python_of(ROOT / "docs" / "architecture.md") if "bw.resources(" in each]
    file = tmp_path / "inventory.py"
    file.write_text(code)
    (found,) = operations_of("/api/inventory", file)
    assert (found.method, found.summary) == ("get", "GET /api/inventory: what is in stock")
    assert {"rate_limited", "origin_unavailable"} <= set(found.problems)
    assert list(operations_of("/api/elsewhere", file)) == []


def test_what_is_described_is_what_is_served() -> None:
    """Every route, and nothing else."""
    assert describe()["paths"].keys() == {path.translate(str.maketrans("[]", "{}")) for path in served(ROOT)}
