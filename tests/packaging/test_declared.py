"""`lib/pyproject.toml` declares what the library needs; no network is needed for this."""

import ast
import re
import sys

from tests.packaging.declared import EXTRAS, LIB, PROJECT, ROOT, distribution, module, needed, optional

IMPLIED = {"pydantic_core"}
"""A part of pydantic, which is declared."""
READ_BY_PYTHON = {"tzdata"}
"""`zoneinfo` reads it, and nobody imports it."""
GUARDED = {"vercel_runtime"}
"""There on Vercel only: whoever imports it does without it elsewhere."""


def test_no_project_file_at_the_root() -> None:
    """There it would make Vercel ignore requirements.txt."""
    assert not (ROOT / "pyproject.toml").exists()


def test_all_is_every_extra() -> None:
    """`breakwater-guard[all]` names the other extras."""
    others = sorted(EXTRAS.keys() - {"all"})
    assert EXTRAS["all"] == [f"{PROJECT['name']}[{','.join(others)}]"]


def test_functions_and_distribution_need_the_same() -> None:
    """requirements.in and lib/pyproject.toml name the same packages; of `supabase` the library needs one part."""
    lines = (ROOT / "requirements.in").read_text().splitlines()
    deployed = {distribution(line) for line in lines if line[:1].isalpha()}
    assert deployed - {"supabase"} | {"postgrest"} == needed() | optional()


def test_every_import_is_declared() -> None:
    """What lib/ imports comes with Python or with a declared distribution, and each of these is imported."""
    imported: set[str] = set()
    for path in LIB.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Import(names=aliases):
                    imported |= {alias.name.partition(".")[0] for alias in aliases}
                case ast.ImportFrom(module=str(name), level=0):
                    imported.add(name.partition(".")[0])
    declared = {module(name) for name in needed() | optional()}
    assert imported - set(sys.stdlib_module_names) - IMPLIED - GUARDED == declared - READ_BY_PYTHON


def test_nobody_is_sent_to_an_index() -> None:
    """The distribution is on none, where anybody may take its name: no line says to install it from one."""
    texts = [ROOT / "README.md", *(path for each in ("docs", "examples", "lib") for path in (ROOT / each).rglob("*"))]
    lines = [
        (path.name, line)
        for path in texts
        if path.suffix in (".md", ".py", ".toml") and "node_modules" not in path.parts
        for line in path.read_text().splitlines()
    ]
    assert len(lines) > 10_000
    named = [(name, line) for name, line in lines if re.search(r"install\b.*breakwater-guard", line)]
    assert [(name, line) for name, line in named if " @ git+" not in line] == []
    assert named


def test_the_license_is_the_repository_s() -> None:
    """A distribution can only carry a license file of its own folder: it has the same text."""
    assert (LIB / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
