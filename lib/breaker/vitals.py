"""Whether a store is well enough to be called, from the outcomes of its last calls."""

from collections.abc import Sequence
from typing import Literal

from ..base.values import dataclass

type Outcome = Literal["ok", "slow", "failed"]


@dataclass(frozen=True, slots=True)
class VitalsPolicy:
    """When to stop calling a store for ``cooldown_ms``."""

    cooldown_ms: int = 5_000
    failures_in_a_row: int = 3
    slow_in_a_row: int = 10
    error_share: float = 0.01
    error_window: int = 200
    """The share is taken over so many of the last calls, and only once there have been half as many."""


def verdict(outcomes: Sequence[Outcome], policy: VitalsPolicy) -> str | None:
    """Why the store should get no calls, given its last outcomes (``error_window`` at most, oldest first), or None."""
    if not outcomes or outcomes[-1] == "ok":
        return None
    if _last_are(outcomes, policy.failures_in_a_row, ("failed",)):
        return f"{policy.failures_in_a_row} failures in a row"
    if _last_are(outcomes, policy.slow_in_a_row, ("slow", "failed")):
        return f"{policy.slow_in_a_row} slow replies in a row"
    failed = sum(outcome == "failed" for outcome in outcomes)
    if len(outcomes) * 2 >= policy.error_window and failed > policy.error_share * len(outcomes):
        return f"{failed} of {len(outcomes)} calls failed"
    return None


def _last_are(outcomes: Sequence[Outcome], count: int, kinds: Sequence[Outcome]) -> bool:
    return len(outcomes) >= count and all(outcome in kinds for outcome in tuple(outcomes)[-count:])
