"""The rules are pure: what they import and call is read from their source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

RULES = Path(__file__).parents[2] / "lib" / "rules"
ALLOWED = {
    "bisect",
    "collections",
    "collections.abc",
    "dataclasses",
    "datetime",
    # Caches of what depends on the arguments alone.
    "functools",
    "hashlib",
    "hmac",
    "ipaddress",
    "json",
    "math",
    "re",
    "typing",
    "unicodedata",
    "urllib.parse",
    # Calendar days; it reads the time zone database, which is a constant of the installation.
    "zoneinfo",
}
CLOCKS = {"now", "utcnow", "today", "time", "time_ns", "monotonic"}
INPUT_AND_OUTPUT = {"open", "print", "input", "exec", "eval", "__import__"}


def impurities(source: str) -> Iterator[str]:
    """Everything in a module that a rule must not have."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (f"imports {each.name}" for each in names if not allowed(each.name))
            case ast.ImportFrom(module=module, level=level):
                if level or not allowed(module or ""):
                    yield f"imports from {'.' * level}{module}"
            case ast.AsyncFunctionDef() | ast.AsyncFor() | ast.AsyncWith() | ast.Await():
                yield f"waits in line {node.lineno}"
            case ast.comprehension(is_async=1):
                yield "waits in a comprehension"
            case ast.Global(names=variables):
                yield f"keeps state in {', '.join(variables)}"
            case ast.Call(func=ast.Attribute(attr=name)) if name in CLOCKS:
                yield f"asks a clock: {name}()"
            case ast.Call(func=ast.Name(id=name)) if name in INPUT_AND_OUTPUT | {"hash"}:
                # The built-in hash() is salted: two processes disagree.
                yield f"calls {name}()"


def allowed(module: str) -> bool:
    return module in ALLOWED or module == "lib.rules" or module.startswith("lib.rules.")


@pytest.mark.parametrize("module", sorted(RULES.glob("*.py")), ids=lambda path: path.name)
def test_a_rule_is_pure(module: Path) -> None:
    """No await, no clock, no environment, no randomness, no I/O, nothing of lib but other rules."""
    assert list(impurities(module.read_text())) == []


@pytest.mark.parametrize(
    "source",
    [
        "import os",
        "import time",
        "import random",
        "import asyncio",
        "import httpx",
        "from lib.settings import Settings",
        "from lib import clock",
        "from . import keys",
        "import secrets as s",
        "async def f(): pass",
        "async def f():\n    await g()",
        "def f():\n    import os",
        "from datetime import datetime\ndatetime.now()",
        "import datetime\ndatetime.date.today()",
        "open('x')",
        "hash('x')",
        "def f():\n    global x",
    ],
)
def test_the_test_notices(source: str) -> None:
    """Each kind of impurity is found."""
    assert list(impurities(source))
