"""One server in the servers' view: how it is, and its history."""

import re
from typing import Any

import psycopg
import pytest
from playwright.sync_api import expect

from tests.browser import servers
from tests.browser.conftest import PHONE, Visit
from tests.browser.servers import reads, see, tiles
from tests.browser.test_charts import choose
from tests.browser.test_states import faults

pytestmark = pytest.mark.usefixtures("owner")


def test_one_server(visit: Visit, owner: psycopg.Connection[Any]) -> None:
    """From its tile to its page and back: its state, its figures, its history; the focus goes along."""
    known = servers.some(10)
    servers.report(visit.served.server, known)
    servers.record(owner, known, hours=48, days=90, gap=range(40, 64))
    see(visit)
    page = visit.page
    page.get_by_role("link", name="Cache 7").click()
    expect(page).to_have_url(f"{visit.served.url}/#fleet/real/cache-7")
    heading = page.get_by_role("heading", name="Cache 7")
    expect(heading).to_be_focused()
    expect(page).to_have_title("Cache 7: high: CPU and Disk – Breakwater")
    facts = page.locator(".server-page .facts")
    for text in ("CPU97%", "Disk91%", "Memory31%", "Reporterseoul", "Idcache-7"):
        expect(facts).to_contain_text(text)
    expect(page.locator(".server-page .chart")).to_have_count(4)
    visit.shoot("fleet-server")
    assert faults(visit) == []
    assert reads(visit) == 1
    page.get_by_role("link", name="All servers").click()
    expect(tiles(visit)).to_have_count(10)
    expect(page.get_by_role("link", name="Cache 7")).to_be_focused()


@pytest.mark.parametrize(
    ("wanted", "count", "per"),
    [
        ("1 h", 12, "Every five minutes"),
        ("24 h", 288, "Every five minutes"),
        ("7 d", 168, "Means of an hour"),
        ("90 d", 360, "Means of six hours"),
    ],
)
def test_every_range(visit: Visit, owner: psycopg.Connection[Any], wanted: str, count: int, per: str) -> None:
    """Its points, from one end to the other, by keyboard and as a table; the highest value beside each metric."""
    known = servers.some(10)
    servers.report(visit.served.server, known)
    servers.record(owner, known, hours=48, days=91)
    see(visit, "/real/web-5")
    choose(visit, wanted)
    panel = visit.page.locator(".server-page")
    slider = panel.get_by_role("slider")
    expect(slider).to_have_attribute("aria-valuemax", str(count - 1))
    expect(panel).to_contain_text(per)
    expect(panel.locator(".strip-title")).to_have_text(
        [re.compile(rf"{name} at most [\d.]+") for name in ("CPU", "Memory", "Disk", "Network")]
    )
    slider.focus()
    visit.page.keyboard.press("End")
    visit.page.keyboard.press("ArrowLeft")
    value = slider.get_attribute("aria-valuetext") or ""
    assert re.search(r"\d\d:\d\d: CPU \d+% · Memory \d+% · Disk \d+% · Network [\d.]+ Mbit/s$", value)
    expect(panel.locator(".readout")).to_have_text(value)
    expect(panel.locator(".mark:visible")).to_have_count(4)
    visit.page.keyboard.press("Escape")
    panel.get_by_text("As a table").click()
    rows = panel.get_by_role("row")
    expect(rows).to_have_count(count + 1)
    expect(rows.nth(2)).to_have_text(re.compile(r"\d\d:\d\d\d+%\d+%\d+%[\d.]+"))
    visit.shoot(f"fleet-server-{wanted}".replace(" ", ""))
    assert faults(visit) == []


def test_a_gap_is_a_gap(visit: Visit, owner: psycopg.Connection[Any]) -> None:
    """Where nothing was recorded there is no value, neither in the chart nor in the table."""
    known = servers.some(10)
    servers.report(visit.served.server, known)
    servers.record(owner, known, hours=24, gap=range(5, 9))
    see(visit, "/real/web-5")
    choose(visit, "1 h")
    panel = visit.page.locator(".server-page")
    slider = panel.get_by_role("slider")
    slider.focus()
    visit.page.keyboard.press("End")
    values = []
    for _ in range(12):
        values.append("CPU –" not in (slider.get_attribute("aria-valuetext") or ""))
        visit.page.keyboard.press("ArrowLeft")
    assert values.count(False) == 4
    first = values.index(False)
    assert not any(values[first : first + 4])
    panel.get_by_text("As a table").click()
    expect(panel.get_by_role("row")).to_have_count(9)


def test_what_a_server_has_no_history_of(visit: Visit) -> None:
    """Nothing was recorded; it cannot be read; nobody knows such a server: each is said, and the rest is shown."""
    servers.report(visit.served.server, servers.some(10))
    see(visit, "/real/web-5")
    panel = visit.page.locator(".server-page")
    expect(panel).to_contain_text("Nothing was recorded in this time.")
    visit.served.status = 503
    choose(visit, "7 d")
    expect(panel.get_by_role("alert")).to_contain_text("The past could not be read (the server answered 503).")
    expect(panel.locator(".facts")).to_contain_text("CPU6%")
    visit.served.status = 200
    visit.page.goto(f"{visit.served.url}/#fleet/real/nobody%2F1")
    expect(panel).to_contain_text("No reporter names a server nobody/1.")
    assert faults(visit) == []


@pytest.mark.parametrize("called", ["web/1", "서버 1", "100%", "#1?x=1&view=2"])
def test_whatever_a_server_is_called(visit: Visit, owner: psycopg.Connection[Any], called: str) -> None:
    """Its page and its history are its own."""
    one = servers.measured(1)._replace(id=called, name=called)
    servers.report(visit.served.server, [one, servers.measured(2)])
    servers.record(owner, [one], hours=1)
    see(visit)
    visit.page.get_by_role("link", name=called, exact=True).click()
    panel = visit.page.locator(".server-page")
    choose(visit, "1 h")
    expect(panel.locator(".facts")).to_contain_text(f"Id{called}")
    expect(panel.locator(".chart")).to_have_count(4)


@pytest.mark.parametrize("visit", [{**PHONE, "color_scheme": "dark", "locale": "ko-KR"}], indirect=True)
def test_one_server_on_a_phone(visit: Visit, owner: psycopg.Connection[Any]) -> None:
    """Nothing is wider than the screen, and axe finds nothing."""
    known = servers.some(10)
    servers.report(visit.served.server, known)
    servers.record(owner, known, hours=48)
    see(visit, "/real/cache-7")
    expect(visit.page.locator(".server-page .chart")).to_have_count(4)
    visit.shoot("fleet-server-phone")
    assert faults(visit) == []
    assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
