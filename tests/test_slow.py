"""The list of what a quick run leaves out."""

import ast
from pathlib import Path

import pytest

from tests.conftest import SLOW

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("entry", SLOW)
def test_what_is_slow_exists(entry: str) -> None:
    """A test that was moved or renamed is taken from the list, or is named anew."""
    path, _, beginning = entry.partition("::")
    assert (ROOT / path).exists()
    if beginning:
        functions = [node for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, FUNCTIONS)]
        assert any(function.name.startswith(beginning) for function in functions)


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
