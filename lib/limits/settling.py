"""The settlement of an outage: Redis is given every call that was admitted elsewhere, by one instance for all.

    claim the marker  ->  what this instance alone knows  ->  a new fence in Supabase, and the first page of its list
    ->  gifts, 50 in a round trip  ->  acknowledge, next page ...  ->  the marker says what is settled

A gift is a statement that may be repeated (``settlement.py``), so that an instance may die anywhere: when its lease is
over, another one goes on with what is not acknowledged.
"""

import secrets
from collections.abc import Sequence

from ..base.clock import Clock
from ..base.values import dataclass
from ..redis.errors import RedisDown
from ..redis.op import Op, gather
from ..redis.store import RedisStore
from . import marker as markers
from . import settlement
from .admission import Subject
from .marker import LEASE_MS, Marker, swap
from .outage import Outage
from .remembered import Memory, Remembered, recall
from .settlement import Listed
from .supabase import PAGE, SupabaseDown
from .supabase_store import SupabaseStore
from .window import Usage, empty, highest, plus

_AT_ONCE = 50
"""So many gifts go in one round trip."""
_LOOKS = 3
"""So many times the list is looked at from its beginning, while callers go on being counted elsewhere."""

type _Own = list[tuple[Subject, Remembered]]


@dataclass(frozen=True, slots=True)
class _Gift:
    """What this instance alone knows of a subject."""

    subject: Subject
    found: Remembered
    spent: Usage
    alone: Usage

    def op(self, now_ms: int) -> Op[bool]:
        name, layout = self.subject.id, self.subject.layout
        nothing = empty(layout.windows)
        gift = settlement.restore(name, layout, now_ms, spent=self.spent, carried=nothing, alone=self.alone)
        return settlement.tolerant(gift.commands)

    def keep(self, memory: Memory, now_ms: int) -> None:
        """It was not given: remember it, beside what was admitted since."""
        remembered = memory.of(self.subject)
        remembered.alone = plus(self.alone, recall(remembered.alone, self.subject.layout.windows, now_ms))
        memory.counted_elsewhere(self.subject)


@dataclass(slots=True)
class Settling:
    """Settles for one instance."""

    redis: RedisStore
    supabase: SupabaseStore | None
    memory: Memory
    outage: Outage
    clock: Clock

    def claimed(self, read: str, now_ms: int) -> Marker:
        """The marker that was read, in this instance's hands."""
        self.outage.claimed_until_ms = now_ms + LEASE_MS
        return markers.parse(read).claimed(secrets.token_hex(8), secrets.token_hex(8), now_ms)

    async def settle(self, read: str, claim: Marker, left_s: float, *, is_claimed: bool) -> None:
        """Do so within ``left_s`` seconds; what is left then is settled when the lease is over. Raises nothing."""
        until = self.clock.monotonic() + left_s
        try:
            if not is_claimed:
                done, self.outage.text = await self.redis.run(swap(read, claim), "settle", left_s)
                if not done:
                    return
            await self._settle(claim, markers.parse(read).waited_s, until)
        except RedisDown:
            self.outage.happened()
        finally:
            self.outage.claimed_until_ms = 0

    async def give_own(self, left_s: float) -> None:
        """Give Redis what this instance alone knows of, where nobody else can. Raises nothing."""
        try:
            own = self._own()
            # Where nobody waits for Supabase, somebody has given what it had admitted.
            everything = self.outage.marker.is_postponed
            await self._give_own(own, self.clock.monotonic() + left_s, everything=everything)
        except RedisDown:
            self.outage.happened()

    async def _settle(self, claim: Marker, waited_s: int, until: float) -> None:
        own = self._own()
        await self._give_own(own, until, everything=False)
        try:
            claim, settled = await self._give_listed(claim, until)
        except SupabaseDown:
            await self._give_own(own, until, everything=True)
            self.outage.pending = False
            over = claim.postponed(waited_s, self.clock.now_ms())
        else:
            over = claim.over(settled)
        done, self.outage.text = await self.redis.run(swap(claim.text, over), "settle", self.clock.left_s(until))
        if not done and not self.outage.text:
            # Redis has lost its data meanwhile, and with them what it was given.
            self.outage.happened()

    async def _give_listed(self, claim: Marker, until: float) -> tuple[Marker, int]:
        """Give what Supabase lists; the marker as it stands then, and the number of this return."""
        supabase, done, after = self.supabase, tuple[Listed, ...](), ""
        if supabase is None:
            raise SupabaseDown("resting", "there is none")
        begin, looks = True, _LOOKS
        while True:
            page = await supabase.give(
                claim.generation,
                self.clock.now_ms(),
                begin=begin,
                done=done,
                after=after,
                left_s=self.clock.left_s(until),
            )
            if begin:
                # Calls that this instance counts elsewhere from here on are not on the list.
                settled, begin, self.outage.pending = page.fence, False, False
                self.outage.is_news(settled)
            if not page.subjects:
                return claim, settled
            done = await self._give(page.subjects, until)
            again = len(page.subjects) < PAGE and len(done) == len(page.subjects) and looks > 0
            # The last page's acknowledgement also asks for what was counted since the list was read.
            after, looks = ("", looks - 1) if again else (page.subjects[-1].subject, looks)
            claim = await self._renewed(claim, until)

    async def _give(self, subjects: Sequence[Listed], until: float) -> tuple[Listed, ...]:
        """Those that Redis took."""
        now_ms, taken = self.clock.now_ms(), list[Listed]()
        for at in range(0, len(subjects), _AT_ONCE):
            some = subjects[at : at + _AT_ONCE]
            gifts = gather([settlement.restore_listed(each, now_ms) for each in some])
            results = await self.redis.run(gifts, "settle", self.clock.left_s(until))
            taken += [each for each, is_taken in zip(some, results, strict=True) if is_taken]
        return tuple(taken)

    async def _renewed(self, claim: Marker, until: float) -> Marker:
        """The marker with a new lease if half of it is over."""
        now_ms = self.clock.now_ms()
        if claim.until_ms - now_ms > LEASE_MS // 2:
            return claim
        renewed = claim.renewed(now_ms)
        done, self.outage.text = await self.redis.run(swap(claim.text, renewed), "settle", self.clock.left_s(until))
        # Whoever took it over gives the same; going on does no harm.
        return renewed if done else claim

    def _own(self) -> _Own:
        """The subjects that this instance counted elsewhere, each of them once."""
        own = self.memory.elsewhere()
        for _, found in own:
            found.layout = None
        return own

    async def _give_own(self, own: _Own, until: float, *, everything: bool) -> None:
        """Give what was admitted from memory; ``everything``: what Supabase was seen to admit, too."""
        now_ms, gifts = self.clock.now_ms(), list[_Gift]()
        for subject, found in own:
            windows = subject.layout.windows
            alone = recall(found.alone, windows, now_ms)
            spent = recall(found.spent, windows, now_ms) if everything else empty(windows)
            if any(alone) or any(spent):
                # Taken before it is given, so that no call gives it as well.
                found.alone = None
                gifts.append(_Gift(subject, found, spent, alone))
        for at in range(0, len(gifts), _AT_ONCE):
            some = gifts[at : at + _AT_ONCE]
            try:
                op = gather([each.op(now_ms) for each in some])
                await self.redis.run(op, "settle", self.clock.left_s(until))
            except BaseException:
                for each in gifts[at:]:
                    each.keep(self.memory, now_ms)
                raise
            for each in some:
                noted = recall(each.found.noted, each.subject.layout.windows, now_ms)
                each.found.noted = highest(noted, each.spent)
