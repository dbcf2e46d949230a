"""What is pinned fits every machine that the project runs on, not only the one it was pinned on."""

import pytest
from packaging.requirements import Requirement

from tests.packaging.declared import ROOT

MACHINES = {
    "Linux on x86-64": {"sys_platform": "linux", "platform_machine": "x86_64", "python": "3.12"},
    "a newer Python": {"sys_platform": "linux", "platform_machine": "x86_64", "python": "3.13"},
    "Linux on ARM": {"sys_platform": "linux", "platform_machine": "aarch64", "python": "3.12"},
    "a Mac": {"sys_platform": "darwin", "platform_machine": "arm64", "python": "3.12"},
}


def installed(file: str, machine: dict[str, str]) -> set[str]:
    """The packages that pip installs from a file on a machine."""
    about = {name: value for name, value in machine.items() if name != "python"}
    about |= {"python_version": machine["python"], "python_full_version": f"{machine['python']}.0"}
    lines = [line.partition(" #")[0].strip() for line in (ROOT / file).read_text().splitlines()]
    found = [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]
    return {each.name.lower() for each in found if each.marker is None or each.marker.evaluate(about)}


def named(file: str) -> set[str]:
    """All packages of a file, whatever they are for."""
    return set().union(*(installed(file, machine) for machine in MACHINES.values()))


@pytest.mark.parametrize("machine", MACHINES.values(), ids=list(MACHINES))
@pytest.mark.parametrize("file", ["requirements", "requirements-dev"])
def test_a_package_is_pinned_for_its_own_machines_only(file: str, machine: dict[str, str]) -> None:
    """What is asked for on some machines alone is installed there, and on no other: it may not exist for them."""
    asked, pinned = installed(f"{file}.in", machine), installed(f"{file}.txt", machine)
    assert asked <= pinned
    assert not (named(f"{file}.in") - asked) & pinned
