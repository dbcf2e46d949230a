"""The house: which files are pure, and that imports run one way. Read from the source; nothing is imported."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIB = ROOT / "lib"

PURE = (
    "ai.attached",
    "ai.budgets",
    "ai.completions",
    "ai.mending",
    "ai.models",
    "ai.needs",
    "ai.providers.dialects",
    "ai.providers.registry",
    "ai.question",
    "ai.prices",
    "base.calendar",
    "base.caller",
    "base.connections",
    "base.cost",
    "base.env",
    "base.values",
    "base.events",
    "base.server_events",
    "breaker.circuit",
    "breaker.stored",
    "breaker.vitals",
    "cache.freshness",
    "databases.analysis",
    "databases.literals",
    "databases.noticing",
    "databases.oracle",
    "databases.postgres",
    "databases.shapes",
    "databases.trend",
    "decide",
    "edge.accept",
    "edge.headers",
    "fleet.brief",
    "fleet.pace",
    "fleet.scenarios",
    "fleet.signature",
    "fleet.snapshot",
    "fleet.state",
    "fleet.watch",
    "ledger.allowances",
    "ledger.bill",
    "ledger.counts",
    "ledger.histogram",
    "ledger.places",
    "ledger.reading",
    "ledger.table",
    "ledger.upgrade",
    "limits.bitfield",
    "limits.grammar",
    "limits.judge",
    "limits.settlement",
    "limits.shapes",
    "limits.window",
    "ops.alert_formats",
    "ops.alert_rules",
    "policy",
    "redis.keys",
    "redis.offset",
    "redis.op",
    "redis.thrift",
    "settings",
)
"""Rules: values in, values out. No await, no clock, no environment, no I/O; they import only each other."""

ALLOWED = {
    # Bytes as text.
    "base64",
    "bisect",
    "collections",
    "collections.abc",
    "dataclasses",
    "datetime",
    "enum",
    # Caches of what depends on the arguments alone.
    "functools",
    "hashlib",
    "hmac",
    "ipaddress",
    "itertools",
    "json",
    "math",
    # Attributes and texts of values.
    "operator",
    "reprlib",
    "re",
    "typing",
    "unicodedata",
    "urllib.parse",
    # Compression in memory.
    "zlib",
    # Calendar days; it reads the time zone database, which is a constant of the installation.
    "zoneinfo",
}
CLOCKS = {"now", "utcnow", "today", "time", "time_ns", "monotonic"}
INPUT_AND_OUTPUT = {"open", "print", "input", "exec", "eval", "__import__"}


def name_of(path: Path) -> str:
    """``limits.window`` for lib/limits/window.py, ``limits`` for its package."""
    parts = path.relative_to(LIB).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(LIB.rglob("*.py"))}


def imports(name: str, tree: ast.AST) -> Iterator[str]:
    """The modules that one of ours imports, wherever in it: ours by their name here, others as ``!name``."""
    package = name.split(".") if MODULES[name].name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (f"!{each.name}" for each in names)
            case ast.ImportFrom(module=module, level=0):
                yield f"!{module}"
            case ast.ImportFrom(module=module, names=names, level=level):
                base = [*package[: len(package) - level + 1], *(module.split(".") if module else ())]
                for each in names:
                    inner = ".".join([*base, each.name])
                    yield inner if inner in MODULES else ".".join(base)


def impurities(name: str, source: str) -> Iterator[str]:
    """Everything in a module that a rule must not have."""
    tree = ast.parse(source)
    for each in imports(name, tree):
        if each.removeprefix("!") not in ALLOWED if each.startswith("!") else each not in PURE:
            yield f"imports {each}"
    for node in ast.walk(tree):
        match node:
            case ast.AsyncFunctionDef() | ast.AsyncFor() | ast.AsyncWith() | ast.Await():
                yield f"waits in line {node.lineno}"
            case ast.comprehension(is_async=1):
                yield "waits in a comprehension"
            case ast.Global(names=variables):
                yield f"keeps state in {', '.join(variables)}"
            case ast.Call(func=ast.Attribute(attr=attribute)) if attribute in CLOCKS:
                yield f"asks a clock: {attribute}()"
            case ast.Call(func=ast.Name(id=called)) if called in INPUT_AND_OUTPUT | {"hash"}:
                # The built-in hash() is salted: two processes disagree.
                yield f"calls {called}()"


@pytest.mark.parametrize("name", PURE)
def test_a_rule_is_pure(name: str) -> None:
    """No await, no clock, no environment, no randomness, no I/O, nothing of ours but other rules."""
    # An `__init__` is executed once, as the standard library's dataclasses do it.
    found = ["calls exec()"] if name == "base.values" else []
    assert list(impurities(name, MODULES[name].read_text())) == found


@pytest.mark.parametrize("name", sorted(MODULES.keys() - {"base.values"}))
def test_dataclasses_are_ours(name: str) -> None:
    """Every dataclass is made by ``base/values.py``: the standard decorator takes longer of a cold start."""
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        match node:
            case ast.ImportFrom(module="dataclasses", names=names):
                assert "dataclass" not in [each.name for each in names], "from ..base.values import dataclass"


@pytest.mark.parametrize(
    "source",
    [
        "import os",
        "import time",
        "import random",
        "import asyncio",
        "import httpx",
        "from ..parts import Parts",
        "from ..base import clock",
        "from .. import guard",
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
def test_the_test_of_purity_notices(source: str) -> None:
    """Each kind of impurity is found."""
    assert list(impurities("limits.window", source))


LAYERS = (
    "base",
    # Redis' language, without a connection.
    "redis.op redis.keys redis.errors redis.thrift redis.offset redis.store_time lookup",
    "breaker.circuit breaker.calls breaker.checks breaker.stored breaker.vitals breaker.gate",
    "redis.rest redis.tcp redis.store redis.prefixed",
    "afterwards",
    "breaker.shared breaker.breaker cache.freshness cache.lock cache.lease cache.epochs cache.entry limits",
    "cache.memory",
    "policy decide pieces call cache.flights source feed turn claims leading computing looking guard",
    # Names and rules of providers, for the settings and the ledger.
    "ai.providers.registry ai.models ai.prices ai.budgets",
    "settings ledger",
    # What every handler gets.
    "parts",
    "edge",
    "ai data",
    "fleet",
    "databases",
    "ops",
    "app door",
)
"""Who may import whom: a module imports its own layer and those above it in this list. The wiring comes last."""


def layer_of(name: str) -> int:
    """The layer of a module, by its own name or its folder's."""
    for number, names in enumerate(LAYERS):
        if any(name == each or name.startswith(f"{each}.") for each in names.split()):
            return number
    raise AssertionError(f"{name} has no layer")


def imported(name: str) -> set[str]:
    """Our modules that a module imports: within functions and for the type checker alone count as well."""
    return set(imports(name, ast.parse(MODULES[name].read_text()))) & MODULES.keys()


@pytest.mark.parametrize("name", [name for name, path in MODULES.items() if path.name != "__init__.py"])
def test_imports_run_one_way(name: str) -> None:
    """A module imports nothing that is built on it."""
    own = layer_of(name)
    assert sorted(each for each in imported(name) if each and layer_of(each) > own) == []


def test_there_are_no_circles() -> None:
    """No module imports itself, by whatever way."""
    left = {name: imported(name) for name in MODULES}
    while ready := [name for name, needed in left.items() if not needed & left.keys() - {name}]:
        for name in ready:
            del left[name]
    assert sorted(left) == []


LONGEST_FILE, LONGEST_CLASS = 300, 200


@pytest.mark.parametrize("name", MODULES)
def test_no_room_needs_a_map(name: str) -> None:
    """Files stay below 300 lines and classes below 200; one that does not says why in its header."""
    source = MODULES[name].read_text()
    tree = ast.parse(source)
    if "lines because" in (ast.get_docstring(tree) or ""):
        return
    assert source.count("\n") < LONGEST_FILE
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    assert [each.name for each in classes if (each.end_lineno or 0) - each.lineno >= LONGEST_CLASS] == []
