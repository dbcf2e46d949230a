"""Modules that others try to import although they are not there, or although nobody here uses them.

A failed import looks into every directory of ``sys.path``, each time: on Vercel that was a third of all that a bare
function executes (docs/performance.md). Once ``sys.modules`` says that a module is not there (the import system, 5.3.1:
None), Python does not look again. Called when an instance starts; importing this module changes nothing.
"""

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager

TRIED = (
    "sniffio",  # by httpcore, each time it takes a lock: four times a call
    *("vercel.cache.cache_build", "vercel.cache.context", "vercel.headers"),  # by vercel_runtime: five times a request
)


def spare_searching() -> None:
    """Have Python remember which of them are not there. Where one is installed nothing changes."""
    for name in TRIED:
        if importlib.util.find_spec(name.partition(".")[0]) is None:
            sys.modules.setdefault(name, None)  # type: ignore[arg-type] # its type does not know of None


@contextmanager
def hidden(name: str) -> Iterator[None]:
    """Within the block a module cannot be imported, as if it were not installed; what is imported already stays."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment] # likewise
    try:
        yield
    finally:
        del sys.modules[name]
