"""A circuit as text, and its swap in Redis."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.breaker import circuit as breaker
from lib.breaker.circuit import Circuit
from lib.breaker.stored import dump, parse, swap, ttl_ms
from lib.redis.errors import RedisDown
from tests.rig.redis import Store

NOW = 1_763_553_600_000
NEW = Circuit()
FAILED_ONCE = Circuit(failures=1, who=(7,))
CLOSED_AGAIN = Circuit(generation=3)
OPEN = Circuit("open", 1, until_ms=NOW + 60_000, since_ms=NOW, reason="timeout")
DUE = Circuit("open", 1, until_ms=NOW, since_ms=NOW - 60_000, reason="timeout")
PROBING = Circuit("probing", 2, until_ms=NOW + 15_000, owner="me", since_ms=NOW - 60_000, reason="timeout")
ASIDE = Circuit(generation=3, aside=((7, NOW // 1000 + 600), (8, NOW // 1000 + 650)))

ASCII = st.text(st.characters(max_codepoint=127), max_size=24)  # owners are our own ids, reasons our own words
NUMBERS, TAGS = st.integers(0, 1 << 53), st.integers(0, 65_535)
CIRCUITS = st.builds(
    Circuit,
    st.sampled_from(["closed", "suspect", "open", "probing"]),
    *[NUMBERS] * 4,
    ASCII,
    NUMBERS,
    ASCII,
    NUMBERS,
    st.lists(TAGS, max_size=5).map(tuple),
    st.lists(st.tuples(TAGS, NUMBERS), max_size=16).map(tuple),
)


@given(CIRCUITS)
def test_round_trip(circuit: Circuit) -> None:
    """What is stored is what is read; the untouched circuit is no text at all."""
    assert parse(dump(circuit)) == circuit
    assert (dump(circuit) == "") is (circuit == NEW)


def test_how_large_it_is() -> None:
    """Below 500 bytes, with everything in it."""
    aside = tuple((65_535, NOW // 1000) for _ in range(16))
    full = Circuit("suspect", 99_999, 100, 100, NOW, "f" * 16, NOW, "x" * 100, NOW, (65_535,) * 5, aside)
    assert len(dump(full)) < 500


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
        pytest.param(changed(1, "ajar"), id="an unknown state"),
        pytest.param(changed(1, ["open"]), id="a list as state"),
        pytest.param(changed(2, "2"), id="a text as generation"),
        pytest.param(changed(2, True), id="a truth as generation"),
        pytest.param(changed(5, 1.5), id="a fraction as time"),
        pytest.param(changed(5, None), id="no time"),
        pytest.param("[NaN]", id="not a number"),
        pytest.param("[" * 100_000, id="deeply nested"),
        pytest.param(changed(0, 3), id="a later form"),
        pytest.param('["open",1,0,9999999999999,"",0,"timeout"]', id="the form of release 0.1"),
        pytest.param(changed(10, ["1"]), id="a text as caller"),
        pytest.param(changed(11, [[1]]), id="half a pair aside"),
        pytest.param(changed(11, [7]), id="no pair aside"),
        pytest.param('[2,"open",' + "1" * 10_000 + ',0,0,0,"",0,"",0,[],[]]', id="a very long number"),
        pytest.param("\ud800", id="half a character"),
        pytest.param(changed(6, "\ud800"), id="half a character as owner"),
        pytest.param(changed(8, "디스크"), id="another alphabet as reason"),
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
        pytest.param(ASIDE, 650_000, id="callers aside, until the last may come back"),
        pytest.param(Circuit("suspect", 1, 3), 3_600_000, id="a suspicion that nobody follows up"),
        pytest.param(OPEN, 60_000 + 3_600_000, id="open: an hour beyond its end"),
        pytest.param(DUE, 3_600_000, id="due"),
        pytest.param(Circuit("open", 1, until_ms=NOW - 10**12), 3_600_000, id="long due"),
    ],
)
def test_how_long_it_is_stored(circuit: Circuit, ms: int) -> None:
    """Nothing is stored for ever, and nothing shorter than it matters."""
    assert ttl_ms(circuit, NOW) == ms


# In Redis


def test_swap(redis: Store, subject: str) -> None:
    """It is stored only over the text that was read; with a TTL; and the loser is told what is there."""
    done, text = redis.run(swap(subject, None, OPEN, NOW))
    assert (done, parse(text)) == (True, OPEN)
    assert redis.run(swap(subject, None, FAILED_ONCE, NOW)) == (False, dump(OPEN))
    assert redis.run(swap(subject, dump(OPEN), PROBING, NOW)) == (True, dump(PROBING))
    ttl = redis.command("PTTL", subject)
    assert isinstance(ttl, int)
    assert 3_600_000 < ttl <= 15_000 + 3_600_000
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
    claims = [swap(subject, dump(DUE), breaker.claim(DUE, f"i{n}", NOW, 15_000), NOW) for n in range(50)]
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
