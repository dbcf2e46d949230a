"""Optional modules that others try to import with every request, and that are not there.

A failed import looks into every directory of ``sys.path``, each time: on Vercel that was a third of all that a bare
function executes (docs/performance.md). Told once that a module is not there (the import system, 5.3.1: None), Python
does not look again. Where it is installed nothing changes.
"""

import importlib.util
import sys

TRIED = (
    "sniffio",  # by httpcore, each time it takes a lock: four times a call
    *("vercel.cache.cache_build", "vercel.cache.context", "vercel.headers"),  # by vercel_runtime: five times a request
)


def spare_searching() -> None:
    """Have Python remember which of them are not there."""
    for name in TRIED:
        if importlib.util.find_spec(name.partition(".")[0]) is None:
            sys.modules.setdefault(name, None)  # type: ignore[arg-type] # its type does not know of None
