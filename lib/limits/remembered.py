"""What an instance remembers of the subjects it counts. All of it may be forgotten: that costs a command or a call."""

from collections.abc import Callable, Sequence
from dataclasses import field

from ..base.bounded import Bounded
from ..base.values import dataclass
from .bitfield import Known
from .judge import certain
from .settlement import less
from .window import Usage, Window, covering, empty

_SUBJECTS = 10_000


@dataclass(slots=True)
class Remembered:
    """One subject. A usage that is None has never been seen."""

    known: Known = field(default_factory=Known)
    """Buckets of finished days, and the day whose TTL is set."""
    total: Usage | None = None
    """The counts as last seen, by whichever store."""
    in_redis: Usage | None = None
    """What Redis itself had admitted when last seen: the floor for counting while it is away."""
    given: Usage | None = None
    """What of the counts in Redis was admitted by Supabase."""
    alone: Usage | None = None
    """What this instance admitted from memory and has not reported to any store yet."""
    settled_ms: int = 0
    """The last outage that is over for this subject."""

    def count(self, windows: Sequence[Window], usage: Usage, now_ms: int) -> None:
        """Learn what Redis holds, refused calls left out."""
        self.total = certain(windows, usage, now_ms)
        self.in_redis = self.total if self.given is None else less(self.total, self.given)


class Memory:
    """The remembered subjects of an instance, by id; the least recently used go first."""

    def __init__(self) -> None:
        self._subjects: Bounded[str, Remembered] = Bounded(_SUBJECTS)

    def of(self, subject_id: str) -> Remembered:
        """What is remembered of a subject, to be read and changed."""
        found = self._subjects.get(subject_id) or Remembered()
        self._subjects.put(subject_id, found)
        return found

    def seen(self, subject_id: str) -> Remembered | None:
        """What is remembered of a subject, if anything is."""
        return self._subjects.get(subject_id)

    def forget(self, subject_id: str) -> None:
        """Forget a subject."""
        self._subjects.drop(subject_id)

    def forget_where(self, concerned: Callable[[str], bool]) -> None:
        """Know nothing any more of the subjects that a test names."""
        self._subjects.drop_where(concerned)


def recall(usage: Usage | None, windows: Sequence[Window], now_ms: int) -> Usage:
    """The part of a remembered usage that still counts."""
    return empty(windows) if usage is None else covering(windows, usage, now_ms)
