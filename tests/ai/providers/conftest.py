"""One scripted server for all adapters, and a client for each test."""

import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from dev.serve import ThreadedServer
from lib.ai.providers.port import Provider
from tests.ai.providers.speech import Speech, Stage

_SSL = ssl.create_default_context()


@pytest.fixture(scope="package")
def _stage() -> Iterator[tuple[Stage, str]]:
    stage = Stage()
    with ThreadedServer(stage) as served:
        yield stage, served.url


@pytest.fixture
def stage(_stage: tuple[Stage, str]) -> Stage:
    """The server, as new. Set its `reply`."""
    _stage[0].reset()
    return _stage[0]


@pytest.fixture
async def client(anyio_backend: object) -> AsyncIterator[httpx.AsyncClient]:
    """A client with connections of its own. Only the TLS context is shared: making one takes most of a short test."""
    assert anyio_backend
    async with httpx.AsyncClient(verify=_SSL, trust_env=False) as client:
        yield client


@dataclass(frozen=True)
class Making:
    """Makes adapters that talk to the server."""

    client: httpx.AsyncClient
    url: str

    def __call__(self, speech: Speech, **changes: Any) -> Provider:
        """The adapter of a protocol, with other arguments where given."""
        return speech.make(self.client, self.url, **changes)


@pytest.fixture
def make(client: httpx.AsyncClient, stage: Stage, _stage: tuple[Stage, str]) -> Making:
    """`make(GEMINI)` is an adapter that talks to `stage`."""
    assert stage is _stage[0]
    return Making(client, _stage[1])
