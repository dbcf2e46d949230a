"""Supabase behind its gate: a call fails at once while the gate is open."""

from collections.abc import Awaitable, Callable, Sequence

from ..base.events import Listener, StoreFailed, StorePhase
from ..base.values import dataclass
from ..breaker.gate import AT_ONCE, Gate, Resting, report_switch
from .judge import Quota
from .settlement import Listed
from .supabase import Counted, Page, Supabase, SupabaseDown, Told
from .window import Window


@dataclass(slots=True)
class SupabaseStore:
    """Supabase, as long as it works."""

    supabase: Supabase
    gate: Gate
    emit: Listener

    @property
    def longest_s(self) -> float:
        """What a call may take at most."""
        return self.supabase.timeout_s

    async def spend(
        self,
        subject: str,
        layout: str,
        windows: Sequence[Window],
        cost: int,
        now_ms: int,
        told: Told | None,
        left_s: float,
    ) -> tuple[Quota, Counted]:
        """As :meth:`Supabase.spend`. Raises SupabaseDown."""
        spend = self.supabase.spend
        return await self._call("ask", left_s, lambda: spend(subject, layout, windows, cost, now_ms, told, left_s))

    async def give(
        self, generation: str, now_ms: int, *, begin: bool, done: Sequence[Listed], after: str, left_s: float
    ) -> Page:
        """As :meth:`Supabase.give`. Raises SupabaseDown."""
        give = self.supabase.give
        return await self._call(
            "settle", left_s, lambda: give(generation, now_ms, begin=begin, done=done, after=after, left_s=left_s)
        )

    async def reset(self, subject: str, left_s: float) -> int:
        """As :meth:`Supabase.reset`. Raises SupabaseDown."""
        return await self._call("admin", left_s, lambda: self.supabase.reset(subject, left_s))

    async def _call[T](self, phase: StorePhase, left_s: float, call: Callable[[], Awaitable[T]]) -> T:
        if left_s <= 0:
            raise SupabaseDown("timeout", "no time is left")
        try:
            async with self.gate.call() as passage:
                try:
                    return await call()
                except SupabaseDown as e:
                    if e.kind == "argument" or (e.kind == "timeout" and left_s < self.supabase.timeout_s):
                        # Neither says anything about the server.
                        passage.neutral()
                    else:
                        passage.failed(str(e), at_once=e.kind in AT_ONCE)
                    self.emit(StoreFailed("supabase", phase, str(e)))
                    raise
        except Resting as e:
            raise SupabaseDown("resting", str(e)) from None
        finally:
            report_switch("supabase", self.gate, self.emit)
