"""The documentation says what the code does: it has every setting, limit, error and route, and nothing that is not."""

import json
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from dev.routes import served
from lib.ai.providers.registry import PROVIDERS
from lib.base import events
from lib.edge.problems import KINDS
from lib.ledger.places import AlertKind
from lib.policy import GROUPS
from lib.settings import Settings, variables
from tests.test_gates import COMMANDS_AND_ROUND_TRIPS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text()
API = (ROOT / "docs" / "api.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def _section(page: str, title: str) -> str:
    found = re.search(rf"^(#+) {title}$(.*?)(?=^#+ |\Z)", page, re.M | re.S)
    assert found, f"there is no section {title!r}"
    return found[2]


def _names_in_first_column(section: str) -> list[str]:
    rows = re.findall(r"^\| (`[^|]*?) \|", section, re.M)
    return [name for row in rows for name in re.findall(r"`([A-Z][A-Z0-9_]+)`", row)]


def _variables() -> set[str]:
    return {name for each in variables() for name in each.names}


def test_every_setting_is_documented() -> None:
    """The tables of docs/configuration.md name every setting once, and no other."""
    # Upstash's own names stand beside Vercel's, in the text.
    others = {"UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN"}
    assert sorted(_names_in_first_column(CONFIGURATION)) == sorted(_variables() - others)


def test_ten_settings_come_first() -> None:
    """The first table has ten rows."""
    assert len(re.findall(r"^\| `", _section(CONFIGURATION, "The ten that matter"), re.M)) == 10


def test_every_default_is_documented() -> None:
    """Where docs/configuration.md gives a default as it would be written, it is the one that holds."""
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", CONFIGURATION, re.M)
    defaults = {each.name: each.default for each in variables()}
    assert {name: defaults[name] for name, _ in rows} == dict(rows)
    assert len(rows) > 30


def test_every_error_is_documented() -> None:
    """The table of errors names every code with its status."""
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", _section(API, "Errors"), re.M)
    assert {code: int(status) for code, status in rows} == {code: kind.status for code, kind in KINDS.items()}


def test_every_limit_is_documented() -> None:
    """The table of limits names every group's variable."""
    rows = re.findall(r"`(RATELIMIT_\w+)`", _section(API, "Limits"))
    assert set(rows) == {group.variable for group in GROUPS}


@pytest.mark.parametrize("route", sorted(served(ROOT)))
def test_every_route_is_documented(route: str) -> None:
    """docs/api.md names every route."""
    assert route in API


EXAMPLE = set(re.findall(r"^([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.M))


def test_example_names_only_settings() -> None:
    """.env.example names settings that exist; among them what every provider needs, and the secrets of ours."""
    assert _variables() >= EXAMPLE
    assert {each.needed.name for each in PROVIDERS} <= EXAMPLE
    assert {"ADMIN_TOKEN", "CRON_SECRET", "ALLOWED_ORIGINS"} <= EXAMPLE


def test_the_configuration_names_every_provider() -> None:
    """The row of AI_PROVIDERS lists all of them, in the order in which they are called without it."""
    (row,) = re.findall(r"^\| `AI_PROVIDERS` \|.*? in this order: (.*?) \|$", CONFIGURATION, re.M)
    assert re.findall(r"`([^`]+)`", row) == [each.name for each in PROVIDERS]


@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_page_names_what_every_provider_needs(language: str) -> None:
    """Where no provider is configured, the page lists a variable for each of them, and no other."""
    words = (ROOT / "public" / "page" / "words" / f"{language}.js").read_text()
    (text,) = re.findall(r'\bnoCircuits: "([^"]+)"', words)
    assert sorted(re.findall(r"[A-Z][A-Z_]+_[A-Z_]+", text)) == sorted(each.needed.name for each in PROVIDERS)


def test_the_deploy_button() -> None:
    """Its address is one of Vercel's, asks for variables of .env.example only, and for none that Gemini alone lacks."""
    (address,) = re.findall(r"\]\((https://vercel\.com/new/clone\?[^)\s]+)\)", README)
    parts = urlsplit(address)
    found = parse_qs(parts.query, strict_parsing=True)
    assert (parts.scheme, parts.netloc, parts.path) == ("https", "vercel.com", "/new/clone")
    assert found.keys() == {"repository-url", "project-name", "env", "envDescription", "envLink", "stores"}
    assert all(len(values) == 1 for values in found.values())
    for name in ("repository-url", "envLink"):
        assert re.fullmatch(r"https://github\.com/YOUR-NAME/breakwater(/.*)?", found[name][0])
    assert (ROOT / found["envLink"][0].partition("/blob/main/")[2]).exists()
    asked = set(found["env"][0].split(","))
    assert asked <= EXAMPLE
    # What Redis needs is added with the store; with it, nothing else is missing.
    (store,) = json.loads(found["stores"][0])
    assert (store["integrationSlug"], store["productSlug"]) == ("upstash", "upstash-kv")
    given = dict.fromkeys(asked, "a-value-of-twenty-characters")
    settings = Settings.from_env({**given, "KV_REST_API_URL": "https://redis.example", "KV_REST_API_TOKEN": "token"})
    assert (settings.chain, settings.warnings) == (("gemini",), [])


def test_every_step_of_the_deployment_names_its_variables() -> None:
    """The steps by hand name what a deployment needs."""
    steps = _section(README, "Deploy")
    for name in ("KV_REST_API_URL", "ADMIN_TOKEN", "CRON_SECRET", "ALLOWED_ORIGINS", "SUPABASE_SERVICE_ROLE_KEY"):
        assert f"`{name}`" in steps
    assert all(f"`{each.needed.name}`" in steps for each in PROVIDERS)


def test_the_readmes_costs_are_counted() -> None:
    """Commands and round trips of a request are those that the gates hold; so is the number of requests a month."""
    rows = re.findall(r"^\| ([\w ]+) \| (\d+) \| (\d+) \|", _section(README, "What it costs"), re.M)
    kinds = {"refused a moment ago": "blocked", "over the limit": "refused", "in the cache": "hit", "computed": "miss"}
    counted = {kind: COMMANDS_AND_ROUND_TRIPS[kind] for kind in kinds.values()}
    assert {kinds[name]: (int(commands), int(trips)) for name, commands, trips in rows} == counted
    per_request = (counted["hit"][0] + counted["miss"][0]) / 2
    assert f"{int(500_000 / per_request):,} requests" in README


def test_the_picture() -> None:
    """The README shows the page, as a PNG that loads quickly."""
    picture = (ROOT / "docs" / "page.png").read_bytes()
    assert "(docs/page.png)" in README
    assert picture.startswith(b"\x89PNG")
    assert len(picture) < 200_000


@pytest.mark.parametrize("kind", AlertKind, ids=lambda kind: kind.label)
def test_every_alert_says_what_to_do(kind: AlertKind) -> None:
    """docs/operations.md has a section for each kind of alert."""
    assert len(_section(OPERATIONS, f"`{kind.label}`").strip()) > 50


def test_operations_names_alerts_that_exist() -> None:
    """And for no other."""
    assert set(re.findall(r"^### `(\w+)`$", OPERATIONS, re.M)) == {kind.label for kind in AlertKind}


def test_operations_names_events_that_exist() -> None:
    """The events to search for in the log are ones that are logged."""
    (named,) = re.findall(r"^These events.*?\.$|^Logs are.*?\.$", OPERATIONS, re.M | re.S)
    logged = {each.event for each in vars(events).values() if isinstance(each, type) and hasattr(each, "event")}
    assert set(re.findall(r"`(\w+)`", named)) <= logged


def test_no_two_decisions_have_one_number() -> None:
    """A decision's number is its file's and its heading's, and nobody else's."""
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    numbers = [page.name[:4] for page in pages]
    assert len(set(numbers)) == len(numbers)
    headings = [re.findall(r"\A# 0*(\d+)[.:] ", page.read_text()) for page in pages]
    assert headings == [[str(int(number))] for number in numbers]


def test_every_page_is_in_the_index() -> None:
    """docs/README.md leads to every guide and every page of docs/."""
    index = (ROOT / "docs" / "README.md").read_text()
    pages = [*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "guides").glob("*.md")]
    missing = {page.name for page in pages if f"({page.relative_to(ROOT / 'docs')})" not in index}
    assert missing == {"README.md"}


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def test_links_lead_somewhere() -> None:
    """Every relative link of every page leads to a file."""
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert not broken


def test_links_lead_to_headings() -> None:
    """Every relative link with an anchor leads to a heading of its page."""
    broken = [
        f"{page.relative_to(ROOT)}: {target}#{anchor}"
        for page in PAGES
        for target, anchor in re.findall(r"\]\(([^):#]*?)#([^)]+)\)", page.read_text())
        if (leads_to := page.parent / target if target else page).suffix == ".md" and anchor not in _anchors(leads_to)
    ]
    assert not broken


def test_no_page_names_a_missing_module() -> None:
    """Paths of ours that the pages name exist."""
    missing = [
        f"{page.relative_to(ROOT)}: {path}"
        for page in PAGES
        for path in re.findall(r"`((?:lib|api|dev|tests|supabase|public|bench)/[\w/.\-]+\.\w+)`", page.read_text())
        if not (ROOT / path).exists()
    ]
    assert not missing
