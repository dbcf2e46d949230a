"""One machine's figures, put together from what agents of others say of its processors, disks and devices."""

import math
import re
from collections.abc import Iterable

from ..base.values import dataclass

IDLE = frozenset({"idle", "wait", "iowait"})
"""The states of a processor in which it does not work."""
_NO_DISKS = re.compile(
    r"(dev)?tmpfs|overlay|squashfs|ramfs|rootfs|iso9660|nsfs|autofs|procfs?|sysfs|cgroup2?|devfs|aufs"
)
_NO_NETWORKS = re.compile(r"lo\d*|all|veth.*|docker.*|br-.*")


@dataclass(slots=True, eq=False)
class Machine:
    """What is known of one machine so far. None: it was not measured."""

    at_ms: int = 0
    """When the newest of it was measured."""
    cpu: float | None = None
    memory: float | None = None
    disk: float | None = None
    network: float | None = None

    def has_disk(self, percent: float, kind: str) -> None:
        """Of its file systems the fullest counts; ``kind``: such as ext4."""
        if not _NO_DISKS.fullmatch(kind):
            self.disk = max(self.disk or 0.0, percent_of(percent))

    def has_traffic(self, mbit_s: float, device: str) -> None:
        """Of its devices all count that lead to others."""
        if not _NO_NETWORKS.fullmatch(device):
            self.network = (self.network or 0.0) + max(0.0, mbit_s)

    def then(self, later: "Machine") -> None:
        """What was measured later, as far as it was, in the place of what is known."""
        self.at_ms = later.at_ms
        for what in ("cpu", "memory", "disk", "network"):
            value: float | None = getattr(later, what)
            if value is not None:
                setattr(self, what, value)


def latest(measured: Iterable[tuple[str, Machine]]) -> dict[str, Machine]:
    """Each machine as it was last, by its name: what is sent at once may hold several measurements of it."""
    found = dict[str, Machine]()
    for name, each in sorted(measured, key=lambda one: one[1].at_ms):
        found.setdefault(name, Machine()).then(each)
    return found


def percent_of(value: float) -> float:
    """A percentage within its bounds, which rounding may have left."""
    return min(100.0, max(0.0, value))


def usable(value: float | None) -> float | None:
    """A number; None for what is none (``NaN``)."""
    return value if value is not None and math.isfinite(value) else None
