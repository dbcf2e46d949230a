"""What an instance remembers of the subjects it counts. All of it may be forgotten: that costs a command or a call."""

from collections.abc import Callable, Sequence
from dataclasses import field

from ..base.bounded import Bounded
from ..base.values import dataclass
from .admission import Subject
from .bitfield import Known
from .marker import UNKNOWN
from .settlement import less
from .window import Layout, Usage, Window, covering, empty, highest, plus

_SUBJECTS = 10_000


@dataclass(slots=True)
class Remembered:
    """One subject. A usage that is None has never been seen."""

    known: Known = field(default_factory=Known)
    """Buckets of finished days, and the day whose TTL is set."""
    seen: Usage | None = None
    """What Redis was last seen to hold, refused calls left out."""
    noted: Usage | None = None
    """What of it was known to have been admitted by Supabase."""
    settled: int = UNKNOWN
    """The last return that was over then: what it had given to Redis is part of ``seen`` as well."""
    spent: Usage | None = None
    """What Supabase has admitted, as last told."""
    carried: Usage | None = None
    """What Supabase knew of the calls that Redis itself admitted."""
    alone: Usage | None = None
    """What this instance admitted from memory, and no store has heard of yet."""
    outages: int = 0
    """How many outages this instance had seen when it last compared Redis with ``seen``."""
    layout: Layout | None = None
    """Where Redis keeps the buckets, if calls were counted elsewhere since this instance last came back. Set by
    :meth:`Memory.counted_elsewhere`."""

    def own(self, windows: Sequence[Window], now_ms: int) -> Usage:
        """What Redis itself has admitted, as far as its last reply told."""
        return less(recall(self.seen, windows, now_ms), recall(self.noted, windows, now_ms))

    def total(self, windows: Sequence[Window], now_ms: int) -> Usage:
        """Everything that is known to be counted in both stores."""
        own = highest(self.own(windows, now_ms), recall(self.carried, windows, now_ms))
        return plus(own, highest(recall(self.spent, windows, now_ms), recall(self.noted, windows, now_ms)))


type _Key = tuple[str, str]
"""A subject's id and the names of its windows: two limits of one subject may share counts and cover other windows, and
a usage is read by the order of its windows."""


class Memory:
    """The remembered subjects of an instance; the least recently used go first."""

    def __init__(self) -> None:
        self._subjects: Bounded[_Key, Remembered] = Bounded(_SUBJECTS)
        self._elsewhere: dict[_Key, None] = {}
        """All that have a layout, and perhaps of some that have none any more; in the order of their coming.
        Every call asks whether there are any: looking through all subjects would cost each call their number."""

    def of(self, subject: Subject) -> Remembered:
        """What is remembered of a subject, to be read and changed."""
        key = _key(subject)
        found = self._subjects.get(key) or Remembered()
        self._subjects.put(key, found)
        return found

    def seen(self, subject: Subject) -> Remembered | None:
        """What is remembered of a subject, if anything is."""
        return self._subjects.get(_key(subject))

    def counted_elsewhere(self, subject: Subject) -> None:
        """Remember that a subject's calls were counted elsewhere, and where Redis keeps its buckets."""
        self.of(subject).layout = subject.layout
        self._elsewhere[_key(subject)] = None

    def elsewhere(self) -> list[tuple[Subject, Remembered]]:
        """The subjects that calls were counted of elsewhere since this instance last came back to Redis."""
        found = [
            (Subject(key[0], each.layout), each)
            for key in self._elsewhere
            if (each := self._subjects.get(key)) is not None and each.layout is not None
        ]
        if len(found) < len(self._elsewhere):
            self._elsewhere = dict.fromkeys(_key(subject) for subject, _ in found)
        return found

    def forget(self, subject_id: str) -> None:
        """Forget a subject."""
        self.forget_where(lambda each: each == subject_id)

    def forget_where(self, concerned: Callable[[str], bool]) -> None:
        """Know nothing any more of the subjects whose ids pass a test."""
        self._subjects.drop_where(lambda key: concerned(key[0]))


def _key(subject: Subject) -> _Key:
    return subject.id, subject.layout.names


def recall(usage: Usage | None, windows: Sequence[Window], now_ms: int) -> Usage:
    """The part of a remembered usage that still counts."""
    return empty(windows) if usage is None else covering(windows, usage, now_ms)
