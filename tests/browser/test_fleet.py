"""The servers' view: a grid that stays readable at 1,000 servers."""

import re
from typing import Any

import psycopg
import pytest
from playwright.sync_api import expect

from tests.browser import servers
from tests.browser.conftest import Visit
from tests.browser.servers import names, see, tiles
from tests.browser.test_charts import choose
from tests.browser.test_states import GUISES, faults

pytestmark = pytest.mark.usefixtures("owner")


@pytest.mark.parametrize("count", [0, 1, 10, 1000])
@pytest.mark.parametrize("visit", GUISES.values(), indirect=True, ids=GUISES)
def test_everybody_can_read_it(
    visit: Visit, owner: psycopg.Connection[Any], count: int, request: pytest.FixtureRequest
) -> None:
    """However many servers there are, in each guise: axe finds nothing, nothing is wider than the screen, what is
    pressed is big enough."""
    known = servers.some(count)
    if count:
        servers.report(visit.served.server, known)
        servers.record(owner, known, hours=1)
    see(visit)
    visit.shoot("fleet-" + request.node.callspec.id.replace(" ", "-"))
    assert faults(visit) == []
    assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for button in visit.page.locator(".fleet button:visible, .fleet label > span:visible, .fleet input:visible").all():
        box = button.bounding_box()
        assert box is not None
        assert box["height"] >= 44


def test_worst_first(visit: Visit) -> None:
    """The silent, the high, the late, then the others by their highest figure; the verdict is the title as well."""
    servers.report(visit.served.server, servers.some(10))
    see(visit)
    assert names(visit)[:3] == ["Worker 4", "Cache 7", "Cache 2"]
    highest = [
        max(int(text.rstrip("%")) for text in tile.locator("dd").all_inner_texts()) for tile in tiles(visit).all()[3:]
    ]
    assert highest == sorted(highest, reverse=True)
    expect(visit.page.locator(".verdict")).to_contain_text("3 of 10 servers are in trouble")
    expect(visit.page.locator(".verdict li")).to_have_text(
        [re.compile("^1 silent"), re.compile("^1 high: .* above 90%"), re.compile("^1 late"), "7 online"]
    )
    expect(visit.page).to_have_title("3 of 10 servers are in trouble – Breakwater")


def test_states_in_words_and_form(visit: Visit) -> None:
    """Each level has a form and words of its own; high figures are marked where they stand."""
    servers.report(visit.served.server, [*servers.some(10), servers.measured(11, age_s=servers.LATE_S, memory=95)])
    see(visit)
    said = {
        "Worker 4": r"^silent for 25 mins$",
        "Cache 7": r"^high: CPU and Disk$",
        "App 11": r"^high: Memory; late: 7 mins old$",
        "Cache 2": r"^late: 7 mins old$",
        "Web 0": r"^online$",
    }
    forms = dict[str, str]()
    for name, words in said.items():
        tile = tiles(visit).filter(has=visit.page.get_by_role("link", name=name, exact=True))
        expect(tile.locator(".server-state")).to_have_text(re.compile(words))
        forms[name] = tile.locator(".sign path").get_attribute("d") or ""
    assert forms["App 11"] == forms["Cache 7"]
    assert len(set(forms.values())) == 4
    high = tiles(visit).filter(has_text="high: CPU and Disk").locator(".is-high")
    expect(high).to_have_text([re.compile("CPU.*97%"), re.compile("Disk.*91%")])


def test_a_thousand_are_no_more_to_draw_than_sixty(visit: Visit, owner: psycopg.Connection[Any]) -> None:
    """A page of tiles; the rest is reached by page, search and level. All of them are read by two requests."""
    known = servers.some(1_000)
    servers.report(visit.served.server, known)
    servers.record(owner, known, hours=1)
    see(visit)
    expect(tiles(visit)).to_have_count(60)
    assert visit.page.evaluate("document.querySelectorAll('main *').length") < 1_500
    assert sorted(visit.served.asked) == ["/api/dashboard", "/api/dashboard/history"]
    pager = visit.page.get_by_role("navigation", name="Pages")
    expect(pager).to_contain_text("Page 1 of 17")
    seen = set(names(visit))
    for page in range(2, 18):
        pager.get_by_role("button", name="Next").click()
        expect(pager).to_contain_text(f"Page {page} of 17")
        seen.update(names(visit))
        assert visit.page.evaluate("document.querySelectorAll('main *').length") < 1_500
    assert seen == {each.name for each in known}
    expect(tiles(visit)).to_have_count(40)
    expect(pager.get_by_role("button", name="Next")).to_be_disabled()
    expect(visit.page.get_by_role("heading", name="All servers", exact=True)).to_be_focused()
    assert sorted(visit.served.asked) == ["/api/dashboard", "/api/dashboard/history"]


def test_search_and_levels(visit: Visit) -> None:
    """By name, id and reporter, any words of them; the levels count what was found; nothing found is said."""
    servers.report(visit.served.server, servers.some(1_000))
    servers.report(visit.served.server, [servers.measured(5_000), servers.measured(5_001, cpu=99)], "busan")
    see(visit)
    field, status = (
        visit.page.get_by_label("Search by name, id or reporter"),
        visit.page.locator("section .small[role=status]"),
    )
    expect(status).to_have_text("1–60 of 1,002, worst first; 1,002 servers in all.")
    for text, found in (
        ("busan", ["App 5001", "Web 5000"]),
        ("WEB 5000", ["Web 5000"]),
        ("database-3", None),
        ("5000 web", ["Web 5000"]),
        ("web seoul 10", None),
    ):
        field.fill(text)
        if found is None:
            words = text.split()
            shown = [
                each for each in servers.some(1_000) if all(w in f"{each.name.lower()} {each.id} seoul" for w in words)
            ]
            expect(status).to_contain_text(f" of {len(shown)}, worst first")
        else:
            expect(tiles(visit).locator("h3 a")).to_have_text(found)
    field.fill("nobody is called like this")
    expect(status).to_have_text("No server is like this.")
    expect(tiles(visit)).to_have_count(0)
    field.fill("busan")
    expect(visit.page.get_by_role("group", name="Show")).to_have_text("Showall 2silent 0high 1late 0online 1")
    choose(visit, "high 1")
    assert names(visit) == ["App 5001"]
    field.fill("")
    expect(status).to_have_text("1–51 of 51, worst first; 1,002 servers in all.")
    expect(visit.page.locator(".servers > li:not(.high)")).to_have_count(0)


def test_a_line_for_each(visit: Visit, owner: psycopg.Connection[Any]) -> None:
    """The CPU of the last hour beside each server, in words too; where it was silent the line ends."""
    known = servers.some(10)
    servers.report(visit.served.server, known)
    servers.record(owner, known, hours=1)
    see(visit)
    lines = visit.page.locator(".servers .spark")
    expect(lines).to_have_count(10)
    for each in lines.all():
        expect(each.locator("path").last).to_have_attribute("d", re.compile("L"))
        expect(each).to_have_attribute("aria-label", re.compile(r"^CPU, last hour: \d+% to \d+%$"))
    ends = {
        name: max(
            float(x) for x in re.findall(r"[ML]([\d.]+)", tile.locator(".spark path").last.get_attribute("d") or "")
        )
        for name, tile in zip(names(visit), tiles(visit).all(), strict=True)
    }
    assert 50 < ends["Worker 4"] < 75
    assert {name for name, end in ends.items() if end > 95} == set(ends) - {"Worker 4", "Cache 2"}


def test_a_line_without_records(visit: Visit) -> None:
    """Without Supabase it is drawn from what this tab has seen, reading by reading."""
    for name in ("SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY"):
        del visit.served.environ[name]
    page = visit.page
    page.clock.install()
    servers.report(visit.served.server, [servers.measured(1, cpu=20)])
    see(visit)
    line = page.locator(".servers .spark")
    expect(line).to_have_attribute("aria-label", "CPU, last hour: 20% to 20%")
    servers.report(visit.served.server, [servers.measured(1, cpu=70, age_s=0)])
    visit.served.outdate()
    page.get_by_role("button", name="Refresh").click()
    expect(line).to_have_attribute("aria-label", "CPU, last hour: 20% to 70%")


def test_two_reporters_of_one_server(visit: Visit) -> None:
    """The newest measurement is shown once, and the verdict names both reporters."""
    servers.report(visit.served.server, [servers.measured(1, cpu=11, age_s=30)])
    servers.report(visit.served.server, [servers.measured(1, cpu=22)], "busan")
    see(visit)
    expect(tiles(visit)).to_have_count(1)
    expect(tiles(visit)).to_contain_text("22%")
    expect(visit.page.locator(".verdict")).to_contain_text("busan, seoul both report app-1")


def test_what_could_not_be_measured(visit: Visit) -> None:
    """Is no zero."""
    servers.report(visit.served.server, [servers.measured(1, cpu=None, memory=None, disk=None, network=None)])
    see(visit)
    expect(tiles(visit).locator("dd")).to_have_text(["–", "–", "–"])
    expect(tiles(visit).locator(".spark")).to_have_attribute("aria-label", "CPU, last hour: nothing known yet")
    visit.page.get_by_role("link", name="App 1").click()
    expect(visit.page.locator(".server-page .facts")).to_contain_text("CPUnot measured")


def test_a_refresh_takes_nothing_from_the_reader(visit: Visit) -> None:
    """What is typed, chosen and focused stays, while servers change places."""
    servers.report(visit.served.server, servers.some(100))
    see(visit)
    page, field = visit.page, visit.page.get_by_label("Search by name, id or reporter")
    page.get_by_role("textbox", name="Ask about these servers").fill("half a quest")
    choose(visit, "online 90")
    field.fill("web")
    link = page.get_by_role("link", name="Web 20")
    link.focus()
    place = names(visit).index("Web 20")
    changed = [servers.measured(n, cpu=99 if n % 2 else 1) for n in range(100)]
    servers.report(visit.served.server, changed)
    visit.served.outdate()
    with page.expect_response("**/api/dashboard?*"):
        page.evaluate("document.querySelector('.fleet .bar button').click()")
    expect(page.locator(".verdict")).to_contain_text("50 of 100")
    expect(field).to_have_value("web")
    expect(page.get_by_role("textbox", name="Ask about these servers")).to_have_value("half a quest")
    assert names(visit).index("Web 20") != place
    expect(link).to_be_focused()


def test_by_keyboard(visit: Visit) -> None:
    """Everything is reached by the Tab key, in order; what has the focus shows it; Enter opens a server."""
    servers.report(visit.served.server, servers.some(70))
    servers.scenario(visit.served.server, "baseline")
    see(visit)
    page = visit.page
    page.get_by_role("link", name="Servers").focus()
    reached = []
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                "(() => { const at = document.activeElement; return at.labels?.[0]?.textContent.trim()"
                " || at.getAttribute('aria-labelledby') || at.textContent.trim(); })()"
            )
        )
        shown = (
            "[document.activeElement, document.activeElement.nextElementSibling, document.activeElement.closest('li')]"
        )
        assert page.evaluate(f"{shown}.some((each) => each && getComputedStyle(each).outlineStyle === 'solid')")
    assert reached == [
        *("Refresh", "real", "ask-title", "Ask", "Search by name, id or reporter", "all 70"),
        *("Worker 4", "Cache 7"),
    ]
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Cache 7")).to_be_focused()


@pytest.mark.parametrize("visit", [{"locale": "ko-KR"}], indirect=True, ids=["Korean"])
def test_in_korean(visit: Visit, owner: psycopg.Connection[Any]) -> None:
    """States, counts and Redis in Korean; no English word is left but names and units."""
    known = servers.some(10)
    servers.report(visit.served.server, known)
    servers.record(owner, known, hours=24)
    see(visit)
    expect(visit.page).to_have_title("서버 10대 중 3대에 문제 발생 – Breakwater")
    expect(tiles(visit).locator(".server-state")).to_contain_text(
        ["25분 동안 무응답", "높음: CPU 및 디스크", "지연: 7분 전 측정", "정상"]
    )
    for about in ("", "/real/cache-7"):
        visit.page.goto(f"{visit.served.url}/#fleet{about}")
        expect(visit.page.locator(".server-page .chart, .servers > li").first).to_be_visible()
        text = visit.page.locator("main").inner_text()
        names_of = "Redis|CPU|ID|ms|s|cache|seoul|Mbit|Berlin|Europe|GMT|AI|Web|App|Cache|Database|Worker"
        assert set(re.findall(r"[A-Za-z]+", text)) <= set(names_of.split("|"))


@pytest.mark.parametrize(
    ("points", "path"),
    [
        ([], ""),
        ([[3600, 50]], "M100.0 50.0h.01"),
        ([[0, 0], [300, 100]], "M0.0 100.0L8.3 0.0"),
        ([[0, 0], [300, 10], [900, 20], [1200, 30]], "M0.0 100.0L8.3 90.0M25.0 80.0L33.3 70.0"),
        ([[-300, 1], [3000, 2]], "M83.3 98.0h.01"),
        ([[3700, 5]], ""),
    ],
    ids=["none", "one", "two", "a gap", "too old", "of the future"],
)
def test_how_a_line_is_drawn(visit: Visit, points: list[Any], path: str) -> None:
    """Of the hour that ends at 3,600 s, in a field of 100 by 100."""
    drawn = visit.page.evaluate(
        "(points) => import('/page/fleet/points.js').then((m) => m.pathOf(points, 3600))", points
    )
    assert drawn == path


HOUR = {"at": 0, "step": 300, "cpu": {"web": [10, 20, 30]}}


@pytest.mark.parametrize(
    ("seen", "points"),
    [
        # The third step has begun a minute ago and its middle lies ahead: what was seen a minute ago stands for it.
        ([[640, 33]], [[150, 10], [450, 20], [640, 33]]),
        ([[760, 33]], [[150, 10], [450, 20], [750, 30], [760, 33]]),
        ([[440, 15], [640, 33]], [[150, 10], [450, 20], [640, 33]]),
        ([[640, None]], [[150, 10], [450, 20]]),
        ([], [[150, 10], [450, 20], [750, 30]]),
    ],
)
def test_the_last_hour_ends_with_what_was_seen(visit: Visit, seen: list[list[int]], points: list[list[int]]) -> None:
    """Whatever the minute is: what was recorded of a step that has only begun is not drawn ahead of time."""
    see(visit)
    found = visit.page.evaluate(
        "([hour, seen]) => import('/page/fleet/points.js').then((m) => m.lastHour(hour, { web: seen }, 'web'))",
        [HOUR, seen],
    )
    assert found == points
