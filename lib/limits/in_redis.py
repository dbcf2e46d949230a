"""Counting a call while Redis answers: in one round trip with what the request reads.

Two where this instance's clock turned out to be wrong, or where the call may lack calls that were admitted elsewhere
(``coming_back.py``); a budget's first call reads beforehand what it was counted in before (``carry_over.py``).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from ..afterwards import Afterwards
from ..base.clock import Clock
from ..base.values import dataclass
from ..redis.errors import RedisDown
from ..redis.op import Op, join
from ..redis.store import RedisStore
from . import bitfield
from .admission import Admission, Charge
from .coming_back import NOTHING, ComingBack
from .counting import Counting
from .judge import Quota
from .marks import Marks
from .outage import Outage
from .remembered import Memory
from .window import Window

if TYPE_CHECKING:
    from .carry_over import CarryOver

type Rode[T] = tuple[Admission, tuple[Marks, T]]
"""The verdict, and what rode along."""


class StockLimits(Protocol):
    """The limiter of ``upstash_ratelimit``, for installations that share its counters."""

    async def spend(self, caller_id: str, group: str, limits: Sequence[Window], cost: int) -> Quota:
        """Admit a call or refuse it. Raises RedisDown."""


@dataclass(slots=True)
class InRedis:
    """Counts an instance's calls in Redis."""

    redis: RedisStore
    counting: Counting
    coming_back: ComingBack
    outage: Outage
    memory: Memory
    clock: Clock
    stock: StockLimits | None
    _carry_over: "CarryOver | None" = None
    """Made with the first call of a budget: a hit from the cache does not load it."""

    async def admit[T](self, charge: Charge, ride: Op[tuple[Marks, T]], after: Afterwards) -> Rode[T]:
        """Admit a call or refuse it. Raises RedisDown."""
        if not charge.subject.layout.windows:
            return await self._read_only(charge, ride, after)
        if self.stock is not None and charge.subject.stock_id is not None:
            return await self._by_stock(self.stock, charge.subject.stock_id, charge, ride)
        if charge.subject.shapes is not None:
            await self._carry(charge, after)
        moves = self.redis.offset.moves
        if self.coming_back.expects(charge.now_ms):
            # Not counted before it is known who decides: others would take it for an admitted call.
            rode = await self.redis.run(ride, "ask", self.clock.left_s(charge.deadline))
            charge = self._timed(charge, moves)
            return await self.coming_back.admit(charge, rode[0].outage, NOTHING, after), rode
        tally, rode = await self._count(charge, self.counting.op(charge), ride)
        if self.redis.offset.moves != moves:
            # Its own reply has said that it was counted by a wrong time. The marks are read anew with the second count:
            # whoever counts has to see them afterwards.
            back, charge = self.counting.back(charge, tally, after), self._timed(charge, moves)
            tally, (_, rode) = await self._count(charge, self.counting.anew(charge), join(back, ride))
        if self.coming_back.is_over(rode[0].outage, charge, tally):
            self.coming_back.give_own_later(after)
            return self.counting.admit(charge, tally, after, self.outage.marker.settled), rode
        # The call is taken back, and counted as whoever knows of the outage counts it.
        back = self.counting.back(charge, tally, after)
        return await self.coming_back.admit(charge, rode[0].outage, back, after), rode

    async def _count[R](self, charge: Charge, op: Op[bitfield.Tally], ride: Op[R]) -> tuple[bitfield.Tally, R]:
        try:
            return await self.redis.run(join(op, ride), "ask", self.clock.left_s(charge.deadline))
        except BaseException as e:
            if not (isinstance(e, RedisDown) and e.kind == "resting"):
                self.counting.without_reply(charge)
            raise

    async def _read_only[T](self, charge: Charge, ride: Op[tuple[Marks, T]], after: Afterwards) -> Rode[T]:
        """Where nothing is limited."""
        moves = self.redis.offset.moves
        rode = await self.redis.run(ride, "ask", self.clock.left_s(charge.deadline))
        charge = self._timed(charge, moves)
        self.coming_back.look_after(rode[0].outage, charge.now_ms, after)
        return Admission(charge, Quota(True, "unlimited", ()), "redis"), rode

    async def _by_stock[T](
        self, stock: StockLimits, stock_id: str, charge: Charge, ride: Op[tuple[Marks, T]]
    ) -> Rode[T]:
        subject, windows = charge.subject, charge.subject.layout.windows
        quota = await self.redis.call(lambda: stock.spend(stock_id, subject.group, windows, charge.cost), "ask")
        return Admission(charge, quota, "redis"), await self.redis.run(ride, "ask", self.clock.left_s(charge.deadline))

    async def _carry(self, charge: Charge, after: Afterwards) -> None:
        if self._carry_over is None:
            from .carry_over import CarryOver

            self._carry_over = CarryOver(self.memory)
        await self._carry_over.before(self.redis, charge, self.clock.left_s(charge.deadline), after)

    def _timed(self, charge: Charge, moves: int) -> Charge:
        """The same by the store's time, if that was learned since."""
        return charge if self.redis.offset.moves == moves else replace(charge, now_ms=self.clock.now_ms())
