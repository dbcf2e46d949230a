"""What `lib/pyproject.toml` declares."""

import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LIB = ROOT / "lib"
PROJECT: dict[str, Any] = tomllib.loads((LIB / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]

IMPORTED_AS = {"PyJWT": "jwt"}
"""Distributions whose module is not named like them."""


def distribution(requirement: str) -> str:
    """The distribution's name in a requirement."""
    matched = re.match(r"[\w-]+", requirement)
    assert matched, requirement
    return matched[0]


def module(name: str) -> str:
    """The module that a distribution brings."""
    return IMPORTED_AS.get(name, name.replace("-", "_"))


def needed() -> set[str]:
    """The distributions that are installed always."""
    return {distribution(each) for each in PROJECT["dependencies"]}


def optional() -> set[str]:
    """The distributions that the extras name."""
    return {distribution(each) for name, all_of_it in EXTRAS.items() if name != "all" for each in all_of_it}


def optional_modules() -> set[str]:
    """The modules of the extras."""
    return {module(name) for name in optional()}
