"""examples/nextjs-chat, built by Next.js and used in a real browser, against the local stack that `make run` starts.

Takes minutes, node, npm and Chromium: it runs where BREAKWATER_NEXTJS=1 is set, as `make nextjs` does.
BREAKWATER_SCREENSHOTS=dir keeps what was seen.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from dev.started import ROOT, Command, command, until_ready

if os.environ.get("BREAKWATER_NEXTJS") != "1":
    pytest.skip("it is run by `make nextjs`", allow_module_level=True)

from playwright.sync_api import Browser, Page, expect, sync_playwright

EXAMPLE = ROOT / "examples" / "nextjs-chat"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
TOKEN = "a-token-for-the-tests-of-nextjs"
QUESTION = "Which disk is fullest?"
PATIENCE_S = 60


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


@dataclass(frozen=True)
class Site:
    """The built application, served; and the port at which it looks for Breakwater."""

    url: str
    breakwater_port: int
    folder: Path

    def breakwater(self, **environ: str) -> AbstractContextManager[Command]:
        """The local stack at that port, which the site may call."""
        given = {"PORT": str(self.breakwater_port), "ALLOWED_ORIGINS": self.url, "ADMIN_TOKEN": TOKEN}
        return command(self.folder / "stack", **given, **environ)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """`npm ci`, `next build`, `next start`, in a copy of the example."""
    folder = tmp_path_factory.mktemp("nextjs")
    kept = shutil.ignore_patterns("node_modules", ".next", "next-env.d.ts")
    copy = Path(shutil.copytree(EXAMPLE, folder / "chat", ignore=kept))
    port, breakwater = free_port(), free_port()
    env = {**os.environ, "NEXT_TELEMETRY_DISABLED": "1", "BREAKWATER_URL": f"http://127.0.0.1:{breakwater}"}
    for step in (["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], ["npm", "run", "build"]):
        done = subprocess.run(step, cwd=copy, env=env, capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    url = f"http://localhost:{port}"
    served = subprocess.Popen(
        [copy / "node_modules/.bin/next", "start", "--port", str(port)],
        cwd=copy,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        until_served(url)
        yield Site(url, breakwater, folder)
    finally:
        os.killpg(served.pid, signal.SIGTERM)
        served.wait(30)


def until_served(url: str) -> None:
    """Return once something answers there."""
    ends_at = time.monotonic() + PATIENCE_S
    while True:
        try:
            httpx.get(url, timeout=PATIENCE_S).raise_for_status()
        except httpx.TransportError:
            assert time.monotonic() < ends_at, f"nothing answers at {url}"
            time.sleep(0.2)
        else:
            return


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(locale="en-GB", viewport={"width": 720, "height": 600})
    context.set_default_timeout(PATIENCE_S * 1000)
    expect.set_options(timeout=PATIENCE_S * 1000)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert errors == []


def shoot(page: Page, name: str) -> None:
    """Keep what is seen, where that is asked for."""
    if directory := os.environ.get("BREAKWATER_SCREENSHOTS"):
        page.screenshot(path=f"{directory}/nextjs-{name}.png")


def ask(page: Page, site: Site, question: str = QUESTION) -> None:
    """Open the page anew and ask."""
    page.goto(site.url)
    page.get_by_label("Question").fill(question)
    page.get_by_role("button", name="Ask").click()


def admin(running: Command, **action: object) -> None:
    """An action by hand, as docs/ledger.md has it."""
    reply = httpx.post(f"{running.url}/api/admin", json=action, headers={"authorization": f"Bearer {TOKEN}"})
    assert reply.status_code == 200, reply.text


def backend_fails(running: Command) -> None:
    """Let the AI backend answer 503, until it is told otherwise."""
    httpx.put(f"{backend(running)}/_control/faults", json={"kind": "status", "status": 503}).raise_for_status()


def backend(running: Command) -> str:
    """The address of the AI backend."""
    return next(line.split()[-1] for line in running.printed if line.startswith("AI backend"))


def test_an_answer_and_the_same_again(site: Site, page: Page) -> None:
    """An answer comes with who gave it; after a reload the same question is answered from the cache."""
    with site.breakwater() as running:
        until_ready(running)
        page.goto(site.url)
        page.get_by_role("button", name=QUESTION).click()
        answer = page.locator("li.assistant")
        expect(answer).to_contain_text("free")
        expect(answer.locator("small")).to_have_text("Answered by cloud-run.")
        shoot(page, "answer")
        ask(page, site)
        expect(answer.locator("small")).to_have_text(re.compile(r"From the cache, which saved \d+ ms\."))
        expect(answer).to_contain_text("free")
        shoot(page, "cached")


def test_a_limit_counts_down(site: Site, page: Page) -> None:
    """Over the limit the page says when to try again and counts down to it; then the same question is answered."""
    page.clock.install()
    with site.breakwater(RATELIMIT_AI_SUPERVISOR="1/minute") as running:
        until_ready(running)
        ask(page, site)
        expect(page.locator("li.assistant small")).to_be_visible()
        ask(page, site, "How much memory is left?")
        notice = page.get_by_role("alert").filter(has_text="You have asked a lot")
        expect(notice).to_be_visible()
        button = notice.get_by_role("button")
        expect(button).to_be_disabled()
        expect(button).to_have_text(re.compile(r"Try again in \d+ s"))
        first = int(re.findall(r"\d+", button.inner_text())[0])
        assert 1 <= first <= 63
        shoot(page, "limit")
        page.clock.run_for(1_000)
        expect(button).not_to_have_text(f"Try again in {first} s")
        page.clock.run_for(66_000)
        expect(button).to_have_text("Try again")
    # The minute has passed for the page alone; a stack without the limit stands for one where it has passed, too.
    with site.breakwater(RATELIMIT_AI_SUPERVISOR="off") as running:
        until_ready(running)
        button.click()
        expect(page.locator("li.assistant small")).to_have_text("Answered by cloud-run.")
        expect(notice).to_have_count(0)


def test_an_older_answer(site: Site, page: Page) -> None:
    """While the AI is down, a question that was answered before gets the older answer, which says so."""
    with site.breakwater(CACHE_TTL_SECONDS="1", CACHE_REFRESH_SECONDS="0", RATELIMIT_AI_SUPERVISOR="off") as running:
        until_ready(running)
        ask(page, site)
        whence = page.locator("li.assistant small")
        expect(whence).to_have_text("Answered by cloud-run.")
        backend_fails(running)
        ends_at = time.monotonic() + PATIENCE_S
        while True:  # it is fresh for a second
            ask(page, site)
            expect(whence).to_be_visible()
            if not whence.inner_text().startswith("From the cache"):
                break
            assert time.monotonic() < ends_at
        expect(whence).to_have_text(re.compile("An older answer"))
        expect(page.locator("li.assistant")).to_contain_text("free")
        shoot(page, "older")


def test_an_outage(site: Site, page: Page) -> None:
    """A failure, then an open circuit with its countdown; once the AI is back the same button leads to the answer."""
    page.clock.install()
    with site.breakwater() as running:
        until_ready(running)
        backend_fails(running)
        ask(page, site)
        notice = page.locator("[role=alert].loud")
        expect(notice).to_contain_text("The AI gave no usable answer.")
        shoot(page, "failure")
        admin(running, action="circuit", provider="cloud-run", state="open", seconds=600)
        notice.get_by_role("button", name="Try again").click()
        expect(notice).to_contain_text("The AI is down. It is left alone for a while.")
        expect(notice.get_by_role("button")).to_have_text(re.compile(r"Try again in \d+ s"))
        expect(notice.get_by_role("button")).to_be_disabled()
        shoot(page, "circuit-open")
        httpx.delete(f"{backend(running)}/_control/faults").raise_for_status()
        admin(running, action="circuit", provider="cloud-run", state="closed")
        page.clock.run_for(601_000)
        notice.get_by_role("button", name="Try again", exact=True).click()
        expect(page.locator("li.assistant small")).to_have_text("Answered by cloud-run.")
        expect(notice).to_have_count(0)


def test_nobody_there(site: Site, page: Page) -> None:
    """Where no Breakwater answers, the page says that, and its button is ready."""
    ask(page, site)
    notice = page.locator("[role=alert].loud")
    expect(notice).to_contain_text("The server cannot be reached.")
    expect(notice.get_by_role("button", name="Try again")).to_be_enabled()
    shoot(page, "unreachable")
