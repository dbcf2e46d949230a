"""What the tests of questions to an AI share."""

from collections.abc import AsyncIterator

import pytest

from tests.rig.late import Clients, some_clients


@pytest.fixture
async def clients() -> AsyncIterator[Clients]:
    """Clients of streams that are long in coming; time passes when a test says so (`about_timeouts`)."""
    async with some_clients() as found:
        yield found
