"""How Redis answered an instance last: whether it does, since when, how fast, and how it failed last."""

from ..base.values import dataclass
from .errors import Kind


@dataclass(slots=True, eq=False)
class Contact:
    """What the last calls showed. Nothing is asked for its sake."""

    up: bool | None = None
    """None: nothing was asked yet."""
    since_ms: int = 0
    """When that began, as this instance saw it."""
    trip_ms: float | None = None
    """What the last round trip took."""
    error: Kind | None = None
    """How it failed last, however long ago."""
    error_ms: int = 0

    def answered(self, trip_ms: float, now_ms: int) -> None:
        """It gave a usable reply."""
        self.trip_ms = trip_ms
        self._is(up=True, now_ms=now_ms)

    def failed(self, kind: Kind, now_ms: int, *, down: bool) -> None:
        """It gave none; ``down``: that says that it is away."""
        self.error, self.error_ms = kind, now_ms
        if down:
            self.trip_ms = None
            self._is(up=False, now_ms=now_ms)

    def _is(self, *, up: bool, now_ms: int) -> None:
        if self.up != up:
            self.up, self.since_ms = up, now_ms
