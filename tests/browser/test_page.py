"""The frame of the page: the token, refreshing, failures, the keyboard, the policy, the two languages."""

import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from lib.breaker import stored
from lib.breaker.circuit import Circuit, opens
from lib.ledger.places import AlertKind
from lib.redis import keys
from tests.browser.conftest import PHONE, ROOT, Visit
from tests.browser.seeds import now_ms


def test_without_a_token_it_says_what_this_is(visit: Visit) -> None:
    """Whoever comes without a token learns what answers here, at which address, and gets no figures."""
    page = visit.page
    expect(page.get_by_role("heading", name="A guard in front of whatever costs something")).to_be_visible()
    expect(page.get_by_role("link", name="What works at the moment")).to_have_attribute("href", "/api/health")
    expect(page.get_by_role("region", name="curl")).to_contain_text(f"curl {visit.served.url}/api/ai/supervisor")
    expect(page.get_by_role("meter")).to_have_count(0)
    assert page.title() == "Breakwater"
    visit.shoot("without-a-token")


def test_a_wrong_token_leads_back(visit: Visit) -> None:
    """A token that is not the configured one leads back to the form, and is forgotten."""
    visit.enter("not it")
    expect(visit.page.get_by_role("alert").filter(has_text="not the one that is configured")).to_be_visible()
    expect(visit.page.get_by_label("Token", exact=True)).to_be_focused()
    assert visit.page.evaluate("sessionStorage.getItem('token')") is None


def test_the_token_itself_stays_here(visit: Visit) -> None:
    """Figures are asked for with the day's key; the token goes with an action only."""
    visit.look()
    assert {"/api/overview", "/api/activity"} <= set(visit.served.asked)
    assert visit.served.authorized == []


def test_by_keyboard(visit: Visit) -> None:
    """Everything is reached by the Tab key, in order, and shows where the focus is."""
    visit.look()
    page = visit.page
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    page.get_by_role("link", name="Skip to content").focus()
    reached = []
    for _ in range(10):
        reached.append(
            page.evaluate("document.activeElement.ariaLabel ?? document.activeElement.textContent.trim().slice(0, 20)")
        )
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
        page.keyboard.press("Tab")
    start = ["Skip to content", "한국어", "Forget the token", "Overview", "Databases", "Servers", "Refresh"]
    assert reached == [*start, "Open circuit: cloud-run", "Close circuit: gemini", "Close circuit: groq"]


def test_no_foreign_host_and_no_inline_code(visit: Visit) -> None:
    """Every file comes from the same host, under a policy that allows nothing else."""
    hosts: set[str] = set()
    visit.page.on("request", lambda sent: hosts.add(sent.url.split("/")[2]))
    reply = visit.page.goto(visit.served.url)
    assert reply is not None
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    visit.look()
    assert len(hosts) == 1
    source = (ROOT / "public" / "index.html").read_text()
    assert not re.search(r"<script>|\son\w+=|style=|(?:src|href)=\"https?:", source)


def test_both_languages_say_everything(visit: Visit) -> None:
    """Each text is there in English and in Korean, with the same values to fill in, and none is left as it was."""
    words = visit.page.evaluate("import('/page/language.js').then(({ WORDS }) => WORDS)")
    english, korean = words["en"], words["ko"]
    assert english.keys() == korean.keys()

    def values(text: object) -> set[str]:
        return set(re.findall(r"\{\w+\}", str(text)))

    assert [name for name in english if values(english[name]) != values(korean[name])] == []
    # Names and units are the same in both.
    fleet = {"metric cpu", "redis connection", "redis failed"}
    same = {name for name in english if english[name] == korean[name]}
    assert same == {
        "redis",
        "supabase",
        "MB",
        "status 3xx",
        "status 4xx",
        "p95",
        "redisMean",
        "tier redis",
        "sums",
        *fleet,
    }


def test_every_word_of_the_page_has_a_text() -> None:
    """What the modules name is in the words, and every word is named somewhere."""
    page = ROOT / "public" / "page"
    source = "".join(each.read_text() for each in page.rglob("*.js") if each.parent.name != "words")
    texts = re.findall(r'(?:^|, )\s*(?:"([\w -]+)"|(\w+)): ["\[]', (page / "words" / "en.js").read_text(), re.M)
    known = {quoted or plain for quoted, plain in texts}
    used = set(re.findall(r'word\("([^"$]+)"', source))
    assert used <= known
    families = (
        "by ",
        "range ",
        "view ",
        "sessionFilter ",
        "which ",
        "show ",
        *(f"{each} " for each in re.findall(r"`([\w ]+) \$", source)),
    )
    unused = {name for name in known if name not in source and not name.startswith(families)}
    units, sources = {"commands", "requests", "vCPU-seconds", "MB", "tokens"}, {"counted", "vendor", "estimated"}
    assert unused <= {*units, *sources, "redis", "supabase", "local", "off"}, "these come with the figures"


@pytest.mark.parametrize("visit", [{"locale": "ko-KR"}], indirect=True, ids=["Korean"])
def test_korean_reads_as_korean(visit: Visit) -> None:
    """The month's commands in Korean order, no break within a word, the language named, the choice kept."""
    visit.look()
    page = visit.page
    expect(page.get_by_role("meter", name="upstash, 월 명령")).to_be_visible()
    assert page.evaluate("document.documentElement.lang") == "ko"
    assert page.evaluate("getComputedStyle(document.querySelector('main p')).wordBreak") == "keep-all"
    expect(page).to_have_title(re.compile("^일부 장애: gemini 및 groq 호출을 .*까지 중지; Redis 월 명령: "))
    page.get_by_role("button", name="English").click()
    page.reload()
    expect(page).to_have_title(re.compile("^Degraded: "))


@pytest.mark.parametrize("visit", [{"state": "fine"}], indirect=True)
def test_data_routes_by_family_and_tier(visit: Visit) -> None:
    """Each family that was read, with its hit ratio, its reads by where values came from, what was saved; and all."""
    visit.look()
    rows = visit.region("Data routes").get_by_role("row")
    expect(rows).to_have_text(
        [
            re.compile(r"Resource\s*hits\s*memory\s*Redis\s*stale\s*shared\s*origin\s*failed\s*saved"),
            re.compile(r"other\s*0%\s*0\s*0\s*0\s*0\s*0\s*12\s*0 byte"),
            re.compile(r"rankings\s*100%\s*1,500\s*0\s*20\s*0\s*0\s*0\s*640 kB"),
            re.compile(r"menu\s*80%\s*0\s*8,000\s*0\s*0\s*2,000\s*0\s*12\.3 MB"),
            re.compile(r"total\s*82\.6%\s*1,500\s*8,000\s*20\s*0\s*2,000\s*12\s*12\.9 MB"),
        ]
    )


# As wide as the README shows it.
@pytest.mark.parametrize("visit", [{"device_scale_factor": 0.75}], indirect=True)
def test_the_picture_of_the_page(visit: Visit) -> None:
    """What `make picture` takes for the README: the page down to its traffic, in a file below 200 KB."""
    visit.look()
    last = visit.region("Traffic").bounding_box()
    assert last is not None
    clip = {"x": 0, "y": 0, "width": 1280, "height": last["y"] + last["height"] + 16}
    taken = visit.page.screenshot(clip=clip, full_page=True)  # type: ignore[arg-type] # a mapping of four numbers
    assert len(taken) < 200_000
    if directory := os.environ.get("BREAKWATER_SCREENSHOTS"):
        (Path(directory) / "picture.png").write_bytes(taken)


@pytest.mark.parametrize("visit", [{**PHONE, "state": "fine"}], indirect=True)
def test_a_resource_keeps_its_name_whole_on_a_phone(visit: Visit) -> None:
    """The table of data routes scrolls sideways by itself: no name is broken into letters."""
    visit.look()
    heads = visit.region("Data routes").get_by_role("rowheader").all()
    assert len(heads) == 4
    for each in heads:
        box = each.bounding_box()
        assert box is not None
        assert box["height"] < 44, "one line"


def test_alerts_name_whose_circuit_it_is(visit: Visit) -> None:
    """Providers by their names; users' code and data origins by what they called them, not by a key."""
    visit.look()
    alerts = visit.region("Alerts")
    for text in ("gemini: circuit opened", "origin billing: circuit opened", "code 재고 확인: circuit closed"):
        expect(alerts.get_by_text(text, exact=True)).to_have_count(1)
    # The name of a connection is nobody's word.
    expect(alerts.get_by_text("day: too many sessions", exact=True)).to_have_count(1)


@pytest.mark.parametrize("visit", [{"locale": "ko-KR"}], indirect=True, ids=["Korean"])
def test_korean_leaves_nothing_in_english(visit: Visit) -> None:
    """Reporters, metrics, and how a circuit came to be open: words of ours, not of the operator's."""
    visit.served.server.set(
        keys.circuit("cloud-run"), stored.dump(opens(Circuit(), now_ms(), now_ms() + 600_000, "by hand"))
    )
    visit.look()
    alerts = visit.region("알림")
    for text in (
        "보고자 seoul: 측정값이 오지 않음",
        "seoul/web-1 메모리: 측정값이 높음",
        "seoul/web-1: 측정값이 오지 않음",
    ):
        expect(alerts.get_by_text(text, exact=True)).to_have_count(1)
    circuits = visit.region("서킷 브레이커").get_by_role("listitem")
    expect(circuits.filter(has_text="cloud-run")).to_contain_text(re.compile(r"열림: .*까지 호출 중지 \(수동\)"))
    expect(circuits.filter(has_text="gemini")).to_contain_text("(제한 시간 안에 응답 없음)")


def test_every_alert_has_words() -> None:
    """In both languages: none is shown by the name that programs know it by."""
    for language in ("en", "ko"):
        words = (ROOT / f"public/page/words/{language}.js").read_text()
        assert [kind.label for kind in AlertKind if f'"alert {kind.label}":' not in words] == []
