"""The circuit's transitions as tables: every state, every event, late results."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from lib.breaker import circuit as breaker
from lib.breaker.circuit import BreakerPolicy, Circuit, Failure, Ticket, ticket, view

NOW = 1_763_553_600_000
LATER = NOW + 1_000
POLICY = BreakerPolicy()
ASIDE = ((7, NOW // 1000 + 600),)

NEW = Circuit()
ONCE = Circuit(failures=1, who=(7,))
TWICE = Circuit(failures=2, who=(7, 8))
TWICE_DOWN = Circuit(failures=2, down=2, who=(7, 8))
CLOSED_AGAIN = Circuit(generation=3, ok_ms=NOW - 5_000)
CHECKED_LATELY = Circuit(generation=3, until_ms=NOW + 4_000, failures=2, who=(7, 8))
SUSPECT = Circuit("suspect", 1, 3, 0, 0, "", NOW - 500, "server", who=(7, 8, 9))
CHECKING = replace(SUSPECT, until_ms=NOW + 15_000, owner="me")
CHECK_LOST = replace(SUSPECT, until_ms=NOW, owner="me")
OPEN = Circuit("open", 1, until_ms=NOW + 60_000, since_ms=NOW, reason="timeout")
DUE = replace(OPEN, until_ms=NOW)
PROBING = Circuit("probing", 2, until_ms=NOW + 15_000, owner="me", since_ms=NOW - 60_000, reason="timeout")
LEASE_OVER = replace(PROBING, until_ms=NOW)


@pytest.mark.parametrize(
    ("circuit", "expected"),
    [
        pytest.param(NEW, "pass", id="new"),
        pytest.param(TWICE, "pass", id="two failures"),
        pytest.param(CLOSED_AGAIN, "pass", id="closed again"),
        pytest.param(SUSPECT, "pass", id="suspected"),
        pytest.param(CHECKING, "pass", id="suspected, a check is under way"),
        pytest.param(OPEN, "refuse", id="open"),
        pytest.param(Circuit("open", 1, until_ms=NOW + 1), "refuse", id="open for one more millisecond"),
        pytest.param(DUE, "probe", id="open, and due"),
        pytest.param(PROBING, "refuse", id="a probe is under way"),
        pytest.param(Circuit("probing", 2, until_ms=NOW + 1, owner="me"), "refuse", id="its lease nearly over"),
        pytest.param(LEASE_OVER, "probe", id="its lease is over"),
    ],
)
def test_view(circuit: Circuit, expected: str) -> None:
    """CASE 20: what a call may do in each state."""
    assert view(circuit, NOW) == expected


@pytest.mark.parametrize(
    ("circuit", "due"),
    [
        pytest.param(TWICE, False, id="not suspected"),
        pytest.param(SUSPECT, True, id="suspected, and nobody checks"),
        pytest.param(CHECKING, False, id="somebody checks"),
        pytest.param(CHECK_LOST, True, id="whoever checked did not come back"),
        pytest.param(replace(SUSPECT, until_ms=NOW + 1), False, id="checked a moment ago"),
        pytest.param(DUE, False, id="open: that takes a request that waits for it"),
    ],
)
def test_a_check_is_due(circuit: Circuit, due: bool) -> None:
    """Whoever comes starts the check of a suspected source, unless somebody does so already."""
    assert breaker.check_is_due(circuit, NOW) is due


@pytest.mark.parametrize("circuit", [DUE, LEASE_OVER], ids=["open", "an abandoned probe"])
def test_claim(circuit: Circuit) -> None:
    """CASE 20: a claimed probe has an owner, a lease and a generation of its own, and refuses all others."""
    claimed = breaker.claim(circuit, "you", NOW, 15_000)
    assert claimed == replace(
        circuit, state="probing", generation=circuit.generation + 1, until_ms=NOW + 15_000, owner="you"
    )
    assert [view(claimed, NOW + ms) for ms in (0, 14_999, 15_000)] == ["refuse", "refuse", "probe"]


def test_claiming_a_check() -> None:
    """A suspicion stays what it is while somebody checks: calls pass, and their results count."""
    assert breaker.claim(SUSPECT, "me", NOW, 15_000) == CHECKING


type Event = Callable[[Circuit], Circuit]


def failed(
    failure: Failure = "soft",
    caller: int | None = 9,
    *,
    owner: str = "",
    checked: bool = True,
    policy: BreakerPolicy = POLICY,
) -> Event:
    """A call that began under the very circuit fails a second later."""
    return lambda c: breaker.fail(
        c, ticket(c, NOW, caller), failure, LATER, policy, "server", owner=owner, checked=checked
    )


def succeeded(circuit: Circuit) -> Circuit:
    return breaker.succeed(circuit, ticket(circuit, NOW), POLICY)


def released(circuit: Circuit) -> Circuit:
    return breaker.release(circuit, ticket(circuit, NOW), LATER)


def passed(circuit: Circuit) -> Circuit:
    return breaker.check_passed(circuit, "me", NOW, LATER, POLICY)


def check_failed(until_ms: int | None = None) -> Event:
    return lambda c: breaker.check_failed(c, "me", LATER, POLICY, "server", until_ms)


def undecided(circuit: Circuit) -> Circuit:
    return breaker.check_undecided(circuit, "me", LATER, POLICY)


def set_aside(*tags: int) -> tuple[tuple[int, int], ...]:
    return tuple((tag, LATER // 1000 + 600) for tag in tags)


def opened(generation: int, until_ms: int = LATER + 60_000, since_ms: int = LATER) -> Circuit:
    return Circuit("open", generation, until_ms=until_ms, since_ms=since_ms, reason="server")


def suspected(generation: int, who: tuple[int, ...], owner: str = "", until_ms: int = 0, down: int = 0) -> Circuit:
    until_ms = LATER + 15_000 if owner else until_ms
    return Circuit("suspect", generation, 3, down, until_ms, owner, LATER, "server", who=who)


@pytest.mark.parametrize(
    ("circuit", "event", "expected"),
    [
        pytest.param(NEW, failed(), Circuit(failures=1, who=(9,)), id="closed, fails: counted"),
        pytest.param(ONCE, failed(), Circuit(failures=2, who=(7, 9)), id="closed, fails again: counted"),
        pytest.param(ONCE, failed(caller=7), Circuit(failures=2, who=(7,)), id="the same caller: counted"),
        pytest.param(ONCE, failed(caller=None), Circuit(failures=2, who=(7,)), id="nobody known: counted"),
        pytest.param(TWICE, failed(), suspected(1, (7, 8, 9)), id="closed, fails a third time: suspected"),
        pytest.param(TWICE, failed(owner="me"), suspected(1, (7, 8, 9), "me"), id="who has time checks at once"),
        pytest.param(NEW, failed("throttled"), suspected(1, (9,)), id="closed, 429: suspected at once"),
        pytest.param(
            CHECKED_LATELY, failed(owner="me"), suspected(4, (7, 8, 9), "", NOW + 4_000),
            id="checked a moment ago: the next check waits",
        ),
        pytest.param(NEW, failed("never_sent"), Circuit(failures=1, down=1, who=(9,)), id="closed, not sent: noted"),
        pytest.param(
            ONCE, failed("never_sent"), Circuit(failures=2, down=1, who=(7, 9)), id="not sent after another failure"
        ),
        pytest.param(TWICE_DOWN, failed("never_sent"), opened(1), id="not sent three times in a row: open"),
        pytest.param(TWICE_DOWN, failed(), suspected(1, (7, 8, 9)), id="sent in between: not in a row"),
        pytest.param(TWICE, failed("never_sent"), suspected(1, (7, 8, 9), down=1), id="three failures of both kinds"),
        pytest.param(NEW, succeeded, NEW, id="closed, succeeds: nothing"),
        pytest.param(TWICE, succeeded, Circuit(ok_ms=NOW), id="closed, succeeds: failures forgotten"),
        pytest.param(NEW, released, NEW, id="closed, released: nothing"),
        pytest.param(TWICE, released, TWICE, id="closed, released: failures stay"),
        pytest.param(SUSPECT, failed(), SUSPECT, id="suspected, fails: nothing new"),
        pytest.param(SUSPECT, failed("throttled"), SUSPECT, id="suspected, 429: nothing new"),
        pytest.param(SUSPECT, failed("never_sent"), SUSPECT, id="suspected, not sent: nothing new"),
        pytest.param(SUSPECT, succeeded, Circuit(generation=2, ok_ms=NOW), id="suspected, succeeds: closed"),
        pytest.param(
            CHECKING, succeeded, Circuit(generation=2, ok_ms=NOW, until_ms=NOW + 5_000),
            id="suspected, succeeds during a check: closed, and no other check for 5 s",
        ),
        pytest.param(
            CHECKING, passed,
            Circuit(generation=2, until_ms=NOW + 5_000, ok_ms=NOW, aside=set_aside(7, 8, 9)),
            id="the check passes: closed, the callers set aside",
        ),
        pytest.param(CHECKING, check_failed(), opened(2), id="the check fails: open"),
        pytest.param(CHECKING, check_failed(NOW + 9), opened(2, NOW + 9), id="the check says until when"),
        pytest.param(
            CHECKING, undecided, replace(SUSPECT, until_ms=NOW + 5_000), id="the check says nothing: another after 5 s"
        ),
        pytest.param(SUSPECT, passed, SUSPECT, id="a check that nobody holds says nothing"),
        pytest.param(OPEN, failed(), OPEN, id="open, fails: nothing"),
        pytest.param(OPEN, failed("throttled"), OPEN, id="open, 429: nothing"),
        pytest.param(OPEN, succeeded, OPEN, id="open, succeeds: nothing"),
        pytest.param(OPEN, released, OPEN, id="open, released: nothing"),
        pytest.param(PROBING, passed, Circuit(generation=3, until_ms=NOW + 5_000, ok_ms=NOW), id="probe passes"),
        pytest.param(PROBING, check_failed(), opened(3, since_ms=NOW - 60_000), id="probe fails: open for a cool-down"),
        pytest.param(
            PROBING, check_failed(NOW + 7), opened(3, NOW + 7, NOW - 60_000), id="probe fails until: open until then"
        ),
        pytest.param(
            PROBING, undecided, replace(PROBING, state="open", generation=3, owner="", until_ms=NOW + 5_000),
            id="probe says nothing: open, another after 5 s",
        ),
        # Without a check the first call is the probe.
        pytest.param(PROBING, succeeded, Circuit(generation=3, ok_ms=NOW), id="a call that is the probe succeeds"),
        pytest.param(
            PROBING, failed(checked=False), opened(3, since_ms=NOW - 60_000), id="a call that is the probe fails"
        ),
        pytest.param(
            PROBING, released, replace(PROBING, state="open", generation=3, owner="", until_ms=LATER),
            id="a call that is the probe is given up: due at once",
        ),
    ],
)  # fmt: skip
def test_transitions(circuit: Circuit, event: Event, expected: Circuit) -> None:
    """CASES 19 and 20: what each event makes of each state, for the call that started under it."""
    assert event(circuit) == expected


@pytest.mark.parametrize(
    ("callers", "failure", "state"),
    [
        pytest.param([1, 2, 3, 4], "soft", "closed", id="four callers"),
        pytest.param([1, 2, 3, 4, 5], "soft", "open", id="five"),
        pytest.param([1, 2, 3, 4, 4, 4, 4, 1], "soft", "closed", id="four, again and again"),
        pytest.param([1, 2, 3, 4, 5], "throttled", "open", id="five 429"),
        pytest.param([1], "throttled", "closed", id="one 429"),
        pytest.param([1, 1, 1], "never_sent", "open", id="never sent, three times"),
        pytest.param([None, None], "soft", "closed", id="nobody known, twice"),
        pytest.param([None, None, None], "soft", "open", id="nobody known, three times"),
    ],
)
def test_without_a_check(callers: list[int | None], failure: Failure, state: str) -> None:
    """CASE 31: it takes five callers, or three failures in a row where callers are not told apart."""
    circuit = NEW
    for caller in callers:
        circuit = failed(failure, caller, checked=False)(circuit)
    assert circuit.state == state


def test_a_check_that_is_not_to_be_had_any_more() -> None:
    """A suspicion goes on as without a check: two more callers open."""
    circuit = SUSPECT
    for caller in (7, 10, 11):
        assert circuit.state == "suspect"
        circuit = failed(caller=caller, checked=False)(circuit)
    assert circuit.state == "open"


@pytest.mark.parametrize(
    "held",
    [
        pytest.param(Ticket(0, began_ms=NOW), id="from before the opening"),
        pytest.param(Ticket(0, noted=True, began_ms=NOW), id="from before it, knowing of failures"),
        pytest.param(Ticket(1, began_ms=NOW), id="of the open state"),
        pytest.param(Ticket(2, "you", began_ms=NOW), id="of another owner"),
        pytest.param(Ticket(2, began_ms=NOW), id="of no owner"),
        pytest.param(Ticket(4, "me", noted=True, began_ms=NOW), id="of a later generation"),
    ],
)
@pytest.mark.parametrize("circuit", [PROBING, OPEN, CLOSED_AGAIN], ids=["probing", "open", "closed again"])
def test_late_results(circuit: Circuit, held: Ticket) -> None:
    """CASE 21: a result of another generation or owner changes nothing, whatever it is."""
    assert breaker.succeed(circuit, held, POLICY) is circuit
    for failure in ("soft", "never_sent", "throttled"):
        assert breaker.fail(circuit, held, failure, LATER, POLICY, "server") is circuit
    assert breaker.release(circuit, held, LATER) is circuit


@pytest.mark.parametrize(
    ("circuit", "began_ms", "ok_began_ms", "caller", "failure", "counted"),
    [
        pytest.param(Circuit(ok_ms=NOW), NOW, 0, 7, "soft", True, id="begun with a success"),
        pytest.param(Circuit(ok_ms=NOW + 1), NOW, 0, 7, "soft", False, id="begun before a success that all know"),
        pytest.param(NEW, NOW, NOW + 1, 7, "soft", False, id="begun before a success of this instance"),
        pytest.param(NEW, NOW, NOW + 1, 7, "never_sent", False, id="never sent, before a success"),
        pytest.param(Circuit(aside=ASIDE), NOW, 0, 7, "soft", False, id="of a caller who is set aside"),
        pytest.param(Circuit(aside=ASIDE), NOW, 0, 7, "throttled", False, id="a 429 of a caller who is set aside"),
        pytest.param(Circuit(aside=ASIDE), NOW, 0, 7, "never_sent", True, id="of such a caller, but never sent"),
        pytest.param(Circuit(aside=ASIDE), NOW, 0, 8, "soft", True, id="of another caller"),
        pytest.param(Circuit(aside=((7, LATER // 1000),)), NOW, 0, 7, "soft", True, id="set aside until now"),
    ],
)
def test_what_does_not_count(
    circuit: Circuit, began_ms: int, ok_began_ms: int, caller: int, failure: Failure, counted: bool
) -> None:
    """CASE 31: what began before a success, and what a caller's own questions are known to do."""
    held = replace(ticket(circuit, began_ms), tag=caller)
    after = breaker.fail(circuit, held, failure, LATER, POLICY, "server", ok_began_ms=ok_began_ms)
    assert (after != circuit) is counted


def test_success_of_a_call_that_knew_nothing() -> None:
    """It began before the failures: whether they are still going on it does not say."""
    held = ticket(NEW, NOW)
    assert breaker.succeed(TWICE, held, POLICY) is TWICE


def test_who_is_set_aside() -> None:
    """Sixteen callers, the oldest dropped first; who comes again stays longer; who is over is forgotten."""
    aside = ((1, LATER // 1000), *((n, NOW // 1000 + 100) for n in range(2, 18)))
    after = passed(replace(CHECKING, who=(5, 20), aside=aside))
    assert [tag for tag, _ in after.aside] == [3, 4, *range(6, 18), 5, 20]
    assert after.aside[-1] == (20, LATER // 1000 + 600)


@pytest.mark.parametrize(
    ("circuit", "state"),
    [
        pytest.param(NEW, "suspect", id="closed"),
        pytest.param(CHECKED_LATELY, "closed", id="checked a moment ago"),
        pytest.param(SUSPECT, "suspect", id="suspected already"),
        pytest.param(OPEN, "open", id="open"),
    ],
)
def test_stalled_calls(circuit: Circuit, state: str) -> None:
    """Calls that hang are a suspicion, and their callers are known."""
    after = breaker.stalls(circuit, (1, 2, 3, 4), "me", NOW, POLICY)
    assert after.state == state
    if circuit is NEW:
        assert (after.owner, after.who, after.until_ms, after.reason) == ("me", (1, 2, 3), NOW + 15_000, "stalled")


@pytest.mark.parametrize(
    ("circuit", "expected"),
    [
        pytest.param(NEW, opened(1, NOW + 7, NOW), id="closed"),
        pytest.param(SUSPECT, opened(2, NOW + 7, NOW), id="suspected"),
        pytest.param(PROBING, opened(3, NOW + 7, NOW - 60_000), id="the probe"),
        pytest.param(OPEN, OPEN, id="open"),
    ],
)
def test_an_announced_rest(circuit: Circuit, expected: Circuit) -> None:
    """A source that says with its answer that it will refuse the next call is left alone until then."""
    assert breaker.rest(circuit, ticket(circuit, NOW), NOW, NOW + 7, "server") == expected


def test_a_success_in_between() -> None:
    """CASE 19: failures count in a row only."""
    circuit = NEW
    for event in (failed(), failed(), succeeded, failed(), failed()):
        circuit = event(circuit)
    assert (circuit.state, circuit.failures) == ("closed", 2)


def test_a_healthy_call_changes_nothing() -> None:
    """CASE 22: the very same value: nothing to write."""
    assert breaker.succeed(CLOSED_AGAIN, ticket(CLOSED_AGAIN, NOW), POLICY) is CLOSED_AGAIN


def test_a_threshold_of_one() -> None:
    """The first failure is a suspicion; the first call that is not sent opens."""
    policy = BreakerPolicy(threshold=1)
    assert failed(policy=policy)(NEW).state == "suspect"
    assert failed("never_sent", policy=policy)(NEW).state == "open"


def test_tags() -> None:
    """16 bits of a hash that every process and release agrees on."""
    assert breaker.tag_of("") is None
    assert breaker.tag_of("caller") == 0x61DE
