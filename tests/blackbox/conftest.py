"""One deployment for all black-box tests, undisturbed before each."""

from collections.abc import Iterator

import pytest

from tests.blackbox import target as targets
from tests.blackbox.target import Target


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """What is tested: see `tests.blackbox.target.target`."""
    with targets.target(tmp_path_factory.mktemp("blackbox")) as running:
        running.eventually(lambda: running.ask(headers={"cache-control": "no-store"}), lambda r: r.status_code == 200)
        yield running


@pytest.fixture
def target(deployment: Target) -> Iterator[Target]:
    """The deployment; whatever a test did to its parts ends with it."""
    yield deployment
    deployment.calm()
