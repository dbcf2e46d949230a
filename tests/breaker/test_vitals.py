"""When a store is not well enough to be asked."""

import pytest

from lib.breaker.vitals import Outcome, VitalsPolicy, verdict

POLICY = VitalsPolicy(failures_in_a_row=3, slow_in_a_row=4, error_share=0.01, error_window=200)
OK, SLOW, FAILED = ("ok",), ("slow",), ("failed",)


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        pytest.param((), None, id="no calls"),
        pytest.param(FAILED * 2, None, id="two failures"),
        pytest.param(FAILED * 3, "3 failures in a row", id="three failures"),
        pytest.param(OK * 50 + FAILED * 3, "3 failures in a row", id="three failures after good calls"),
        pytest.param(FAILED * 2 + OK + FAILED, None, id="a good call between"),
        pytest.param(FAILED * 2 + SLOW + FAILED, "4 slow replies in a row", id="slow and failed alike are no good"),
        pytest.param(SLOW * 3, None, id="three slow replies"),
        pytest.param(SLOW * 4, "4 slow replies in a row", id="four slow replies"),
        pytest.param(SLOW * 3 + OK + SLOW * 3, None, id="a quick reply between"),
        pytest.param(FAILED + OK * 97 + FAILED, None, id="2 % of 99 calls are too few to tell"),
        pytest.param(FAILED + OK * 98 + FAILED, "2 of 100 calls failed", id="2 % of 100 calls"),
        pytest.param(OK * 99 + FAILED, None, id="exactly 1 %"),
        pytest.param(OK * 198 + FAILED + OK, None, id="told by a failure, not by the good call after it"),
        pytest.param(FAILED + OK * 150 + FAILED + OK * 47 + FAILED, "3 of 200 calls failed", id="a full window"),
        pytest.param(FAILED + OK * 150 + FAILED + OK * 48, None, id="a good call last"),
    ],
)
def test_verdict(outcomes: tuple[Outcome, ...], expected: str | None) -> None:
    """The reason, or None."""
    assert verdict(outcomes, POLICY) == expected
