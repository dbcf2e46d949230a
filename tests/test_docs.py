"""The documentation says what the code does: it has every setting, limit, error and route, and nothing that is not."""

import re
from pathlib import Path

import pytest

from dev.routes import served
from lib.app.settings import variables
from lib.edge.problems import KINDS
from lib.policy import GROUPS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def _section(title: str) -> str:
    found = re.search(rf"^#+ {title}$(.*?)(?=^#+ |\Z)", README, re.M | re.S)
    assert found, f"README.md has no section {title!r}"
    return found[1]


def _names_in_first_column(section: str) -> set[str]:
    rows = re.findall(r"^\| (`[^|]*?) \|", section, re.M)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def _variables() -> set[str]:
    return {name for each in variables() for name in each.names}


def test_every_setting_is_documented() -> None:
    """The table of the environment names every setting, and no other."""
    # Upstash's own names stand beside Vercel's, in the text.
    others = {"UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN"}
    assert _names_in_first_column(_section("Environment")) == _variables() - others


def test_every_default_is_documented() -> None:
    """Where the table of the environment gives a default as it would be written, it is the one that holds."""
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", _section("Environment"), re.M)
    defaults = {each.name: each.default for each in variables()}
    assert {name: defaults[name] for name, _ in rows} == dict(rows)
    assert len(rows) > 30


def test_every_error_is_documented() -> None:
    """The table of errors names every code with its status."""
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", _section("Errors"), re.M)
    assert {code: int(status) for code, status in rows} == {code: kind.status for code, kind in KINDS.items()}


def test_every_limit_is_documented() -> None:
    """The table of limits names every group's variable."""
    rows = re.findall(r"`(RATELIMIT_\w+)`", _section("Limits"))
    assert set(rows) == {group.variable for group in GROUPS}


@pytest.mark.parametrize("route", sorted(served(ROOT)))
def test_every_route_is_documented(route: str) -> None:
    """The README names every route."""
    assert route in README


def test_example_names_only_settings() -> None:
    """.env.example names settings that exist."""
    names = set(re.findall(r"^([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.M))
    assert names <= _variables()


def test_links_lead_somewhere() -> None:
    """Every relative link of every page leads to a file."""
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", page.read_text())
        if not (page.parent / target).exists()
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
