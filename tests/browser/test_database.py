"""The database view: each of its elements, on real databases."""

import re

import psycopg
import pytest
from playwright.sync_api import Locator, expect

from dev.postgres import Postgres
from tests.browser import databases
from tests.browser.conftest import PHONE, Visit
from tests.browser.test_charts import choose

pytestmark = pytest.mark.usefixtures("watching")


def tile(visit: Visit, name: str) -> Locator:
    """One figure of those at a glance."""
    return visit.region("At a glance").get_by_role("listitem").filter(has_text=re.compile(f"^{name}"))


def test_the_state_at_a_glance(visit: Visit, counted: Postgres) -> None:
    """A verdict in words and form, which is the title as well, and the figures behind it."""
    with psycopg.connect(counted.uri, application_name="report") as forgotten:
        forgotten.execute("select 1")
        visit.see()
        expect(tile(visit, "Sessions")).to_have_text(re.compile(r"^Sessions\d+ of 100$"))
        expect(tile(visit, "Active")).to_have_text("Active0")
        expect(tile(visit, "Waiting for a lock")).to_have_text("Waiting for a lock0")
        expect(tile(visit, "Idle in a transaction")).to_have_text("Idle in a transaction1")
        expect(tile(visit, "Blocks from memory")).to_contain_text(re.compile(r"[\d.]+%since the last reset"))
        expect(tile(visit, "Server")).to_contain_text(re.compile(r"18\.\d+up for "))
    meter = visit.page.get_by_role("meter", name="Sessions")
    expect(meter).to_have_attribute("aria-valuetext", re.compile(r"^\d+ of 100$"))
    expect(visit.page).to_have_title(
        re.compile(r"^shop: Working: \d+ sessions?, \d+ of them active; nobody waits for a lock – Breakwater$")
    )
    expect(visit.page.locator(".verdict")).to_contain_text("nobody waits for a lock")


def test_who_blocks_whom_is_one_click_away(visit: Visit, counted: Postgres) -> None:
    """A session that really waits is below the one that holds it up; the verdict names it, and no literal is shown."""
    with databases.blocked(counted) as (blocker, waiter):
        visit.look()
        visit.page.get_by_role("link", name="Databases").click()
        panel = visit.region("Who blocks whom")
        holds = panel.locator(".tree > li > .node")
        expect(holds).to_contain_text(f"blocks {blocker} import (postgres)")
        expect(holds).to_contain_text("1 session waits below it · idle in a transaction · transaction open for ")
        waits = panel.get_by_role("list", name=f"Those that wait for {blocker}").get_by_role("listitem")
        expect(waits).to_contain_text(f"waits {waiter} checkout (postgres)")
        expect(waits).to_contain_text(re.compile(rf"waits [\d.]+ \w+ for {blocker}, on transactionid \(ShareLock\)"))
        expect(waits.locator("code")).to_have_text("update stock set id = ? where id = ?")
        expect(visit.page.locator(".verdict")).to_contain_text(f"{blocker} (import) holds it up")
        expect(tile(visit, "Waiting for a lock")).to_contain_text("1")
        assert "4711" not in visit.page.content()
        visit.shoot("database-blocked")


def test_a_lock_that_is_given_back_is_gone(visit: Visit, counted: Postgres) -> None:
    """With the next figures nobody waits."""
    with databases.blocked(counted):
        visit.see()
        expect(visit.region("Who blocks whom")).to_contain_text("1 session waits.")
    visit.served.restart("fine")
    visit.page.get_by_role("button", name="Refresh").click()
    expect(visit.region("Who blocks whom")).to_contain_text("Nobody waits for a lock.")


def test_sessions(visit: Visit, counted: Postgres) -> None:
    """Who does what, since when, and whom it waits for; those that wait come first, and can be shown alone."""
    with databases.blocked(counted) as (blocker, waiter), psycopg.connect(counted.uri, application_name="pool"):
        visit.see()
        panel = visit.region("Sessions")
        rows = panel.get_by_role("table").get_by_role("row")
        heads = ["Session", "State", "Waits for", "Statement for", "Transaction for", "Blocked by", "Statement"]
        expect(panel.get_by_role("columnheader")).to_have_text(heads)
        expect(rows.nth(1)).to_contain_text(f"{waiter} checkout (postgres)")
        expect(rows.nth(1)).to_contain_text("a lock: transactionid")
        expect(panel.get_by_role("row").filter(has_text="pool (postgres)")).to_have_count(0)
        choose(visit, "all (4)")
        expect(panel.get_by_role("row").filter(has_text="pool (postgres)")).to_contain_text("idle")
        choose(visit, "idle in a transaction (1)")
        expect(panel.get_by_role("rowheader")).to_have_text([re.compile(f"{blocker} import")])
        choose(visit, "waiting (1)")
        expect(panel.get_by_role("rowheader")).to_have_text([re.compile(f"{waiter} checkout")])
        panel.get_by_role("button", name=f"Go to {blocker}, which blocks it").press("Enter")
        expect(visit.page.locator(f"#lock-{blocker}")).to_be_focused()


def test_nobody_is_like_that(visit: Visit) -> None:
    """A choice that fits no session says so."""
    visit.see()
    choose(visit, "waiting (0)")
    expect(visit.region("Sessions")).to_contain_text("No session is like that now.")


def test_statements_by_their_share_of_time(visit: Visit, counted: Postgres) -> None:
    """A slow one comes first with its share as a bar and a number, its text masked; more than ten on demand."""
    with psycopg.connect(counted.uri, autocommit=True) as connection:
        connection.execute("select pg_sleep(0.3), 'private' as speed")
        for n in range(25):
            connection.execute(f"select 1{', 1' * n}")
    visit.see()
    panel = visit.region("Statements by time")
    items = panel.get_by_role("listitem")
    expect(items).to_have_count(10)
    expect(items.first.locator("summary")).to_have_text("select pg_sleep($1), $2 as speed")
    expect(items.first.locator("dl")).to_have_text(re.compile(r"in all\d+(\.\d)? mscalls1mean\d+.*rows1from memory"))
    share = items.first.locator("strong").inner_text()
    assert float(share.rstrip("%")) > 50
    bar = items.first.locator(".track > div").evaluate("(bar) => bar.offsetWidth / bar.parentElement.clientWidth")
    assert bar == pytest.approx(float(share.rstrip("%")) / 100, abs=0.02)
    panel.get_by_role("button", name="more").click()
    expect(items).to_have_count(20)
    assert "private" not in visit.page.content()


def test_waits(visit: Visit, counted: Postgres) -> None:
    """What active sessions wait for, and how many do."""
    with databases.blocked(counted):
        visit.see()
        expect(visit.region("Waits").get_by_role("listitem")).to_have_text(
            re.compile(r"^a lock transactionid1 session, for [\d.]+ \w+$")
        )


def test_nothing_to_wait_for(visit: Visit) -> None:
    """Where no session is active."""
    visit.see()
    expect(visit.region("Waits")).to_contain_text("No session is active.")


def test_the_past(visit: Visit, counted: Postgres) -> None:
    """A line for each figure, read by arrow keys and as a table; a reset of the statistics is told."""
    databases.past(visit.served.server, counted)
    visit.see()
    panel = visit.region("Over time")
    slider = panel.get_by_role("slider")
    # The last sample is the one that this visit has taken.
    slider.press("ArrowLeft")
    slider.press("ArrowLeft")
    said = re.compile(r"^[\w ]*\d\d:\d\d–\d\d:\d\d: Sessions \d+ · Commits a second 15 · Rows read a second 135 · ")
    expect(slider).to_have_attribute("aria-valuetext", said)
    expect(panel.locator("canvas")).to_have_count(5)
    panel.get_by_text("As a table").click()
    rows = panel.get_by_role("table").get_by_role("row")
    assert rows.count() > 250
    slider.focus()
    for _ in range(50):
        visit.page.keyboard.press("ArrowLeft")
    expect(slider).to_have_attribute("aria-valuetext", re.compile(r"\(the statistics were reset\)$"))
    visit.shoot("database-past")
    choose(visit, "1 h")
    expect(slider).to_have_attribute("aria-valuemax", "10")
    choose(visit, "7 d")
    expect(slider).to_have_attribute("aria-valuemax", re.compile(r"^4\d$"))


def test_no_past_yet(visit: Visit) -> None:
    """A database that nobody has looked at has no samples, and it is said when there will be some."""
    visit.see()
    expect(visit.region("Over time")).to_contain_text("a sample is taken every five minutes while somebody looks")


def explain(visit: Visit, statement: str, button: str) -> Locator:
    """Open a statement and have it explained: what is said of it.

    Its beginning says which: what watching asks itself is among the statements too, and reads the same tables.
    """
    item = visit.region("Statements by time").get_by_role("listitem").filter(has_text=statement)
    item.locator("summary").click()
    item.get_by_role("button", name=button).click()
    return item.locator("[aria-live]")


def test_an_analysis_beside_a_statement(visit: Visit, counted: Postgres) -> None:
    """By a model, and from the cache for whoever asks next; the token itself is not sent."""
    databases.heavy(counted, "select * from pg_class where lower(relname) = 'x'")
    visit.see()
    said = explain(visit, "select * from pg_class", "How to make it faster")
    expect(said).to_contain_text("A condition calls a function on a column")
    expect(said).to_contain_text("By local-supervisor.")
    visit.shoot("database-analysis")
    visit.region("Statements by time").get_by_role("button", name="How to make it faster").click()
    expect(said).to_contain_text("kept from an earlier question")
    assert visit.served.authorized == []


def test_a_plan_is_fetched_where_there_is_one(visit: Visit, counted: Postgres) -> None:
    """Of a query whose values are all there; of any other it is said why there is none."""
    databases.heavy(counted, "select relname from pg_class order by relname")
    databases.heavy(counted, "select relkind from pg_class where relkind <> 'x'")
    visit.see()
    expect(explain(visit, "select relname from pg_class", "Explain its plan")).to_contain_text("By local-supervisor.")
    other = visit.region("Statements by time").get_by_role("listitem").filter(has_text="select relkind from pg_class")
    other.locator("summary").click()
    expect(other.get_by_role("button", name="plan")).to_have_count(0)
    expect(other).to_contain_text("There is no plan, as its values were left out")


@pytest.mark.parametrize("visit", [{**PHONE, "locale": "ko-KR"}], indirect=True, ids=["Korean"])
def test_an_analysis_is_in_the_readers_language(visit: Visit, counted: Postgres) -> None:
    """The model is asked for Korean by who reads Korean."""
    databases.heavy(counted, "select * from pg_class where lower(relname) = 'x'")
    visit.see()
    item = visit.region("시간을 많이 쓰는 SQL").get_by_role("listitem").filter(has_text="select * from pg_class")
    item.locator("summary").click()
    item.get_by_role("button", name="빠르게 만드는 방법").click()
    expect(item.locator(".said")).to_contain_text(re.compile("인덱스|열"))


def test_what_an_analysis_runs_into(visit: Visit, counted: Postgres, watching: dict[str, str]) -> None:
    """A refusal is said in words beside the statement, and leaves everything else standing."""
    watching["RATELIMIT_AI"] = "1/hour"
    databases.heavy(counted, "select * from pg_class where lower(relname) = 'x'")
    visit.see()
    said = explain(visit, "select * from pg_class", "How to make it faster")
    expect(said).to_contain_text("By local-supervisor.")
    visit.region("Statements by time").get_by_role("button", name="Explain", exact=True).click()
    expect(said).to_contain_text(re.compile(r"Too many requests were sent. Try again in \d+ mins?\."))


def test_each_database_has_an_address(visit: Visit) -> None:
    """The first one is shown where none is named; links lead to the others, with how each is doing."""
    visit.page.goto(f"{visit.served.url}/#database")
    visit.enter()
    links = visit.page.get_by_role("navigation", name="Connections").get_by_role("link")
    expect(links).to_have_text(
        [
            re.compile(r"^shop\s*postgres\s*answers$"),
            re.compile(r"^prod\s*supabase\s*seen in part$"),
            re.compile(r"^plain\s*postgres\s*seen in part$"),
            re.compile(r"^gone\s*postgres\s*does not answer$"),
        ]
    )
    expect(links.first).to_have_attribute("aria-current", "true")
    links.filter(has_text="prod").click()
    expect(visit.page).to_have_url(f"{visit.served.url}/#database/prod")
    expect(visit.page).to_have_title(re.compile("^prod: "))
