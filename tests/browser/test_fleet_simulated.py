"""Simulated servers in the servers' view, which nobody may take for real ones, and questions about either."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from dev.backend import backend_app
from dev.serve import ThreadedServer
from dev.supabase import sign_user_token
from lib.fleet.scenarios import SCENARIOS, load
from lib.redis import keys
from tests.browser import servers
from tests.browser.conftest import PHONE, Visit
from tests.browser.servers import names, see, tiles
from tests.browser.test_actions import confirm, done
from tests.browser.test_states import faults
from tests.rig.supabase import SupabaseStandIn

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


@pytest.mark.parametrize("visit", [{}, {**PHONE, "color_scheme": "dark"}], indirect=True, ids=["desktop", "phone"])
def test_a_scenario_is_started_and_stopped(visit: Visit, request: pytest.FixtureRequest) -> None:
    """By an operator, after a question; what runs is shown at once, whatever an edge still has of before."""
    see(visit)
    page = visit.page
    page.get_by_role("radio", name="simulated").check(force=True)
    form = page.get_by_role("form", name="Simulate servers")
    form.get_by_label("Scenario").select_option("silent")
    form.get_by_label("Minutes").fill("30")
    form.get_by_label("Seed").fill("7")
    visit.shoot(f"fleet-simulate-{request.node.callspec.id}")
    assert faults(visit) == []
    form.get_by_role("button", name="Start").click()
    confirm(visit, "Start the scenario silent for 30 minutes?")
    done(visit, "Done: silent runs for 30 minutes with 11 simulated servers")
    expect(tiles(visit)).to_have_count(11)
    expect(page.locator(".simulated-note")).to_contain_text("Scenario silent, from ")
    text = visit.served.server.hget(keys.SERVERS, keys.SIMULATION)
    assert isinstance(text, str)
    simulation = load(text)
    assert simulation is not None
    assert (simulation.scenario, simulation.seed) == ("silent", 7)
    assert {"/api/admin", "/api/dashboard"} <= set(visit.served.authorized)
    assert faults(visit) == []
    page.get_by_role("button", name="Stop the scenario").click()
    confirm(visit, "Stop the scenario silent?")
    done(visit, "Done: silent is stopped")
    expect(form).to_be_visible()
    assert visit.served.server.hget(keys.SERVERS, keys.SIMULATION) is None


def test_reading_past_the_edge_ends(visit: Visit) -> None:
    """Once an edge has nothing of before any more, the day's key is used again."""
    page = visit.page
    page.clock.install()
    see(visit, "/simulated")
    page.get_by_role("button", name="Start").click()
    confirm(visit, "Start the scenario baseline for 60 minutes?")
    expect(tiles(visit)).to_have_count(11)
    for _ in range(2):
        with page.expect_response("**/api/dashboard?*"):
            page.clock.run_for(60_000)
    assert visit.served.authorized.count("/api/dashboard") == 2


def test_a_scenario_that_does_not_start(visit: Visit) -> None:
    """Why not is said, and what was filled in stays."""
    see(visit, "/simulated")
    servers.scenario(visit.served.server, "cascade")
    visit.page.get_by_label("Minutes").fill("7")
    visit.page.get_by_role("button", name="Start").click()
    confirm(visit, "for 7 minutes?")
    done(visit, "Not done: cascade is running: stop it first")
    expect(visit.page.get_by_label("Minutes")).to_have_value("7")


def test_every_scenario_can_be_chosen(visit: Visit) -> None:
    """All that there are, each with its words in both languages."""
    words = visit.page.evaluate("import('/page/language.js').then(({ WORDS }) => WORDS)")
    assert [each for each in SCENARIOS for texts in words.values() if f"scenario {each}" not in texts] == []
    see(visit, "/simulated")
    options = visit.page.get_by_label("Scenario").get_by_role("option")
    assert [each.get_attribute("value") for each in options.all()] == list(SCENARIOS)


def test_a_viewer_starts_nothing(visit: Visit, supabase: SupabaseStandIn) -> None:
    """Who has no ADMIN_TOKEN sees what runs, and is led there only while something does."""
    viewer = sign_user_token("me", supabase.jwt_secret, claims={"app_metadata": {"role": "viewer"}})
    page = visit.page
    page.goto(f"{visit.served.url}/#fleet/simulated")
    visit.enter(viewer)
    expect(page.get_by_text("Whoever has the ADMIN_TOKEN can start one here.")).to_be_visible()
    expect(page.get_by_role("button", name="Start")).to_have_count(0)
    page.goto(f"{visit.served.url}/#fleet")
    expect(page.get_by_text("No reporter has sent anything yet.")).to_be_visible()
    expect(page.get_by_role("radio", name="simulated")).to_have_count(0)
    servers.scenario(visit.served.server, "cascade")
    visit.served.outdate()
    page.get_by_role("button", name="Refresh").click()
    page.get_by_role("radio", name="simulated").check(force=True)
    expect(tiles(visit)).to_have_count(11)
    expect(page.get_by_role("button", name="Stop the scenario")).to_have_count(0)


def test_no_scenario_runs(visit: Visit) -> None:
    """Then one can be started; without any report, it says how to begin."""
    see(visit, "/simulated")
    expect(visit.page.get_by_text("No scenario runs.")).to_be_visible()
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
