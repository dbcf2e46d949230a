"""The page in every state: what its verdict says, and that everybody can read it, in both languages and themes."""

import re
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from dev.faults import Fault
from tests.browser.conftest import PHONE, ROOT, Visit
from tests.browser.seeds import STATES

VERDICTS = {
    "fine": r"Working: \d+ requests in the last hour, 66\.7% of the answers from the cache",
    "short": r"Running short: Redis commands end (\S+ )*\d\d:\d\d, .+ before they reset",
    "degraded": r"Degraded: gemini and groq resting until \d\d:\d\d; Redis commands end .+, .+ before they reset",
    "down": r"Down: no provider can be called until \d\d:\d\d",
    "empty": r"Working: nothing has been asked this month",
    "redis-down": r"Degraded: Redis cannot be read, and limits are counted by each instance by itself",
}
GUISES: dict[str, dict[str, Any]] = {
    "desktop light English": {},
    "desktop dark Korean": {"color_scheme": "dark", "locale": "ko-KR"},
    "phone light Korean": {**PHONE, "locale": "ko-KR"},
    "phone dark English": {**PHONE, "color_scheme": "dark"},
}


def faults(visit: Visit) -> list[str]:
    """What axe finds."""
    found = Axe().run(visit.page).response["violations"]
    return [f"{each['id']}: {node['html'][:120]}" for each in found for node in each["nodes"]]


@pytest.mark.parametrize("visit", [{"state": state} for state in STATES], indirect=True, ids=list(STATES))
def test_the_verdict(visit: Visit, request: pytest.FixtureRequest) -> None:
    """The first panel of the page, in its title, and by its form as well as by its colour."""
    state = request.node.callspec.id
    visit.look()
    expect(visit.page).to_have_title(re.compile(f"^{VERDICTS[state]}.* – Breakwater$"))
    first = visit.page.locator("main > section:visible").first
    expect(first).to_contain_text(re.compile(VERDICTS[state].partition(":")[0]))
    expect(first.locator("svg path")).to_have_count(1)


def test_each_level_has_a_form_of_its_own() -> None:
    """No two levels are drawn alike."""
    forms = re.findall(r'^  \w+: "(M[^"]+)"', (ROOT / "public/page/panels/verdict.js").read_text(), re.M)
    assert len(forms) == len(set(forms)) == 5


@pytest.mark.parametrize(
    "visit",
    [{"state": state, **guise} for state in STATES for guise in GUISES.values()],
    indirect=True,
    ids=[f"{state}, {guise}" for state in STATES for guise in GUISES],
)
def test_everybody_can_read_it(visit: Visit, request: pytest.FixtureRequest) -> None:
    """In each state and guise: axe finds nothing, nothing is wider than the screen, what is pressed is big enough."""
    visit.look()
    visit.shoot(request.node.callspec.id.replace(", ", "-").replace(" ", "-"))
    assert faults(visit) == []
    page = visit.page
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for button in page.locator("button:visible, select:visible, summary:visible").all():
        box = button.bounding_box()
        assert box is not None
        assert box["height"] >= 44


@pytest.mark.parametrize("visit", [{}, {**PHONE, "color_scheme": "dark", "locale": "ko-KR"}], indirect=True)
def test_the_ways_in_can_be_read_too(visit: Visit) -> None:
    """Without a token, with a wrong one, and while the first attempt fails, axe finds nothing either."""
    assert faults(visit) == []
    visit.enter("not it")
    expect(visit.page.get_by_role("alert").first).not_to_be_empty()
    assert faults(visit) == []
    visit.served.status = 503
    visit.enter()
    expect(visit.page.locator(".verdict")).to_be_visible()
    assert faults(visit) == []
    assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("visit", [{"state": "empty"}], indirect=True)
def test_an_empty_page_says_what_to_do(visit: Visit) -> None:
    """Nothing to show: how to ask, at this deployment's own address."""
    visit.look()
    expect(visit.region("Traffic")).to_contain_text(f"curl {visit.served.url}/api/ai/supervisor")
    says = {
        "Who calls most": "Nobody has called",
        "Requests worth a look": "None: nothing failed",
        "Alerts": "SLACK_WEBHOOK_URL",
        "Data routes": f"curl {visit.served.url}/api/rankings/demo",
    }
    for panel, text in says.items():
        expect(visit.region(panel)).to_contain_text(text)


@pytest.mark.parametrize("visit", [{"state": "redis-down"}], indirect=True)
def test_nothing_is_said_of_what_is_unknown(visit: Visit) -> None:
    """Where Redis was never read, no panel says that there was nothing; the figures say whose they are."""
    visit.look()
    expect(visit.page.get_by_role("alert").filter(has_text="the figures of one instance alone")).to_be_visible()
    unknown = (
        "Traffic",
        "Latency",
        "What the cache saved",
        "Data routes",
        "Who calls most",
        "Requests worth",
        "Alerts",
    )
    for panel in unknown:
        expect(visit.region(panel)).to_contain_text("Unknown while Redis cannot be read.")


@pytest.mark.parametrize("visit", [{"state": "fine"}], indirect=True)
def test_figures_from_before_an_outage_say_so(visit: Visit) -> None:
    """Redis goes away while the page is open: its last figures stay, and their time is given."""
    visit.look()
    visit.served.faults.set(Fault(kind="refuse"))
    visit.served.outdate()
    visit.page.get_by_role("button", name="Refresh").click()
    expect(visit.page.get_by_role("alert").filter(has_text="these are its figures of")).to_be_visible()
    expect(visit.page).to_have_title(re.compile("^Degraded: Redis cannot be read"))
    expect(visit.page.get_by_role("meter", name="upstash, commands a month")).to_have_attribute("aria-valuenow", "24")


def test_the_flush_interval_is_the_one_that_holds(visit: Visit) -> None:
    """The note at the end names what LEDGER_FLUSH_COMMANDS says, which is 96 here."""
    visit.look()
    expect(visit.page.locator(".foot")).to_contain_text("every 96 commands, or with the first request after 5 minutes")
