"""Calls of one caller at once on one instance pay together: one count for all that came while another was under way.

The first call goes at once. What comes meanwhile waits for it, and as many as should fit then are counted as one call
of so much cost: strict, for nothing is paid ahead of the call it is for. Where other instances have taken some of it,
as many are admitted as still fit, and the rest is taken back: refused as a whole, a group would keep others from what
was left, and be kept from it by theirs, until nobody gets it. Where nothing is left, the others are refused from
memory, as everybody is who comes later: a crowd that is refused costs as much as a small one.
"""

import asyncio
from dataclasses import field, replace
from itertools import accumulate, compress
from typing import Any

from ..afterwards import Afterwards, Outbox
from ..base.values import dataclass
from ..lookup import Lookup, every
from .admission import Admission, Charge, Limited
from .limiter import Limits


@dataclass(slots=True, eq=False)
class Waiting:
    """A call that waits to be counted, with what it wants to read."""

    charge: Charge
    wanted: Lookup[Any]
    after: Afterwards
    marks_may_be_old: bool
    counted: "asyncio.Future[tuple[Admission, Any]]"


@dataclass(frozen=True, slots=True, eq=False)
class Together:
    """Counts those of one instance that have come while a call of the same caller was being counted."""

    limits: Limits
    outbox: Outbox
    waiting: dict[Limited, list[Waiting]]
    """By those of whom a call is being counted: who has come meanwhile."""
    _paying: "set[asyncio.Future[None]]" = field(default_factory=set)

    async def join[T](
        self, key: Limited, charge: Charge, wanted: Lookup[T], after: Afterwards, *, marks_may_be_old: bool
    ) -> tuple[Admission, T]:
        """As :meth:`Limits.admit`, one round trip later at most where the limit has room."""
        call = Waiting(charge, wanted, after, marks_may_be_old, asyncio.get_running_loop().create_future())
        self.waiting[key].append(call)
        # Who leaves is cancelled, and is not counted if that is still to come.
        counted: tuple[Admission, T] = await call.counted
        return counted

    def go_on(self, key: Limited, fits: int) -> None:
        """Count those who have come meanwhile: the next one, and with it as many as are known to fit."""
        group, later, cost, now_ms = list[Waiting](), list[Waiting](), 0, self.limits.clock.now_ms()
        for call in self.waiting[key]:
            charge = call.charge
            if call.counted.done():
                continue
            if (refused := self.limits.blocklist.find(charge.subject, charge.cost, now_ms)) is not None:
                call.counted.set_result((Admission(charge, *refused), call.wanted.unread()))
            elif not group or (not later and cost + charge.cost <= fits):
                # Counted when it is: the first call's reply may have set the clock right.
                call.charge = replace(charge, now_ms=now_ms)
                group.append(call)
                cost += charge.cost
            else:
                later.append(call)
        if not group:
            del self.waiting[key]
            return
        self.waiting[key] = later
        # A task of its own: no single one of them may end it for the others by leaving.
        paying = asyncio.ensure_future(self._pay(group, key))
        self._paying.add(paying)
        paying.add_done_callback(self._paying.discard)

    async def _pay(self, group: list[Waiting], key: Limited) -> None:
        fits = 0
        try:
            fits = await (self._pay_alone(group[0]) if len(group) == 1 else self._pay_at_once(group))
        except BaseException as e:
            for call in group:
                _fail(call, e)
            raise
        finally:
            # Who does not fit is tried anew, if there is still room.
            self.waiting[key][:0] = [call for call in group if not call.counted.done()]
            self.go_on(key, fits)

    async def _pay_at_once(self, group: list[Waiting]) -> int:
        """Count all of them as one call, of which as many are admitted as fit; yields how many calls fit then."""
        costs = tuple(accumulate(call.charge.cost for call in group))
        charge = replace(
            group[0].charge, deadline=min(call.charge.deadline for call in group), cost=costs[-1], parts=costs[:-1]
        )
        after = Afterwards()
        wanted = every([call.wanted for call in group])
        marks_may_be_old = all(call.marks_may_be_old for call in group)
        admission, found = await self.limits.admit(charge, wanted, after, marks_may_be_old=marks_may_be_old)
        admitted = [admission.quota.allowed and cost <= admission.charge.cost for cost in costs]
        heir = next((call for call in compress(group, admitted) if not call.counted.done()), None)
        if heir is None:
            # A refused call is taken back at once: one of them may still be admitted.
            await self.outbox.try_send(after, self.limits.clock.left_s(charge.deadline))
        else:
            after.leave_to(heir.after)
        for call, read, is_admitted in zip(group, found, admitted, strict=True):
            if is_admitted and not call.counted.done():
                own = replace(call.charge, now_ms=admission.charge.now_ms)
                call.counted.set_result((replace(admission, charge=own), read))
        return admission.quota.left

    async def _pay_alone(self, call: Waiting) -> int:
        admission, found = await self.limits.admit(
            call.charge, call.wanted, call.after, marks_may_be_old=call.marks_may_be_old
        )
        if not call.counted.done():
            call.counted.set_result((admission, found))
        return admission.quota.left


def _fail(call: Waiting, error: BaseException) -> None:
    if call.counted.done():
        return
    if isinstance(error, Exception):
        call.counted.set_exception(error)
    else:
        # The loop ends.
        call.counted.cancel()
