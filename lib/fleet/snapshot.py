"""What one reporter says of all its servers at one time, and how that is packed into one field of one hash.

A report then costs one command, a read of everything one, and a server that its reporter no longer names is gone.
"""

import base64
import json
import zlib
from collections.abc import Sequence

from ..base.values import dataclass

METRICS = ("cpu", "memory", "disk", "network")
"""The first three in percent, the network in Mbit a second, both directions together."""
MOST_SERVERS = 1_000
_VERSION = "1"
_MOST_BYTES = 2_000_000


@dataclass(frozen=True, slots=True)
class Measured:
    """One server as it was measured. None: this could not be measured."""

    id: str
    name: str
    at_ms: int
    cpu: float | None
    memory: float | None
    disk: float | None
    network: float | None

    @property
    def metrics(self) -> tuple[float | None, ...]:
        """In the order of ``METRICS``."""
        return self.cpu, self.memory, self.disk, self.network


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All servers of one reporter. ``interval_s``: when the reporter was told to report again."""

    reporter: str
    at_ms: int
    sequence: int
    interval_s: int
    servers: tuple[Measured, ...]


def pack(snapshot: Snapshot) -> str:
    """As text without quotes or backslashes, which JSON over REST would have to escape."""
    rows = [[each.id, each.name, snapshot.at_ms - each.at_ms, *each.metrics] for each in snapshot.servers]
    content = json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode()
    packed = base64.b85encode(zlib.compress(content)).decode()
    return f"{_VERSION}|{snapshot.at_ms}|{snapshot.sequence}|{snapshot.interval_s}|{packed}"


def unpack(reporter: str, text: str) -> Snapshot | None:
    """The snapshot that a text holds; None where it holds none."""
    try:
        version, at_ms, sequence, interval_s, packed = text.split("|", 4)
        if version != _VERSION:
            return None
        # Bounded, whoever has written it.
        content = zlib.decompressobj().decompress(base64.b85decode(packed), _MOST_BYTES)
        at = int(at_ms)
        servers = tuple(_row(row, at) for row in json.loads(content))
        return Snapshot(reporter, at, int(sequence), int(interval_s), servers)
    except (ValueError, TypeError, zlib.error):
        return None


def _row(row: Sequence[object], at_ms: int) -> Measured:
    match row:
        case [str(name), str(label), int(age_ms), *metrics] if len(metrics) == len(METRICS):
            cpu, memory, disk, network = (None if each is None else _number(each) for each in metrics)
            return Measured(name, label, at_ms - age_ms, cpu, memory, disk, network)
    raise ValueError("a row of another form")


def _number(value: object) -> float:
    if not isinstance(value, int | float):
        raise TypeError("no number")
    return value
