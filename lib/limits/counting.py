"""Counting a call in Redis: the verdict, the refund of a refused call, and the TTL of the key.

A request's calls get their key's TTL here. Scripts that write counts of other requests (``settlement.py``,
``shapes.py``) set it with them; how long it is says ``bitfield.set_ttl`` for all.
"""

from collections.abc import Callable
from dataclasses import field, replace
from functools import partial

from ..afterwards import Afterwards, Step
from ..base.bounded import Bounded
from ..base.values import dataclass
from ..redis.op import Op
from . import bitfield
from .admission import Admission, Charge
from .bitfield import Known, Refunded, Tally
from .judge import Quota, certain, has_ghosts, judge, without
from .remembered import Memory
from .settlement import less
from .window import DAY_MS, of_one_call

_NOTHING_BACK: Op[Refunded] = Op((), lambda replies: Refunded(made_key=False))


@dataclass(slots=True)
class Counting:
    """Turns what Redis counted into verdicts, for one instance."""

    memory: Memory
    _unconfirmed: Bounded[str, int] = field(default_factory=lambda: Bounded(1_000))
    """Subjects for whom a call may have created a key, at the time given, without a TTL being known to be set."""

    def op(self, charge: Charge, known: Known | None = None) -> Op[Tally]:
        """Count a call."""
        subject = charge.subject
        if known is None and (seen := self.memory.seen(subject)) is not None:
            known = seen.known
        if charge.only_looks:
            return bitfield.peek(subject.id, subject.layout, charge.now_ms, known)
        return bitfield.spend(subject.id, subject.layout, charge.cost, charge.now_ms, known, tokens=charge.tokens)

    def anew(self, charge: Charge) -> Op[Tally]:
        """The same, with nothing taken from memory."""
        return self.op(charge, Known())

    def back(self, charge: Charge, tally: Tally, after: Afterwards) -> Op[Refunded]:
        """Take a call out again that is to be counted in another way; it may have created the subject's key."""
        if charge.only_looks:
            return _NOTHING_BACK
        self.see_to_ttl(charge, tally, after)
        subject = charge.subject
        return bitfield.refund(
            subject.id, subject.layout, charge.cost, charge.now_ms, tally.added, tokens=charge.tokens
        )

    def admit(self, charge: Charge, tally: Tally, after: Afterwards, settled: int) -> Admission:
        """Judge a call that Redis has counted; ``settled`` is the last return that was over then."""
        subject, now_ms, windows, usage = charge.subject, charge.now_ms, charge.subject.layout.windows, tally.usage
        quota = judge(windows, usage, charge.cost, now_ms, tally.added, tokens=charge.tokens)
        if charge.parts and not quota.allowed and (part := _part(charge, tally, quota)):
            rest = replace(charge, cost=charge.cost - part)
            self.refund(rest, after)
            usage, charge = without(windows, usage, rest.cost, now_ms, tally.added), replace(charge, cost=part)
            quota = judge(windows, usage, part, now_ms, tally.added)
        remembered = self.memory.of(subject)
        remembered.known = tally.known
        following, sure = None, True
        if not quota.allowed:
            self.refund(charge, after, tally.added)
            usage = without(windows, usage, charge.cost, now_ms, tally.added, tokens=charge.tokens)
            sure = not has_ghosts(windows, usage, now_ms)
        elif any(not each.remaining for each in quota.states):
            following = judge(windows, usage, 1, now_ms)
        remembered.seen, remembered.settled = certain(windows, usage, now_ms), settled
        self.see_to_ttl(charge, tally, after)
        return Admission(charge, quota, "redis", following, sure)

    def give_back(self, charge: Charge, after: Afterwards) -> None:
        """Take an admitted call back out."""
        self._unsee(charge, charge.cost, charge.tokens)
        self.refund(charge, after)

    def refund(self, charge: Charge, after: Afterwards, added: tuple[bool, ...] | None = None) -> None:
        """Take a call back out of the windows that took it."""
        if charge.only_looks:
            return
        subject = charge.subject
        back = bitfield.refund(subject.id, subject.layout, charge.cost, charge.now_ms, added, tokens=charge.tokens)
        after.add(back, then=self._after_refund(subject.id, charge.now_ms))

    def correct(self, charge: Charge, tokens: int, after: Afterwards) -> None:
        """Replace the reservation of a call by the tokens that it used."""
        subject = charge.subject
        if tokens != charge.tokens and any(each.unit == "tokens" for each in subject.layout.windows):
            self._unsee(charge, 0, charge.tokens - tokens)
            back = bitfield.refund(subject.id, subject.layout, 0, charge.now_ms, tokens=charge.tokens - tokens)
            after.add(back, then=self._after_refund(subject.id, charge.now_ms))

    def _unsee(self, charge: Charge, cost: int, tokens: int) -> None:
        """Remember less of what Redis holds, so that it is not missed there."""
        remembered, windows = self.memory.of(charge.subject), charge.subject.layout.windows
        if remembered.seen is not None:
            remembered.seen = less(remembered.seen, of_one_call(windows, cost, tokens, charge.now_ms))

    def _after_refund(self, subject_id: str, now_ms: int) -> Callable[[Refunded], Step[None] | None]:
        def then(refunded: Refunded) -> Step[None] | None:
            # The key was gone between the call and its refund, which created it anew.
            return Step(bitfield.set_ttl(subject_id, now_ms)) if refunded.made_key else None

        return then

    def see_to_ttl(self, charge: Charge, tally: Tally, after: Afterwards) -> None:
        """Set the TTL of the key that a call was counted in, unless somebody has."""
        subject_id, now_ms = charge.subject.id, charge.now_ms
        if charge.only_looks or not bitfield.needs_ttl(tally, now_ms):
            return

        def confirmed(_: None) -> None:
            remembered = self.memory.of(charge.subject)
            remembered.known = replace(remembered.known, ttl_day=now_ms // DAY_MS)

        after.add(bitfield.set_ttl(subject_id, now_ms), confirmed, lambda: self.lost(subject_id, now_ms))

    def without_reply(self, charge: Charge) -> None:
        """Nobody knows whether a call was counted."""
        if not charge.only_looks:
            self.lost(charge.subject.id, charge.now_ms)

    def lost(self, subject_id: str, now_ms: int) -> None:
        """A call may have created the subject's key, and no reply said so: its TTL is set later."""
        self._unconfirmed.put(subject_id, now_ms)

    def due(self, after: Afterwards) -> None:
        """Add the TTLs that no reply has confirmed."""
        for subject_id, at_ms in self._unconfirmed.take():
            after.add(bitfield.set_ttl(subject_id, at_ms), lost=partial(self.lost, subject_id, at_ms))


def _part(charge: Charge, tally: Tally, refused: Quota) -> int:
    """The highest part of a refused charge that fits: whatever is counted later sees more than the limit until the rest
    is taken back, so that as much is admitted as of calls that are counted one by one. 0 if none fits."""
    return max((part for part in charge.parts if part <= refused.left and all(tally.added)), default=0)
