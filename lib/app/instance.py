"""What an instance keeps between requests: its parts, imported and built with the first one.

Nothing before the first request needs them, and importing this module changes nothing: what an instance changes in its
process happens in :func:`start`.
"""

import asyncio
import gc
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..base.absent import hidden, spare_searching
from ..base.values import dataclass

if TYPE_CHECKING:
    from ..parts import Parts
    from ..settings import Settings


@dataclass(frozen=True, slots=True, eq=False)
class _Built:
    """A set of parts, and what it was built for: connections belong to the event loop they were made in."""

    loop: asyncio.AbstractEventLoop
    environ: Mapping[str, str]
    parts: "Parts"

    def is_for(self, environ: Mapping[str, str]) -> bool:
        """Whether it was built for these variables."""
        return self.environ is environ or self.environ == environ


_built: list[_Built] = []


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """The parts of this process, for an environment: the same for every file and route."""

    environ: Mapping[str, str]

    async def __call__(self) -> "Parts":
        """The parts for the running event loop, built with its first call. Raises BadSettings."""
        loop = asyncio.get_running_loop()
        for each in _built:
            if each.loop is loop and each.environ is self.environ:
                return each.parts
        return _parts(loop, self.environ)

    async def goodbye(self) -> None:
        """The process ends: flush what every set of parts of this event loop has counted."""
        loop = asyncio.get_running_loop()
        for each in _built:
            if each.loop is loop:
                await each.parts.ledger.close()

    async def aclose(self) -> None:
        """Flush and close the parts of the running event loop, if it has any; what comes later builds new ones."""
        loop = asyncio.get_running_loop()
        for each in [each for each in _built if each.loop is loop and each.is_for(self.environ)]:
            _built.remove(each)
            await each.parts.ledger.close()
            await each.parts.aclose()


instance = Instance(os.environ)
"""What the files of ``api/`` use."""


def _parts(loop: asyncio.AbstractEventLoop, environ: Mapping[str, str]) -> "Parts":
    for each in _built:
        if each.loop is loop and each.is_for(environ):
            return each.parts
    with _uncollected():
        from ..settings import Settings

        settings = Settings.from_env(environ)
        _require_packages(settings)
        start(on_vercel=settings.on_vercel)
        from .wiring import build

        made = build(settings)
    if settings.on_vercel:
        # What is loaded now stays, so that the garbage collector need not look at it again.
        gc.freeze()
    # A loop that has ended took its connections along.
    _built[:] = [each for each in _built if not each.loop.is_closed()]
    _built.append(_Built(loop, environ, made))
    return made


def _require_packages(settings: "Settings") -> None:
    """Raises BadSettings where an optional package that a variable calls for is not installed."""
    if not (wanted := _wanted(settings)):
        return
    # Most cold starts need none of them.
    from ..base.env import BadSettings
    from ..base.extras import EXTRAS

    if lacking := [line for variable, extra in wanted for line in EXTRAS[extra].missing(variable)]:
        raise BadSettings(lacking)


def _wanted(settings: "Settings") -> list[tuple[str, str]]:
    """The extras that are called for, each with the variable that does so."""
    wanted = list[tuple[str, str]]()
    if settings.supabase_url is not None:
        # With a key limits are counted there; without one, tokens of users are checked all the same.
        wanted += [("SUPABASE_URL", "supabase")] if settings.supabase_key is not None else []
        wanted.append(("SUPABASE_URL", "signin"))
    elif settings.supabase_jwt_secret is not None:
        wanted.append(("SUPABASE_JWT_SECRET", "signin"))
    if settings.uses_tcp:
        wanted.append(("REDIS_URL", "tcp"))
    if settings.redis_enabled and settings.ratelimit_algorithm == "upstash":
        wanted.append(("RATELIMIT_ALGORITHM", "upstash"))
    kinds = {each.kind for each in settings.connections}
    if "postgres" in kinds:
        wanted.append(("DB_CONNECTIONS", "postgres"))
    if "oracle" in kinds:
        wanted.append(("DB_CONNECTIONS", "oracle"))
    return wanted


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without looking for garbage while modules are imported: there is none, and looking is a tenth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def start(*, on_vercel: bool) -> None:
    """What is done once in a process, before anything heavy is imported; doing it again changes nothing.

    More of it in a function, whose process is ours alone, than where others run beside us.
    """
    spare_searching()
    if not on_vercel:
        return
    # Pydantic would look through the metadata of every installed package for plugins: a tenth of its part in a cold
    # start.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    with hidden("h2"):
        # It loads its HTTP/2 where it finds this, and Redis is spoken to in HTTP/1.1: ten milliseconds of a cold start.
        import httpcore  # noqa: F401
