"""Optional packages: whether what is called for is installed, before anything is served that would need it later.

They are looked for and not imported, so that they stay where they are first needed. ``pyproject.toml`` has the extras.
"""

import importlib.util

from .values import dataclass


@dataclass(frozen=True, slots=True)
class Extra:
    """An extra of the distribution: ``breakwater-guard[tcp]``."""

    name: str
    modules: tuple[str, ...]
    """What its packages are imported as."""
    packages: str
    """What they are called where packages are installed from."""

    def missing(self, wanted_by: str) -> list[str]:
        """A line for whoever set or wrote ``wanted_by``, where a package is not installed; none where all are."""
        if all(importlib.util.find_spec(module) is not None for module in self.modules):
            return []
        return [f"{wanted_by}: needs {self.packages}: pip install 'breakwater-guard[{self.name}]'"]


EXTRAS = {
    each.name: each
    for each in (
        Extra("supabase", ("postgrest",), "postgrest"),
        Extra("signin", ("jwt", "cryptography"), "PyJWT[crypto]"),
        Extra("postgres", ("asyncpg",), "asyncpg"),
        Extra("oracle", ("oracledb",), "oracledb"),
        Extra("tcp", ("redis",), "redis"),
        Extra("upstash", ("upstash_ratelimit", "upstash_redis"), "upstash-ratelimit and upstash-redis"),
    )
}
