"""When the servers' view reads, what it does when that fails, and what it says of Redis."""

import json
import re
from typing import Any, get_args

import httpx
import psycopg
import pytest
from playwright.sync_api import Route, expect

from dev.faults import Fault
from dev.supabase import sign_user_token
from lib.fleet.signature import header_of
from lib.redis.errors import Kind
from tests.browser import servers
from tests.browser.conftest import Visit
from tests.browser.seeds import now_ms
from tests.browser.servers import names, reads, see, tiles
from tests.browser.test_states import faults
from tests.rig.supabase import SupabaseStandIn

pytestmark = pytest.mark.usefixtures("owner")


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
    visit.hide()
    page.clock.run_for(20_000)
    visit.hide(hidden=False)
    page.clock.run_for(1_000)
    assert reads(visit) == 2, "20 s later: still fresh"
    visit.hide()
    asked = len(visit.served.asked)
    page.clock.run_for(3_600_000)
    assert len(visit.served.asked) == asked, "an hour in another tab"
    with page.expect_response("**/api/dashboard?*"):
        visit.hide(hidden=False)
    page.get_by_role("link", name="Databases").click()
    expect(page.get_by_role("heading", name="Databases")).to_be_visible()
    asked = reads(visit)
    page.clock.run_for(600_000)
    assert reads(visit) == asked, "another view is shown"


def test_what_is_reported_is_shown(visit: Visit, owner: psycopg.Connection[Any]) -> None:
    """From the report of a reporter to the tile, its line and its history, by the routes themselves."""
    body = json.dumps({"sequence": 1, "servers": [{"id": "web-1", "cpu": 93.4, "memory": 40, "disk": 61}]}).encode()
    signed = header_of("a-secret-of-seoul-for-tests", "seoul", now_ms() // 1000, body)
    url = f"{visit.served.url}/api/servers/report"
    reply = httpx.post(url, content=body, headers={"authorization": signed, "content-type": "application/json"})
    assert reply.json()["stored"]
    see(visit)
    expect(tiles(visit)).to_have_text([re.compile("web-1high: CPU.*CPU93%Memory40%Disk61%")])
    assert owner.execute("select count(*) from public.server_metrics_history").fetchone() == (1,)
    visit.page.get_by_role("link", name="web-1").click()
    expect(visit.page.locator(".server-page .readout")).to_have_text(
        re.compile(r"^\d\d:\d\d: CPU 93% · Memory 40% · Disk 61% · Network –$")
    )


def test_what_comes_at_once_is_one_request(visit: Visit) -> None:
    """The button, the return to the tab and to the network, all in one moment."""
    page = visit.page
    page.clock.install()
    servers.report(visit.served.server, servers.some(10))
    see(visit)
    visit.hide()
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
    expect(page).to_have_title(re.compile(r"^No figures since \d\d:\d\d: last known: 3 of 10 servers are in trouble"))
    assert names(visit) == before
    assert reads(visit) == 5
    visit.shoot("fleet-failure")
    assert faults(visit) == []
    visit.served.status = 200
    with page.expect_response("**/api/dashboard?*"):
        page.clock.run_for(60_000)
    expect(banner).to_be_hidden()
    expect(page).to_have_title(re.compile("^3 of 10 servers are in trouble"))


def test_a_refusal_names_when_it_asks_again(visit: Visit) -> None:
    """Then nothing is tried before, and the banner is there at once."""
    page = visit.page
    page.clock.install()
    servers.report(visit.served.server, servers.some(10))
    see(visit)
    refused = visit.refuse("**/api/dashboard?*", 42)
    with page.expect_response("**/api/dashboard?*"):
        page.clock.run_for(60_000)
    banner = page.locator(".fleet > .trouble")
    expect(banner).to_contain_text(
        "The last attempt failed (too many requests were sent). This is how the servers were"
    )
    expect(banner).to_contain_text("the next attempt is in 42 s")
    page.clock.run_for(40_000)
    assert len(refused) == 1
    with page.expect_response("**/api/dashboard?*"):
        page.clock.run_for(3_000)
    assert len(refused) == 2


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
    expect(line).to_have_text(re.compile(r"Redis○ no reply since \d\d:\d\d \((.+)\)Last error\1, \d\d:\d\d"))
    expect(visit.page.locator(".fleet > .trouble")).to_contain_text(
        "Redis gives no reply: this is what was read of it at"
    )
    expect(visit.page).to_have_title(re.compile(r"^No figures since \d\d:\d\d: last known: 3 of 10 servers"))
    assert names(visit) == before
    visit.shoot("fleet-redis-away")
    assert faults(visit) == []


def test_every_error_of_redis_has_words(visit: Visit) -> None:
    """In both languages, as the last one of a Redis that answers again."""
    words = visit.page.evaluate("import('/page/language.js').then(({ WORDS }) => WORDS)")
    kinds = [f"failed {each}" for each in get_args(Kind.__value__) if each != "resting"]
    assert [kind for kind in kinds if kind not in words["en"] or kind not in words["ko"]] == []

    def failed_before(route: Route) -> None:
        reply = route.fetch()
        body = reply.json()
        body["redis"]["lastError"] = {"kind": "quota", "at": body["redis"]["since"]}
        route.fulfill(response=reply, json=body)

    visit.page.route("**/api/dashboard?*", failed_before)
    see(visit)
    expect(visit.page.locator(".redis")).to_have_text(
        re.compile(r"● connected .*Last errorthe plan is used up, \d\d:\d\d$")
    )


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


def test_a_viewer_may_look_and_ask(visit: Visit, supabase: SupabaseStandIn) -> None:
    """A user with the role `viewer` sees the servers, and the same token opens what goes along with a question."""
    servers.report(visit.served.server, servers.some(10))
    visit.page.goto(f"{visit.served.url}/#fleet")
    visit.enter(sign_user_token("me", supabase.jwt_secret, claims={"app_metadata": {"role": "viewer"}}))
    expect(tiles(visit)).to_have_count(10)
    panel = visit.region("Ask about these servers")
    panel.get_by_role("textbox").fill("Which server is in trouble?")
    visit.page.keyboard.press("Enter")
    expect(panel.locator(".said")).to_have_text("41 %")
    assert set(visit.served.authorized) == {"/api/dashboard", "/api/dashboard/history", "/api/ai/supervisor"}


def test_a_wrong_token_leads_back(visit: Visit) -> None:
    """As everywhere."""
    visit.page.goto(f"{visit.served.url}/#fleet")
    visit.enter("not it")
    expect(visit.page.get_by_role("alert").filter(has_text="not the one that is configured")).to_be_visible()
