"""Calls of one caller at once on one instance pay together: one count for all that came while another was under way.

The first call goes at once. What comes meanwhile waits for it, and is then counted as one call of so much cost: strict,
for nothing is paid ahead of the call it is for. If all of them do not fit, each is counted on its own. Where nothing is
to be read, the count alone is sent, as long as the marks were read within the last second.
"""

import asyncio
from dataclasses import field, replace
from typing import Any

from ..afterwards import Afterwards, Outbox
from ..base.values import dataclass
from ..lookup import Lookup, every
from .admission import Admission, Charge
from .limiter import Limits


@dataclass(slots=True, eq=False)
class _Waiting:
    """A call that waits to be counted, with what it wants to read."""

    charge: Charge
    wanted: Lookup[Any]
    after: Afterwards
    counted: "asyncio.Future[tuple[Admission, Any]]"


@dataclass(frozen=True, slots=True, eq=False)
class Together:
    """Counts the calls of one instance."""

    limits: Limits
    outbox: Outbox
    _waiting: dict[str, list[_Waiting]] = field(default_factory=dict)
    """By subject, of those of whom a call is being counted: who has come meanwhile."""
    _paying: "set[asyncio.Future[None]]" = field(default_factory=set)

    async def admit[T](self, charge: Charge, wanted: Lookup[T], after: Afterwards) -> tuple[Admission, T]:
        """As :meth:`Limits.admit`, one round trip later at most."""
        subject = charge.subject
        if not subject.layout.windows:
            return await self.limits.admit(charge, wanted, after)
        waiting = self._waiting.get(subject.id)
        if waiting is not None:
            call = _Waiting(charge, wanted, after, asyncio.get_running_loop().create_future())
            waiting.append(call)
            # Who leaves is cancelled, and is not counted if that is still to come.
            return await call.counted
        self._waiting[subject.id] = []
        try:
            return await self.limits.admit(charge, wanted, after, marks_may_be_old=True)
        finally:
            self._go_on(subject.id)

    def _go_on(self, subject_id: str) -> None:
        """Count those who have come meanwhile."""
        group = [call for call in self._waiting[subject_id] if not call.counted.done()]
        if not group:
            del self._waiting[subject_id]
            return
        # No more than can ever be admitted at once.
        most = max(1, min(window.limit for window in group[0].charge.subject.layout.windows))
        fits, cost = 0, 0
        for call in group:
            cost += call.charge.cost
            if fits and cost > most:
                break
            fits += 1
        self._waiting[subject_id] = group[fits:]
        # A task of its own: no single one of them may end it for the others by leaving.
        paying = asyncio.ensure_future(self._pay(group[:fits], subject_id))
        self._paying.add(paying)
        paying.add_done_callback(self._paying.discard)

    async def _pay(self, group: list[_Waiting], subject_id: str) -> None:
        try:
            if len(group) == 1 or not await self._pay_at_once(group):
                await asyncio.gather(*map(self._pay_alone, group))
        finally:
            for call in group:
                # None is left, unless the loop ends.
                call.counted.cancel()
            self._go_on(subject_id)

    async def _pay_at_once(self, group: list[_Waiting]) -> bool:
        """Count all of them as one call; whether that was admitted."""
        first = group[0]
        charge = replace(
            first.charge,
            deadline=min(call.charge.deadline for call in group),
            cost=sum(call.charge.cost for call in group),
        )
        after = Afterwards()
        wanted = every([call.wanted for call in group])
        admission, found = await self.limits.admit(charge, wanted, after, marks_may_be_old=True)
        if not admission.quota.allowed:
            # Taken back at once: each of them would be refused for what all of them together do not get.
            await self.outbox.try_send(after, self.limits.clock.left_s(charge.deadline))
            return False
        # What follows from the count is sent with what somebody leaves who is still there.
        heir = next((call for call in group if not call.counted.done()), first)
        heir.after.steps += after.take()
        heir.after.jobs += after.take_jobs()
        heir.after.waits += after.waits
        for call, read in zip(group, found, strict=True):
            if not call.counted.done():
                own = replace(call.charge, now_ms=admission.charge.now_ms)
                call.counted.set_result((replace(admission, charge=own), read))
        return True

    async def _pay_alone(self, call: _Waiting) -> None:
        if call.counted.done():
            return
        try:
            counted = await self.limits.admit(call.charge, call.wanted, call.after, marks_may_be_old=True)
        except BaseException as e:
            if not call.counted.done():
                call.counted.set_exception(e)
            raise
        if not call.counted.done():
            call.counted.set_result(counted)
