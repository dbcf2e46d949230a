"""docs/failure-modes.md: what it names is there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "failure-modes.md").read_text()
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)


def rows() -> list[str]:
    """The rows of the first table."""
    table = TEXT.split("## The table")[1].split("\n## ")[0]
    return [line for line in table.splitlines() if line.startswith("|")][2:]


def test_every_row_names_its_test() -> None:
    """The last cell of each row is a test."""
    assert len(rows()) > 20
    for row in rows():
        assert re.fullmatch(r"`tests/[\w/]+\.py::test_\w+`", row.strip("| ").split(" | ")[-1]), row


def test_every_test_that_is_named_exists() -> None:
    """Each is a function of its file, with a docstring."""
    functions: dict[str, dict[str, ast.AST]] = {}
    for path, name in NAMED:
        if path not in functions:
            tree = ast.parse((ROOT / path).read_text())
            found = [each for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
            functions[path] = {each.name: each for each in found if ast.get_docstring(each)}
        assert name in functions[path], f"{path}::{name}"


def test_numbers_are_the_settings() -> None:
    """The defaults that the page names."""
    from lib.breaker.vitals import VitalsPolicy
    from lib.settings import variables

    defaults = {each.name: each.default for each in variables()}
    for name in ("REDIS_TIMEOUT_MS", "REDIS_CONNECT_TIMEOUT_MS", "FALLBACK_TIMEOUT_MS"):
        assert f"`{name}` ({int(defaults[name] or 0):,})" in TEXT
    policy = VitalsPolicy()
    assert defaults["REDIS_COOLDOWN_MS"] == str(policy.cooldown_ms) == "5000"
    assert (policy.failures_in_a_row, policy.slow_in_a_row, policy.error_share, policy.error_window) == (
        3,
        10,
        0.01,
        200,
    )
