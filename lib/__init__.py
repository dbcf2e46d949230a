"""Breakwater: one guard in front of whatever costs something.

    from lib import Breakwater            # installed elsewhere: from breakwater import Breakwater

Importing this has no side effect; what the names below need is imported when they are first used.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .app.middleware import GuardMiddleware
    from .base.env import BadSettings
    from .cache.freshness import CacheRules
    from .data.circuits import CircuitOpen
    from .data.origins.function import Python
    from .data.origins.http import Http
    from .data.origins.port import OriginFailed
    from .data.origins.postgres import Sql
    from .data.origins.supabase import Rpc, Table
    from .data.resource import Query, Resource
    from .data.routes import Asked
    from .door import Breakwater, Verdict
    from .edge.problems import Problem
    from .limits.strict_windows import StrictWindows

__version__ = "0.2.0"
"""The one place of the version: the distribution and the API's description read it here."""

__all__ = [
    "Asked",
    "BadSettings",
    "Breakwater",
    "CacheRules",
    "CircuitOpen",
    "GuardMiddleware",
    "Http",
    "OriginFailed",
    "Problem",
    "Python",
    "Query",
    "Resource",
    "Rpc",
    "Sql",
    "StrictWindows",
    "Table",
    "Verdict",
    "__version__",
]

_WHERE = {
    "Asked": "data.routes",
    "BadSettings": "base.env",
    "Breakwater": "door",
    "CacheRules": "cache.freshness",
    "CircuitOpen": "data.circuits",
    "GuardMiddleware": "app.middleware",
    "Http": "data.origins.http",
    "OriginFailed": "data.origins.port",
    "Problem": "edge.problems",
    "Python": "data.origins.function",
    "Query": "data.resource",
    "Resource": "data.resource",
    "Rpc": "data.origins.supabase",
    "Sql": "data.origins.postgres",
    "StrictWindows": "limits.strict_windows",
    "Table": "data.origins.supabase",
    "Verdict": "door",
}


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_WHERE[name]}", __name__), name)
