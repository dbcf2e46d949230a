"""The servers' view: a grid that stays readable at 1,000 servers, one server's history, and what it asks for."""

import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from playwright.sync_api import Locator, expect

from dev.postgres import Postgres
from tests.browser import servers
from tests.browser.conftest import Served, Visit
from tests.browser.test_states import GUISES, faults
from tests.rig.supabase import SupabaseStandIn

NAMES = "seoul,busan"


@pytest.fixture(autouse=True)
def owner(served: Served, _supabase: SupabaseStandIn, postgres: Postgres) -> Iterator[psycopg.Connection[Any]]:
    """The database where servers' past is kept, empty; the deployment knows it, and two reporters."""
    before = served.environ
    tokens = ",".join(f"{name}=a-secret-of-{name}-for-tests" for name in NAMES.split(","))
    served.environ = {**before, **_supabase.environ, "FLEET_TOKENS": tokens}
    with psycopg.connect(postgres.uri, autocommit=True) as connection:
        servers.forget(connection)
        yield connection
    served.environ = before


def see(visit: Visit, about: str = "") -> None:
    """Go to the view with the token, and wait until it shows something."""
    visit.page.goto(f"{visit.served.url}/#fleet{about}")
    visit.enter()
    expect(visit.page.locator(".fleet .verdict, .fleet .trouble:visible").first).to_be_visible()
    expect(visit.page.get_by_text(re.compile("^(Loading…|불러오는 중…)$"))).to_have_count(0)


def tiles(visit: Visit) -> Locator:
    """The servers that are shown."""
    return visit.page.locator(".servers > li")


@pytest.mark.parametrize("count", [0, 1, 10, 1000])
@pytest.mark.parametrize("visit", GUISES.values(), indirect=True, ids=GUISES)
def test_everybody_can_read_it(visit: Visit, owner: psycopg.Connection[Any], count: int, request: Any) -> None:
    """However many servers there are, in each guise: axe finds nothing, nothing is wider than the screen."""
    known = servers.some(count)
    if count:
        servers.report(visit.served.server, known)
        servers.record(owner, known[:60])
    see(visit)
    visit.shoot("fleet-" + request.node.callspec.id.replace(" ", "-"))
    assert faults(visit) == []
    assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
