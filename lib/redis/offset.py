"""How far the store's clock is from this machine's: every instance counts by the store's, and so by one clock.

The theory. The offset is ``store - local``, in milliseconds. Nothing measures it exactly, but each reply bounds it. A
``TIME`` that was executed when the store's clock showed ``S`` was executed between the local moments ``sent`` and
``received``, so the offset lies within ``[S - received, S - sent]``. The ``Date`` of a reply, in whole seconds, says
the same of ``[D - received, D + 1000 - sent]``; but it may be a proxy's, so it never measures, it only makes
suspicious.

Both clocks are taken to go at rates that differ by at most 40 ppm: an older interval is widened by that much, and each
new one is intersected with it. Of the offsets that are possible then, the one nearest to the estimate of before is
taken, beginning with 0: a good local clock stays as it is, where the middle of the interval would spoil it by half a
slow round trip. An interval that has nothing in common with what is known means that one of the clocks was set. It is
believed once a second ``TIME``, a second later, agrees with it: one reading may be a machine's pause.
"""

from ..base.values import dataclass

NARROW_MS, WIDE_MS = 100.0, 300.0
"""A first interval wider than the one is measured again at once; any wider than the other, once a minute."""
MOVED_MS = 250.0
"""What was counted by a clock that was off by more is counted again."""
_DRIFT = 40e-6
_EVERY_MS = 1_800_000.0
_AGAIN_MS = 60_000.0
_AGREES_AFTER_MS = 1_000.0
_LOST_AFTER_MS = 10_000.0
_DATE_MS, _DATE_EXCLUDES_MS = 1_000.0, 1_000.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the offset is at least and at most, known at a local time; all in milliseconds."""

    low: float
    high: float
    at: float

    def widened(self, now: float) -> "Bounds":
        """The same, at another local time."""
        drift = abs(now - self.at) * _DRIFT
        return Bounds(self.low - drift, self.high + drift, now)

    def within(self, other: "Bounds") -> "Bounds | None":
        """What both allow, if anything."""
        low, high = max(self.low, other.low), min(self.high, other.high)
        return Bounds(low, high, self.at) if low <= high else None


@dataclass(slots=True, eq=False)
class Offset:
    """The estimate of one instance, and when to ask the store for its time. Local times are milliseconds."""

    ms: int = 0
    """What is to be added to the local clock."""
    moves: int = 0
    """How often the estimate was moved by more than :data:`MOVED_MS`: what was counted before has a wrong time."""
    dated: float = 0.0
    """When a ``Date`` was last looked at."""
    _bounds: Bounds | None = None
    _rival: Bounds | None = None
    """A measurement that contradicts what is known; a second one like it is believed."""
    _measured: int = 0
    _last: float | None = None
    """When the store last said what time it is, or that it does not say."""
    _asked: float | None = None
    """When it was asked, while no reply has come."""
    _doubted: bool = False
    _doubted_at: float | None = None

    def asks(self, now: float) -> bool:
        """Whether ``TIME`` goes along with what is sent now; if so, :meth:`timed`, or :meth:`untimed`, follows."""
        if not self._is_due(now):
            return False
        self._asked = now
        return True

    def _is_due(self, now: float) -> bool:
        bounds, last = self._bounds, self._last
        if last is None:
            # Whoever is sent before the first reply comes is counted by a clock that nobody has checked.
            return True
        if self._asked is not None and abs(now - self._asked) < _LOST_AFTER_MS:
            return False
        age = abs(now - last)
        if bounds is None or age >= _EVERY_MS:
            return age >= _EVERY_MS
        if self._rival is not None:
            return abs(now - self._rival.at) >= _AGREES_AFTER_MS
        width = bounds.high - bounds.low
        if self._doubted or (self._measured == 1 and width > NARROW_MS):
            return True
        # A round trip may be that long for good: then asking each time would gain nothing.
        return width > WIDE_MS and age >= _AGAIN_MS

    def timed(self, store: float, sent: float, received: float) -> None:
        """The store's clock showed ``store`` between two local moments."""
        self._asked, self._last, self._doubted = None, received, False
        self._measured += 1
        found = Bounds(store - received, store - sent, received)
        if found.low > found.high:
            # The local clock was set back between the two.
            return
        if self._bounds is None:
            self._adopt(found)
        elif (both := found.within(self._bounds.widened(received))) is not None:
            self._rival = None
            self._adopt(both)
        elif self._agrees(found):
            self._adopt(found)
        else:
            self._rival = found

    def _agrees(self, found: Bounds) -> bool:
        """Whether an earlier measurement, long enough ago, contradicted what is known in the same way."""
        rival = self._rival
        if rival is None or abs(found.at - rival.at) < _AGREES_AFTER_MS:
            return False
        self._rival = None
        return found.within(rival.widened(found.at)) is not None

    def untimed(self, now: float, *, refused: bool = False) -> None:
        """No time came; ``refused``: the store does not tell it, so that asking again soon is of no use."""
        self._asked = None
        if refused:
            self._last, self._doubted = now, False

    def looks(self, now: float) -> bool:
        """Whether a ``Date`` is worth looking at: once a second."""
        return self._bounds is not None and abs(now - self.dated) >= _DATE_MS

    def says(self, date: float, sent: float, received: float) -> None:
        """A reply is dated ``date``. Where that excludes the estimate by a second, the store is asked for its time."""
        self.dated = received
        early, late = date - received, date + _DATE_MS - sent
        if early - _DATE_EXCLUDES_MS <= self.ms <= late + _DATE_EXCLUDES_MS:
            return
        # Of a date that is always wrong nothing is learned by asking each time.
        if self._doubted_at is None or abs(received - self._doubted_at) >= _AGAIN_MS:
            self._doubted, self._doubted_at = True, received

    def _adopt(self, bounds: Bounds) -> None:
        self._bounds, before = bounds, self.ms
        self.ms = round(min(max(before, bounds.low), bounds.high))
        if abs(self.ms - before) >= MOVED_MS:
            self.moves += 1
