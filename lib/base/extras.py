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
    packages: tuple[str, ...]
    """What installs them, as ``pyproject.toml`` has it."""

    def missing(self, wanted_by: str) -> list[str]:
        """A line for whoever set or wrote ``wanted_by``, where a package is not installed; none where all are."""
        if all(importlib.util.find_spec(module) is not None for module in self.modules):
            return []
        # Not the extra itself: the distribution is on no index, where anybody may yet take its name.
        packages = " ".join(f"'{each}'" for each in self.packages)
        return [f"{wanted_by}: needs the extra {self.name!r}: pip install {packages}"]


EXTRAS = {
    each.name: each
    for each in (
        Extra("supabase", ("postgrest",), ("postgrest>=2.34",)),
        Extra("signin", ("jwt", "cryptography"), ("PyJWT[crypto]>=2.14",)),
        Extra("postgres", ("asyncpg",), ("asyncpg>=0.30",)),
        Extra("oracle", ("oracledb",), ("oracledb>=2.5",)),
        Extra("tcp", ("redis",), ("redis>=6.0",)),
        Extra("upstash", ("upstash_ratelimit", "upstash_redis"), ("upstash-ratelimit>=1.1", "upstash-redis>=1.1")),
    )
}
