"""Who calls most, in bounded memory: the space-saving sketch of Metwally, Agrawal and El Abbadi (2005).

A fixed number of counters. A caller without one takes over the lowest and goes on from its count. So whoever has made
more than one part in ``size`` of all calls has a counter for certain, and a count is never too low; it may be too high
by the lowest count.
"""

from dataclasses import field

from ..base.values import dataclass

SIZE = 64


@dataclass(slots=True)
class Callers:
    """Calls by caller, by the hash of an identity."""

    size: int = SIZE
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, caller: str, calls: int = 1) -> None:
        """Count calls of one caller."""
        counts = self.counts
        if caller in counts:
            counts[caller] += calls
        elif len(counts) < self.size:
            counts[caller] = calls
        else:
            lowest = min(counts, key=counts.__getitem__)
            counts[caller] = counts.pop(lowest) + calls

    def top(self, most: int) -> list[tuple[str, int]]:
        """The callers with the highest counts, highest first; equal ones by their hash."""
        return sorted(self.counts.items(), key=lambda each: (-each[1], each[0]))[:most]
