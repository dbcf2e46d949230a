"""The page in a real browser, on the real routes and a real Redis: what it shows, in which guises, and when parts fail.

Needs a Chromium (Debian: ``apt-get install chromium``; elsewhere name it in CHROMIUM) and Playwright's Python package.
BREAKWATER_BROWSER=1 makes their absence a failure; BREAKWATER_SCREENSHOTS=dir keeps what was seen.
"""

import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
from starlette.types import ASGIApp, Receive, Scope, Send

from dev.faults import respond
from dev.redis_server import RedisServer
from dev.routes import routes_app
from dev.serve import ThreadedServer
from lib.app.settings import Settings
from lib.app.wiring import Parts, build
from lib.base.calendar import month_of
from lib.breaker import stored
from lib.breaker.circuit import Circuit
from lib.ledger import places, table
from lib.ledger.places import AlertKind
from lib.redis import keys
from tests.rig.instance import routes
from tests.rig.ledger import outsides
from tests.rig.redis import redis_front

ROOT = Path(__file__).parents[2]
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or ""
NEEDED = os.environ.get("BREAKWATER_BROWSER") == "1"

try:
    from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
except ImportError:
    if NEEDED:
        raise
    pytest.skip("Playwright is not installed: pip install playwright", allow_module_level=True)

if not CHROMIUM and not NEEDED:
    pytest.skip(
        "no Chromium on this machine: apt-get install chromium, or name one in CHROMIUM", allow_module_level=True
    )


@dataclass
class Served:
    """The public files and the overview, as Vercel would serve them."""

    environ: dict[str, str]
    redis_url: str
    url: str = ""
    status: int = 200
    """What the overview answers instead, if that is an error."""
    asked: int = 0
    authorized: int = 0
    """Requests that carried the token itself."""
    files: ASGIApp = field(default_factory=lambda: routes_app(ROOT))
    _parts: Parts | None = None
    _api: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "http" and scope["path"].startswith("/api/"):
            self.asked += 1
            self.authorized += any(name == b"authorization" for name, _ in scope["headers"])
            if self.status != 200:
                await respond(send, self.status, b"{}")
                return
            await self._served()(scope, receive, send)
            return
        await self.files(scope, receive, send)
        if scope["type"] == "lifespan" and self._parts is not None:
            await self._parts.aclose()

    def _served(self) -> ASGIApp:
        if self._api is None:
            # Here, because connections belong to the event loop that they are made in.
            self._parts = parts = build(Settings.from_env(self.environ))
            self._api = routes(parts)
        return self._api


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with RedisServer.start() as redis, redis_front(redis) as front, outsides() as outside:
        environ = {
            **front.environ,
            "CLOUD_RUN_AI_URL": f"{outside.url}/ai",
            "GEMINI_API_KEY": "key",
            "GROQ_API_KEY": "key",
            "ADMIN_TOKEN": "a-token-of-some-length",
        }
        made = Served(environ, front.server.url)
        with ThreadedServer(made) as server:
            made.url = server.url
            seed(made.redis_url)
            yield made


def seed(redis_url: str) -> None:
    """A day as a deployment might have had it."""
    now_ms = time.time_ns() // 1_000_000
    month = month_of(now_ms)
    adds: list[tuple[table.Place, int]] = []
    for back, at_ms in enumerate(reversed(table.last_hours(now_ms))):
        busy = 40 + (back * 37) % 90
        found = {"serve": busy * 2, "compute": busy, "refuse": busy // 3, "fail": busy // 20, "cached": busy * 2}
        found |= {
            "commands": busy * 9,
            "redis_us": busy * 3 * 4_200,
            "redis_timed": busy * 3,
            "calls.gemini": busy // 9,
        }
        found |= {"calls.groq": busy // 2, "vcpu_ms": busy * 1_900}
        adds += [(table.hour_place(name, at_ms, month), n) for name, n in found.items()]
    for back, at_ms in enumerate(reversed(table.last_five_minutes(now_ms))):
        busy = 3 + (back * 5) % 11
        found = {"serve": busy * 2, "compute": busy, "refuse": back % 3, "fail": back % 5 == 4}
        adds += [(table.five_minute_place(name, at_ms, month), int(n)) for name, n in found.items()]
    totals: dict[places.Name, int] = {
        places.COMMANDS: 412_345,
        ("vcpu_ms", "cloud-run"): 71_234_000,
        AlertKind.REDIS_MONTH.counter("1"): now_ms // 1000 - 7_200,
        AlertKind.CIRCUIT_OPEN.counter("gemini"): now_ms // 1000 - 600,
        AlertKind.MODE.counter("supabase"): now_ms // 1000 - 90_000,
    }
    for name, ms, count in (("http", 60.0, 900), ("http", 900.0, 400)):
        assert name == places.HTTP_DURATION.name
        for place, each in places.HTTP_DURATION.counts(ms, "ai/supervisor"):
            totals[place] = totals.get(place, 0) + each * count
    totals[places.REDIS_DURATION.names()[1]] = 5_000
    totals[places.GUARD_DURATION.names()[0]] = 5_000
    adds += [(table.place(name), value) for name, value in totals.items()]
    with redis_py.Redis.from_url(redis_url, protocol=2, driver_info=None) as server:
        field_ops = server.bitfield(keys.ledger(month))
        for (kind, offset), value in adds:
            field_ops = field_ops.set(kind, offset, value)
        field_ops.execute()
        opened = Circuit("open", 3, until_ms=now_ms + 45_000, since_ms=now_ms - 600_000, reason="timeout")
        server.set(keys.circuit("gemini"), stored.dump(opened))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield started
        started.close()


@dataclass
class Visit:
    """One visitor's page, and what went wrong in it."""

    page: Page
    served: Served
    errors: list[str]

    def enter(self, token: str = "a-token-of-some-length") -> None:  # noqa: S107 - a test's
        """Type the token and open the board."""
        self.page.get_by_label(re.compile("Token|토큰")).fill(token)
        self.page.keyboard.press("Enter")

    def shoot(self, name: str) -> None:
        """Keep what is seen, where that is asked for."""
        if directory := os.environ.get("BREAKWATER_SCREENSHOTS"):
            self.page.screenshot(path=f"{directory}/{name}.png", full_page=True)


@pytest.fixture
def visit(request: pytest.FixtureRequest, browser: Browser, served: Served) -> Iterator[Visit]:
    guise: dict[str, Any] = {
        "locale": "en-GB",
        "viewport": {"width": 1280, "height": 900},
        **getattr(request, "param", {}),
    }
    context: BrowserContext = browser.new_context(**guise)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if "Content Security Policy" in said.text else None)
    served.status = 200
    page.goto(served.url)
    yield Visit(page, served, errors)
    context.close()
    assert errors == []


def test_shows_everything(visit: Visit) -> None:
    """With the token: allowances with their forecast, requests, hit rate, circuits, mode, latency and alerts."""
    visit.enter()
    page = visit.page
    redis = page.get_by_role("meter", name="upstash, commands a month")
    expect(redis).to_have_attribute("aria-valuenow", "82.5")
    expect(redis).to_have_attribute("aria-valuetext", re.compile(r"412,3\d\d of 500,000 commands used"))
    for text in ("Counted by", "Hit rate, last hour", "cloud-run", "groq", "open: no calls until", "(timeout)"):
        expect(page.get_by_text(text).first).to_be_visible()
    expect(page.get_by_text("First threshold of the month's Redis commands")).to_be_visible()
    assert page.locator("#hour canvas").count() == 1
    expect(page.locator("#day")).to_have_attribute("aria-label", re.compile(r"[\d,]+ requests: [\d,]+ from the cache"))
    # The token itself travels nowhere: the day's key to the overview does.
    assert visit.served.authorized == 0
    visit.shoot("light")


def test_without_a_token_it_says_what_this_is(visit: Visit) -> None:
    """Whoever comes without a token learns what answers here, and gets no figures."""
    page = visit.page
    expect(page.get_by_role("heading", name="A guard in front of an AI backend")).to_be_visible()
    expect(page.get_by_role("link", name="What works at the moment")).to_have_attribute("href", "/api/health")
    expect(page.get_by_role("meter")).to_have_count(0)
    assert page.evaluate(CONTRAST) == []
    visit.shoot("without-a-token")


def test_a_wrong_token_is_told(visit: Visit) -> None:
    """A token that is not the configured one leads back to the form, and is forgotten."""
    visit.enter("not it")
    expect(visit.page.get_by_role("alert").filter(has_text="not the one that is configured")).to_be_visible()
    expect(visit.page.get_by_label("Token")).to_be_focused()
    assert visit.page.evaluate("sessionStorage.getItem('token')") is None


def test_refreshes_by_itself_and_survives_failures(visit: Visit) -> None:
    """Asked again after 30 s; a failure leaves the figures and tells their age; a later success clears it."""
    page = visit.page
    page.clock.install()
    page.reload()
    visit.enter()
    expect(page.get_by_role("meter", name="upstash, commands a month")).to_be_visible()
    asked = visit.served.asked
    with page.expect_response("**/api/overview*"):
        page.clock.run_for(31_000)
    assert visit.served.asked == asked + 1
    visit.served.status = 503
    with page.expect_response("**/api/overview*"):
        page.clock.run_for(31_000)
    banner = page.get_by_role("alert").filter(has_text="The last attempt failed (the server answered 503)")
    expect(banner).to_be_visible()
    expect(banner).to_contain_text("These are the figures of")
    expect(page.get_by_role("meter", name="upstash, commands a month")).to_have_attribute("aria-valuenow", "82.5")
    visit.shoot("failure")
    visit.served.status = 200
    with page.expect_response("**/api/overview*"):
        page.clock.run_for(31_000)
    expect(banner).to_be_hidden()


def test_a_hidden_page_asks_nothing(visit: Visit) -> None:
    """While nobody looks, nothing is asked; on return it is asked at once."""
    page = visit.page
    page.clock.install()
    page.reload()
    visit.enter()
    expect(page.get_by_role("meter").first).to_be_visible()
    asked = visit.served.asked
    hide = "(hidden) => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });"
    page.evaluate(hide + " document.dispatchEvent(new Event('visibilitychange')); }", arg=True)
    page.clock.run_for(300_000)
    assert visit.served.asked == asked
    with page.expect_response("**/api/overview*"):
        page.evaluate(hide + " document.dispatchEvent(new Event('visibilitychange')); }", arg=False)


PHONE = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}


@pytest.mark.parametrize("visit", [{**PHONE, "locale": "ko-KR"}], indirect=True, ids=["phone in Korean"])
def test_on_a_phone(visit: Visit) -> None:
    """In Korean on a phone: nothing is wider than the screen, and everything to press is big enough."""
    visit.enter()
    page = visit.page
    expect(page.get_by_role("heading", name="남은 한도")).to_be_visible()
    assert page.evaluate("document.documentElement.lang") == "ko"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for button in page.get_by_role("button").all():
        box = button.bounding_box()
        assert box is not None
        assert box["height"] >= 44
    visit.shoot("phone")


@pytest.mark.parametrize(
    "visit", [{"color_scheme": "dark"}, {"color_scheme": "light"}], indirect=True, ids=["dark", "light"]
)
def test_text_stands_out(visit: Visit) -> None:
    """In the dark as in the light, every text has the contrast that WCAG AA asks for."""
    visit.enter()
    expect(visit.page.get_by_role("meter").first).to_be_visible()
    poor = visit.page.evaluate(CONTRAST)
    assert poor == []
    visit.shoot(visit.page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light-again'"))


CONTRAST = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, at) => sum + v * [.2126, .7152, .0722][at], 0);
  const behind = (node) => { for (; node; node = node.parentElement) {
    const c = rgb(getComputedStyle(node).backgroundColor);
    if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
  const poor = [];
  for (const node of document.querySelectorAll('main *, header *, footer *')) {
    const own = [...node.childNodes].some((each) => each.nodeType === 3 && each.textContent.trim());
    if (!own || !node.getClientRects().length) continue;
    const [a, b] = [light(rgb(getComputedStyle(node).color)), light(behind(node))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) poor.push(`${node.textContent.trim().slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return poor;
}"""


def test_by_keyboard(visit: Visit) -> None:
    """Everything is reached by the Tab key, in order, and shows where the focus is."""
    visit.enter()
    page = visit.page
    expect(page.get_by_role("meter").first).to_be_visible()
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    page.get_by_role("link", name="Skip to content").focus()
    reached = []
    for _ in range(6):
        reached.append(page.evaluate("document.activeElement.textContent.trim().slice(0, 20)"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
        page.keyboard.press("Tab")
    assert reached == ["Skip to content", "한국어", "Refresh", "Forget the token", "As a table", "As a table"]
    summary = page.locator("details summary").first
    summary.focus()
    page.keyboard.press("Enter")
    rows = page.get_by_role("region", name="The last hour, by five minutes").get_by_role("row")
    assert rows.count() == 14


def test_what_a_screen_reader_finds(visit: Visit) -> None:
    """One main heading, a heading for each section, names for every meter, image and button; the language is right."""
    visit.enter()
    page = visit.page
    expect(page.get_by_role("meter").first).to_be_visible()
    assert page.get_by_role("heading", level=1).all_inner_texts() == ["Breakwater"]
    assert page.get_by_role("heading", level=2).count() == 6
    for role in ("meter", "img", "button"):
        for each in page.locator(f"[role={role}]:visible, {role}:visible").all():
            name = each.get_attribute("aria-label") or each.inner_text()
            assert name.strip()
    page.get_by_role("button", name="한국어").click()
    assert page.evaluate("document.documentElement.lang") == "ko"
    expect(page.get_by_role("heading", name="최근 하루 (1시간 단위)")).to_be_visible()


def test_no_foreign_host_and_no_inline_code(visit: Visit) -> None:
    """Every file comes from the same host, under a policy that allows nothing else."""
    hosts: set[str] = set()
    visit.page.on("request", lambda sent: hosts.add(sent.url.split("/")[2]))
    reply = visit.page.goto(visit.served.url)
    assert reply is not None
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    visit.enter()
    expect(visit.page.get_by_role("meter").first).to_be_visible()
    assert len(hosts) == 1
    source = (ROOT / "public" / "index.html").read_text()
    assert not re.search(r"<script>|\son\w+=|style=|(?:src|href)=\"https?:", source)


def test_both_languages_say_everything(visit: Visit) -> None:
    """Each text is there in English and in Korean, with the same values to fill in."""
    words = visit.page.evaluate("WORDS")
    assert words["en"].keys() == words["ko"].keys()

    def values(text: object) -> list[str]:
        return sorted(re.findall(r"\{\w+\}", str(text)))

    differing = [name for name in words["en"] if values(words["en"][name]) != values(words["ko"][name])]
    assert differing == []
