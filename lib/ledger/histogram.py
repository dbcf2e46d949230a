"""A histogram as counters of the ledger."""

from bisect import bisect_left
from collections.abc import Mapping
from functools import cache

from ..base.values import dataclass


@dataclass(frozen=True, slots=True)
class Histogram:
    """Ascending bounds in milliseconds; a bucket for each, one above the last, and the sum in microseconds.

    The bounds of a histogram do not change within a layout, but for larger ones that are added at the end.
    """

    name: str
    bounds_ms: tuple[float, ...]

    @cache  # noqa: B019 - the instances are the few constants below, and the labels are as few
    def names(self, *labels: str) -> tuple[tuple[str, ...], ...]:
        """Its counters: the buckets in ascending order, then the sum."""
        return tuple((self.name, *labels, part) for part in (*self._buckets(), "inf", "sum_us"))

    def numbers(self) -> Mapping[str, int]:
        """The numbers of its parts."""
        return {"sum_us": 0, "inf": 1, **{bucket: 2 + at for at, bucket in enumerate(self._buckets())}}

    def counts(self, ms: float, *labels: str) -> tuple[tuple[tuple[str, ...], int], tuple[tuple[str, ...], int]]:
        """What one observation adds."""
        names = self.names(*labels)
        return (names[bisect_left(self.bounds_ms, ms)], 1), (names[-1], round(ms * 1000))

    def _buckets(self) -> list[str]:
        return [f"le{bound:g}" for bound in self.bounds_ms]
