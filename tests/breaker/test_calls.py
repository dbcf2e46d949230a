"""What an instance remembers of its calls: those that hang, and whose fail again and again."""

import pytest

from lib.breaker.calls import Calls, OwnCircuits
from lib.breaker.circuit import Circuit, Failure, Ticket

NOW = 1_763_553_600_000
LONG_AGO = NOW - 15_000
NEW = Circuit()


@pytest.mark.parametrize(
    ("began_ms", "circuit", "stalled"),
    [
        pytest.param([LONG_AGO] * 3, NEW, (0, 1, 2), id="three"),
        pytest.param([LONG_AGO] * 2, NEW, (), id="two"),
        pytest.param([LONG_AGO, LONG_AGO, LONG_AGO + 1], NEW, (), id="the third a moment too short"),
        pytest.param([LONG_AGO] * 3, Circuit(ok_ms=LONG_AGO), (), id="a success since, anywhere"),
        pytest.param([LONG_AGO] * 3, Circuit(ok_ms=LONG_AGO - 1), (0, 1, 2), id="a success before"),
        pytest.param([LONG_AGO] * 3, Circuit(aside=((1, NOW),)), (), id="one of a caller who is set aside"),
        pytest.param([LONG_AGO] * 4, Circuit(aside=((1, NOW),)), (0, 2, 3), id="three others beside"),
    ],
)
def test_stalled(began_ms: list[int], circuit: Circuit, stalled: tuple[int, ...]) -> None:
    """Three calls that have waited for 15 s, with no success since they began."""
    calls = Calls()
    for tag, began in enumerate(began_ms):
        calls.begin(Ticket(0, began_ms=began, tag=tag))
    assert calls.stalled(circuit, NOW) == stalled


def test_calls_that_have_ended() -> None:
    """They hang no more, and a success says that those before it need not mean anything."""
    calls = Calls()
    numbers = [calls.begin(Ticket(0, began_ms=LONG_AGO + at - 5, tag=at)) for at in range(5)]
    calls.end(numbers[1])
    assert len(calls.stalled(NEW, NOW)) == 4
    calls.end(numbers[0], succeeded=True)
    assert (calls.ok_began_ms, len(calls.stalled(NEW, NOW))) == (LONG_AGO - 5, 3)
    calls.end(numbers[0], succeeded=True)
    calls.end(numbers[4], succeeded=True)
    assert calls.stalled(NEW, NOW) == ()
    assert calls.knows_success(NEW, NOW, 60_000)
    assert not calls.knows_success(NEW, NOW + 60_000, 60_000)


type Step = Failure | int | None
"""A failure, a time to wait in ms, or a success."""


@pytest.mark.parametrize(
    ("steps", "rest_ms"),
    [
        pytest.param(["soft", "soft"], 0, id="two failures"),
        pytest.param(["soft", "soft", "soft"], 60_000, id="three"),
        pytest.param(["soft", "soft", None, "soft"], 0, id="a success in between"),
        pytest.param(["throttled"], 60_000, id="one 429"),
        pytest.param(["never_sent"] * 3, 60_000, id="never sent, three times"),
        pytest.param(["throttled", 60_000, "soft"], 0, id="429, and then another failure"),
        pytest.param(["soft", "soft", "soft", 60_000, "soft"], 120_000, id="failing on: twice as long"),
        pytest.param(["soft", "soft", "soft", "soft"], 60_000, id="one that was under way adds nothing"),
        pytest.param(["throttled", 60_000, "throttled", 120_000, "throttled", 240_000, "throttled"], 480_000, id="x 8"),
        pytest.param(["throttled", *[600_000, "throttled"] * 6], 600_000, id="ten minutes at most"),
        pytest.param(["throttled", 60_000, None, "throttled"], 60_000, id="a success forgets how long it was"),
    ],
)
def test_a_callers_own_circuit(steps: list[Step], rest_ms: int) -> None:
    """CASE 31: a caller whose calls fail in a row is passed over, for longer each time."""
    own, now_ms = OwnCircuits(threshold=3), NOW
    for step in steps:
        if isinstance(step, int):
            now_ms += step
        elif step is None:
            own.succeed("caller")
        else:
            own.fail("caller", step, now_ms)
    assert max(0, own.until_ms("caller") - now_ms) == rest_ms
    assert own.until_ms("another") == 0


def test_all_are_forgotten_when_the_shared_circuit_opens() -> None:
    """It was not the callers."""
    own = OwnCircuits(threshold=3)
    own.fail("caller", "throttled", NOW)
    own.saw(Circuit("suspect"), NOW)
    assert own.until_ms("caller") == NOW + 60_000
    own.saw(Circuit("open"), NOW)
    assert own.until_ms("caller") == 0
    own.fail("caller", "throttled", NOW + 1)
    assert own.until_ms("caller") == NOW + 60_001


def test_nobody_is_passed_over_for_being_unknown() -> None:
    """Without a caller there is nobody whose own circuit could open."""
    own = OwnCircuits(threshold=1)
    own.fail("", "throttled", NOW)
    assert own.until_ms("") == 0


def test_it_is_bounded() -> None:
    """A thousand callers, the oldest forgotten first."""
    own = OwnCircuits(threshold=1)
    for number in range(1_001):
        own.fail(f"caller-{number}", "soft", NOW)
    assert [own.until_ms(f"caller-{number}") > 0 for number in (0, 1, 1_000)] == [False, True, True]
