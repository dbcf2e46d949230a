"""When the overview reads, and what it does when that fails."""

import re

from playwright.sync_api import expect

from tests.browser.conftest import Visit


def test_refreshes_by_itself_and_survives_failures(visit: Visit) -> None:
    """Asked again after 30 s; a failure leaves the figures and says how old they are; a later success clears it."""
    page = visit.page
    page.clock.install()
    page.reload()
    visit.enter()
    meter = page.get_by_role("meter", name="upstash, commands a month")
    expect(meter).to_be_visible()
    overviews = visit.served.asked.count("/api/overview")
    with page.expect_response("**/api/overview*"):
        page.clock.run_for(31_000)
    assert visit.served.asked.count("/api/overview") == overviews + 1
    visit.served.status = 503
    with page.expect_response("**/api/overview*"):
        page.clock.run_for(31_000)
    banner = page.get_by_role("alert").filter(has_text="The last attempt failed (the server answered 503)")
    expect(banner).to_be_visible()
    expect(banner).to_contain_text("These are the figures of")
    expect(meter).to_have_attribute("aria-valuenow", "82.5")
    # A title that goes on as it was would be believed.
    expect(page).to_have_title(
        re.compile(r"^No figures since \d\d:\d\d: last known: Degraded; gemini and groq resting")
    )
    visit.shoot("failure")
    visit.served.status = 200
    with page.expect_response("**/api/overview*"):
        page.clock.run_for(31_000)
    expect(banner).to_be_hidden()
    expect(page).to_have_title(re.compile("^Degraded: gemini and groq resting"))


def test_it_asks_again_when_a_refusal_allows_it(visit: Visit) -> None:
    """`Retry-After` holds for the timer, for the return to the tab and to the network; the button asks at once."""
    page = visit.page
    page.clock.install()
    page.reload()
    visit.look()
    refused = visit.refuse("**/api/overview?*", 300)
    with page.expect_response("**/api/overview?*"):
        page.clock.run_for(31_000)
    banner = page.get_by_role("alert").filter(has_text="The last attempt failed (too many requests were sent)")
    expect(banner).to_contain_text("the next attempt is in 300 s")
    page.clock.run_for(290_000)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange')); dispatchEvent(new Event('online'))")
    page.clock.run_for(1_000)
    assert len(refused) == 1
    with page.expect_response("**/api/overview?*"):
        page.clock.run_for(10_000)
    with page.expect_response("**/api/overview?*"):
        page.get_by_role("button", name="Refresh").click()
    assert len(refused) == 3


def test_the_first_attempt_may_fail(visit: Visit) -> None:
    """Without any figures the page says that it has none, why, and when it tries again."""
    visit.served.status = 502
    visit.enter()
    expect(visit.page.get_by_role("alert").filter(has_text="the server answered 502")).to_be_visible()
    expect(visit.region("No figures")).to_be_visible()
    expect(visit.page).to_have_title("No figures – Breakwater")


def test_a_hidden_page_asks_nothing(visit: Visit) -> None:
    """While nobody looks, nothing is asked; on return it is asked at once."""
    page = visit.page
    page.clock.install()
    page.reload()
    visit.look()
    overviews = visit.served.asked.count("/api/overview")
    visit.hide()
    page.clock.run_for(300_000)
    assert visit.served.asked.count("/api/overview") == overviews
    with page.expect_response("**/api/overview*"):
        visit.hide(hidden=False)


def test_a_refresh_takes_nothing_from_the_reader(visit: Visit) -> None:
    """New figures leave the focus, an opened table, and what was typed where they are."""
    visit.look()
    page = visit.page
    page.get_by_text("As a table").first.click()
    field = page.get_by_label("Question")
    field.fill("half a quest")
    with page.expect_response("**/api/overview*"):
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(field).to_be_focused()
    expect(field).to_have_value("half a quest")
    expect(page.get_by_role("region", name="Traffic: table")).to_be_visible()
