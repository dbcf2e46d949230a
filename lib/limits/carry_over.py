"""Carrying a provider's counts over into the layout that its budget is counted in now (``shapes.py``).

It is done by the first call of an instance that finds another layout listed behind its own, before that call is
judged: two round trips more, and for one other layout some 11 commands. Instances that do so at one time do no harm.
"""

from dataclasses import field

from ..afterwards import Afterwards
from ..base.values import dataclass
from ..redis import keys
from ..redis.op import gather, join
from ..redis.store import RedisStore
from . import shapes
from .admission import Charge
from .bitfield import Known
from .remembered import Memory


@dataclass(slots=True)
class CarryOver:
    """What this instance has carried over, so that it does so once for each subject."""

    memory: Memory
    _complete: set[str] = field(default_factory=set)
    """The subjects that lack nothing that was counted before this instance began."""

    async def before(self, redis: RedisStore, charge: Charge, left_s: float, after: Afterwards) -> None:
        """Prepare the subject of a call to be counted. Raises RedisDown."""
        subject, now_ms = charge.subject, charge.now_ms
        listed, layout = subject.shapes, subject.layout
        if listed is None:
            return
        others = () if subject.id in self._complete else listed.lacks(subject.group, layout.tag)
        found = [(tag, old) for tag in others if (old := shapes.layout_of(tag)) is not None]
        if found:
            reads = [shapes.both_days(keys.budget(subject.group, tag), old, now_ms) for tag, old in found]
            counted = await redis.run(gather(reads), "ask", left_s)
            usages = [
                shapes.converted(usage, old, layout, now_ms) for usage, (_, old) in zip(counted, found, strict=True)
            ]
            raised = shapes.raised(subject.id, layout, now_ms, shapes.highest_of(usages, layout))
            await redis.run(join(raised, listed.noting(subject.group, layout.tag, now_ms)), "ask", left_s)
            # What was remembered of finished days may lack what is in them now.
            self.memory.of(subject).known = Known()
        elif others or not listed.notes(subject.group, layout.tag, now_ms):
            after.add(listed.noting(subject.group, layout.tag, now_ms))
        self._complete.add(subject.id)
