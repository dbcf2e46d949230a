"""The breaker in memory: tickets in, results back."""

import pytest

from lib.gate import Gate
from lib.rules.breaker import BreakerPolicy, Ticket

NOW = 1_763_553_600_000
POLICY = BreakerPolicy(threshold=3, cooldown_ms=5_000, lease_ms=1_000)


def entered(gate: Gate, now_ms: int) -> Ticket:
    held = gate.enter(now_ms)
    assert held is not None
    return held


def opened() -> Gate:
    gate = Gate(POLICY)
    for _ in range(3):
        gate.failed(entered(gate, NOW), NOW, "timeout")
    return gate


def test_three_failures_open() -> None:
    """CASE 19: calls are refused until the cool-down is over, and the reason is kept."""
    gate = opened()
    assert gate.enter(NOW) is None
    assert gate.enter(NOW + 4_999) is None
    assert gate.circuit.reason == "timeout"


def test_three_failures_at_once_open() -> None:
    """CASE 19: also when all had started before the first failed; those that fail later change nothing."""
    gate = Gate(POLICY)
    tickets = [entered(gate, NOW) for _ in range(10)]
    for held in tickets:
        gate.failed(held, NOW, "timeout")
    assert gate.circuit.generation == 1
    assert gate.enter(NOW + 4_999) is None


def test_a_success_in_between() -> None:
    """CASE 19: it resets the count."""
    gate = Gate(POLICY)
    for n in range(9):
        held = entered(gate, NOW)
        if n % 3 == 2:
            gate.succeeded(held)
        else:
            gate.failed(held, NOW, "server")
    assert gate.enter(NOW) is not None


def test_one_probe() -> None:
    """CASE 20: after the cool-down one call goes, the others are refused while it runs."""
    gate = opened()
    assert [gate.enter(NOW + 5_000) is not None for _ in range(5)] == [True, False, False, False, False]


@pytest.mark.parametrize(
    ("result", "after_ms", "open_to"),
    [
        pytest.param("succeeded", 5_010, "all", id="success closes"),
        pytest.param("failed", 5_010, "none", id="failure opens again"),
        pytest.param("failed", 5_010 + 5_000, "one", id="for a cool-down from its end"),
        pytest.param("released", 5_010, "one", id="no result: the next may go at once"),
        pytest.param("crashed", 5_999, "none", id="crashed: its lease runs"),
        pytest.param("crashed", 6_000, "one", id="crashed: replaced after its lease"),
    ],
)
def test_a_probes_end(result: str, after_ms: int, open_to: str) -> None:
    """CASE 20: what each end of a probe means for those who come after."""
    gate = opened()
    held = entered(gate, NOW + 5_000)
    match result:
        case "succeeded":
            gate.succeeded(held)
        case "failed":
            gate.failed(held, NOW + 5_010, "server")
        case "released":
            gate.released(held, NOW + 5_010)
    passed = sum(gate.enter(NOW + after_ms) is not None for _ in range(3))
    assert passed == {"all": 3, "one": 1, "none": 0}[open_to]


def test_late_results() -> None:
    """CASE 21: a success from before the opening, and a replaced probe's result, change nothing."""
    gate = Gate(POLICY)
    early = entered(gate, NOW)
    for _ in range(3):
        gate.failed(entered(gate, NOW), NOW, "timeout")
    gate.succeeded(early)
    assert gate.enter(NOW) is None
    stale = entered(gate, NOW + 5_000)
    fresh = entered(gate, NOW + 6_000)
    gate.succeeded(stale)
    assert gate.enter(NOW + 6_001) is None
    gate.failed(stale, NOW + 6_001, "server")
    gate.released(stale, NOW + 6_001)
    gate.succeeded(fresh)
    assert gate.enter(NOW + 6_001) is not None


def test_a_known_end() -> None:
    """A failure that says until when opens at once, and exactly until then."""
    gate = Gate(POLICY)
    gate.failed(entered(gate, NOW), NOW, "quota", until_ms=NOW + 90_000)
    assert gate.enter(NOW + 89_999) is None
    assert gate.enter(NOW + 90_000) is not None


def test_a_call_without_a_result() -> None:
    """CASE 19: a call that its caller ended counts neither way."""
    gate = Gate(POLICY)
    for _ in range(2):
        gate.failed(entered(gate, NOW), NOW, "server")
    gate.released(entered(gate, NOW), NOW)
    assert gate.circuit.failures == 2
