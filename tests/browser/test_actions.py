"""Actions and the playground: what is asked before, what is done, what is said afterwards."""

import re

import pytest
from playwright.sync_api import Route, expect

from lib.redis import keys
from tests.browser.conftest import PHONE, Visit
from tests.browser.seeds import CALLERS
from tests.browser.test_states import faults


def confirm(visit: Visit, text: str) -> None:
    """Say yes to the question."""
    dialog = visit.page.get_by_role("dialog")
    expect(dialog).to_contain_text(text)
    assert faults(visit) == []
    dialog.get_by_role("button", name="Yes, do it").click()


def done(visit: Visit, text: str) -> None:
    """Wait for what the page says of it."""
    expect(visit.page.get_by_role("status").filter(has_text=text)).to_be_visible()


def test_nothing_is_done_without_a_yes(visit: Visit) -> None:
    """Neither the second button nor Escape does anything, and the focus goes back to where it was."""
    visit.look()
    button = visit.page.get_by_role("button", name="Close circuit: gemini")
    for keys_pressed in ("Escape", "Tab Enter"):
        button.click()
        expect(visit.page.get_by_role("dialog")).to_be_visible()
        for each in keys_pressed.split():
            visit.page.keyboard.press(each)
        expect(visit.page.get_by_role("dialog")).to_be_hidden()
        expect(button).to_be_focused()
    assert "/api/admin" not in visit.served.asked


def test_a_circuit_is_closed_and_opened(visit: Visit) -> None:
    """From the list of circuits."""
    visit.look()
    visit.page.get_by_role("button", name="Close circuit: gemini").click()
    confirm(visit, "Close the circuit of gemini?")
    done(visit, "the circuit of gemini is closed")
    visit.page.get_by_role("button", name="Open circuit: cloud-run").click()
    confirm(visit, "Open the circuit of cloud-run for 10 minutes?")
    done(visit, "the circuit of cloud-run is open")
    assert "open" in (visit.served.server.get(keys.circuit("cloud-run")) or "")


def test_circuits_that_instances_told_of(visit: Visit) -> None:
    """Those of users' code and of data origins: what was last made of each, with a button, under their own names."""
    visit.look()
    listed = visit.region("Circuits").get_by_role("listitem")
    expect(listed).to_have_count(7)
    expect(listed.filter(has_text="code 재고")).to_contain_text("suspected")
    expect(listed.filter(has_text="code send mail")).to_contain_text("closed")
    expect(listed.filter(has_text="origin stock")).to_contain_text("checked since")
    expect(listed.filter(has_text="origin billing")).to_contain_text(re.compile(r"opened .*\(no connection\)"))
    visit.page.get_by_role("button", name="Close circuit: origin stock").click()
    confirm(visit, "Close the circuit of origin stock?")
    done(visit, "the circuit of origin stock is closed")
    visit.page.get_by_role("button", name="Open circuit: code send mail").click()
    confirm(visit, "Open the circuit of code send mail for 10 minutes?")
    done(visit, "the circuit of code send mail is open")
    name = keys.circuit(keys.circuit_of_app("send mail"))
    assert "open" in (visit.served.server.get(name) or "")


def test_a_caller_is_reset(visit: Visit) -> None:
    """The busiest callers each have a button; the caller's counts are gone afterwards."""
    visit.look()
    panel = visit.region("Who calls most")
    expect(panel.get_by_role("button", name=re.compile("^Reset "))).to_have_count(10)
    panel.get_by_role("button", name=f"Reset {CALLERS[0][:8]}").first.click()
    confirm(visit, f"Give {CALLERS[0][:8]}… its whole allowance back?")
    done(visit, "Done: reset")


@pytest.mark.parametrize(
    ("fill", "button", "question", "said"),
    [
        ({"Of": "network address", "Value": "203.0.113.7"}, "Reset", "Give 203.0.113.7", "Done: reset"),
        ({"Of": "provider", "Value": "gemini"}, "Reset", "Give gemini", "Done: reset"),
        (
            {"Of": "network address", "Value": "nowhere"},
            "Reset",
            "Give nowhere",
            "Not done: address: not an IP",
        ),
        ({"Which": "all"}, "Invalidate", "Invalidate stored answers: all?", "Done: invalidated: everything"),
        ({"Which": "of a session", "Session": "s-1"}, "Invalidate", "of a session ai/supervisor s-1", "a session of"),
        ({"Which": "with a tag", "Tag": "prices"}, "Invalidate", "with a tag prices", "Done: invalidated: a tag"),
        (
            {"Which": "of a route", "Route": "ai/supervisor"},
            "Invalidate",
            "of a route",
            "invalidated: ai/supervisor",
        ),
        (
            {"Minutes": "5"},
            "Open circuit",
            "Open the circuit of cloud-run for 5 minutes",
            "the circuit of cloud-run is open",
        ),
        (
            {"Circuit of": "your code", "Name": "send mail"},
            "Open circuit",
            "Open the circuit of code send mail for 10 minutes",
            "the circuit of code send mail is open",
        ),
        (
            {"Circuit of": "a data origin", "Name": "billing", "What": "Close circuit"},
            "Close circuit",
            "Close the circuit of origin billing?",
            "the circuit of origin billing is closed",
        ),
    ],
    ids=str,
)
def test_every_action(visit: Visit, fill: dict[str, str], button: str, question: str, said: str) -> None:
    """Filled in, confirmed, done; what cannot be done says why."""
    visit.look()
    panel = visit.region("Actions")
    for name, value in fill.items():
        field = panel.get_by_label(name, exact=True)
        if field.evaluate("(node) => node.tagName") == "SELECT":
            field.select_option(value)
        else:
            field.fill(value)
    panel.get_by_role("button", name=button, exact=True).click()
    confirm(visit, question)
    done(visit, said)


@pytest.mark.parametrize("visit", [{}, PHONE], indirect=True, ids=["desktop", "phone"])
def test_what_became_of_it_is_in_sight(visit: Visit) -> None:
    """However far down the button is; until it is closed."""
    visit.look()
    visit.region("Actions").get_by_role("button", name="Invalidate", exact=True).click()
    confirm(visit, "Invalidate stored answers: all?")
    said = visit.page.get_by_role("status").filter(has_text="Done: invalidated: everything")
    expect(said).to_be_in_viewport()
    assert visit.page.evaluate("scrollY") > 1000
    assert faults(visit) == []
    visit.shoot(f"action-done-{visit.page.viewport_size['width'] if visit.page.viewport_size else ''}")
    visit.page.get_by_role("button", name="Close", exact=True).click()
    expect(said).to_be_hidden()


def an_edge(route: Route) -> None:
    """What stands in front of the API answers in its place, and not as the API does."""
    route.fulfill(status=504, content_type="text/html", body="<!doctype html><p>An error occurred</p>")


def test_an_action_that_gets_no_answer_of_ours(visit: Visit) -> None:
    """Then it says which status there was."""
    visit.look()
    visit.page.route("**/api/admin", an_edge)
    visit.page.get_by_role("button", name="Close circuit: gemini").click()
    confirm(visit, "Close the circuit of gemini?")
    done(visit, "Not done: the server answered 504")


def test_a_question_that_gets_no_answer_of_ours(visit: Visit) -> None:
    """Likewise."""
    visit.look()
    visit.page.route("**/api/ai/supervisor", an_edge)
    panel = visit.region("Try it")
    panel.get_by_label("Question").fill("which disk is fullest?")
    panel.get_by_role("button", name="Ask").click()
    expect(panel.locator(".error")).to_have_text("the server answered 504")


@pytest.mark.parametrize("visit", [{"state": "fine"}], indirect=True)
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_the_playground(visit: Visit, stream: bool) -> None:
    """The answer, and how it came about: state of the cache, provider, attempts, cost, what is left, headers."""
    visit.look()
    panel = visit.region("Try it")
    panel.get_by_label("Question").fill("which disk is fullest?")
    panel.get_by_label("stream", exact=True).set_checked(stream)
    panel.get_by_role("button", name="Ask").click()
    facts = panel.locator(".facts")
    expect(facts).to_contain_text("Status200")
    expect(panel.locator(".said")).to_have_text("41 %")
    expect(facts).to_contain_text("MISS (breakwater; fwd=uri-miss")
    expect(facts).to_contain_text("cloud-run: answered")
    expect(facts).to_contain_text(re.compile(r"Left of the limit9 / 10"))
    panel.get_by_text("All headers").click()
    expect(panel.get_by_role("region", name="All headers")).to_contain_text("x-request-id: ")
    visit.shoot(f"playground-{'stream' if stream else 'whole'}")
    assert faults(visit) == []
    panel.get_by_role("button", name="Ask").click()
    expect(facts).to_contain_text("HIT (breakwater; hit; ttl=")
    if not stream:
        expect(facts).to_contain_text("nothing was called; saved")


@pytest.mark.parametrize("visit", [{"state": "fine"}], indirect=True)
def test_the_playground_with_a_chosen_provider(visit: Visit) -> None:
    """The one that was chosen is called and no other; the token goes along, for only operators may choose."""
    visit.look()
    panel = visit.region("Try it")
    panel.get_by_label("Question").fill("which disk is fullest?")
    panel.get_by_label("Provider").select_option("cloud-run")
    panel.get_by_role("button", name="Ask").click()
    expect(panel.locator(".facts")).to_contain_text("Providercloud-run")
    assert visit.served.authorized == ["/api/ai/supervisor"]


@pytest.mark.parametrize("visit", [{"state": "fine"}, {"state": "fine", **PHONE}], indirect=True)
def test_the_playground_says_what_went_wrong(visit: Visit) -> None:
    """A failure is shown with its code, its text and its attempts."""
    visit.look()
    visit.served.outside.fails = True
    panel = visit.region("Try it")
    panel.get_by_label("Question").fill("which disk is fullest?")
    panel.get_by_label("Provider").select_option("cloud-run")
    panel.get_by_role("button", name="Ask").click()
    expect(panel.locator(".error")).to_contain_text("backend_failed: The AI backend failed")
    expect(panel.locator(".facts")).to_contain_text("cloud-run: server")
    assert faults(visit) == []
    assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
