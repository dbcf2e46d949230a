"""The real parts that fault tests break; started once."""

from collections.abc import Iterator

import pytest

from tests.faults.fleet import Servers, servers
from tests.faults.rig import Rig, rigged
from tests.rig.clock import PATIENT_BACKEND


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return PATIENT_BACKEND


@pytest.fixture(scope="package")
def running() -> Iterator[Servers]:
    with servers() as found:
        yield found


@pytest.fixture(scope="package")
def parts(running: Servers) -> Iterator[Rig]:
    with rigged(running) as made:
        yield made


@pytest.fixture
def rig(parts: Rig) -> Iterator[Rig]:
    parts.forget()
    yield parts
    for store in (parts.redis, parts.supabase):
        store.heal()
