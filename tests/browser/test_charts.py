"""The charts: ranges and breakdowns, values by pointer and keyboard, dates, the zone, the part-filled last bar."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import PHONE, Visit
from tests.browser.test_states import faults

BARS = {"1h": 13, "24h": 25, "7d": 29, "30d": 30}


def choose(visit: Visit, name: str) -> None:
    """Press one of the choices."""
    visit.page.get_by_role("radio", name=name, exact=True).check(force=True)


@pytest.mark.parametrize("by", ["outcome", "status", "route", "provider calls"])
@pytest.mark.parametrize("wanted", ["1 h", "24 h", "7 d", "30 d"])
def test_every_range_by_everything(visit: Visit, wanted: str, by: str) -> None:
    """Each has its charts, its legend, its units and its values; axe finds nothing in any."""
    visit.look()
    choose(visit, wanted)
    panel = visit.region("Traffic")
    choose(visit, by)
    slider = panel.get_by_role("slider")
    expect(slider).to_be_visible()
    first, last = BARS[wanted.replace(" ", "")] - 1, int(slider.get_attribute("aria-valuemax") or 0)
    assert abs(last - first) <= 1, "a reading may begin within a bar, which is left out"
    names = {
        "outcome": ["from the cache", "computed", "refused", "failed"],
        "status": ["2xx answered", "429 refused", "5xx failed"],
        "route": ["ai/supervisor", "v1/chat/completions", "other"],
        "provider calls": ["cloud-run", "gemini", "groq"],
    }[by]
    text = slider.get_attribute("aria-valuetext") or ""
    assert all(name in text for name in names)
    expect(panel).to_contain_text(re.compile("Requests (in 5 minutes|an hour|in 6 hours|a day)"))
    expect(panel).to_contain_text("Europe/Berlin (GMT+")
    expect(panel.locator(".legend").last).to_contain_text("still running")
    visit.shoot(f"traffic-{wanted}-{by}".replace(" ", "-"))
    assert faults(visit) == []


def test_values_by_keyboard(visit: Visit) -> None:
    """Arrow keys choose a bar and read it out; Home and End go to the ends; Escape shows the sums again."""
    visit.look()
    slider = visit.region("Traffic").get_by_role("slider")
    slider.focus()
    value = "aria-valuetext"
    visit.page.keyboard.press("ArrowLeft")
    expect(slider).to_have_attribute(value, re.compile(r"^.*\d\d:00–\d\d:00: from the cache .*\(still running\)$"))
    visit.page.keyboard.press("ArrowLeft")
    expect(slider).to_have_attribute("aria-valuenow", "23")
    expect(slider).not_to_have_attribute(value, re.compile("still running"))
    visit.page.keyboard.press("Home")
    expect(slider).to_have_attribute("aria-valuenow", "0")
    # A day and an hour ago: it says of which day.
    expect(slider).to_have_attribute(value, re.compile(r"^\d+ \w+ \d\d:00–\d\d:00: "))
    expect(visit.page.locator(".mark:visible")).to_have_count(2)
    visit.page.keyboard.press("End")
    expect(slider).to_have_attribute("aria-valuenow", "24")
    visit.page.keyboard.press("Escape")
    expect(slider).to_have_attribute(value, re.compile(r"^24 h: from the cache [\d,]+ · computed"))


def test_values_by_pointer(visit: Visit) -> None:
    """Pointing at a bar shows its values, in the words above the chart; leaving shows the sums again."""
    visit.look()
    panel = visit.region("Traffic")
    chart = panel.locator(".chart .u-over").first
    box = chart.bounding_box()
    assert box is not None
    chart.hover(position={"x": box["width"] * 0.5, "y": 20})
    readout = panel.locator(".readout")
    values = r"from the cache \d+ · computed \d+ · refused \d+ · failed \d+"
    expect(readout).to_contain_text(re.compile(rf"\d\d:00–\d\d:00: {values}"))
    visit.page.mouse.move(5, 5)
    expect(readout).to_contain_text(re.compile(r"^24 h: "))


def test_the_table_has_every_value(visit: Visit) -> None:
    """One row a bar, newest first, with the total."""
    visit.look()
    panel = visit.region("Traffic")
    panel.get_by_text("As a table").click()
    rows = panel.get_by_role("row")
    expect(rows).to_have_count(26)
    cells = [int(text.replace(",", "")) for text in rows.nth(2).get_by_role("cell").all_inner_texts()]
    assert sum(cells[:-1]) == cells[-1]


TICKS = """
window.ticks = [];
const real = CanvasRenderingContext2D.prototype.fillText;
CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
  window.ticks.push(text);
  return real.call(this, text, ...rest);
};
"""


@pytest.mark.parametrize("wanted", ["24 h", "7 d", "30 d"])
def test_the_axis_names_the_day_at_midnight(visit: Visit, wanted: str) -> None:
    """Where a range crosses midnight, the axis has the date in place of 00:00."""
    visit.page.add_init_script(TICKS)
    visit.page.reload()
    visit.look()
    choose(visit, wanted)
    expect(visit.region("Traffic").get_by_role("slider")).to_be_visible()
    ticks = visit.page.evaluate("window.ticks")
    assert [text for text in ticks if re.fullmatch(r"\d+ \w{3,4}", text)]
    assert "00:00" not in ticks


def test_the_past_may_be_out_of_reach(visit: Visit) -> None:
    """While the history cannot be read, the panel says why, and the ranges of the overview still work."""
    visit.look()
    visit.served.status = 503
    choose(visit, "7 d")
    expect(visit.region("Traffic").get_by_role("alert")).to_contain_text("the server answered 503")
    choose(visit, "1 h")
    expect(visit.region("Traffic").get_by_role("slider")).to_be_visible()


@pytest.mark.parametrize("visit", [{**PHONE, "locale": "ko-KR"}], indirect=True)
def test_charts_fit_on_a_phone(visit: Visit) -> None:
    """No chart is wider than the screen, in any range."""
    visit.look()
    for each in ("7일", "30일"):
        choose(visit, each)
        expect(visit.region("트래픽").get_by_role("slider")).to_be_visible()
        assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    visit.shoot("phone-30d")
