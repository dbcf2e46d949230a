"""docs/architecture.md: the recipes' code, as it stands there, does what the page says."""

from typing import Any

import asyncpg
import pytest
from dotenv import dotenv_values

from dev.postgres import Postgres
from lib import Breakwater
from lib.ai.providers import registry
from lib.base import env
from lib.limits.grammar import parse_budget
from tests.guides.pages import ROOT, python_of
from tests.rig.data import read
from tests.rig.door import an_instance, door
from tests.rig.guard import Rig

pytestmark = pytest.mark.anyio
PAGE = ROOT / "docs" / "architecture.md"
TEXT = PAGE.read_text()


def recipe(heading: str) -> str:
    """The one block of Python below a heading."""
    section = TEXT.partition(f"### {heading}\n")[2].partition("\n### ")[0]
    (code,) = [each for each in python_of(PAGE) if each in section]
    return code


async def test_a_route_over_postgresql(rig: Rig, postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads the table, is served from the cache, is invalidated by its tag, and its limit has a variable."""
    connection = await asyncpg.connect(postgres.uri)
    try:
        await connection.execute("create table inventory (name text, left_over int)")
        await connection.execute("insert into inventory values ('lungo', 2), ('espresso', 5)")
        bw = door(an_instance(rig, DATABASE_URL=postgres.uri, RATELIMIT_INVENTORY="3/minute"))
        monkeypatch.setattr(Breakwater, "from_env", lambda: bw)
        file: dict[str, Any] = {}
        exec(recipe("A guarded GET route over PostgreSQL"), file)  # noqa: S102 - the page's own code
        first = await read(file["app"], "/api/inventory", "192.0.2.90")
        await connection.execute("delete from inventory where name = 'lungo'")
        kept = await read(file["app"], "/api/inventory", "192.0.2.90")
        await bw.invalidate("cache:inventory")
        anew = await read(file["app"], "/api/inventory", "192.0.2.90")
        refused = await read(file["app"], "/api/inventory", "192.0.2.90")
    finally:
        await connection.execute("drop table if exists inventory")
        await connection.close()
    espresso, lungo = {"name": "espresso", "left_over": 5}, {"name": "lungo", "left_over": 2}
    assert [each.json() for each in (first, kept, anew)] == [[espresso, lungo], [espresso, lungo], [espresso]]
    assert (refused.status_code, refused.headers["x-ratelimit-limit"]) == (429, "3")


def test_a_provider() -> None:
    """The declaration can be made, with a number that is free, and its variables are those that the page names."""
    declared = eval(recipe("A provider"), vars(registry))  # noqa: S307 - likewise
    assert declared.ledger_id not in {each.ledger_id for each in registry.PROVIDERS}
    assert declared.name not in registry.BY_NAME
    assert declared.dialect in registry.DIALECTS
    values, faults = env.read(declared.variables, {"MISTRAL_API_KEY": "k"})
    assert (faults, values["limits"]) == ([], parse_budget("60/minute"))
    assert all(f"`{each.name}`" in TEXT for each in declared.variables.values())


def test_a_recipe_names_its_files() -> None:
    """A provider's key stands in .env.example, which another test asks for."""
    assert "`.env.example`" in TEXT.partition("### A provider\n")[2].partition("\n### ")[0]
    assert {each.needed.name for each in registry.PROVIDERS} <= dotenv_values(ROOT / ".env.example").keys()
