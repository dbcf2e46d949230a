"""The database view in every state: what fails is said in words, everybody can read it, and nobody asks in vain."""

import re

import psycopg
import pytest
from playwright.sync_api import Page, Request, expect

from dev.postgres import Postgres
from dev.supabase import sign_user_token
from lib.databases import shapes
from tests.browser import databases
from tests.browser.conftest import PHONE, Visit
from tests.browser.test_states import GUISES, faults
from tests.rig.supabase import SupabaseStandIn

pytestmark = pytest.mark.usefixtures("watching")


def readable(visit: Visit) -> None:
    """Axe finds nothing, nothing is wider than the screen, what is pressed is big enough."""
    assert faults(visit) == []
    assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for each in visit.page.locator("button:visible, summary:visible, nav a:visible").all():
        box = each.bounding_box()
        assert box is not None
        assert box["height"] >= 44


@pytest.mark.parametrize("visit", GUISES.values(), indirect=True, ids=list(GUISES))
def test_everybody_can_read_it(visit: Visit, counted: Postgres, request: pytest.FixtureRequest) -> None:
    """With a lock, a past, and an opened statement beside its analysis, in each guise."""
    databases.past(visit.served.server, counted)
    databases.heavy(counted, "select * from pg_class where lower(relname) = 'x'")
    with databases.blocked(counted):
        visit.see()
        item = visit.page.locator(".ranking li").first
        item.locator("summary").click()
        item.get_by_role("button").last.click()
        expect(item.locator(".said")).to_be_visible()
        expect(item.locator("[aria-live]")).to_have_attribute("aria-busy", "false")
        visit.shoot(f"database-{request.node.callspec.id}".replace(" ", "-"))
        readable(visit)


FAILURES = {
    "gone": {"en": "Does not answer", "ko": "응답 없음"},
    "plain": {"en": "Worth a look", "ko": "확인 필요"},
    "prod": {"en": "Worth a look", "ko": "확인 필요"},
    "nobody": {"en": "There is no connection nobody", "ko": "nobody 연결이 없습니다"},
}


@pytest.mark.parametrize("connection", FAILURES)
@pytest.mark.parametrize(
    "visit",
    [{"locale": "en-GB"}, {**PHONE, "color_scheme": "dark", "locale": "ko-KR"}],
    indirect=True,
    ids=["en", "ko"],
)
def test_failures_can_be_read_too(visit: Visit, connection: str, request: pytest.FixtureRequest) -> None:
    """A database that is down, one that shows little, and one that is not there: on a desk and on a phone."""
    visit.see(connection)
    language = visit.page.evaluate("document.documentElement.lang")
    expect(visit.page.locator("main")).to_contain_text(FAILURES[connection][language])
    visit.shoot(f"database-{request.node.callspec.id}")
    readable(visit)


def test_a_database_that_is_down(visit: Visit) -> None:
    """The verdict says why, each panel that it cannot be read; its address is nowhere."""
    visit.see("gone")
    expect(visit.page).to_have_title(
        re.compile(r"^gone: Does not answer: the database cannot be asked \(no connection\) – Breakwater$")
    )
    for panel in ("At a glance", "Who blocks whom", "Statements by time", "Sessions", "Waits"):
        expect(visit.region(panel)).to_contain_text("The database cannot be read now, and nothing of before is kept.")
    # The past is not read from there.
    expect(visit.region("Over time")).to_contain_text("Nothing to draw yet")
    assert "hunter2" not in visit.page.content()


def test_a_database_that_goes_down(visit: Visit, watching: dict[str, str]) -> None:
    """What was read before stays, and its age is told."""
    visit.see()
    expect(visit.region("At a glance")).to_contain_text("of 100")
    at = visit.page.locator(".database .bar .age")
    expect(at).to_have_text(re.compile(r"^Figures of (now|\d+ seconds? ago)$"))
    visit.served.status = 503
    visit.page.get_by_role("button", name="Refresh").click()
    banner = visit.page.get_by_role("alert").filter(has_text="The last attempt failed (the server answered 503)")
    expect(banner).to_contain_text("These are the figures of")
    expect(visit.page).to_have_title(re.compile(r"^shop: No figures since \d\d:\d\d: last known: \w+"))
    expect(visit.region("At a glance")).to_contain_text("of 100")
    visit.shoot("database-stale")
    readable(visit)


def test_the_first_attempt_may_fail(visit: Visit) -> None:
    """Nothing is shown that was not read; it says why, and a later attempt shows all."""
    visit.served.status = 502
    visit.page.goto(f"{visit.served.url}/#database/shop")
    visit.enter()
    banner = visit.page.get_by_role("alert").filter(has_text="The first attempt failed (the server answered 502)")
    expect(banner).to_be_visible()
    expect(visit.page.locator(".card")).to_have_count(0)
    readable(visit)
    visit.served.status = 200
    visit.page.get_by_role("button", name="Refresh").click()
    expect(visit.region("At a glance")).to_contain_text("of 100")
    expect(banner).to_be_hidden()


def test_a_limit_that_is_used_up(visit: Visit, watching: dict[str, str]) -> None:
    """Whoever looks too often is told so; the last figures stay."""
    watching["RATELIMIT_DATA"] = "3/hour"
    visit.see()
    visit.page.get_by_role("button", name="Refresh").click()
    expect(visit.page.get_by_role("alert").filter(has_text="failed (too many requests were sent)")).to_be_visible()
    expect(visit.region("At a glance")).to_contain_text("of 100")


def test_a_role_without_pg_monitor(visit: Visit, counted: Postgres) -> None:
    """It is told what to grant, where it matters; what it does see is shown."""
    with psycopg.connect(counted.uri, application_name="somebody"):
        visit.see("plain")
        for panel in ("At a glance", "Sessions", "Statements by time", "Who blocks whom", "Waits"):
            expect(visit.region(panel)).to_contain_text("Grant it pg_monitor: grant pg_monitor to <role>.")
        expect(visit.region("At a glance")).to_contain_text("of 100")
        # Nobody who cannot see it says that nothing is there.
        expect(visit.region("Who blocks whom")).not_to_contain_text("Nobody waits")
        expect(visit.region("Waits")).not_to_contain_text("No session is active")


def test_statements_that_are_not_counted(visit: Visit) -> None:
    """A server without the extension: what to install, in place of an empty list."""
    visit.see("prod")
    panel = visit.region("Statements by time")
    expect(panel).to_contain_text("create extension pg_stat_statements")
    expect(panel).not_to_contain_text("No statement was counted yet")


def test_a_connection_that_is_not_there(visit: Visit) -> None:
    """An old address: it says so, and leads to those that are."""
    visit.see("nobody")
    expect(visit.region("There is no connection nobody")).to_contain_text("add it to DB_CONNECTIONS")
    visit.page.get_by_role("link", name="shop").click()
    expect(visit.region("At a glance")).to_contain_text("of 100")


def test_no_connection_at_all(visit: Visit, watching: dict[str, str]) -> None:
    """A deployment that watches nothing says how to begin."""
    del watching["DB_CONNECTIONS"]
    visit.page.goto(f"{visit.served.url}/#database")
    visit.enter()
    expect(visit.region("No database is watched")).to_contain_text("DB_CONNECTIONS=shop=postgres:SHOP_URL")
    readable(visit)


def test_everything_that_may_be_missing_has_words(visit: Visit) -> None:
    """Each sentence of the API is one of the page's own, in the reader's language."""
    texts = [shapes.GRANT, shapes.EXTENSION, "Samples are kept in Redis, which is not configured."]
    found = visit.page.evaluate(
        "(texts) => import('/page/database/panel.js').then(({ missingText }) => texts.map(missingText))", texts
    )
    assert [text for text in found if text in texts] == []
    assert len(set(found)) == 3


def user(supabase: SupabaseStandIn, **about: str) -> str:
    """The access token of somebody who is signed in at Supabase."""
    return sign_user_token("me", supabase.jwt_secret, claims={"app_metadata": about})


def test_a_viewer_may_look(visit: Visit, supabase: SupabaseStandIn) -> None:
    """A user with the role `viewer` sees the databases, is shown no other operator's view, and asks for none."""
    visit.page.goto(visit.served.url)
    visit.enter(user(supabase, role="viewer"))
    expect(visit.region("At a glance")).to_contain_text("of 100")
    expect(visit.page.get_by_role("link", name="Overview")).to_have_count(0)
    expect(visit.page.get_by_role("link", name="Databases")).to_have_attribute("aria-current", "page")
    assert set(visit.served.asked) == {"/api/data"}


def test_a_user_without_a_role(visit: Visit, supabase: SupabaseStandIn) -> None:
    """Is told which role is missing, and the token is forgotten."""
    visit.enter(user(supabase))
    expect(visit.page.get_by_role("alert").filter(has_text="neither the role viewer nor admin")).to_be_visible()
    assert visit.page.evaluate("sessionStorage.getItem('token')") is None


def test_a_wrong_token(visit: Visit) -> None:
    """Leads back to the form, as in the overview."""
    visit.page.goto(f"{visit.served.url}/#database")
    visit.enter("not it")
    expect(visit.page.get_by_role("alert").filter(has_text="not the one that is configured")).to_be_visible()


def reads_of(page: Page) -> list[str]:
    """The calls for figures, from now on: the texts of statements that are new, and the past, have their own."""
    found = list[str]()

    def note(request: Request) -> None:
        if "realtime" in request.url:
            found.append(request.url)

    page.on("request", note)
    return found


def test_it_is_read_again_while_somebody_looks(visit: Visit) -> None:
    """Every minute by one call; never while the page is hidden, and at once when it is shown again."""
    page = visit.page
    page.clock.install()
    reads = reads_of(page)
    page.goto(f"{visit.served.url}/#database/shop")
    page.reload()
    visit.see()
    assert set(visit.served.asked) == {"/api/data"}
    before = len(reads)
    page.clock.run_for(20_000)
    expect(page.locator(".database .bar .age")).to_have_text(re.compile(r"^Figures of \d\d seconds ago$"))
    with page.expect_response("**/api/data*realtime*"):
        page.clock.run_for(41_000)
    assert len(reads) == before + 1
    visit.hide()
    page.clock.run_for(600_000)
    assert len(reads) == before + 1
    with page.expect_response("**/api/data*realtime*"):
        visit.hide(hidden=False)


def test_a_lock_is_followed_twice_as_often(visit: Visit, counted: Postgres) -> None:
    """While somebody waits."""
    page = visit.page
    page.clock.install()
    reads = reads_of(page)
    page.goto(f"{visit.served.url}/#database/shop")
    page.reload()
    with databases.blocked(counted):
        visit.see()
        before = len(reads)
        with page.expect_response("**/api/data*realtime*"):
            page.clock.run_for(31_000)
        assert len(reads) == before + 1


def test_a_refresh_takes_nothing_from_the_reader(visit: Visit, counted: Postgres) -> None:
    """An opened statement, the focus in it and what was said of it stay where they are."""
    databases.heavy(counted, "select * from pg_class where lower(relname) = 'x'")
    visit.see()
    item = visit.region("Statements by time").get_by_role("listitem").filter(has_text="pg_class")
    item.locator("summary").click()
    button = item.get_by_role("button", name="Explain", exact=True)
    button.press("Enter")
    expect(item.locator(".said")).to_be_visible()
    expect(button).to_be_focused()
    with visit.page.expect_response("**/api/data*"):
        visit.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(button).to_be_focused()
    expect(item.locator(".said")).to_be_visible()


def test_by_keyboard(visit: Visit, counted: Postgres) -> None:
    """Everything is reached by the Tab key, in order, and shows where the focus is."""
    with databases.blocked(counted):
        visit.see()
        page, reached = visit.page, []
        page.get_by_role("link", name="Servers").focus()
        for _ in range(8):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.textContent.trim().slice(0, 12)"))
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
        assert reached[0] == "Refresh"
        assert [each[:4] for each in reached[1:5]] == ["shop", "prod", "plai", "gone"]
        assert reached[5:7] == ["update stock"] * 2
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Enter")
        expect(page.get_by_role("region", name="Statement", exact=True)).to_have_text(
            "update stock set id = ? where id = ?"
        )
