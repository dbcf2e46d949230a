"""Calls of one caller at once on one instance pay together: one count for all that came while another was under way.

The first call goes at once. What comes meanwhile waits for it, and as many as fit then are counted as one call of so
much cost: strict, for nothing is paid ahead of the call it is for. Whoever finds that nothing is left is refused from
memory, as everybody is who comes later: a crowd that is refused costs what one refused call costs. Where nothing is to
be read, the count alone is sent, as long as the marks were read within the last second.
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


type _Key = tuple[str, str]
"""A subject's id, and its limits."""


@dataclass(frozen=True, slots=True, eq=False)
class Together:
    """Counts the calls of one instance."""

    limits: Limits
    outbox: Outbox
    _waiting: dict[_Key, list[_Waiting]] = field(default_factory=dict)
    """By those of whom a call is being counted: who has come meanwhile."""
    _paying: "set[asyncio.Future[None]]" = field(default_factory=set)

    async def admit[T](self, charge: Charge, wanted: Lookup[T], after: Afterwards) -> tuple[Admission, T]:
        """As :meth:`Limits.admit`, one round trip later at most where the limit has room."""
        subject = charge.subject
        if not subject.layout.windows:
            return await self.limits.admit(charge, wanted, after)
        key = subject.id, subject.layout.limits
        waiting = self._waiting.get(key)
        if waiting is not None:
            call = _Waiting(charge, wanted, after, asyncio.get_running_loop().create_future())
            waiting.append(call)
            # Who leaves is cancelled, and is not counted if that is still to come.
            return await call.counted
        self._waiting[key], fits = [], 0
        try:
            admission, found = await self.limits.admit(charge, wanted, after, marks_may_be_old=True)
            fits = _left(admission)
        finally:
            self._go_on(key, fits)
        return admission, found

    def _go_on(self, key: _Key, fits: int) -> None:
        """Count those who have come meanwhile: the next one, and with it as many as are known to fit."""
        group, later, cost, now_ms = list[_Waiting](), list[_Waiting](), 0, self.limits.clock.now_ms()
        for call in self._waiting[key]:
            charge = call.charge
            if call.counted.done():
                continue
            if (refused := self.limits.blocklist.find(charge.subject, charge.cost, now_ms)) is not None:
                call.counted.set_result((Admission(charge, *refused), call.wanted.unread()))
            elif not group or (not later and cost + charge.cost <= fits):
                group.append(call)
                cost += charge.cost
            else:
                later.append(call)
        if not group:
            del self._waiting[key]
            return
        self._waiting[key] = later
        # A task of its own: no single one of them may end it for the others by leaving.
        paying = asyncio.ensure_future(self._pay(group, key))
        self._paying.add(paying)
        paying.add_done_callback(self._paying.discard)

    async def _pay(self, group: list[_Waiting], key: _Key) -> None:
        fits = 0
        try:
            fits = await (self._pay_alone(group[0]) if len(group) == 1 else self._pay_at_once(group))
        except BaseException as e:
            for call in group:
                _fail(call, e)
            raise
        finally:
            # Where they do not fit together, fewer are tried.
            self._waiting[key][:0] = [call for call in group if not call.counted.done()]
            self._go_on(key, fits)

    async def _pay_at_once(self, group: list[_Waiting]) -> int:
        """Count all of them as one call, if it is admitted; yields how many calls fit then."""
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
            return _left(admission)
        # What follows from the count is sent with what somebody leaves who is still there.
        heir = next((call for call in group if not call.counted.done()), first)
        heir.after.steps += after.take()
        heir.after.jobs += after.take_jobs()
        heir.after.waits += after.waits
        for call, read in zip(group, found, strict=True):
            if not call.counted.done():
                own = replace(call.charge, now_ms=admission.charge.now_ms)
                call.counted.set_result((replace(admission, charge=own), read))
        return _left(admission)

    async def _pay_alone(self, call: _Waiting) -> int:
        admission, found = await self.limits.admit(call.charge, call.wanted, call.after, marks_may_be_old=True)
        if not call.counted.done():
            call.counted.set_result((admission, found))
        return _left(admission)


def _left(admission: Admission) -> int:
    """How many more calls fit into every window."""
    return min((each.remaining for each in admission.quota.states), default=0)


def _fail(call: _Waiting, error: BaseException) -> None:
    if call.counted.done():
        return
    if isinstance(error, Exception):
        call.counted.set_exception(error)
    else:
        # The loop ends.
        call.counted.cancel()
