"""The one place where a guarded request is decided. No I/O; the guard does what this says."""

from dataclasses import dataclass
from typing import Literal

from lib.rules.answers import Answer, Directives, freshness
from lib.rules.breaker import Circuit, view
from lib.rules.policy import Policy
from lib.rules.windows import Quota

type Code = Literal["rate_limited", "circuit_open", "not_cached"]


@dataclass(frozen=True, slots=True)
class Deny:
    """Refuse, with a reason; ``retry_at_ms`` is None where waiting does not help."""

    code: Code
    reason: str
    retry_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Serve:
    """Answer from the cache."""

    answer: Answer
    stale: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Compute:
    """Ask the backend, as the circuit's one probe where ``probe`` says so."""

    reason: str
    probe: bool = False


type Decision = Deny | Serve | Compute


def decide(
    quota: Quota, answer: Answer | None, circuit: Circuit, now_ms: int, policy: Policy, asked: Directives
) -> Decision:
    """What to do with one request, given all that was read for it in one round trip."""
    if not quota.allowed:
        return Deny("rate_limited", quota.reason, quota.retry_at_ms)
    usable = freshness(answer, now_ms, policy.cache, asked) if answer else "unwanted"
    if answer and usable == "fresh":
        return Serve(answer, stale=False, reason="fresh")
    if asked.only_if_cached:
        return Deny("not_cached", "only-if-cached")
    may = view(circuit, now_ms)
    if may == "refuse":
        return _without_backend(answer if usable == "stale" else None, circuit)
    reason = "expired" if usable == "stale" else "bypassed" if answer else "missing"
    return Compute(reason, probe=may == "probe")


def _without_backend(answer: Answer | None, circuit: Circuit) -> Decision:
    if answer:
        return Serve(answer, stale=True, reason="circuit_open")
    return Deny("circuit_open", circuit.reason or circuit.state, circuit.until_ms)
