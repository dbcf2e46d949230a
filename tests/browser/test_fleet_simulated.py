"""Simulated servers in the servers' view, which nobody may take for real ones, and questions about either."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from dev.backend import backend_app
from dev.serve import ThreadedServer
from lib.redis import keys
from tests.browser import servers
from tests.browser.conftest import PHONE, Visit
from tests.browser.servers import names, see, tiles
from tests.browser.test_states import faults

pytestmark = pytest.mark.usefixtures("owner")


SECRET = "local-backend-secret-of-these-tests"


@pytest.fixture(scope="module")
def backend() -> Iterator[str]:
    """The local AI backend, which answers about servers by rules."""
    with ThreadedServer(backend_app(secret=SECRET)) as server:
        yield server.url


@pytest.mark.parametrize("visit", [{}, {**PHONE, "color_scheme": "dark"}], indirect=True, ids=["desktop", "phone"])
def test_simulated_servers_are_marked(visit: Visit, request: pytest.FixtureRequest) -> None:
    """In the title, above, at each tile and on each page; no real server is among them, and no past is asked for."""
    servers.report(visit.served.server, servers.some(10))
    servers.scenario(visit.served.server, "cascade")
    see(visit, "/simulated")
    page = visit.page
    expect(page).to_have_title(re.compile("^simulated: .* – Breakwater$"))
    note = page.locator(".simulated-note")
    expect(note).to_have_text(
        re.compile(r"^Simulated: none of these servers exists. Scenario cascade, from .*\d\d:\d\d to ")
    )
    expect(tiles(visit)).to_have_count(11)
    expect(tiles(visit).filter(has_text="simulated")).to_have_count(11)
    assert all(name.startswith("Simulated ") for name in names(visit))
    expect(page.locator(".servers .spark").first).to_have_attribute("aria-label", re.compile(r"\d+% to \d+%$"))
    visit.shoot(f"fleet-simulated-{request.node.callspec.id}")
    assert faults(visit) == []
    tiles(visit).first.get_by_role("link").click()
    expect(page.locator(".server-page h2")).to_contain_text("simulated")
    expect(page.locator(".server-page")).to_contain_text("Simulated servers are not recorded")
    expect(note).to_be_visible()
    assert not [path for path in visit.served.asked if path.startswith("/api/servers/")]


def test_real_and_simulated_are_never_mixed(visit: Visit) -> None:
    """The one or the other, by a choice that is there while a scenario runs; what was seen of one is not shown of the
    other of the same id."""
    same = servers.measured(1, cpu=1)._replace(id="web-0", name="Real web 0")
    servers.report(visit.served.server, [same])
    servers.scenario(visit.served.server, "cpu-storm")
    see(visit)
    page = visit.page
    assert names(visit) == ["Real web 0"]
    expect(page.locator(".simulated-note")).to_have_count(0)
    page.get_by_role("radio", name="simulated").check(force=True)
    expect(page).to_have_url(f"{visit.served.url}/#fleet/simulated")
    expect(page.locator(".simulated-note")).to_be_visible()
    expect(tiles(visit)).to_have_count(11)
    assert "Real web 0" not in names(visit)
    line = tiles(visit).filter(has_text="Simulated web 0").locator(".spark")
    expect(line).not_to_have_attribute("aria-label", re.compile("hour: 1% to"))
    page.get_by_role("radio", name="real").check(force=True)
    expect(tiles(visit)).to_have_count(1)
    assert names(visit) == ["Real web 0"]
    visit.served.server.hdel(keys.SERVERS, keys.SIMULATION)
    visit.served.outdate()
    page.get_by_role("button", name="Refresh").click()
    expect(page.get_by_role("radio", name="simulated")).to_have_count(0)


def test_no_scenario_runs(visit: Visit) -> None:
    """Then it says how to start one; without any report, how to begin."""
    see(visit, "/simulated")
    expect(visit.page.get_by_role("region", name="curl")).to_contain_text(f"curl {visit.served.url}/api/admin")
    assert faults(visit) == []
    visit.page.goto(f"{visit.served.url}/#fleet")
    expect(visit.page.get_by_role("region", name="collector")).to_contain_text(f"--url {visit.served.url} --reporter")


@pytest.mark.parametrize("which", ["real", "simulated"])
def test_a_question_about_the_servers(visit: Visit, backend: str, which: str) -> None:
    """The local backend answers from the figures that go along, those of the servers that are shown."""
    visit.served.environ |= {"CLOUD_RUN_AI_URL": backend, "CLOUD_RUN_API_SECRET": SECRET}
    servers.report(visit.served.server, servers.some(10))
    servers.scenario(visit.served.server, "cpu-storm")
    see(visit, "" if which == "real" else "/simulated")
    panel = visit.region("Ask about these servers")
    with visit.page.expect_request("**/api/ai/supervisor*") as sent:
        panel.get_by_role("textbox").fill("Which server is in trouble?")
        visit.page.keyboard.press("Enter")
    asked = sent.value.post_data_json
    assert asked is not None
    assert asked["parameters"] == {"fleet": True if which == "real" else "simulated"}
    answer = panel.locator(".said")
    expect(answer).to_contain_text("worker-4" if which == "real" else "Simulated servers")
    expect(panel).to_contain_text("Answered by cloud-run.")
    assert visit.served.authorized == []
    visit.shoot(f"fleet-asked-{which}")
    assert faults(visit) == []


def test_a_question_may_fail(visit: Visit) -> None:
    """The reason is shown, and the servers stay."""
    servers.report(visit.served.server, servers.some(10))
    see(visit)
    visit.served.outside.fails = True
    panel = visit.region("Ask about these servers")
    panel.get_by_role("textbox").fill("Which server is in trouble?")
    visit.page.keyboard.press("Enter")
    expect(panel.locator(".error")).to_contain_text("backend_failed")
    expect(tiles(visit)).to_have_count(10)
    assert faults(visit) == []
