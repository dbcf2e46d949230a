"""Failures of the chain that are remembered for a moment.

Half of the SDKs repeat a 502, 503 or 504 at once, up to six times, whatever the reply says. Their repetitions are
answered from here, without a command and without a call of a provider.
"""

from dataclasses import field

from ..base.bounded import Bounded
from ..base.values import dataclass
from ..edge import headers
from ..edge.problems import Problem

REMEMBERED_MS = 10_000
_MOST = 1_000


@dataclass(frozen=True, slots=True)
class _Failure:
    """What is told again. Nothing of the request: a thousand of them may hold pictures."""

    code: str
    detail: str
    retry_after_s: int | None
    at_ms: int
    until_ms: int


@dataclass(slots=True)
class Failures:
    """The last failures of one instance, by cache key."""

    _known: Bounded[str, _Failure] = field(default_factory=lambda: Bounded(_MOST))

    def note(self, key: str, problem: Problem, now_ms: int) -> None:
        """Remember how a request failed; not what the caller can mend, and not for longer than it was told to wait."""
        if problem.kind.is_failure:
            wait_ms = REMEMBERED_MS if problem.retry_after_s is None else problem.retry_after_s * 1000
            until_ms = now_ms + min(REMEMBERED_MS, wait_ms)
            self._known.put(key, _Failure(problem.code, problem.detail, problem.retry_after_s, now_ms, until_ms))

    def check(self, key: str, now_ms: int) -> None:
        """Raise Problem where the same request failed a moment ago; nobody is called for it again."""
        found = self._known.get(key)
        if found is None or not found.at_ms <= now_ms < found.until_ms:
            return
        wait_s = None
        if found.retry_after_s is not None:
            wait_s = headers.seconds_until(found.at_ms + found.retry_after_s * 1000, now_ms)
        given = headers.cache("none", None, 0, stored=False, detail=found.code)
        raise Problem(found.code, f"{found.detail} (Not asked again: it failed a moment ago.)", wait_s, headers=given)
