"""The check of an AI provider: a trivial question of our own, or its health address.

A question costs what any call costs, from the provider's own budget; of a daily budget at most a twentieth goes into
checks. A health address costs nothing.
"""

import asyncio
from collections.abc import Callable

from ..afterwards import Afterwards, Outbox
from ..base.events import ProviderAsked, ProviderFailure
from ..base.values import dataclass
from ..breaker.checks import PASSED, UNDECIDED, Result
from ..breaker.circuit import BreakerPolicy
from ..limits.admission import Admission, Charge, Subject
from ..limits.limiter import Limits
from ..limits.window import Layout
from ..redis import keys
from ..redis.op import Op, ignored
from . import budgets
from .links import Visit
from .providers.port import End, Provider, ProviderFailed
from .question import Message, Question

_MARGIN_S = 2.0
_LONGEST_QUOTA_MS = 86_400_000
"""A provider that names a daily quota is asked again after a day at the latest: it may have been a slip."""
_ALONE: Op[None] = Op((), ignored)
_OVERLOADED = (502, 503, 504)


def trivial(query: str) -> Question:
    """The question that no provider should fail at."""
    return Question("breakwater-check", (Message("user", query),), {"maxTokens": budgets.CHECK_TOKENS})


@dataclass(slots=True, eq=False)
class Checking:
    """Checks one provider. ``unavailable`` is called with the time until when the budget allows no check."""

    provider: Provider
    layout: Layout
    """The provider's budget."""
    policy: BreakerPolicy
    limits: Limits
    query: str
    allowance: Layout
    unavailable: Callable[[int], None]

    async def __call__(self, timeout_s: float) -> Result:
        """See :class:`~..breaker.checks.Check`."""
        after, name = Afterwards(), self.provider.name
        outbox = Outbox(self.limits.redis, self.limits.emit)
        try:
            share = await self._spend(keys.checks(name, self.allowance.tag), self.allowance, timeout_s, after)
            if not share.quota.allowed:
                self.unavailable(share.quota.retry_at_ms or 0)
                return UNDECIDED
            question = trivial(self.query)
            tokens = budgets.guess_tokens(len(question.query), budgets.CHECK_TOKENS)
            budget = await self._spend(keys.budget(name, self.layout.tag), self.layout, timeout_s, after, tokens)
            if not budget.quota.allowed:
                self.limits.give_back(share, after)
                return UNDECIDED
            return await self._ask(question, timeout_s, budget, after)
        finally:
            await outbox.try_send(after, timeout_s)

    async def _spend(
        self, subject: str, layout: Layout, timeout_s: float, after: Afterwards, tokens: int = 0
    ) -> Admission:
        clock = self.limits.clock
        charge = Charge(Subject(subject, layout), clock.now_ms(), clock.monotonic() + timeout_s, tokens=tokens)
        admission, _ = await self.limits.spend(charge, _ALONE, after)
        return admission

    async def _ask(self, question: Question, timeout_s: float, budget: Admission, after: Afterwards) -> Result:
        self.limits.emit(ProviderAsked(self.provider.name))
        pieces = self.provider.ask(question, request_id="breakwater-check", left_s=timeout_s, stream=False)
        tokens = None
        try:
            # Its own timeout should be sooner.
            async with asyncio.timeout(timeout_s + _MARGIN_S):
                async for piece in pieces:
                    if isinstance(piece, End):
                        tokens = piece.answer.tokens
        except ProviderFailed as e:
            if e.used_nothing:
                self.limits.correct(budget, 0, after)
            return self._failed(e)
        except TimeoutError:
            return self._failed(ProviderFailed("timeout", "no answer to a check"))
        finally:
            await pieces.aclose()
        if tokens is not None:
            self.limits.correct(budget, tokens, after)
        return PASSED

    def _failed(self, error: ProviderFailed) -> Result:
        if error.fault == "caller":
            # It has read the question and answered, if only that it does not like it.
            return PASSED
        self.limits.emit(ProviderFailure(self.provider.name, f"check: {error}", error.fault))
        if error.fault == "ours":
            return UNDECIDED
        doubtful = error.kind in ("protocol", "empty") or (error.kind == "server" and error.status not in _OVERLOADED)
        return Result("failed", error.kind, doubtful, self._until_ms(error))

    def _until_ms(self, error: ProviderFailed) -> int | None:
        """How long a provider that refuses our own question rests; None: as after any failure."""
        now_ms = self.limits.clock.now_ms()
        rests_ms = None if error.rests_s is None else int(min(error.rests_s, 1e9) * 1000)
        if error.kind == "quota":
            resets_ms = budgets.resets_at_ms(self.layout, now_ms)
            ends_ms = resets_ms if rests_ms is None else max(now_ms + rests_ms, resets_ms or 0)
            return None if ends_ms is None else min(ends_ms, now_ms + _LONGEST_QUOTA_MS)
        if error.kind == "throttled" and rests_ms is not None:
            return now_ms + min(rests_ms, self.policy.max_rest_ms)
        return None


@dataclass(slots=True, eq=False)
class Visiting:
    """Checks a provider by its health address."""

    name: str
    visit: Visit
    limits: Limits

    async def __call__(self, timeout_s: float) -> Result:
        """See :class:`~..breaker.checks.Check`."""
        try:
            async with asyncio.timeout(timeout_s):
                status = await self.visit()
        except TimeoutError:
            return self._failed("timeout", "no answer")
        except Exception as e:  # noqa: BLE001 - whatever the client raises
            return self._failed("connection", type(e).__name__)
        if status in (401, 403):
            self._failed("unauthorized", f"HTTP {status}")
            return UNDECIDED
        if 200 <= status < 300:
            return PASSED
        return self._failed("server", f"HTTP {status}", doubtful=status == 500)

    def _failed(self, kind: str, detail: str, *, doubtful: bool = False) -> Result:
        self.limits.emit(ProviderFailure(self.name, f"health address: {kind}: {detail}", "theirs"))
        return Result("failed", kind, doubtful)
