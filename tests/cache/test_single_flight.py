"""Notes, locks and waits, as values."""

import pytest

from lib.cache import single_flight as flight
from lib.cache.single_flight import FlightRules, is_flying, is_locked, note, owner, waits_ms
from lib.limits.window import DAY_MS, SLOTS

NOON_MS = 20_000 * DAY_MS + DAY_MS // 2
HASH = "0123456789abcdef0123456789abcdef"
RULES = FlightRules()


@pytest.mark.parametrize(
    ("asked_ms", "now_ms", "flying"),
    [
        pytest.param(NOON_MS, NOON_MS, True, id="at once"),
        pytest.param(NOON_MS, NOON_MS + 14_999, True, id="just inside the lease"),
        pytest.param(NOON_MS, NOON_MS + 15_000, False, id="the lease is over"),
        pytest.param(NOON_MS + 2_000, NOON_MS, True, id="left by a clock that is ahead"),
        pytest.param(NOON_MS + 15_000, NOON_MS, False, id="left by a clock that is far ahead"),
        pytest.param(NOON_MS - DAY_MS + 60_000, NOON_MS, False, id="another time of the day before"),
    ],
)
def test_a_note_holds_for_a_lease(asked_ms: int, now_ms: int, flying: bool) -> None:
    """By the time it was left, read by any clock."""
    assert is_flying(note(HASH, asked_ms).value, note(HASH, now_ms), now_ms, RULES) is flying


@pytest.mark.parametrize(
    "slot",
    [
        pytest.param(None, id="no slot was read"),
        pytest.param(0, id="empty"),
        pytest.param(note("f" * 32, NOON_MS).value, id="another question's"),
        pytest.param(flight.erased(note(HASH, NOON_MS)).value, id="taken back"),
    ],
)
def test_nobody_computes(slot: int | None) -> None:
    """What is no note of this question says nothing of it."""
    assert not is_flying(slot, note(HASH, NOON_MS), NOON_MS, RULES)


def test_a_note_fits_its_slot() -> None:
    """48 bits, in one of the slots, whatever the hash is."""
    for hashed in ("0" * 32, "f" * 32, HASH):
        mark = note(hashed, NOON_MS + DAY_MS // 2 - 1)
        assert 0 <= mark.slot < SLOTS
        assert 0 <= mark.value < 1 << 48


@pytest.mark.parametrize(
    ("lock", "locked"),
    [
        (None, False),
        (owner("other", (1, 2)), True),
        (owner("other", (1, 1)), False),
        ("1.2", False),
        ("", False),
    ],
)
def test_a_lock_counts_under_its_epochs_only(lock: str | None, locked: bool) -> None:
    """An invalidation frees waiters from a leader of before."""
    assert is_locked(lock, (1, 2)) is locked


@pytest.mark.parametrize("jitter", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("rules", [FlightRules(), FlightRules(2_000, 6), FlightRules(60_000, 4)])
def test_waits_take_over_after_a_lease_and_leave_time_for_whoever_did(rules: FlightRules, jitter: float) -> None:
    """As many as allowed; the last but one after the lease; the last as long again after it."""
    waits = waits_ms(rules, jitter)
    assert len(waits) == rules.polls
    assert waits == sorted(waits)
    assert rules.lease_ms < sum(waits[:-1]) < rules.lease_ms * 1.35
    assert waits[-1] > rules.lease_ms


def test_one_look_is_after_the_lease() -> None:
    """Who may look once does so when it can take over."""
    assert waits_ms(FlightRules(1_000, 1), 0.0) == [1_050]
    assert waits_ms(FlightRules(1_000, 0), 0.0) == []
