"""What the tests of the door share: a Breakwater on an instance of the rig, and clients of what it guards."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from starlette.types import ASGIApp

from lib import Breakwater
from tests.rig.callers import a_caller
from tests.rig.guard import Rig
from tests.rig.instance import Built, Instance

_numbers = itertools.count(1)


def an_instance(rig: Rig, **environ: str | None) -> Instance:
    """A new instance whose ledger costs nothing meanwhile."""
    return rig.instance(**{"LEDGER_FLUSH_COMMANDS": "10000", **environ})


def door(instance: Instance) -> Breakwater:
    """The door of an instance whose parts a test has built."""
    return Breakwater(Built(instance.parts))


def a_name() -> str:
    """A name that no other test has."""
    return f"name-{next(_numbers)}"


def client(app: ASGIApp, caller: str = "", *, raises: bool = True) -> httpx.AsyncClient:
    """A client of one application, who calls from one address. A reply is there when its after-work is done."""
    transport: Any = httpx.ASGITransport(app=app, raise_app_exceptions=raises)
    headers = {"x-forwarded-for": caller or a_caller()}
    return httpx.AsyncClient(transport=transport, base_url="http://breakwater", headers=headers, timeout=None)  # noqa: S113 - in process


async def get(app: ASGIApp, path: str = "/api/x", caller: str = "", **headers: str) -> httpx.Response:
    """GET a path, as somebody new unless ``caller`` says who."""
    async with client(app, caller) as http:
        return await http.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})


@dataclass
class Counted:
    """An async function that counts its calls, and may be held until it is let go."""

    value: Any = "value"
    error: BaseException | None = None
    calls: int = 0
    given: list[Any] = field(default_factory=list)
    gate: Callable[[], Awaitable[None]] | None = None

    async def __call__(self, *given: Any) -> Any:
        """What it was told to return or raise."""
        self.calls += 1
        self.given += given
        if self.gate is not None:
            await self.gate()
        if self.error is not None:
            raise self.error
        return self.value


class Gate:
    """Holds whoever comes, until it is opened."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        """Somebody is held."""
        self._open = asyncio.Event()

    async def __call__(self) -> None:
        """Wait until it is open."""
        self.reached.set()
        await self._open.wait()

    def open(self) -> None:
        """Let everybody go."""
        self._open.set()


@asynccontextmanager
async def bill(rig: Rig) -> AsyncIterator[list[int]]:
    """What the block costs: billed commands and round trips, filled in at its end."""
    rig.forget_counts()
    found: list[int] = []
    yield found
    round_trips, commands = rig.cost()
    found += [commands, round_trips]
