"""What an instance keeps between requests: its parts, imported and built with the first one.

Nothing before the first request needs them, and importing this module changes nothing: what an instance changes in its
process happens in :func:`start`.
"""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .wiring import Parts


@dataclass(frozen=True, slots=True)
class _Built:
    """A set of parts, and what it was built for: connections belong to the event loop they were made in."""

    loop: asyncio.AbstractEventLoop
    environ: Mapping[str, str]
    parts: "Parts"


_built: list[_Built] = []


async def parts(environ: Mapping[str, str] = os.environ) -> "Parts":
    """The parts of this process for the running event loop and an environment. Raises BadSettings.

    The first call for both builds them; all later ones get the same, however many files and routes call.
    """
    loop = asyncio.get_running_loop()
    for each in _built:
        if each.loop is loop and each.environ is environ:
            return each.parts
    return _parts(loop, environ)


def _parts(loop: asyncio.AbstractEventLoop, environ: Mapping[str, str]) -> "Parts":
    for each in _built:
        if each.loop is loop and each.environ == environ:
            return each.parts
    from .settings import Settings

    settings = Settings.from_env(environ)
    start(on_vercel=settings.on_vercel)
    from .wiring import build

    made = build(settings)
    # A loop that has ended took its connections along.
    _built[:] = [each for each in _built if not each.loop.is_closed()]
    _built.append(_Built(loop, environ, made))
    return made


def start(*, on_vercel: bool) -> None:
    """What is done once in a process, before anything heavy is imported; doing it again changes nothing."""
    from ..base.absent import spare_searching

    spare_searching()
    if on_vercel:
        # Pydantic would look through the metadata of every installed package for plugins: a tenth of its part in a
        # cold start. Only in a function, whose process is ours alone: elsewhere somebody may use such a plugin.
        os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")


async def goodbye() -> None:
    """The instance ends: hand over what every set of parts of this event loop has counted."""
    loop = asyncio.get_running_loop()
    for each in _built:
        if each.loop is loop:
            await each.parts.ledger.close()
