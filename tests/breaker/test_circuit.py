"""The breaker's transitions as tables: every state, every event, late results; and the text that stores it."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.breaker import circuit as breaker
from lib.breaker.circuit import BreakerPolicy, Circuit, Ticket, dump, parse, swap, ticket, ttl_ms, view
from lib.redis.errors import RedisDown
from tests.conftest import Store

NOW = 1_763_553_600_000
POLICY = BreakerPolicy(threshold=3, cooldown_ms=60_000, lease_ms=65_000)

NEW = Circuit()
FAILED_ONCE = Circuit(failures=1)
FAILED_TWICE = Circuit(failures=2)
OPEN = Circuit("open", 1, until_ms=NOW + 60_000, since_ms=NOW, reason="timeout")
DUE = Circuit("open", 1, until_ms=NOW, since_ms=NOW - 60_000, reason="timeout")
PROBING = Circuit("half_open", 2, until_ms=NOW + 65_000, owner="me", since_ms=NOW - 60_000, reason="timeout")
LEASE_OVER = Circuit("half_open", 2, until_ms=NOW, owner="me", since_ms=NOW - 120_000, reason="timeout")
CLOSED_AGAIN = Circuit(generation=3)


@pytest.mark.parametrize(
    ("circuit", "expected"),
    [
        pytest.param(NEW, "pass", id="new"),
        pytest.param(FAILED_TWICE, "pass", id="two failures"),
        pytest.param(CLOSED_AGAIN, "pass", id="closed again"),
        pytest.param(OPEN, "refuse", id="open"),
        pytest.param(Circuit("open", 1, until_ms=NOW + 1), "refuse", id="open for one more millisecond"),
        pytest.param(DUE, "probe", id="open, and due"),
        pytest.param(PROBING, "refuse", id="a probe is under way"),
        pytest.param(Circuit("half_open", 2, until_ms=NOW + 1, owner="me"), "refuse", id="its lease nearly over"),
        pytest.param(LEASE_OVER, "probe", id="its lease is over"),
    ],
)
def test_view(circuit: Circuit, expected: str) -> None:
    """CASE 20: what a call may do in each state."""
    assert view(circuit, NOW) == expected


@pytest.mark.parametrize("circuit", [DUE, LEASE_OVER], ids=["open", "an abandoned probe"])
def test_claim(circuit: Circuit) -> None:
    """CASE 20: a claimed probe has an owner, a lease and a generation of its own, and refuses all others."""
    claimed = breaker.claim(circuit, "you", NOW, POLICY)
    assert claimed == Circuit(
        "half_open", circuit.generation + 1, 0, NOW + 65_000, "you", circuit.since_ms, circuit.reason
    )
    assert view(claimed, NOW) == "refuse"
    assert view(claimed, NOW + 64_999) == "refuse"
    assert view(claimed, NOW + 65_000) == "probe"


type Event = Callable[[Circuit], Circuit]


def failed(reason: str = "server", until_ms: int | None = None) -> Event:
    return lambda circuit: breaker.fail(circuit, ticket(circuit), NOW, POLICY, reason, until_ms)


def succeeded(circuit: Circuit) -> Circuit:
    return breaker.succeed(circuit, ticket(circuit))


def released(circuit: Circuit) -> Circuit:
    return breaker.release(circuit, ticket(circuit), NOW)


def opened(generation: int, until_ms: int = NOW + 60_000, since_ms: int = NOW) -> Circuit:
    return Circuit("open", generation, 0, until_ms, "", since_ms, "server")


@pytest.mark.parametrize(
    ("circuit", "event", "expected"),
    [
        pytest.param(NEW, failed(), FAILED_ONCE, id="closed, fails: counted"),
        pytest.param(FAILED_ONCE, failed(), FAILED_TWICE, id="closed, fails again: counted"),
        pytest.param(FAILED_TWICE, failed(), opened(1), id="closed, fails a third time: open"),
        pytest.param(CLOSED_AGAIN, failed(), Circuit(generation=3, failures=1), id="closed again, fails: counted anew"),
        pytest.param(NEW, failed(until_ms=NOW + 7), opened(1, NOW + 7), id="closed, fails until: open at once"),
        pytest.param(NEW, succeeded, NEW, id="closed, succeeds: nothing"),
        pytest.param(FAILED_TWICE, succeeded, NEW, id="closed, succeeds: failures forgotten"),
        pytest.param(NEW, released, NEW, id="closed, released: nothing"),
        pytest.param(FAILED_TWICE, released, FAILED_TWICE, id="closed, released: failures stay"),
        pytest.param(OPEN, failed(), OPEN, id="open, fails: nothing"),
        pytest.param(OPEN, failed(until_ms=NOW + 7), OPEN, id="open, fails until: nothing"),
        pytest.param(OPEN, released, OPEN, id="open, released: nothing"),
        pytest.param(PROBING, failed(), opened(3, since_ms=NOW - 60_000), id="probe fails: open for a cool-down more"),
        pytest.param(
            PROBING, failed(until_ms=NOW + 7), opened(3, NOW + 7, NOW - 60_000), id="probe fails until: open until then"
        ),
        pytest.param(PROBING, succeeded, CLOSED_AGAIN, id="probe succeeds: closed"),
        pytest.param(
            PROBING, released, Circuit("open", 3, 0, NOW, "", NOW - 60_000, "timeout"), id="probe released: due at once"
        ),
        pytest.param(LEASE_OVER, succeeded, CLOSED_AGAIN, id="late probe that nobody replaced: closed"),
        pytest.param(
            LEASE_OVER, failed(), opened(3, since_ms=NOW - 120_000), id="late probe that nobody replaced fails: open"
        ),
    ],
)
def test_transitions(circuit: Circuit, event: Event, expected: Circuit) -> None:
    """CASES 19 and 20: what each event makes of each state, for the call that started under it."""
    assert event(circuit) == expected


@pytest.mark.parametrize(
    "held",
    [
        pytest.param(Ticket(0), id="from before the opening"),
        pytest.param(Ticket(1), id="of the open state"),
        pytest.param(Ticket(2, "you"), id="of another owner"),
        pytest.param(Ticket(2), id="of no owner"),
        pytest.param(Ticket(3, "me"), id="of the next generation"),
    ],
)
@pytest.mark.parametrize("circuit", [PROBING, OPEN, CLOSED_AGAIN], ids=["half open", "open", "closed again"])
def test_late_results(circuit: Circuit, held: Ticket) -> None:
    """CASE 21: a result of another generation or owner changes nothing, whatever it is."""
    if held == ticket(circuit):
        return
    assert breaker.succeed(circuit, held) is circuit
    assert breaker.fail(circuit, held, NOW, POLICY, "server") is circuit
    assert breaker.fail(circuit, held, NOW, POLICY, "quota", NOW + 7) is circuit
    assert breaker.release(circuit, held, NOW) is circuit


def test_a_success_in_between() -> None:
    """CASE 19: failures count in a row only."""
    circuit = NEW
    for event in (failed(), failed(), succeeded, failed(), failed()):
        circuit = event(circuit)
    assert circuit == FAILED_TWICE


def test_a_healthy_call_changes_nothing() -> None:
    """CASE 22: the very same value: nothing to write."""
    assert breaker.succeed(CLOSED_AGAIN, ticket(CLOSED_AGAIN)) is CLOSED_AGAIN


def test_a_threshold_of_one() -> None:
    """The first failure opens."""
    policy = BreakerPolicy(threshold=1)
    assert breaker.fail(NEW, ticket(NEW), NOW, policy).state == "open"


# --- as text ------------------------------------------------------------------------------------------------------

ASCII = st.text(st.characters(max_codepoint=127))  # owners are our own ids, reasons our own words
CIRCUITS = st.builds(
    Circuit,
    st.sampled_from(["closed", "open", "half_open"]),
    *[st.integers(0, 1 << 53)] * 3,
    ASCII,
    st.integers(0, 1 << 53),
    ASCII,
)


@given(CIRCUITS)
def test_round_trip(circuit: Circuit) -> None:
    """What is stored is what is read; the untouched circuit is no text at all."""
    assert parse(dump(circuit)) == circuit
    assert (dump(circuit) == "") is (circuit == NEW)


def changed(position: int, value: object) -> str:
    values = json.loads(dump(PROBING))
    values[position] = value
    return json.dumps(values)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(None, id="no key"),
        pytest.param("", id="empty"),
        pytest.param("garbage", id="garbage"),
        pytest.param("{}", id="an object"),
        pytest.param("7", id="a number"),
        pytest.param("null", id="null"),
        pytest.param("[]", id="an empty list"),
        pytest.param(dump(PROBING)[:-1], id="cut"),
        pytest.param(dump(PROBING) + "]", id="too long"),
        pytest.param(json.dumps([*json.loads(dump(PROBING)), 1]), id="a field too many"),
        pytest.param(json.dumps(json.loads(dump(PROBING))[:-1]), id="a field too few"),
        pytest.param(changed(0, "ajar"), id="an unknown state"),
        pytest.param(changed(0, ["open"]), id="a list as state"),
        pytest.param(changed(1, "2"), id="a text as generation"),
        pytest.param(changed(1, True), id="a truth as generation"),
        pytest.param(changed(3, 1.5), id="a fraction as time"),
        pytest.param(changed(3, None), id="no time"),
        pytest.param("[NaN]", id="not a number"),
        pytest.param("[" * 100_000, id="deeply nested"),
        pytest.param('["open",' + "1" * 10_000 + ',0,0,"",0,""]', id="a very long number"),
        pytest.param("\ud800", id="half a character"),
        pytest.param(changed(4, "\ud800"), id="half a character as owner"),
        pytest.param(changed(6, "디스크"), id="another alphabet as reason"),
    ],
)
def test_a_corrupt_text(text: str | None) -> None:
    """CASE 15: what stores no circuit is an untouched one."""
    assert parse(text) == NEW


@pytest.mark.parametrize(
    ("circuit", "ms"),
    [
        pytest.param(FAILED_ONCE, 3_600_000, id="failures are forgotten after an hour"),
        pytest.param(CLOSED_AGAIN, 600_000, id="a generation is kept as long as a call may run"),
        pytest.param(OPEN, 60_000 + 3_600_000, id="open: an hour beyond its end"),
        pytest.param(DUE, 3_600_000, id="due"),
        pytest.param(Circuit("open", 1, until_ms=NOW - 10**12), 3_600_000, id="long due"),
    ],
)
def test_how_long_it_is_stored(circuit: Circuit, ms: int) -> None:
    """Nothing is stored for ever, and nothing shorter than it matters."""
    assert ttl_ms(circuit, NOW) == ms


# --- in Redis -----------------------------------------------------------------------------------------------------


def test_swap(redis: Store, subject: str) -> None:
    """It is stored only over the text that was read; with a TTL; and the loser is told what is there."""
    done, text = redis.run(swap(subject, None, OPEN, NOW))
    assert (done, parse(text)) == (True, OPEN)
    assert redis.run(swap(subject, None, FAILED_ONCE, NOW)) == (False, dump(OPEN))
    assert redis.run(swap(subject, dump(OPEN), PROBING, NOW)) == (True, dump(PROBING))
    ttl = redis.command("PTTL", subject)
    assert isinstance(ttl, int)
    assert 3_600_000 < ttl <= 65_000 + 3_600_000
    assert redis.run(swap(subject, dump(PROBING), NEW, NOW)) == (True, "")
    assert redis.command("EXISTS", subject) == 0


@pytest.mark.parametrize("text", ["garbage", "[", '["open"]', "한국어"])
def test_a_corrupt_text_is_overwritten(redis: Store, subject: str, text: str) -> None:
    """CASE 15: what cannot be read is read as untouched, and swapped for the next state."""
    redis.command("SET", subject, text)
    assert redis.run(swap(subject, text, FAILED_ONCE, NOW)) == (True, dump(FAILED_ONCE))


def test_a_value_of_another_type_is_overwritten(redis: Store, subject: str) -> None:
    """CASE 15: it counts as absent."""
    redis.command("RPUSH", subject, "x")
    assert redis.run(swap(subject, None, FAILED_ONCE, NOW)) == (True, dump(FAILED_ONCE))


def test_fifty_claims(redis: Store, subject: str) -> None:
    """CASE 20: fifty instances that all read the circuit as due: exactly one has the probe."""
    redis.run(swap(subject, None, DUE, NOW))
    claims = [swap(subject, dump(DUE), breaker.claim(DUE, f"i{n}", NOW, POLICY), NOW) for n in range(50)]
    results = redis.run_at_once(claims)
    winners = [parse(text).owner for done, text in results if done]
    assert len(winners) == 1
    assert {parse(text).owner for _, text in results} == set(winners)


def test_what_a_swap_costs(redis: Store, subject: str) -> None:
    """One round trip, billed as three commands with those inside."""
    with redis.count() as spent:
        redis.run(swap(subject, None, OPEN, NOW))
    assert spent.round_trips == 1
    # fakeredis cannot see into a script, and bills it as one.
    assert spent.commands == (1 if redis.upstash.server.kind == "fakeredis" else 3)


def test_a_lost_swap(redis: Store, subject: str) -> None:
    """A Redis that is away is an error, never 'no state yet'."""
    from dev.faults import Fault

    redis.upstash.faults.set(Fault(kind="status", times=1))
    with pytest.raises(RedisDown):
        redis.run(swap(subject, None, OPEN, NOW))
