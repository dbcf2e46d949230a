"""What an instance keeps between requests: its parts, imported and built with the first one.

What a request needs is half of a cold start (pydantic is most of it), and nothing before the first request needs it.
"""

import asyncio
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .wiring import Parts

_built: "tuple[asyncio.AbstractEventLoop, Parts] | None" = None


async def parts(environ: Mapping[str, str] = os.environ) -> "Parts":
    """The parts of this instance, built on its first request. Raises BadSettings.

    A request in a new event loop gets new parts: connections belong to the loop they were made in.
    """
    from .settings import Settings
    from .wiring import build

    global _built  # noqa: PLW0603 - the one thing an instance keeps between requests
    loop = asyncio.get_running_loop()
    if _built is None or _built[0] is not loop:
        _built = (loop, build(Settings.from_env(environ)))
    return _built[1]


async def goodbye() -> None:
    """The instance ends: hand over what it has counted."""
    if _built is not None and _built[0] is asyncio.get_running_loop():
        await _built[1].ledger.close()
