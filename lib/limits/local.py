"""The last fallback: strict windows in this instance's memory, at a share of the limit."""

import math
from collections.abc import Sequence
from dataclasses import replace

from ..base.bounded import Bounded
from .judge import Quota, judge
from .window import Buckets, Window


def share_of(windows: Sequence[Window], share: float) -> tuple[Window, ...]:
    """The same windows with a share of their limits, at least 1: several instances count apart from each other."""
    return tuple(replace(each, limit=max(1, math.floor(each.limit * share))) for each in windows)


class LocalLimits:
    """Counts callers that this instance has seen, as strictly as the stores do."""

    def __init__(self, share: float, size: int = 10_000) -> None:
        self._share = share
        self._usage: Bounded[str, dict[str, dict[int, int]]] = Bounded(size)
        """By subject and name of the window: two limits of one subject may have other windows, or another order."""

    def spend(self, subject: str, windows: Sequence[Window], cost: int, now_ms: int) -> Quota:
        """Admit a call or refuse it; a refusal spends nothing."""
        windows = share_of(windows, self._share)
        named: dict[str, dict[int, int]] = self._usage.get(subject) or {}
        usage = [named.get(each.name, {}) for each in windows]
        counted: list[Buckets] = []
        for each, buckets in zip(windows, usage, strict=True):
            covered = each.covered(now_ms)
            for index in [index for index in buckets if index < covered.start]:
                del buckets[index]
            counted.append({index: count for index, count in buckets.items() if index in covered})
        quota = judge(windows, counted, cost, now_ms)
        if quota.allowed and cost:
            for each, buckets in zip(windows, usage, strict=True):
                index = now_ms // each.bucket_ms
                buckets[index] = buckets.get(index, 0) + cost
            self._usage.put(subject, {**named, **dict(zip((each.name for each in windows), usage, strict=True))})
        return quota
