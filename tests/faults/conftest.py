"""The real parts that fault tests break; started once."""

from collections.abc import Iterator

import pytest

from tests.faults.adversary import TRANSPORTS
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
def parts(running: Servers) -> Iterator[dict[str, Rig]]:
    with rigged(running) as by_rest, rigged(running, "tcp") as by_tcp:
        yield {"rest": by_rest, "tcp": by_tcp}


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def rig(parts: dict[str, Rig], transport: str) -> Iterator[Rig]:
    made = parts[transport]
    made.forget()
    yield made
    for store in (made.redis, made.supabase):
        store.heal()
