"""The servers' view: a grid that stays readable at 1,000 servers, one server's history, and what it asks for."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from playwright.sync_api import Locator, expect

from dev.backend import backend_app
from dev.faults import Fault
from dev.postgres import Postgres
from dev.serve import ThreadedServer
from lib.redis import keys
from tests.browser import servers
from tests.browser.conftest import PHONE, Served, Visit
from tests.browser.test_charts import choose
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


SECRET = "local-backend-secret-of-these-tests"


@pytest.fixture(scope="module")
def backend() -> Iterator[str]:
    """The local AI backend, which answers about servers by rules."""
    with ThreadedServer(backend_app(secret=SECRET)) as server:
        yield server.url


def names(visit: Visit) -> list[str]:
    """Those of the servers that are shown, in their order."""
    return tiles(visit).locator("h3 a").all_inner_texts()


def hide(visit: Visit, *, hidden: bool) -> None:
    """The reader turns to another tab, or comes back."""
    visit.page.evaluate(
        "(hidden) => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });"
        " document.dispatchEvent(new Event('visibilitychange')); }",
        arg=hidden,
    )


def reads(visit: Visit) -> int:
    """How often the fleet was asked for."""
    return visit.served.asked.count("/api/dashboard")


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
        [re.compile("^1 silent"), re.compile("^1 high: .* at 90% or more"), re.compile("^1 late"), "7 online"]
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


def test_it_asks_by_the_minute_and_only_while_it_is_seen(visit: Visit) -> None:
    """A hidden page asks nothing. Who comes back within 30 s finds what is there; who comes later, new figures."""
    page = visit.page
    page.clock.install()
    servers.report(visit.served.server, servers.some(10))
    see(visit)
    assert reads(visit) == 1
    with page.expect_response("**/api/dashboard?*"):
        page.clock.run_for(60_000)
    assert reads(visit) == 2
    hide(visit, hidden=True)
    page.clock.run_for(20_000)
    hide(visit, hidden=False)
    page.clock.run_for(1_000)
    assert reads(visit) == 2, "20 s later: still fresh"
    hide(visit, hidden=True)
    asked = len(visit.served.asked)
    page.clock.run_for(3_600_000)
    assert len(visit.served.asked) == asked, "an hour in another tab"
    with page.expect_response("**/api/dashboard?*"):
        hide(visit, hidden=False)
    page.get_by_role("link", name="Databases").click()
    expect(page.get_by_role("heading", name="Databases")).to_be_visible()
    asked = reads(visit)
    page.clock.run_for(600_000)
    assert reads(visit) == asked, "another view is shown"


def test_what_comes_at_once_is_one_request(visit: Visit) -> None:
    """The button, the return to the tab and to the network, all in one moment."""
    page = visit.page
    page.clock.install()
    servers.report(visit.served.server, servers.some(10))
    see(visit)
    hide(visit, hidden=True)
    page.clock.run_for(40_000)
    with page.expect_response("**/api/dashboard?*"):
        page.evaluate(
            "() => { Object.defineProperty(document, 'hidden', { value: false, configurable: true });"
            " for (let i = 0; i < 5; i++) { document.dispatchEvent(new Event('visibilitychange'));"
            " dispatchEvent(new Event('online')); document.querySelector('.fleet .bar button').click(); } }"
        )
    expect(page.locator(".fleet .age")).to_contain_text("Figures of")
    assert reads(visit) == 2


def test_three_more_attempts_then_a_banner(visit: Visit) -> None:
    """What fails is tried again three times, 5 s apart; then a banner says it, over the figures of before."""
    page = visit.page
    page.clock.install()
    servers.report(visit.served.server, servers.some(10))
    see(visit)
    before, banner = names(visit), page.locator(".fleet > .trouble")
    visit.served.status = 503
    for attempt in range(1, 4):
        with page.expect_response("**/api/dashboard?*"):
            page.clock.run_for(60_000 if attempt == 1 else 5_000)
        status = page.locator(".fleet .age")
        expect(status).to_have_text(f"No answer (the server answered 503); trying again, {attempt} of 3")
        expect(banner).to_be_hidden()
    with page.expect_response("**/api/dashboard?*"):
        page.clock.run_for(5_000)
    expect(banner).to_contain_text(
        "The last 4 attempts failed (the server answered 503). This is how the servers were at "
    )
    expect(banner).to_contain_text("the next attempt is in 60 s")
    expect(page.locator(".redis")).to_have_text("Redis◌ not known")
    assert names(visit) == before
    assert reads(visit) == 5
    visit.shoot("fleet-failure")
    assert faults(visit) == []
    visit.served.status = 200
    with page.expect_response("**/api/dashboard?*"):
        page.clock.run_for(60_000)
    expect(banner).to_be_hidden()


def test_the_first_attempts_may_fail(visit: Visit) -> None:
    """Without any figures the page says that it has none, and why."""
    page = visit.page
    page.clock.install()
    page.goto(f"{visit.served.url}/#fleet")
    visit.served.status = 502
    visit.enter()
    for _ in range(3):
        expect(page.locator(".fleet .age")).to_contain_text("trying again")
        with page.expect_response("**/api/dashboard?*"):
            page.clock.run_for(5_000)
    expect(page.locator(".fleet > .trouble")).to_contain_text("4 attempts failed (the server answered 502)")
    expect(visit.region("No figures")).to_be_visible()
    assert faults(visit) == []


def test_how_redis_answers(visit: Visit) -> None:
    """Since when it is connected, its last round trip, its last error; in an outage what was read last stays."""
    servers.report(visit.served.server, servers.some(10))
    see(visit)
    line, refresh = visit.page.locator(".redis"), visit.page.get_by_role("button", name="Refresh")
    expect(line).to_have_text(
        re.compile(r"Redis● connected since \d\d:\d\dLast round trip[\d.]+ m?sLast errornone seen by this instance")
    )
    before = names(visit)
    visit.served.faults.set(Fault(kind="refuse"))
    visit.served.outdate()
    refresh.click()
    expect(line).to_have_text(
        re.compile(r"Redis○ no reply since \d\d:\d\d \((.+)\)Last round tripnone yetLast error\1, \d\d:\d\d")
    )
    expect(visit.page.locator(".fleet > .trouble")).to_contain_text(
        "Redis gives no reply: this is what was read of it at"
    )
    assert names(visit) == before
    visit.shoot("fleet-redis-away")
    assert faults(visit) == []
    visit.served.faults.clear()
    visit.served.outdate()
    # Its gate lets a call through after 5 s.
    expect(line).to_contain_text("no reply since")


def test_whoever_has_read_nothing_says_that_redis_is_away(visit: Visit) -> None:
    """A new instance in an outage: there is nothing to show, and the reason is named."""
    visit.page.clock.install()
    visit.served.faults.set(Fault(kind="refuse"))
    visit.page.goto(f"{visit.served.url}/#fleet")
    visit.enter()
    expect(visit.page.locator(".fleet .age")).to_contain_text("No answer (Redis gives no reply)")


def test_the_token_itself_stays_here(visit: Visit) -> None:
    """All is read with the day's key."""
    servers.report(visit.served.server, servers.some(10))
    see(visit, "/real/web-0")
    expect(visit.page.get_by_text("Nothing was recorded")).to_be_visible()
    assert {"/api/dashboard", "/api/servers/web-0/history"} <= set(visit.served.asked)
    assert visit.served.authorized == []


def test_a_wrong_token_leads_back(visit: Visit) -> None:
    """As everywhere."""
    visit.page.goto(f"{visit.served.url}/#fleet")
    visit.enter("not it")
    expect(visit.page.get_by_role("alert").filter(has_text="not the one that is configured")).to_be_visible()


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


# One server


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
    one = replace(servers.measured(1), id=called, name=called)
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


# Simulated servers


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
    same = replace(servers.measured(1, cpu=1), id="web-0", name="Real web 0")
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
    expect(line).not_to_have_attribute("aria-label", re.compile("1% to"))
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


# Questions


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
    assert sent.value.post_data_json["parameters"] == {"fleet": True if which == "real" else "simulated"}
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


# By keyboard


def test_by_keyboard(visit: Visit) -> None:
    """Everything is reached by the Tab key, in order; what has the focus shows it; Enter opens a server."""
    servers.report(visit.served.server, servers.some(70))
    servers.scenario(visit.served.server, "baseline")
    see(visit)
    page = visit.page
    page.get_by_role("link", name="Databases").focus()
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


# Pure functions


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
