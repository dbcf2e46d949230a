"""Two providers by script, and instances before them."""

from collections.abc import AsyncIterator, Iterator

import pytest

from dev.scripted import Scripted
from dev.serve import ThreadedServer
from tests.rig.ai import Kit
from tests.rig.gateway import Gateway, Gateways, gateways_on


@pytest.fixture(scope="package")
def servers() -> Iterator[list[tuple[Scripted, str]]]:
    apps = [Scripted(), Scripted()]
    with ThreadedServer(apps[0]) as first, ThreadedServer(apps[1]) as second:
        yield [(apps[0], first.url), (apps[1], second.url)]


@pytest.fixture
async def gateways(k: Kit, servers: list[tuple[Scripted, str]]) -> AsyncIterator[Gateways]:
    """Makes gateways."""
    async with gateways_on(k, servers) as making:
        yield making


@pytest.fixture
def gateway(gateways: Gateways) -> Gateway:
    """With OpenAI's provider alone."""
    return gateways()
