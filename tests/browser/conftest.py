"""The page in a real browser, on the real routes and a real Redis.

Needs a Chromium (Debian: ``apt-get install chromium``; elsewhere name it in CHROMIUM) and Playwright's Python package.
BREAKWATER_BROWSER=1 makes their absence a failure; BREAKWATER_SCREENSHOTS=dir keeps what was seen.
"""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis as redis_py
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dev.backend import backend_app
from dev.faults import Faults, respond
from dev.postgres import Postgres
from dev.redis_server import RedisServer
from dev.routes import routes_app
from dev.serve import ThreadedServer
from lib.app.wiring import build
from lib.fleet.fleet import Fleet
from lib.ops.overview import Overview
from lib.parts import Parts
from lib.settings import Settings
from tests.browser import seeds
from tests.rig.instance import routes
from tests.rig.ledger import Outside, outsides
from tests.rig.redis import redis_front
from tests.rig.supabase import SupabaseStandIn

ROOT = Path(__file__).parents[2]
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or ""
NEEDED = os.environ.get("BREAKWATER_BROWSER") == "1"
TOKEN = "a-token-of-some-length"
PHONE = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}

try:
    from playwright.sync_api import Browser, BrowserContext, Locator, Page, Route, expect, sync_playwright
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
    """The public files and the API, as Vercel would serve them: one instance, until `restart`."""

    environ: dict[str, str]
    server: redis_py.Redis
    faults: Faults
    outside: Outside
    url: str = ""
    status: int = 200
    """What the API answers instead, if that is an error."""
    asked: list[str] = field(default_factory=list)
    """The paths of the API that were asked for."""
    authorized: list[str] = field(default_factory=list)
    """Those where the token itself was sent."""
    files: ASGIApp = field(default_factory=lambda: routes_app(ROOT))
    _made: list[Parts] = field(default_factory=list)
    _api: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "http" and scope["path"].startswith("/api/"):
            self.asked.append(scope["path"])
            if any(name == b"authorization" for name, _ in scope["headers"]):
                self.authorized.append(scope["path"])
            if self.status != 200:
                await respond(send, self.status, b"{}")
                return
            await (await self._served())(scope, receive, send)
            return

        async def close_first(message: Message) -> None:
            if message["type"] == "lifespan.shutdown.complete":
                await self._close()
            await send(message)

        await self.files(scope, receive, close_first)

    async def _served(self) -> ASGIApp:
        if self._api is None:
            # Here, because connections belong to the event loop that they are made in.
            before, self._made = self._made, [build(Settings.from_env(self.environ))]
            self._api = routes(self._made[-1])
            for parts in before:
                await parts.aclose()
        return self._api

    def outdate(self) -> None:
        """Have the next reading of overview and servers come from Redis."""
        for parts in self._made:
            Overview.of(parts).fresh_s = 0
            Fleet.of(parts).read_ms = None

    async def _close(self) -> None:
        while self._made:
            await self._made.pop().aclose()

    def restart(self, state: str) -> None:
        """A new instance, with Redis in a state."""
        seeds.prepare(state, self.server, self.faults)
        self.status, self.outside.fails, self._api = 200, False, None
        self.asked.clear()
        self.authorized.clear()


@pytest.fixture(scope="package")
def served() -> Iterator[Served]:
    with (
        RedisServer.start() as redis,
        redis_front(redis) as front,
        outsides() as outside,
        redis_py.Redis.from_url(front.server.url, protocol=2, driver_info=None, decode_responses=True) as server,
    ):
        environ = {
            **front.environ,
            "CLOUD_RUN_AI_URL": f"{outside.url}/ai",
            "GEMINI_API_KEY": "key",
            "GROQ_API_KEY": "key",
            "ADMIN_TOKEN": TOKEN,
            "LEDGER_FLUSH_COMMANDS": "96",
        }
        made = Served(environ, server, front.faults, outside)
        with ThreadedServer(made) as running:
            made.url = running.url
            yield made


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield started
        started.close()


CONNECTIONS = "shop=postgres:SHOP_URL,prod=supabase,plain=postgres:PLAIN_URL,gone=postgres:GONE_URL"
"""Of the databases that `watching` watches: all can be seen; statements are not counted; a role that sees nothing of
others; one that is not there."""


@pytest.fixture(scope="package")
def analyst() -> Iterator[dict[str, str]]:
    """The local backend, which explains statements by rules."""
    with ThreadedServer(backend_app(secret="local-backend-secret-of-this-test")) as server:
        yield {"CLOUD_RUN_AI_URL": server.url, "CLOUD_RUN_API_SECRET": "local-backend-secret-of-this-test"}


@pytest.fixture
def watching(
    served: Served, counted: Postgres, supabase: SupabaseStandIn, analyst: dict[str, str]
) -> Iterator[dict[str, str]]:
    """Databases that the deployment watches. What it is configured with, which a test may change before its visitor
    asks for anything."""
    with psycopg.connect(counted.uri, autocommit=True) as connection:
        connection.execute("drop role if exists plain; create role plain login")
        connection.execute("select pg_stat_statements_reset()")
    before, served.environ = (
        served.environ,
        {
            **{name: value for name, value in served.environ.items() if name not in ("GEMINI_API_KEY", "GROQ_API_KEY")},
            **supabase.environ,
            **analyst,
            "DB_CONNECTIONS": CONNECTIONS,
            "SHOP_URL": counted.uri,
            "PLAIN_URL": counted.uri.replace("postgres:@", "plain@"),
            "GONE_URL": "postgresql://me:hunter2@127.0.0.1:9/x",
        },
    )
    yield served.environ
    served.environ = before


@pytest.fixture
def owner(served: Served, _supabase: SupabaseStandIn, postgres: Postgres) -> Iterator[psycopg.Connection[Any]]:
    """The database where servers' past is kept, empty; the deployment knows it, and two reporters."""
    before = served.environ
    tokens = ",".join(f"{name}=a-secret-of-{name}-for-tests" for name in ("seoul", "busan"))
    served.environ = {**before, **_supabase.environ, "FLEET_TOKENS": tokens}
    with psycopg.connect(postgres.uri, autocommit=True) as connection:
        connection.execute("truncate public.server_metrics_history, public.server_metrics_hourly")
        yield connection
    served.environ = before


@dataclass
class Visit:
    """One visitor's page, and what went wrong in it."""

    page: Page
    served: Served
    errors: list[str]

    def enter(self, token: str = TOKEN) -> None:
        """Type the token and open the board."""
        self.page.get_by_label(re.compile("^(Token|토큰)$")).fill(token)
        self.page.keyboard.press("Enter")

    def look(self) -> None:
        """Type the token, and wait until everything is shown."""
        self.enter()
        expect(self.region("Left", "남은 한도")).to_be_visible()
        expect(self.page.get_by_text(re.compile("^(Loading…|불러오는 중…)$"))).to_have_count(0)

    def see(self, connection: str = "shop") -> None:
        """Go to a watched database with the token, and wait until everything is shown."""
        self.page.goto(f"{self.served.url}/#database/{connection}")
        self.enter()
        expect(self.page.locator(".database .connections")).to_be_visible()
        expect(self.page.get_by_text(re.compile("^(Loading…|불러오는 중…)$"))).to_have_count(0)

    def hide(self, *, hidden: bool = True) -> None:
        """The reader turns to another tab, or comes back."""
        self.page.evaluate(
            "(hidden) => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });"
            " document.dispatchEvent(new Event('visibilitychange')); }",
            arg=hidden,
        )

    def refuse(self, pattern: str, retry_after_s: int) -> list[str]:
        """Have the API refuse what the page asks for with a time to try again; the addresses that it asks for."""
        refused = list[str]()

        def refuse(route: Route) -> None:
            refused.append(route.request.url)
            route.fulfill(status=429, headers={"retry-after": str(retry_after_s)}, json={"code": "rate_limited"})

        self.page.route(pattern, refuse)
        return refused

    def region(self, *names: str) -> Locator:
        """A panel by its heading, in either language."""
        return self.page.get_by_role("region", name=re.compile("|".join(re.escape(name) for name in names), re.I)).first

    def shoot(self, name: str) -> None:
        """Keep what is seen, where that is asked for."""
        if directory := os.environ.get("BREAKWATER_SCREENSHOTS"):
            self.page.screenshot(path=f"{directory}/{name}.png", full_page=True)


@pytest.fixture
def visit(request: pytest.FixtureRequest, browser: Browser, served: Served) -> Iterator[Visit]:
    """A visitor; its parameter: the browser's guise, and the `state` that Redis is in (degraded)."""
    guise: dict[str, Any] = {
        "locale": "en-GB",
        "timezone_id": "Europe/Berlin",
        "viewport": {"width": 1280, "height": 900},
        **getattr(request, "param", {}),
    }
    served.restart(guise.pop("state", "degraded"))
    context: BrowserContext = browser.new_context(**guise)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if "Content Security Policy" in said.text else None)
    page.goto(served.url)
    yield Visit(page, served, errors)
    context.close()
    served.faults.clear()
    assert errors == []
