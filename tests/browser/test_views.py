"""The views of the page: how each is reached, and that only the one that is shown asks for figures."""

from playwright.sync_api import expect

from tests.browser.conftest import Visit


def test_a_view_has_an_address(visit: Visit) -> None:
    """A link leads to it, the address keeps it, and the way back leads to the overview."""
    visit.look()
    page = visit.page
    page.get_by_role("navigation", name="Views").get_by_role("link", name="Databases").click()
    expect(page).to_have_url(f"{visit.served.url}/#database")
    expect(page).to_have_title("Databases – Breakwater")
    expect(page.get_by_role("link", name="Databases")).to_have_attribute("aria-current", "page")
    expect(visit.region("Left")).to_be_hidden()
    page.reload()
    expect(page.get_by_role("heading", name="Databases")).to_be_visible()
    page.go_back()
    expect(visit.region("Left")).to_be_visible()
    expect(page.get_by_role("link", name="Overview")).to_have_attribute("aria-current", "page")


def test_an_address_of_no_view_is_the_overview(visit: Visit) -> None:
    """Neither an unknown name nor one that every object has leads to an empty page."""
    visit.look()
    for name in ("nothing", "constructor", "main"):
        visit.page.goto(f"{visit.served.url}/#{name}")
        visit.page.reload()
        expect(visit.region("Left")).to_be_visible()


def test_skipping_to_the_content_keeps_the_view(visit: Visit) -> None:
    """The link at the top moves the focus, and not the address."""
    visit.page.goto(f"{visit.served.url}/#database")
    visit.page.get_by_role("link", name="Skip to content").focus()
    visit.page.keyboard.press("Enter")
    expect(visit.page.locator("main")).to_be_focused()
    expect(visit.page).to_have_url(f"{visit.served.url}/#database")


def test_the_overview_is_not_read_while_another_view_is_shown(visit: Visit) -> None:
    """Every question costs, and nobody would see the answer."""
    page = visit.page
    page.clock.install()
    page.goto(f"{visit.served.url}/#database")
    page.reload()
    visit.enter()
    expect(page.get_by_role("heading", name="Databases")).to_be_visible()
    page.clock.run_for(120_000)
    assert "/api/overview" not in visit.served.asked
